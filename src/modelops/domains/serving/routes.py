"""Routes of serving."""

from typing import Annotated, Any

from fastapi import Path, Query, Response

from modelops.contracts.schemas import Page, UtcTime
from modelops.domains.serving import service
from modelops.domains.serving.live.live import LiveStats
from modelops.domains.serving.rollouts import AbortRequest, BusinessValues, RecordedValues, Rollout
from modelops.domains.serving.schemas import (
    Deployment,
    DeploymentCreate,
    DeploymentUpdate,
    ExplainRequest,
    Explanations,
    Instances,
    LogFormat,
    PredictionLogFile,
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
RolloutRevision = Annotated[int | None, Query(ge=1, lt=2**31, description="By default, the last one's.")]
Offset = Annotated[int, Query(ge=0, lt=2**63, description="Bytes to skip.")]
LogLimit = Annotated[int, Query(ge=1, le=1_048_576, description="Bytes at most.")]


LogSource = Annotated[str, Query(min_length=1, max_length=200, description="The process that wrote it.")]
LogSequence = Annotated[int, Query(ge=0, lt=2**63, description="Its number among that process's files.")]

BYTES: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
BODY = {"requestBody": {"required": True, **BYTES}}
DOWNLOAD: dict[int | str, dict[str, Any]] = {200: {"description": "The table", **BYTES}, **documented(500)}


def _instances(body: type[Instances]) -> dict[str, Any]:
    """Return the OpenAPI of a body that is not parsed here: the replica reads it."""
    schema = body.model_json_schema(ref_template="{model}")
    for shape in schema["properties"]["instances"]["items"]["anyOf"]:
        shape["items" if shape["type"] == "array" else "additionalProperties"] = {}
    method = schema["properties"].get("method")
    if method is not None:
        method["anyOf"][0] = schema["$defs"]["ExplainMethod"]
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


@router.get("/deployments/{deployment}/rollouts")
def list_rollouts(ctx: Context, deployment: Ref, page: Listing) -> Page[Rollout]:
    """List a deployment's rollouts with their history, newest first."""
    return service.list_rollouts(ctx, deployment, page)


@router.get("/deployments/{deployment}/rollout")
def get_rollout(ctx: Context, deployment: Ref, revision: RolloutRevision = None) -> Rollout:
    """Return the rollout of a revision, by default the last one: where it stands, what was measured, what came about."""
    return service.get_rollout(ctx, deployment, revision)


@router.post("/deployments/{deployment}/rollout/pause")
def pause_rollout(ctx: Context, deployment: Ref) -> Rollout:
    """Keep a rollout where it is; a failing analysis still aborts it."""
    return service.pause_rollout(ctx, deployment)


@router.post("/deployments/{deployment}/rollout/resume")
def resume_rollout(ctx: Context, deployment: Ref) -> Rollout:
    """Let a paused rollout go on."""
    return service.resume_rollout(ctx, deployment)


@router.post("/deployments/{deployment}/rollout/promote")
def promote_rollout(ctx: Context, deployment: Ref) -> Rollout:
    """Skip what is left of a rollout's steps: the candidate takes over now."""
    return service.promote_rollout(ctx, deployment)


@router.post("/deployments/{deployment}/rollout/abort")
def abort_rollout(ctx: Context, deployment: Ref, body: AbortRequest) -> Rollout:
    """Give a rollout up; what served before answers all callers again."""
    return service.abort_rollout(ctx, deployment, body)


@router.post("/deployments/{deployment}/business-metrics", status_code=201)
def record_business_metric(ctx: Context, deployment: Ref, body: BusinessValues) -> RecordedValues:
    """Post values that a variant's answers led to, for the analysis of a canary."""
    return service.record_business_metric(ctx, deployment, body)


@router.post(
    "/deployments/{deployment}/predict",
    response_model=Predictions,
    openapi_extra=_instances(Instances),
    responses=documented(500),
)
async def predict(scope: Scope, deployment: Ref) -> Response:
    """Predict rows with the model that serves now."""
    return await service.predict(scope, deployment)


@router.post(
    "/deployments/{deployment}/explain",
    response_model=Explanations,
    openapi_extra=_instances(ExplainRequest),
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


@router.get("/deployments/{deployment}/prediction-logs")
def list_prediction_logs(ctx: Context, deployment: Ref, page: Listing) -> Page[PredictionLogFile]:
    """List a deployment's files of logged predictions, newest first."""
    return service.list_prediction_logs(ctx, deployment, page)


@router.post(
    "/deployments/{deployment}/prediction-logs",
    status_code=201,
    response_model=PredictionLogFile,
    openapi_extra=BODY,
    responses=documented(500),
)
async def receive_prediction_log(scope: Scope, deployment: Ref, source: LogSource, sequence: LogSequence) -> Response:
    """Take a file of logged predictions, an Arrow stream, from a replica; one that comes again is kept once."""
    return await service.receive_prediction_log(scope, deployment, source, sequence)


@router.get("/deployments/{deployment}/prediction-logs/content", responses=DOWNLOAD, response_class=Response)
def download_prediction_logs(
    scope: Scope,
    deployment: Ref,
    since: Annotated[UtcTime | None, Query(description="By default, from the first on.")] = None,
    until: Annotated[UtcTime | None, Query(description="By default, to the last.")] = None,
    variant: Annotated[str | None, Query(max_length=63, description="By default, all of them.")] = None,
    format: LogFormat = LogFormat.PARQUET,  # noqa: A002 - the parameter's name
) -> Response:
    """Return the logged predictions of requests that came in a window, as one table. They may be personal data."""
    return service.download_prediction_logs(scope, deployment, since, until, variant, format)
