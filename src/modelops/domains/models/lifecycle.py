"""What changes on a model and its versions beside their stages: names, words, tags, and their end."""

from modelops.contracts.errors import AlreadyExists
from modelops.domains.models.aliases import drop_aliases
from modelops.domains.models.finding import find_model, to_models, to_version, version_in_path, versions_of
from modelops.domains.models.making import sign_again
from modelops.domains.models.rules import check_deletion, check_name, check_tag
from modelops.domains.models.schemas import Model, ModelRename, ModelVersion, Stage, VersionUpdate
from modelops.domains.models.tables import ModelRow, ModelVersionRow
from modelops.kernel.context import Context


def rename_model(ctx: Context, model: str, body: ModelRename) -> Model:
    """Give a model another name. Its versions are signed anew under it; what serves keeps what it was started with."""
    ctx.require("models.promote")
    check_name(body.name)
    row = find_model(ctx, model, lock=True)
    taken = ctx.query(ModelRow).where(ModelRow.name == body.name, ModelRow.id != row.id)
    if ctx.session.scalars(taken).first():
        raise AlreadyExists(f"There is a model '{body.name}' already.")
    ctx.check_revision(row)
    before, row.name, row.updated_at = row.name, body.name, ctx.clock.now()
    for version in ctx.session.scalars(versions_of(ctx, row)):
        sign_again(ctx, version, body.name)
    ctx.session.flush()
    ctx.emit("modelops.models.model_renamed", row.id, name=row.name, before=before)
    return to_models(ctx, [row])[0]


def delete_model(ctx: Context, model: str) -> None:
    """Delete a model and its versions, of which none may be in Production. Its name is free again."""
    ctx.require("models.delete")
    row = find_model(ctx, model, lock=True)
    ctx.check_revision(row)
    versions = list(ctx.session.scalars(versions_of(ctx, row)))
    for version in versions:
        check_deletion(row.name, version.version, Stage(version.stage))
    for version in versions:
        _bury(ctx, version)
    drop_aliases(ctx, row)
    name, row.name, row.latest_version = row.name, row.id, None
    row.deleted_at = ctx.clock.now()
    ctx.emit("modelops.models.model_deleted", row.id, name=name)


def update_version(ctx: Context, model: str, version: str, body: VersionUpdate) -> ModelVersion:
    """Change a version's description or tags."""
    ctx.require("models.write")
    row = _locked_version(ctx, model, version)
    ctx.check_revision(row)
    if body.description is not None:
        row.description = body.description
    if body.tags is not None:
        row.tags = body.tags
    row.updated_at = ctx.clock.now()
    return to_version(ctx, row)


def delete_version(ctx: Context, model: str, version: str) -> None:
    """Delete a version that is not in Production. Its number is not given again, and what serves it goes on."""
    ctx.require("models.delete")
    row = _locked_version(ctx, model, version)
    check_deletion(row.name, row.version, Stage(row.stage))
    ctx.check_revision(row)
    _bury(ctx, row)
    ctx.session.flush()
    above = find_model(ctx, row.model_id)
    drop_aliases(ctx, above, row.version)
    left = ctx.session.scalars(versions_of(ctx, above).order_by(ModelVersionRow.version.desc()).limit(1)).first()
    above.latest_version = left.version if left else None
    above.updated_at = ctx.clock.now()
    above.touch()
    ctx.emit("modelops.models.version_deleted", above.id, model=above.name, version=row.version, id=row.id)


def tag_model(ctx: Context, model: str, key: str, value: str | None) -> None:
    """Set one tag of a model, or take it away where `value` is None (for the domains above)."""
    ctx.require("models.write")
    row = find_model(ctx, model, lock=True)
    row.tags = _tagged(row.tags, key, value)
    row.updated_at = ctx.clock.now()
    row.touch()


def tag_version(ctx: Context, model: str, version: str, key: str, value: str | None) -> None:
    """Set one tag of a version, or take it away where `value` is None (for the domains above)."""
    ctx.require("models.write")
    row = _locked_version(ctx, model, version)
    row.tags = _tagged(row.tags, key, value)
    row.updated_at = ctx.clock.now()
    row.touch()


def _locked_version(ctx: Context, model: str, version: str) -> ModelVersionRow:
    """Find a version after its model was locked, so that nobody changes either meanwhile."""
    find_model(ctx, version_in_path(ctx, model, version).model_id, lock=True)
    row = version_in_path(ctx, model, version)
    ctx.session.refresh(row)
    return row


def _bury(ctx: Context, row: ModelVersionRow) -> None:
    row.deleted_at = ctx.clock.now()
    row.touch()


def _tagged(tags: dict[str, str], key: str, value: str | None) -> dict[str, str]:
    if value is not None:
        check_tag(key, value)
    others = {name: said for name, said in tags.items() if name != key}
    return others if value is None else {**others, key: value}
