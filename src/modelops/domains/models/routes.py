"""Routes of the registry."""

from typing import Annotated

from fastapi import Path, Query

from modelops.contracts.schemas import Page
from modelops.domains.models import service
from modelops.domains.models.composing import store_chain, store_ensemble
from modelops.domains.models.compositions import ChainCreate, EnsembleCreate
from modelops.domains.models.judging import scan_parts_ahead
from modelops.domains.models.schemas import (
    Alias,
    AliasSet,
    Approval,
    ApprovalCreate,
    ApprovalDecision,
    BundleCheck,
    BundleVerification,
    Model,
    ModelCreate,
    ModelMetrics,
    ModelRef,
    ModelRename,
    ModelUpdate,
    ModelVersion,
    SignedBundle,
    StageChange,
    StageRecord,
    Verification,
    VersionCreate,
    VersionUpdate,
)
from modelops.domains.models.validation.schemas import Policy, PolicySet, Validation, ValidationCreate
from modelops.domains.models.views import CardSet, Lineage, ModelCard, VersionComparison
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router, before
from modelops.kernel.problems import documented
from modelops.kernel.scope import Scope

router = Router("models")

VersionInPath = Annotated[
    str,
    Path(
        max_length=80,
        description="A version's number, `latest`, `@alias`, or its id (then `-` may stand for the model).",
    ),
]
AliasInPath = Annotated[Alias, Path(description="An alias.")]


@router.post("/models", status_code=201)
def create_model(ctx: Context, body: ModelCreate) -> Model:
    """Make a model, still without versions."""
    return service.create_model(ctx, body)


@router.get("/models")
def list_models(ctx: Context, page: Listing) -> Page[Model]:
    """List the project's models."""
    return service.list_models(ctx, page)


@router.post("/models/register", status_code=201)
@before(scan_parts_ahead)
def register_version(ctx: Context, body: VersionCreate) -> ModelVersion:
    """Register a version of a model and sign it; the model is made if it is new."""
    return service.register_version(ctx, body)


@router.post("/models/register/ensemble", status_code=201)
@before(store_ensemble)
def register_ensemble(ctx: Context, body: EnsembleCreate) -> ModelVersion:
    """Register an ensemble of registered versions, as a version of its own."""
    return service.register_ensemble(ctx, body)


@router.post("/models/register/chain", status_code=201)
@before(store_chain)
def register_chain(ctx: Context, body: ChainCreate) -> ModelVersion:
    """Register a chain of registered versions, as a version of its own."""
    return service.register_chain(ctx, body)


@router.get("/models/metrics")
def list_metrics(ctx: Context, page: Listing) -> Page[ModelMetrics]:
    """List the metrics that versions were registered with."""
    return service.list_metrics(ctx, page)


@router.get("/models/{model}")
def get_model(ctx: Context, model: Ref) -> Model:
    """Return a model."""
    return service.get_model(ctx, model)


@router.patch("/models/{model}")
def update_model(ctx: Context, model: Ref, body: ModelUpdate) -> Model:
    """Change a model's description or tags."""
    return service.update_model(ctx, model, body)


@router.post("/models/{model}/rename")
def rename_model(ctx: Context, model: Ref, body: ModelRename) -> Model:
    """Give a model another name; its versions are signed anew under it."""
    return service.rename_model(ctx, model, body)


@router.delete("/models/{model}", status_code=204)
def delete_model(ctx: Context, model: Ref) -> None:
    """Delete a model and its versions, of which none may be in Production."""
    return service.delete_model(ctx, model)


@router.get("/models/{model}/versions")
def list_versions(ctx: Context, model: Ref, page: Listing) -> Page[ModelVersion]:
    """List a model's versions, newest first."""
    return service.list_versions(ctx, model, page)


@router.get("/models/{model}/versions/{version}")
def get_version(ctx: Context, model: Ref, version: VersionInPath) -> ModelVersion:
    """Return a version."""
    return service.get_version(ctx, model, version)


@router.patch("/models/{model}/versions/{version}")
def update_version(ctx: Context, model: Ref, version: VersionInPath, body: VersionUpdate) -> ModelVersion:
    """Change a version's description or tags."""
    return service.update_version(ctx, model, version, body)


@router.delete("/models/{model}/versions/{version}", status_code=204)
def delete_version(ctx: Context, model: Ref, version: VersionInPath) -> None:
    """Delete a version that is not in Production; its number is not given again."""
    return service.delete_version(ctx, model, version)


