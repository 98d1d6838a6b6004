"""What the registry does. Context first, one verb a function; the edge commits."""

import math
from collections.abc import Callable, Iterator

from modelops.contracts.errors import AlreadyExists, ArtifactCorrupted, InvalidInput, NotFound, PermissionDenied
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Page
from modelops.domains.data import service as data
from modelops.domains.experiments import service as experiments
from modelops.domains.identity import service as identity
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.models import bundles
from modelops.domains.models.aliases import delete_alias, set_alias
from modelops.domains.models.approvals import decide_approval, list_approvals, request_approval
from modelops.domains.models.cards import get_card, set_card
from modelops.domains.models.comparison import compare_versions
from modelops.domains.models.compiled import serving_form
from modelops.domains.models.composing import composed_chain, composed_ensemble, stored
from modelops.domains.models.compositions import ChainCreate, EnsembleCreate
from modelops.domains.models.fields import MODEL_FIELDS, VERSION_FIELDS
from modelops.domains.models.finding import (
    find_model,
    to_models,
    to_version,
    to_versions,
    version_in_path,
    version_of_ref,
    versions_of,
)
from modelops.domains.models.judging import judged, keep_members
from modelops.domains.models.lifecycle import (
    delete_model,
    delete_version,
    rename_model,
    tag_model,
    tag_version,
    update_version,
)
from modelops.domains.models.lineage import get_lineage
from modelops.domains.models.making import add_model, add_version, model_to_register
from modelops.domains.models.packages import check_paths, statement_of, verify_package, verify_statement
from modelops.domains.models.references import register_reference
from modelops.domains.models.rules import NO_INPUTS, check_features, check_first_stage, check_inputs, check_name
from modelops.domains.models.schemas import (
    BundleCheck,
    BundleVerification,
    Model,
    ModelCreate,
    ModelMetrics,
    ModelUpdate,
    ModelVersion,
    PackageFile,
    SignedBundle,
    Verification,
    VersionCreate,
)
from modelops.domains.models.searching import newest_by_stage, search_models, search_versions
from modelops.domains.models.stages import list_stage_history, set_stage
from modelops.domains.models.tables import ModelRow, ModelVersionRow
from modelops.domains.models.validations import (
    get_policy,
    get_validation,
    list_validations,
    record_validation,
    set_policy,
)
from modelops.kernel import audit
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

__all__ = [
    "compare_versions",
    "create_model",
    "decide_approval",
    "delete_alias",
    "delete_model",
    "delete_version",
    "get_card",
    "get_lineage",
    "get_model",
    "get_policy",
    "get_validation",
    "get_version",
    "get_version_by_id",
    "list_approvals",
    "list_metrics",
    "list_models",
    "list_stage_history",
    "list_validations",
    "list_versions",
    "newest_by_stage",
    "record_validation",
    "register_chain",
    "register_ensemble",
    "register_reference",
    "register_version",
    "rename_model",
    "request_approval",
    "resolve_version",
    "search_models",
    "search_versions",
    "set_alias",
    "set_card",
    "set_policy",
    "set_stage",
    "sign_version",
    "tag_model",
    "tag_version",
    "trusted_keys",
    "update_model",
    "update_version",
    "verify_bundle",
    "verify_version",
]


def create_model(ctx: Context, body: ModelCreate) -> Model:
    """Make a model, still without versions."""
    ctx.require("models.write")
    check_name(body.name)
    if ctx.session.scalars(ctx.query(ModelRow).where(ModelRow.name == body.name)).first():
        raise AlreadyExists(f"There is a model '{body.name}' already.")
    return to_models(ctx, [add_model(ctx, body)])[0]


