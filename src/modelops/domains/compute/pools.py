"""Pools, and the flavors that they and other nodes offer."""

from typing import Any

from sqlalchemy import select

from modelops.contracts.errors import Conflict, InvalidInput
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.compute.allocator.devices import GPUS, shares_of_pool
from modelops.domains.compute.allocator.model import PoolMode
from modelops.domains.compute.converting import as_pool
from modelops.domains.compute.finding import find_named, visible
from modelops.domains.compute.ledger import note_change
from modelops.domains.compute.rules import InUse, check_pool
from modelops.domains.compute.schemas import Flavor, FlavorSpec, Pool, PoolAllocation, PoolSpec
from modelops.domains.compute.tables import AllocationRow, ClusterQueueRow, CohortRow, FlavorRow, PoolRow
from modelops.domains.compute.usage import allocated_shares, pending_by_pool
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_POOL_FIELDS: dict[str, Any] = {
    "name": PoolRow.name,
    "mode": PoolRow.mode,
    "gpu_model": PoolRow.gpu_model,
    "capacity_shares": PoolRow.capacity_shares,
    "created_at": PoolRow.created_at,
}
_FLAVOR_FIELDS: dict[str, Any] = {"name": FlavorRow.name, "pool": FlavorRow.pool, "created_at": FlavorRow.created_at}
_ALLOCATION_FIELDS: dict[str, Any] = {
    "device": AllocationRow.device,
    "profile": AllocationRow.profile,
    "job_id": AllocationRow.job_id,
    "tenant_id": AllocationRow.tenant_id,
    "project_id": AllocationRow.project_id,
    "since": AllocationRow.since,
}
_FIXED = ("mode", "gpu_model", "timeslice_replicas")
"""What of a pool stays while any of it is allocated."""


def set_pool(ctx: Context, pool: str, body: PoolSpec) -> Pool:
    """Make a pool, or change the one of this name. It offers a flavor of the same name."""
    ctx.require("compute.write")
    check_pool(body)
    capacity = _capacity(pool, body)
    note_change(ctx)
    row = ctx.session.scalars(select(PoolRow).where(PoolRow.name == pool)).one_or_none()
    flavor = ctx.session.scalars(select(FlavorRow).where(FlavorRow.name == pool)).one_or_none()
    if row is None and flavor is not None:
        raise Conflict(f"There is a flavor '{pool}' that no pool provides.", hint="Choose another name for the pool.")
    if row is None or flavor is None:
        row = PoolRow(id=new_id("pol"), name=pool, revision=1, created_at=ctx.clock.now(), created_by=ctx.actor.id)
        flavor = FlavorRow(id=new_id("flv"), name=pool, pool=pool, revision=1, created_at=ctx.clock.now())
        flavor.created_by = ctx.actor.id
        ctx.session.add_all([row, flavor])
    else:
        _check_change(ctx, row, body)
        ctx.check_revision(row)
        flavor.touch()
    for name, value in body.model_dump(mode="json").items():
        setattr(row, name, value)
    row.capacity_shares = capacity
    flavor.node_labels, flavor.tolerations = body.node_selector, row.tolerations
    ctx.session.flush()
    ctx.emit("modelops.compute.pool_set", row.id, name=pool, mode=row.mode, capacity_shares=capacity)
    return _pools(ctx, [row])[0]


