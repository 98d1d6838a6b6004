"""Priority classes: names of priorities."""

from typing import Any

from sqlalchemy import select

from modelops.contracts.errors import NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.compute.schemas import PriorityClass, PriorityClassSpec
from modelops.domains.compute.tables import PriorityClassRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_FIELDS: dict[str, Any] = {"name": PriorityClassRow.name, "value": PriorityClassRow.value}


def set_priority_class(ctx: Context, priority_class: str, body: PriorityClassSpec) -> PriorityClass:
    """Name a priority, or change what the name means for jobs that are submitted from now on."""
    ctx.require("compute.write")
    row = ctx.session.scalars(select(PriorityClassRow).where(PriorityClassRow.name == priority_class)).one_or_none()
    if row is None:
        row = PriorityClassRow(id=new_id("pri"), name=priority_class, revision=1, created_at=ctx.clock.now())
        row.created_by = ctx.actor.id
        ctx.session.add(row)
    else:
        ctx.check_revision(row)
    row.value, row.description = body.value, body.description
    ctx.session.flush()
    return PriorityClass.model_validate(row, from_attributes=True)


def list_priority_classes(ctx: Context, page: PageQuery) -> Page[PriorityClass]:
    """List the priorities that have a name."""
    ctx.require("compute.read")
    found = list_rows(ctx, select(PriorityClassRow), PriorityClassRow.id, _FIELDS, page)
    items = [PriorityClass.model_validate(row, from_attributes=True) for row in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def delete_priority_class(ctx: Context, priority_class: str) -> None:
    """Remove a name of a priority; workloads keep the value that they were submitted with."""
    ctx.require("compute.write")
    row = ctx.session.scalars(select(PriorityClassRow).where(PriorityClassRow.name == priority_class)).one_or_none()
    if row is None:
        raise NotFound(f"There is no priority class '{priority_class[:250]}'.")
    ctx.session.delete(row)