def list_models(ctx: Context, page: PageQuery) -> Page[Model]:
    """List the project's models."""
    ctx.require("models.read")
    found = list_rows(ctx, ctx.query(ModelRow).where(ModelRow.deleted_at.is_(None)), ModelRow.id, MODEL_FIELDS, page)
    return Page(items=to_models(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_model(ctx: Context, model: str) -> Model:
    """Return a model, by name or id."""
    ctx.require("models.read")
    return to_models(ctx, [find_model(ctx, model)])[0]


def update_model(ctx: Context, model: str, body: ModelUpdate) -> Model:
    """Change a model's description or tags."""
    ctx.require("models.write")
    row = find_model(ctx, model, lock=True)
    ctx.check_revision(row)
    if body.description is not None:
        row.description = body.description
    if body.tags is not None:
        row.tags = body.tags
    row.updated_at = ctx.clock.now()
    return to_models(ctx, [row])[0]


def register_version(ctx: Context, body: VersionCreate) -> ModelVersion:
    """Register a version of a model from files that were uploaded before, and sign it; the model is made if it is new.

    Every file is scanned first. `scan_parts_ahead` does so before a unit of work is open; what it has not seen is read here.
    """
    ctx.require("models.write")
    check_first_stage(body.stage)
    check_name(body.name)
    check_features(feature.name for feature in body.signature.inputs)
    check_inputs(body.flavour, len(body.signature.inputs))
    check_paths(body.files)
    if body.allow_unsafe:
        ctx.require("models.unsafe")
    _check_files(ctx, body.files)
    found = judged(ctx, body)
    form = serving_form(ctx, body.files)
    made_from = _made_from(ctx, body)
    model = model_to_register(ctx, body.name)
    given = {"name", "metrics", "flavour", "files", "signature", "runs_code", "allow_unsafe"}
    columns = body.model_dump(mode="json", exclude={*given, *made_from})
    metrics = {key: value if math.isfinite(value) else str(value) for key, value in body.metrics.items()}
    row = add_version(
        ctx,
        model,
        body.flavour,
        body.files,
        body.signature,
        **columns,
        **made_from,
        metrics=metrics,
        claimed_run=None,
        undeployable=None if body.signature.inputs else NO_INPUTS,
        runs_code=found.runs_code,
        scan=found.scan.model_dump(mode="json"),
        serving=None if form is None else form.model_dump(mode="json"),
    )
    keep_members(ctx, row, found.members)
    if body.allow_unsafe and found.scan.unsafe:
        audit.record(ctx, "models.allow_unsafe", f"{model.name}:{row.version}: {'; '.join(found.scan.unsafe)}", "done")
    return to_version(ctx, row)


def register_ensemble(ctx: Context, body: EnsembleCreate) -> ModelVersion:
    """Register a version that asks several registered ones and averages, or lets vote; no file of theirs is copied.

    `store_ensemble` stores its own files before a unit of work is open.
    """
    return register_version(ctx, stored(ctx, composed_ensemble(ctx, body)))


def register_chain(ctx: Context, body: ChainCreate) -> ModelVersion:
    """Register a version that asks registered ones in turn; no file of theirs is copied.

    `store_chain` stores its own files before a unit of work is open.
    """
    return register_version(ctx, stored(ctx, composed_chain(ctx, body)))


def list_versions(ctx: Context, model: str, page: PageQuery) -> Page[ModelVersion]:
    """List a model's versions, newest first."""
    ctx.require("models.read")
    row = find_model(ctx, model)
    found = list_rows(ctx, versions_of(ctx, row), ModelVersionRow.id, VERSION_FIELDS, page, order="desc")
    return Page(items=to_versions(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_version(ctx: Context, model: str, version: str) -> ModelVersion:
    """Return a version by number, `latest`, `@alias` or id."""
    ctx.require("models.read")
    return to_version(ctx, version_in_path(ctx, model, version))


def verify_version(ctx: Context, model: str, version: str) -> Callable[[], Verification]:
    """Return what checks a version's signature, and every stored file of it against its digest.

    It reads every byte, so it is called after the unit of work has ended. It raises `SignatureInvalid` or
    `ArtifactCorrupted`.
    """
    ctx.require("models.read")
    found = to_version(ctx, version_in_path(ctx, model, version))
    blobs, trusted = ctx.port(BlobStore), trusted_keys(ctx)

    def check() -> Verification:
        signature, subject = found.platform_signature, statement_of(found)
        checked = verify_package(lambda file: _stored(blobs, file), subject, signature, trusted)
        return Verification(
            version_id=found.id,
            digest=found.digest,
            signed_by=signature.key_id,
            files_checked=len(found.files),
            bytes_checked=checked,
        )

    return check


def sign_version(ctx: Context, model: str, version: str) -> SignedBundle:
    """Sign a version's files in the OpenSSF model-signing format, after checking the platform's own statement of them."""
    ctx.require("models.read")
    found = to_version(ctx, version_in_path(ctx, model, version))
    verify_statement(statement_of(found), found.platform_signature, trusted_keys(ctx))
    payload = bundles.statement(found.name, found.files)
    signature, public_key = identity.sign_for_bundle(ctx, bundles.PAYLOAD_TYPE, payload)
    return SignedBundle(
        bundle=bundles.bundle(payload, signature, public_key),
        public_key=public_key,
        signed_by=bundles.fingerprint(public_key),
    )


def verify_bundle(ctx: Context, model: str, version: str, body: BundleCheck) -> BundleVerification:
    """Check somebody's signature in the OpenSSF model-signing format: whether it is over exactly a version's files."""
    ctx.require("models.read")
    found = to_version(ctx, version_in_path(ctx, model, version))
    verify_statement(statement_of(found), found.platform_signature, trusted_keys(ctx))
    signed_by = bundles.verify(body.bundle, body.public_key, found.files)
    return BundleVerification(
        version_id=found.id, digest=found.digest, signed_by=signed_by, files_checked=len(found.files)
    )


def list_metrics(ctx: Context, page: PageQuery) -> Page[ModelMetrics]:
    """List the metrics that versions were registered with, newest first."""
    ctx.require("models.read")
    there = ctx.query(ModelVersionRow).where(ModelVersionRow.deleted_at.is_(None))
    found = list_rows(ctx, there, ModelVersionRow.id, VERSION_FIELDS, page, order="desc")
    items = [ModelMetrics.model_validate(row, from_attributes=True) for row in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def resolve_version(ctx: Context, ref: str) -> ModelVersion:
    """Return what `name`, `name:3`, `name@alias` or `mver_…` means (for the domains above)."""
    return to_version(ctx, version_of_ref(ctx, ref))


def get_version_by_id(ctx: Context, version_id: str) -> ModelVersion:
    """Return a version by its id (for the domains above)."""
    row = ctx.one(ModelVersionRow, f"model version '{version_id}'", ModelVersionRow.id == version_id)
    return to_version(ctx, row)


def trusted_keys(ctx: Context) -> dict[str, str]:
    """Return the public keys that verify versions: key id -> base64url (for the domains above)."""
    return identity.list_public_keys(ctx, KeyPurpose.MODELS)


def _check_files(ctx: Context, files: list[PackageFile]) -> None:
    held = data.hold_artifacts(ctx, [file.digest for file in files])
    for file in files:
        if held[file.digest].size != file.size:
            raise InvalidInput(f"The file '{file.path}' has {held[file.digest].size} bytes, not {file.size}.")


def _made_from(ctx: Context, body: VersionCreate) -> dict[str, str | None]:
    """Return the run, job, dataset version and parent that a version comes from; all of them are of this project.

    Raises:
        NotFound: the run, dataset version or parent is not.
        PermissionDenied: a job names a run that is not its own.
    """
    run = experiments.find_run(ctx, body.run_id) if body.run_id is not None else None
    job = ctx.actor.id if ctx.actor.kind == "grant" and ctx.actor.id.startswith("job_") else None
    if run is not None and job is not None and run.job_id != job:
        raise PermissionDenied(f"The run '{run.id}' is not this job's.")
    ref = body.dataset_version_id
    dataset = data.resolve_dataset_version(ctx, ref) if ref is not None else None
    parent = version_of_ref(ctx, body.parent_version_id) if body.parent_version_id is not None else None
    return {
        "run_id": run.id if run else None,
        "job_id": run.job_id if run else job,
        "dataset_version_id": dataset.id if dataset else None,
        "parent_version_id": parent.id if parent else None,
    }


def _stored(blobs: BlobStore, file: PackageFile) -> Iterator[bytes]:
    try:
        yield from blobs.read(file.digest)
    except NotFound as gone:
        raise ArtifactCorrupted(f"The bytes of the file '{file.path}' are gone from the store.") from gone
