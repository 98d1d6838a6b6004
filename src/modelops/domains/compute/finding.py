"""Finding what is the platform's, as far as the caller may see it: what a cluster queue of his tenant, or of all, has to do
with."""

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, or_, select, true

from modelops.contracts.errors import NotFound
from modelops.domains.compute.tables import ClusterQueueRow, CohortRow, FlavorRow, PoolRow, QueueRow
from modelops.kernel.context import Context

OPERATE = "compute.write"
"""The permission of those who see and change everything."""

Named = TypeVar("Named", FlavorRow, PoolRow, CohortRow, ClusterQueueRow)


def own_cluster_queues(ctx: Context) -> ColumnElement[bool]:
    """Return the condition of the cluster queues that the caller may know of."""
    if ctx.can(OPERATE):
        return true()
    return or_(ClusterQueueRow.tenant_id.is_(None), ClusterQueueRow.tenant_id == ctx.actor.tenant_id)


def visible(ctx: Context, row: type[Any]) -> ColumnElement[bool]:
    """Return the condition of the rows of a kind that the caller may know of."""
    if row is ClusterQueueRow:
        return own_cluster_queues(ctx)
    if ctx.can(OPERATE):
        return true()
    queues = ctx.session.execute(
        select(ClusterQueueRow.groups, ClusterQueueRow.cohort).where(own_cluster_queues(ctx))
    ).all()
    if row is CohortRow:
        return CohortRow.name.in_(_with_parents(ctx, {cohort for _, cohort in queues if cohort}))
    flavors = {one["flavor"] for groups, _ in queues for group in groups for one in group["flavors"]}
    condition: ColumnElement[bool] = row.name.in_(flavors)
    return condition


def find_named(ctx: Context, row: type[Named], what: str, name: str) -> Named:
    """Return a thing of the platform by name.

    Raises:
        NotFound: there is none that the caller may know of.
    """
    found = ctx.session.scalars(select(row).where(row.name == name, visible(ctx, row))).one_or_none()
    if found is None:
        raise NotFound(f"There is no {what} '{name[:250]}'.")
    return found


def find_queue(ctx: Context, queue: str) -> QueueRow:
    """Return the project's queue of a name.

    Raises:
        NotFound: there is none.
    """
    return ctx.one(QueueRow, f"queue '{queue[:250]}'", QueueRow.name == queue)


def _with_parents(ctx: Context, names: set[str]) -> set[str]:
    parents = dict(ctx.session.execute(select(CohortRow.name, CohortRow.parent)).all())
    found: set[str] = set()
    for name in names:
        above: str | None = name
        while above is not None and above not in found:
            found.add(above)
            above = parents.get(above)
    return found
