"""Aliases: names that point at versions and move. `champion` is the platform's own and follows Production."""

from sqlalchemy import delete, select

from modelops.contracts.errors import NotFound
from modelops.domains.models.finding import aliases_of, find_model, find_version, to_models
from modelops.domains.models.rules import CHAMPION, check_alias, next_champion
from modelops.domains.models.schemas import AliasSet, Model, Stage
from modelops.domains.models.tables import AliasRow, ModelRow, ModelVersionRow, StageRecordRow
from modelops.kernel.context import Context


def set_alias(ctx: Context, model: str, alias: str, body: AliasSet) -> Model:
    """Point an alias at a version that is not retired. `champion` is the platform's own."""
    ctx.require("models.promote")
    row = find_model(ctx, model, lock=True)
    version = find_version(ctx, row, body.version)
    check_alias(alias, row.name, version.version, Stage(version.stage))
    ctx.check_revision(row)
    _point(ctx, row, alias, version.version)
    return to_models(ctx, [row])[0]


def delete_alias(ctx: Context, model: str, alias: str) -> None:
    """Take an alias away."""
    ctx.require("models.promote")
    row = find_model(ctx, model, lock=True)
    if ctx.session.get(AliasRow, (row.id, alias)) is None:
        raise NotFound(f"The model '{row.name}' has no alias '{alias}'.")
    ctx.check_revision(row)
    _drop(ctx, row, alias)


def drop_aliases(ctx: Context, model: ModelRow, version: int | None = None) -> None:
    """Take the aliases of a locked model away, or those that point at one version."""
    for alias, target in _aliases(ctx, model).items():
        if version in (None, target):
            _drop(ctx, model, alias)


def follow_move(ctx: Context, model: ModelRow, version: int, to: Stage) -> None:
    """Let the aliases of a locked model follow a move of a version; the move is in the database already."""
    aliases = _aliases(ctx, model)
    present = aliases.get(CHAMPION)
    wanted = next_champion(present, version, to, _promotions(ctx, model), _in_production(ctx, model))
    gone = {alias for alias, target in aliases.items() if to is Stage.RETIREMENT and target == version}
    gone = gone - {CHAMPION} | ({CHAMPION} if present is not None and wanted is None else set())
    for alias in sorted(gone):
        _drop(ctx, model, alias)
    if wanted is not None and wanted != present:
        _point(ctx, model, CHAMPION, wanted)
    if gone or wanted != present:
        model.touch()


def _aliases(ctx: Context, model: ModelRow) -> dict[str, int]:
    return aliases_of(ctx, [model.id])[model.id]


def _promotions(ctx: Context, model: ModelRow) -> list[int]:
    query = select(StageRecordRow.version).where(
        StageRecordRow.model_id == model.id, StageRecordRow.to_stage == Stage.PRODUCTION
    )
    return list(ctx.session.scalars(query.order_by(StageRecordRow.changed_at.desc(), StageRecordRow.id.desc())))


def _in_production(ctx: Context, model: ModelRow) -> set[int]:
    query = select(ModelVersionRow.version).where(
        ModelVersionRow.model_id == model.id, ModelVersionRow.stage == Stage.PRODUCTION
    )
    return set(ctx.session.scalars(query))


def _point(ctx: Context, model: ModelRow, alias: str, version: int) -> None:
    ctx.session.merge(AliasRow(model_id=model.id, alias=alias, version=version))
    ctx.session.flush()
    ctx.emit("modelops.models.alias_set", model.id, model=model.name, alias=alias, version=version)


def _drop(ctx: Context, model: ModelRow, alias: str) -> None:
    ctx.session.execute(delete(AliasRow).where(AliasRow.model_id == model.id, AliasRow.alias == alias))
    ctx.emit("modelops.models.alias_deleted", model.id, model=model.name, alias=alias)
