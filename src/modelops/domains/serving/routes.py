"""Routes of serving."""

from typing import Annotated, Any

from fastapi import Path, Query, Response

from modelops.contracts.schemas import Page
from modelops.domains.serving import service
from modelops.domains.serving.live import LiveStats
from modelops.domains.serving.schemas import (
    Deployment,
    DeploymentCreate,
    DeploymentUpdate,
    Explanations,
    Instances,
    Predictions,
    ReplicaLog,
    Revision,
    RollbackRequest,
)
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router
from modelops.kernel.problems import documented
from modelops.kernel.scope import Scope

router = Router("serving")

Index = Annotated[int, Path(ge=0, lt=2**31, description="A replica, counted from 0.")]
RevisionNumber = Annotated[int | None, Query(ge=1, lt=2**31, description="By default, the one that matters now.")]
Offset = Annotated[int, Query(ge=0, lt=2**63, description="Bytes to skip.")]
LogLimit = Annotated[int, Query(ge=1, le=1_048_576, description="Bytes at most.")]


def _instances() -> dict[str, Any]:
    """Return the OpenAPI of a body that is not parsed here: the replica reads it."""
    schema = Instances.model_json_schema(ref_template="{model}")
    for shape in schema["properties"]["instances"]["items"]["anyOf"]:
        shape["items" if shape["type"] == "array" else "additionalProperties"] = {}
    del schema["$defs"]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/deployments/create", status_code=202, include_in_schema=False)
@router.post("/deployments", status_code=202)
def create_deployment(ctx: Context, body: DeploymentCreate) -> Deployment:
    """Deploy a model version. It is `progressing` until its replicas were seen ready."""
    return service.create_deployment(ctx, body)


@router.get("/deployments")
def list_deployments(ctx: Context, page: Listing) -> Page[Deployment]:
    """List the project's deployments."""
    return service.list_deployments(ctx, page)


@router.get("/deployments/{deployment}")
def get_deployment(ctx: Context, deployment: Ref) -> Deployment:
    """Return a deployment with its replicas as they were last seen."""
    return service.get_deployment(ctx, deployment)


@router.patch("/deployments/{deployment}")
def update_deployment(ctx: Context, deployment: Ref, body: DeploymentUpdate) -> Deployment:
    """Change a deployment; another model or other limits are brought up beside what serves, and then take over."""
    return service.update_deployment(ctx, deployment, body)


@router.delete("/deployments/{deployment}", status_code=202)
def delete_deployment(ctx: Context, deployment: Ref) -> Deployment:
    """End a deployment. It is `deleting` until nothing of it runs, and then it is gone."""
    return service.delete_deployment(ctx, deployment)


@router.get("/deployments/{deployment}/revisions")
def list_revisions(ctx: Context, deployment: Ref, page: Listing) -> Page[Revision]:
    """List a deployment's revisions, newest first."""
    return service.list_revisions(ctx, deployment, page)


@router.post("/deployments/{deployment}/rollback", status_code=202)
def rollback_deployment(ctx: Context, deployment: Ref, body: RollbackRequest) -> Deployment:
    """Go back to an earlier revision, by default the one that served before."""
    return service.rollback_deployment(ctx, deployment, body)


@router.post(
    "/deployments/{deployment}/predict",
    response_model=Predictions,
    openapi_extra=_instances(),
    responses=documented(500),
)
async def predict(scope: Scope, deployment: Ref) -> Response:
    """Predict rows with the model that serves now."""
    return await service.predict(scope, deployment)


@router.post(
    "/deployments/{deployment}/explain",
    response_model=Explanations,
    openapi_extra=_instances(),
    responses=documented(500),
)
async def explain(scope: Scope, deployment: Ref) -> Response:
    """Explain the predictions of rows by additive attributions (SHAP values)."""
    return await service.explain(scope, deployment)


@router.get("/deployments/{deployment}/live")
async def read_live_stats(scope: Scope, deployment: Ref) -> LiveStats:
    """Return what a deployment does now: rates, latencies, what waits, by variant and by replica."""
    return await service.read_live_stats(scope, deployment)


@router.get("/deployments/{deployment}/replicas/{index}/log")
def get_replica_log(
    scope: Scope,
    deployment: Ref,
    index: Index,
    revision: RevisionNumber = None,
    offset: Offset = 0,
    limit: LogLimit = 65_536,
) -> ReplicaLog:
    """Return a piece of a replica's output."""
    return service.get_replica_log(scope, deployment, index, revision, offset, limit)