@router.post("/models/{model}/versions/{version}/verify", responses=documented(500))
def verify_version(scope: Scope, model: Ref, version: VersionInPath) -> Verification:
    """Check a version's signature, and its stored files against their digests."""
    with scope.work(write=False) as ctx:
        check = service.verify_version(ctx, model, version)
    return check()


@router.post("/models/{model}/versions/{version}/sign")
def sign_version(ctx: Context, model: Ref, version: VersionInPath) -> SignedBundle:
    """Sign a version's files in the OpenSSF model-signing format."""
    return service.sign_version(ctx, model, version)


@router.post("/models/{model}/versions/{version}/verify-bundle")
def verify_bundle(ctx: Context, model: Ref, version: VersionInPath, body: BundleCheck) -> BundleVerification:
    """Check whether a signature in the OpenSSF model-signing format is over exactly a version's files."""
    return service.verify_bundle(ctx, model, version, body)


@router.post("/models/{model}/stage")
def set_stage(ctx: Context, model: Ref, body: StageChange) -> ModelVersion:
    """Move a version to a stage."""
    return service.set_stage(ctx, model, body)


@router.get("/models/{model}/stage-history")
def list_stage_history(ctx: Context, model: Ref, page: Listing) -> Page[StageRecord]:
    """List the moves of a model's versions, newest first."""
    return service.list_stage_history(ctx, model, page)


@router.put("/models/{model}/aliases/{alias}")
def set_alias(ctx: Context, model: Ref, alias: AliasInPath, body: AliasSet) -> Model:
    """Point an alias at a version."""
    return service.set_alias(ctx, model, alias, body)


@router.delete("/models/{model}/aliases/{alias}", status_code=204)
def delete_alias(ctx: Context, model: Ref, alias: AliasInPath) -> None:
    """Take an alias away."""
    return service.delete_alias(ctx, model, alias)


@router.post("/models/{model}/versions/{version}/approvals", status_code=201)
def request_approval(ctx: Context, model: Ref, version: VersionInPath, body: ApprovalCreate) -> Approval:
    """Ask for a version to be approved for a stage."""
    return service.request_approval(ctx, model, version, body)


@router.post("/models/{model}/versions/{version}/validations", status_code=201)
def record_validation(ctx: Context, model: Ref, version: VersionInPath, body: ValidationCreate) -> Validation:
    """Keep what checks found of a version."""
    return service.record_validation(ctx, model, version, body)


@router.get("/models/{model}/versions/{version}/validations")
def list_validations(ctx: Context, model: Ref, version: VersionInPath, page: Listing) -> Page[Validation]:
    """List what was found of a version, newest first."""
    return service.list_validations(ctx, model, version, page)


@router.get("/validations/{validation}")
def get_validation(ctx: Context, validation: Ref) -> Validation:
    """Return a validation."""
    return service.get_validation(ctx, validation)


@router.get("/models/{model}/policy")
def get_policy(ctx: Context, model: Ref) -> Policy:
    """Return what a model's versions need to enter a stage."""
    return service.get_policy(ctx, model)


@router.put("/models/{model}/policy")
def set_policy(ctx: Context, model: Ref, body: PolicySet) -> Policy:
    """Say which checks must have passed on a version before it enters a stage."""
    return service.set_policy(ctx, model, body)


@router.get("/models/{model}/versions/{version}/card")
def get_card(ctx: Context, model: Ref, version: VersionInPath) -> ModelCard:
    """Return a version's model card, filled with what is known now."""
    return service.get_card(ctx, model, version)


@router.put("/models/{model}/versions/{version}/card")
def set_card(ctx: Context, model: Ref, version: VersionInPath, body: CardSet) -> ModelCard:
    """Write on a version's card what only people know."""
    return service.set_card(ctx, model, version, body)


@router.get("/models/{model}/versions/{version}/lineage")
def get_lineage(ctx: Context, model: Ref, version: VersionInPath) -> Lineage:
    """Return where a version comes from and what came of it."""
    return service.get_lineage(ctx, model, version)


@router.get("/model-comparisons")
def compare_versions(
    ctx: Context,
    version: Annotated[list[ModelRef], Query(min_length=2, max_length=20, description="Two versions or more.")],
) -> VersionComparison:
    """Return versions, of one model or of several, side by side."""
    return service.compare_versions(ctx, version)


@router.get("/approvals")
def list_approvals(ctx: Context, page: Listing) -> Page[Approval]:
    """List requests for approval, newest first."""
    return service.list_approvals(ctx, page)


@router.post("/approvals/{approval}/decision")
def decide_approval(ctx: Context, approval: Ref, body: ApprovalDecision) -> Approval:
    """Approve or reject a request; who asked cannot."""
    return service.decide_approval(ctx, approval, body)