def list_pools(ctx: Context, page: PageQuery) -> Page[Pool]:
    """List the pools that the caller's queues have quotas of; for operators of the platform, all."""
    ctx.require("compute.read")
    found = list_rows(ctx, select(PoolRow).where(visible(ctx, PoolRow)), PoolRow.id, _POOL_FIELDS, page)
    return Page(items=_pools(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_pool(ctx: Context, pool: str) -> Pool:
    """Return a pool."""
    ctx.require("compute.read")
    return _pools(ctx, [find_named(ctx, PoolRow, "pool", pool)])[0]


def delete_pool(ctx: Context, pool: str) -> None:
    """Remove a pool and its flavor, if no queue has a quota of it."""
    ctx.require("compute.write")
    note_change(ctx)
    row = find_named(ctx, PoolRow, "pool", pool)
    _check_unused(ctx, row.name)
    if (
        ctx.session.scalars(select(AllocationRow.device).where(AllocationRow.pool == row.name).limit(1)).first()
        is not None
    ):
        raise InUse(f"Jobs hold devices of the pool '{pool}'.", hint="Wait for their end, or cancel them.")
    ctx.session.delete(find_named(ctx, FlavorRow, "flavor", pool))
    ctx.session.delete(row)
    ctx.emit("modelops.compute.pool_deleted", row.id, name=pool)


def list_pool_allocations(ctx: Context, pool: str, page: PageQuery) -> Page[PoolAllocation]:
    """List who holds what of a pool; those of other tenants are shown to operators of the platform alone."""
    ctx.require("compute.read")
    row = find_named(ctx, PoolRow, "pool", pool)
    query = select(AllocationRow).where(AllocationRow.pool == row.name)
    if not ctx.can("compute.write"):
        query = query.where(AllocationRow.tenant_id == ctx.actor.tenant_id)
    found = list_rows(ctx, query, _place(), _ALLOCATION_FIELDS, page)
    items = [PoolAllocation.model_validate(one, from_attributes=True) for one in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def set_flavor(ctx: Context, flavor: str, body: FlavorSpec) -> Flavor:
    """Make a flavor of nodes without a pool, or change the one of this name."""
    ctx.require("compute.write")
    note_change(ctx)
    row = ctx.session.scalars(select(FlavorRow).where(FlavorRow.name == flavor)).one_or_none()
    if row is None:
        row = FlavorRow(id=new_id("flv"), name=flavor, pool=None, revision=1, created_at=ctx.clock.now())
        row.created_by = ctx.actor.id
        ctx.session.add(row)
    elif row.pool is not None:
        raise Conflict(
            f"The flavor '{flavor}' is that of a pool.", hint=f"Change the pool: mops pools set-pool {flavor}"
        )
    else:
        ctx.check_revision(row)
    spec = body.model_dump(mode="json")
    row.node_labels, row.tolerations = spec["node_labels"], spec["tolerations"]
    ctx.session.flush()
    return _flavor(row)


def list_flavors(ctx: Context, page: PageQuery) -> Page[Flavor]:
    """List the flavors that the caller's queues have quotas of; for operators of the platform, all."""
    ctx.require("compute.read")
    found = list_rows(ctx, select(FlavorRow).where(visible(ctx, FlavorRow)), FlavorRow.id, _FLAVOR_FIELDS, page)
    return Page(items=[_flavor(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_flavor(ctx: Context, flavor: str) -> Flavor:
    """Return a flavor."""
    ctx.require("compute.read")
    return _flavor(find_named(ctx, FlavorRow, "flavor", flavor))


def delete_flavor(ctx: Context, flavor: str) -> None:
    """Remove a flavor, if no queue has a quota of it."""
    ctx.require("compute.write")
    note_change(ctx)
    row = find_named(ctx, FlavorRow, "flavor", flavor)
    if row.pool is not None:
        raise Conflict(f"The flavor '{flavor}' is that of a pool.", hint=f"mops pools delete-pool {flavor}")
    _check_unused(ctx, row.name)
    ctx.session.delete(row)


def _check_change(ctx: Context, row: PoolRow, body: PoolSpec) -> None:
    """Refuse what would take away what jobs hold."""
    devices = set(ctx.session.scalars(select(AllocationRow.device).where(AllocationRow.pool == row.name)))
    if devices and any(getattr(row, name) != getattr(body, name) for name in _FIXED):
        raise InUse(f"Jobs hold devices of '{row.name}': how they are shared stays.", hint="Cordon its GPUs and wait.")
    if devices and max(devices) >= body.gpu_count:
        raise InUse(f"A job holds GPU {max(devices)} of '{row.name}'.", hint="Cordon it and wait.")


def _check_unused(ctx: Context, flavor: str) -> None:
    for row in (*ctx.session.scalars(select(ClusterQueueRow)), *ctx.session.scalars(select(CohortRow))):
        if any(one["flavor"] == flavor for group in row.groups for one in group["flavors"]):
            raise InUse(f"'{row.name}' has a quota of '{flavor}'.", hint="Take the flavor out of it first.")


def _capacity(pool: str, body: PoolSpec) -> int:
    """Return how many shares a pool has."""
    if body.mode is PoolMode.MIG and body.gpu_model not in GPUS:
        known = ", ".join(sorted(GPUS))
        raise InvalidInput(f"It is not known how a GPU '{body.gpu_model}' is parted.", hint=f"Known are: {known}.")
    return shares_of_pool(as_pool(pool, body))


def _pools(ctx: Context, rows: list[PoolRow]) -> list[Pool]:
    held, waiting = allocated_shares(ctx), pending_by_pool(ctx)
    return [
        Pool.model_validate(
            {
                **{name: getattr(row, name) for name in Pool.model_fields if hasattr(row, name)},
                "best_effort": row.mode == PoolMode.TIME_SLICE,
                "allocated_shares": sum(shares for (pool, _), shares in held.items() if pool == row.name),
                "pending": sum(count for (pool, _), count in waiting.items() if pool == row.name),
            }
        )
        for row in rows
    ]


def _flavor(row: FlavorRow) -> Flavor:
    return Flavor.model_validate(row, from_attributes=True)


def _place() -> Any:
    """Return what orders the allocations of a pool: one number for a device and a position on it."""
    return (AllocationRow.device * 100_000 + AllocationRow.position).label("place")
