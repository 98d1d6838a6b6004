"""Making rows of models, and the next number of their versions."""

import contextlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from modelops.contracts.ids import new_id
from modelops.domains.identity import service as identity
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.models.finding import find_model, to_version
from modelops.domains.models.packages import STATEMENT_TYPE, digest_of, statement, statement_of, verify_statement
from modelops.domains.models.schemas import ModelCreate, ModelSignature, PackageFile
from modelops.domains.models.tables import ModelRow, ModelVersionRow
from modelops.kernel.context import Context


def model_to_register(ctx: Context, name: str) -> ModelRow:
    """Return the model's row, locked; made if it is new, also by another request at this moment."""
    if ctx.session.scalars(ctx.query(ModelRow).where(ModelRow.name == name)).first() is None:
        with contextlib.suppress(IntegrityError), ctx.session.begin_nested():  # another request may be faster
            add_model(ctx, ModelCreate(name=name))
    return find_model(ctx, name, lock=True)


def add_model(ctx: Context, body: ModelCreate) -> ModelRow:
    """Add a model whose name was checked."""
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
        updated_at=ctx.clock.now(),
    )
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.models.model_created", row.id, name=row.name)
    return row


def add_version(
    ctx: Context,
    model: ModelRow,
    flavour: str,
    files: Sequence[PackageFile],
    signature: ModelSignature,
    **columns: Any,
) -> ModelVersionRow:
    """Add the next version to a locked model, and sign it; `columns` are the further ones of the row."""
    now = ctx.clock.now()
    row = ModelVersionRow(
        **columns,
        id=new_id("mver"),
        project_id=ctx.project_id,
        model_id=model.id,
        name=model.name,
        version=_next_number(ctx, model),
        flavour=flavour,
        files=[file.model_dump(mode="json") for file in files],
        signature=signature.model_dump(mode="json"),
        digest=digest_of(files),
        size=sum(file.size for file in files),
        revision=1,
        created_at=now,
        created_by=ctx.actor.id,
        updated_at=now,
    )
    row.platform_signature = _signed(ctx, row, files, signature)
    ctx.session.add(row)
    ctx.session.flush()
    origin = {name: getattr(row, name) for name in ("run_id", "job_id", "dataset_version_id")}
    origin |= {"runs_code": bool(columns.get("runs_code")), "unsafe": bool((row.scan or {}).get("unsafe"))}
    facts = {"model": model.name, "version": row.version, "id": row.id, "stage": row.stage, "digest": row.digest}
    ctx.emit("modelops.models.version_registered", model.id, **facts, **origin)
    return row


def sign_again(ctx: Context, row: ModelVersionRow, name: str) -> None:
    """Give a version another name, and sign that; what was signed before is verified first, so that no forgery is.

    Raises:
        SignatureInvalid: the row no longer says what the platform signed.
    """
    version = to_version(ctx, row)
    verify_statement(
        statement_of(version), version.platform_signature, identity.list_public_keys(ctx, KeyPurpose.MODELS)
    )
    row.name = name
    row.platform_signature = _signed(ctx, row, version.files, version.signature)
    row.touch()


def _signed(
    ctx: Context, row: ModelVersionRow, files: Sequence[PackageFile], signature: ModelSignature
) -> dict[str, Any]:
    payload = statement(
        name=row.name,
        version=row.version,
        project_id=row.project_id,
        model_version_id=row.id,
        flavour=row.flavour,
        digest=row.digest,
        files=files,
        signature=signature,
    )
    return identity.sign_document(ctx, KeyPurpose.MODELS, STATEMENT_TYPE, payload).model_dump()


def _next_number(ctx: Context, model: ModelRow) -> int:
    """Give a locked model its next version's number; one that was deleted is not given again."""
    highest = ctx.session.scalar(select(func.max(ModelVersionRow.version)).where(ModelVersionRow.model_id == model.id))
    model.latest_version = (highest or 0) + 1
    model.updated_at = ctx.clock.now()
    model.touch()
    return model.latest_version
