"""What the registry does. Context first, one verb a function; the edge commits."""

import contextlib
import math
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from modelops.contracts.errors import AlreadyExists, InvalidInput, ModelRegistryError, NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Page
from modelops.domains.data import service as data
from modelops.domains.experiments import service as experiments
from modelops.domains.identity import service as identity
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.models.approvals import approval_for, decide_approval, list_approvals, request_approval
from modelops.domains.models.finding import (
    find_model,
    find_version,
    to_models,
    to_version,
    to_versions,
    version_in_path,
    version_of_ref,
)
from modelops.domains.models.packages import STATEMENT_TYPE, digest_of, statement, statement_of, verify_package
from modelops.domains.models.rules import CHAMPION, check_first_stage, check_transition
from modelops.domains.models.schemas import (
    AliasSet,
    Model,
    ModelCreate,
    ModelMetrics,
    ModelUpdate,
    ModelVersion,
    PackageFile,
    Stage,
    StageChange,
    StageRecord,
    Verification,
    VersionCreate,
)
from modelops.domains.models.tables import AliasRow, ModelRow, ModelVersionRow, StageRecordRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

__all__ = [
    "create_model",
    "decide_approval",
    "delete_alias",
    "get_model",
    "get_version",
    "get_version_by_id",
    "list_approvals",
    "list_metrics",
    "list_models",
    "list_stage_history",
    "list_versions",
    "register_version",
    "request_approval",
    "resolve_version",
    "set_alias",
    "set_stage",
    "trusted_keys",
    "update_model",
    "verify_version",
]


def create_model(ctx: Context, body: ModelCreate) -> Model:
    """Make a model, still without versions."""
    ctx.require("models.write")
    if ctx.session.scalars(ctx.query(ModelRow).where(ModelRow.name == body.name)).first():
        raise AlreadyExists(f"There is a model '{body.name}' already.")
    return to_models(ctx, [_add_model(ctx, body)])[0]


