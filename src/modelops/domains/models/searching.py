"""Searching models and versions by several comparisons and orders at once (for protocols that offer it)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, tuple_
from sqlalchemy import select as select_columns

from modelops.domains.models.fields import tag_of
from modelops.domains.models.finding import to_models, to_versions
from modelops.domains.models.schemas import Model, ModelVersion
from modelops.domains.models.tables import ModelRow, ModelVersionRow
from modelops.kernel.comparing import compare
from modelops.kernel.context import Context

_MODEL_COLUMNS: dict[str, Any] = {
    "name": ModelRow.name,
    "created_at": ModelRow.created_at,
    "updated_at": func.coalesce(ModelRow.updated_at, ModelRow.created_at),
}
_VERSION_COLUMNS: dict[str, Any] = {
    "name": ModelVersionRow.name,
    "version": ModelVersionRow.version,
    "run": func.coalesce(ModelVersionRow.run_id, ModelVersionRow.claimed_run, ""),
    "source": ModelVersionRow.source,
    "stage": ModelVersionRow.stage,
    "logged_model_id": ModelVersionRow.logged_model_id,
    "created_at": ModelVersionRow.created_at,
    "updated_at": func.coalesce(ModelVersionRow.updated_at, ModelVersionRow.created_at),
}


@dataclass(frozen=True)
class Wanted:
    """One comparison: `field` is a column's name or `tags`, and `key` then the tag's.

    Attributes:
        absent: What the comparison says of a row that has no such tag.
    """

    field: str
    operator: str
    value: Any
    key: str = ""
    absent: bool = False


Order = tuple[str, bool]
"""A field, and whether it descends."""


def search_models(
    ctx: Context, wanted: Sequence[Wanted], order: Sequence[Order], *, offset: int, limit: int
) -> list[Model]:
    """Return the models that all comparisons fit, ordered and then by name (for the domains above)."""
    ctx.require("models.read")
    query = ctx.query(ModelRow).where(ModelRow.deleted_at.is_(None))
    query = query.where(*_conditions(ctx, wanted, _MODEL_COLUMNS, ModelRow))
    query = _ordered(query, [*order, ("name", False)], _MODEL_COLUMNS)
    return to_models(ctx, list(ctx.session.scalars(query.offset(offset).limit(limit))))


def search_versions(
    ctx: Context, wanted: Sequence[Wanted], order: Sequence[Order], *, offset: int, limit: int
) -> list[ModelVersion]:
    """Return the versions that all comparisons fit, ordered, then by name, newest first (for the domains above)."""
    ctx.require("models.read")
    query = ctx.query(ModelVersionRow).where(ModelVersionRow.deleted_at.is_(None))
    query = query.where(*_conditions(ctx, wanted, _VERSION_COLUMNS, ModelVersionRow))
    query = _ordered(query, [*order, ("name", False), ("version", True)], _VERSION_COLUMNS)
    return to_versions(ctx, list(ctx.session.scalars(query.offset(offset).limit(limit))))


def newest_by_stage(ctx: Context, model_ids: Sequence[str]) -> list[ModelVersion]:
    """Return the newest version in each stage of each model (for the domains above)."""
    ctx.require("models.read")
    newest = (
        select_columns(ModelVersionRow.model_id, func.max(ModelVersionRow.version))
        .where(ModelVersionRow.model_id.in_(model_ids), ModelVersionRow.deleted_at.is_(None))
        .group_by(ModelVersionRow.model_id, ModelVersionRow.stage)
    )
    query = ctx.query(ModelVersionRow).where(tuple_(ModelVersionRow.model_id, ModelVersionRow.version).in_(newest))
    return to_versions(ctx, list(ctx.session.scalars(query.order_by(ModelVersionRow.version))))


def _conditions(
    ctx: Context, wanted: Sequence[Wanted], columns: dict[str, Any], row: type[ModelRow] | type[ModelVersionRow]
) -> list[ColumnElement[bool]]:
    found = []
    for one in wanted:
        column = tag_of(row)(one.key) if one.field == "tags" else columns[one.field]
        condition = compare(ctx.session, column, one.operator, one.value)
        found.append(or_(column.is_(None), condition) if one.absent else condition)
    return found


def _ordered(query: Select[Any], order: Sequence[Order], columns: dict[str, Any]) -> Select[Any]:
    first = dict(reversed(order))  # the first word on a field counts
    fields = dict.fromkeys(field for field, _ in order)
    return query.order_by(*(columns[field].desc() if first[field] else columns[field].asc() for field in fields))
