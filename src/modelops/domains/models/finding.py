"""Finding models and versions, and turning rows into what callers see."""

import shlex
from typing import Any

from sqlalchemy import Select, select

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.models.rules import ANY_MODEL, MAX_VERSION, is_version_id, parse_ref, parse_version
from modelops.domains.models.schemas import Model, ModelVersion
from modelops.domains.models.tables import AliasRow, ModelRow, ModelVersionRow
from modelops.kernel.context import Context

_AT_ONCE = 1_000


def find_model(ctx: Context, model: str, *, lock: bool = False) -> ModelRow:
    """Find a model of the project by name or id; locked, nobody else changes it or its versions until the work ends."""
    query = ctx.query(ModelRow).where((ModelRow.name == model) | (ModelRow.id == model), ModelRow.deleted_at.is_(None))
    if lock:  # what this unit of work read before the lock may be old by now
        query = query.with_for_update().execution_options(populate_existing=True)
    row = ctx.session.scalars(query).first()
    if row is None:
        raise NotFound(
            f"There is no model '{model[:250]}' in this project.",
            hint="`mops models list-models` lists those that are there.",
        )
    return row


def find_version(ctx: Context, model: ModelRow, version: int | None, alias: str | None = None) -> ModelVersionRow:
    """Find a version of a model by number, by alias, or the latest."""
    number = _aliased(ctx, model, alias) if alias is not None else version or model.latest_version
    if number is None:
        raise NotFound(f"The model '{model.name}' has no versions yet.", hint="Register one first.")
    query = versions_of(ctx, model).where(ModelVersionRow.version == number)
    row = ctx.session.scalars(query).one_or_none() if number <= MAX_VERSION else None
    if row is None:
        latest = f"its latest is {model.latest_version}" if model.latest_version else "it has none yet"
        raise NotFound(f"The model '{model.name}' has no version {number}; {latest}.")
    return row


def versions_of(ctx: Context, model: ModelRow) -> Select[ModelVersionRow]:
    """Select a model's versions, without those that were deleted."""
    return ctx.query(ModelVersionRow).where(ModelVersionRow.model_id == model.id, ModelVersionRow.deleted_at.is_(None))


def version_in_path(ctx: Context, model: str, version: str) -> ModelVersionRow:
    """Find what `/models/{model}/versions/{version}` names: a number, `latest`, `@alias` or an id."""
    if is_version_id(version):
        return _by_id(ctx, version, model)
    row = find_model(ctx, model)
    if version.startswith("@"):
        return find_version(ctx, row, None, version.removeprefix("@"))
    return find_version(ctx, row, parse_version(version))


def version_of_ref(ctx: Context, ref: str) -> ModelVersionRow:
    """Find what `name`, `name:3`, `name@alias` or `mver_…` names."""
    if is_version_id(ref):
        return _by_id(ctx, ref)
    name, version, alias = parse_ref(ref)
    return find_version(ctx, find_model(ctx, name), version, alias)


def aliases_of(ctx: Context, model_ids: list[str]) -> dict[str, dict[str, int]]:
    """Return the aliases of models by model."""
    found: dict[str, dict[str, int]] = {model: {} for model in model_ids}
    for start in range(0, len(model_ids), _AT_ONCE):
        part = model_ids[start : start + _AT_ONCE]
        query = select(AliasRow).where(AliasRow.model_id.in_(part)).order_by(AliasRow.alias)
        for row in ctx.session.scalars(query):
            found[row.model_id][row.alias] = row.version
    return found


def to_models(ctx: Context, rows: list[ModelRow]) -> list[Model]:
    """Return models with their aliases."""
    aliases = aliases_of(ctx, [row.id for row in rows])
    own = [name for name in Model.model_fields if name != "aliases"]
    return [
        Model.model_validate({**{name: getattr(row, name) for name in own}, "aliases": aliases[row.id]}) for row in rows
    ]


def to_versions(ctx: Context, rows: list[ModelVersionRow]) -> list[ModelVersion]:
    """Return versions with the aliases that point at them."""
    aliases = aliases_of(ctx, list({row.model_id for row in rows}))
    return [_version(row, aliases[row.model_id]) for row in rows]


def to_version(ctx: Context, row: ModelVersionRow) -> ModelVersion:
    """Return one version."""
    return to_versions(ctx, [row])[0]


def _aliased(ctx: Context, model: ModelRow, alias: str) -> int:
    if not alias or "\x00" in alias:
        raise InvalidInput("Behind the `@` stands no alias.", hint=f"Write it such as {model.name}@champion.")
    pointer = ctx.session.get(AliasRow, (model.id, alias))
    if pointer is None:
        raise NotFound(
            f"The model '{model.name}' has no alias '{alias}'.",
            hint=f"Set it: mops models set-alias {shlex.quote(model.name)} {shlex.quote(alias)} VERSION",
        )
    return pointer.version


def _by_id(ctx: Context, version: str, model: str = ANY_MODEL) -> ModelVersionRow:
    there = (ModelVersionRow.id == version, ModelVersionRow.deleted_at.is_(None))
    row = ctx.one(ModelVersionRow, f"model version '{version}'", *there)
    if model not in (ANY_MODEL, row.name, row.model_id):
        raise NotFound(f"The model '{model[:250]}' has no version '{version}'.")
    return row


def _version(row: ModelVersionRow, aliases: dict[str, int]) -> ModelVersion:
    own: dict[str, Any] = {name: getattr(row, name) for name in ModelVersion.model_fields if name != "aliases"}
    return ModelVersion.model_validate({**own, "aliases": [name for name, to in aliases.items() if to == row.version]})