def list_models(ctx: Context, page: PageQuery) -> Page[Model]:
    """List the project's models."""
    ctx.require("models.read")
    fields = {"name": ModelRow.name, "created_at": ModelRow.created_at, "created_by": ModelRow.created_by}
    found = list_rows(ctx, ctx.query(ModelRow), ModelRow.id, fields, page)
    return Page(items=to_models(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_model(ctx: Context, model: str) -> Model:
    """Return a model, by name or id."""
    ctx.require("models.read")
    return to_models(ctx, [find_model(ctx, model)])[0]


def update_model(ctx: Context, model: str, body: ModelUpdate) -> Model:
    """Change a model's description or tags."""
    ctx.require("models.write")
    row = find_model(ctx, model)
    ctx.check_revision(row)
    if body.description is not None:
        row.description = body.description
    if body.tags is not None:
        row.tags = body.tags
    return to_models(ctx, [row])[0]


def register_version(ctx: Context, body: VersionCreate) -> ModelVersion:
    """Register a version of a model from files that were uploaded before, and sign it; the model is made if it is new."""
    ctx.require("models.write")
    check_first_stage(body.stage)
    digest = digest_of(body.files)
    _check_files(ctx, body.files)
    run = experiments.find_run(ctx, body.run_id) if body.run_id else None
    if body.dataset_version_id:
        data.resolve_dataset_version(ctx, body.dataset_version_id)
    model = _model_to_register(ctx, body.name)
    model.latest_version = (model.latest_version or 0) + 1
    model.touch()
    version_id = new_id("mver")
    payload = statement(
        name=model.name,
        version=model.latest_version,
        project_id=ctx.project_id,
        model_version_id=version_id,
        flavour=body.flavour,
        digest=digest,
        files=body.files,
        signature=body.signature,
    )
    signature = identity.sign_document(ctx, KeyPurpose.MODELS, STATEMENT_TYPE, payload)
    given = body.model_dump(mode="json", exclude={"name", "stage", "metrics"})
    row = ModelVersionRow(
        **given,
        id=version_id,
        project_id=ctx.project_id,
        model_id=model.id,
        name=model.name,
        version=model.latest_version,
        stage=body.stage,
        digest=digest,
        size=sum(file.size for file in body.files),
        platform_signature=signature.model_dump(),
        job_id=run.job_id if run else None,
        metrics={key: value if math.isfinite(value) else str(value) for key, value in body.metrics.items()},
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.models.version_registered", model.id, model=model.name, version=row.version, id=row.id)
    return to_version(ctx, row)


def list_versions(ctx: Context, model: str, page: PageQuery) -> Page[ModelVersion]:
    """List a model's versions, newest first."""
    ctx.require("models.read")
    row = find_model(ctx, model)
    query = ctx.query(ModelVersionRow).where(ModelVersionRow.model_id == row.id)
    found = list_rows(ctx, query, ModelVersionRow.id, _VERSION_FIELDS, page, order="desc")
    return Page(items=to_versions(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_version(ctx: Context, model: str, version: str) -> ModelVersion:
    """Return a version by number, `latest` or `@alias`."""
    ctx.require("models.read")
    return to_version(ctx, version_in_path(ctx, model, version))


def verify_version(ctx: Context, model: str, version: str) -> Verification:
    """Check a version's signature, and every stored file of it against its digest."""
    ctx.require("models.read")
    found = to_version(ctx, version_in_path(ctx, model, version))
    blobs = ctx.port(BlobStore)
    checked = verify_package(
        lambda file: blobs.read(file.digest), statement_of(found), found.platform_signature, trusted_keys(ctx)
    )
    return Verification(
        version_id=found.id,
        digest=found.digest,
        signed_by=found.platform_signature.key_id,
        files_checked=len(found.files),
        bytes_checked=checked,
    )


def set_stage(ctx: Context, model: str, body: StageChange) -> ModelVersion:
    """Move a version to a stage, the latest where none is named. Production needs an approval, and makes it champion."""
    ctx.require("models.promote")
    row = find_model(ctx, model, lock=True)
    version = find_version(ctx, row, body.version)
    present = Stage(version.stage)
    if present is body.stage:
        return to_version(ctx, version)
    check_transition(row.name, version.version, present, body.stage)
    approval = approval_for(ctx, version, body.stage)
    ctx.check_revision(version)
    version.stage = body.stage
    record = StageRecordRow(
        id=new_id("stg"),
        project_id=ctx.project_id,
        model_id=row.id,
        version=version.version,
        from_stage=present,
        to_stage=body.stage,
        comment=body.comment,
        approval_id=approval,
        changed_at=ctx.clock.now(),
        changed_by=ctx.actor.id,
    )
    ctx.session.add(record)
    if body.stage is Stage.PRODUCTION:
        ctx.session.merge(AliasRow(model_id=row.id, alias=CHAMPION, version=version.version))
    if body.stage is Stage.RETIREMENT:
        _drop_aliases(ctx, row, version.version)
    ctx.session.flush()
    facts = {"model": row.name, "version": version.version, "from_stage": present, "to_stage": body.stage}
    ctx.emit("modelops.models.stage_changed", row.id, **facts, id=version.id)
    return to_version(ctx, version)


def list_stage_history(ctx: Context, model: str, page: PageQuery) -> Page[StageRecord]:
    """List the moves of a model's versions, newest first."""
    ctx.require("models.read")
    row = find_model(ctx, model)
    query = ctx.query(StageRecordRow).where(StageRecordRow.model_id == row.id)
    fields = {
        "version": StageRecordRow.version,
        "to_stage": StageRecordRow.to_stage,
        "changed_at": StageRecordRow.changed_at,
    }
    found = list_rows(ctx, query, StageRecordRow.id, fields, page, order="desc")
    items = [StageRecord.model_validate(record, from_attributes=True) for record in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def set_alias(ctx: Context, model: str, alias: str, body: AliasSet) -> Model:
    """Point an alias at a version that is not retired. `champion` is the platform's own."""
    ctx.require("models.promote")
    row = find_model(ctx, model, lock=True)
    version = find_version(ctx, row, body.version)
    if version.stage == Stage.RETIREMENT:
        raise ModelRegistryError(
            f"{row.name}:{version.version} is retired.", hint="Point the alias at another version."
        )
    if alias == CHAMPION and version.stage != Stage.PRODUCTION:
        raise ModelRegistryError(
            f"`{CHAMPION}` is for versions in Production, and {row.name}:{version.version} is in {version.stage}.",
            hint="Promote the version; the alias follows by itself.",
        )
    ctx.session.merge(AliasRow(model_id=row.id, alias=alias, version=version.version))
    ctx.session.flush()
    ctx.emit("modelops.models.alias_set", row.id, model=row.name, alias=alias, version=version.version)
    return to_models(ctx, [row])[0]


def delete_alias(ctx: Context, model: str, alias: str) -> None:
    """Take an alias away."""
    ctx.require("models.promote")
    row = find_model(ctx, model)
    pointer = ctx.session.get(AliasRow, (row.id, alias))
    if pointer is None:
        raise NotFound(f"The model '{row.name}' has no alias '{alias}'.")
    ctx.session.delete(pointer)
    ctx.emit("modelops.models.alias_deleted", row.id, model=row.name, alias=alias)


def list_metrics(ctx: Context, page: PageQuery) -> Page[ModelMetrics]:
    """List the metrics that versions were registered with, newest first."""
    ctx.require("models.read")
    found = list_rows(ctx, ctx.query(ModelVersionRow), ModelVersionRow.id, _VERSION_FIELDS, page, order="desc")
    items = [ModelMetrics.model_validate(row, from_attributes=True) for row in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def resolve_version(ctx: Context, ref: str) -> ModelVersion:
    """Return what `name`, `name:3`, `name@alias` or `mver_…` means (for the domains above)."""
    return to_version(ctx, version_of_ref(ctx, ref))


def get_version_by_id(ctx: Context, version_id: str) -> ModelVersion:
    """Return a version by its id (for the domains above)."""
    return resolve_version(ctx, version_id)


def trusted_keys(ctx: Context) -> dict[str, str]:
    """Return the public keys that verify versions: key id -> base64url (for the domains above)."""
    return identity.list_public_keys(ctx, KeyPurpose.MODELS)


def _check_files(ctx: Context, files: list[PackageFile]) -> None:
    held = data.require_artifacts(ctx, [file.digest for file in files])
    for file in files:
        if held[file.digest].size != file.size:
            raise InvalidInput(f"The file '{file.path}' has {held[file.digest].size} bytes, not {file.size}.")


def _model_to_register(ctx: Context, name: str) -> ModelRow:
    """Return the model's row, locked; made if it is new, also by another request at this moment."""
    if ctx.session.scalars(ctx.query(ModelRow).where(ModelRow.name == name)).first() is None:
        with contextlib.suppress(IntegrityError), ctx.session.begin_nested():  # another request may be faster
            _add_model(ctx, ModelCreate(name=name))
    row = find_model(ctx, name, lock=True)
    ctx.session.refresh(row)
    return row


def _add_model(ctx: Context, body: ModelCreate) -> ModelRow:
    row = ModelRow(
        id=new_id("mdl"),
        project_id=ctx.project_id,
        name=body.name,
        description=body.description,
        tags=body.tags,
        latest_version=None,
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.models.model_created", row.id, name=row.name)
    return row


def _drop_aliases(ctx: Context, model: ModelRow, version: int) -> None:
    ctx.session.execute(delete(AliasRow).where(AliasRow.model_id == model.id, AliasRow.version == version))


_VERSION_FIELDS: dict[str, Any] = {
    "name": ModelVersionRow.name,
    "version": ModelVersionRow.version,
    "stage": ModelVersionRow.stage,
    "flavour": ModelVersionRow.flavour,
    "run_id": ModelVersionRow.run_id,
    "job_id": ModelVersionRow.job_id,
    "created_at": ModelVersionRow.created_at,
    "created_by": ModelVersionRow.created_by,
}
