"""What is used of quotas and pools, counted from the workloads that hold it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import func, or_, select

from modelops.domains.compute.allocator.model import UNIT
from modelops.domains.compute.schemas import QuotaResource, Resource, WorkloadState
from modelops.domains.compute.tables import AllocationRow, ClusterQueueRow, WorkloadRow
from modelops.kernel.context import Context

HOLDING = (WorkloadState.ADMITTED, WorkloadState.PREEMPTING)
"""The states in which a workload holds its quota."""

Held = Mapping[tuple[str, str], int]
"""What is held by flavor and resource, in thousandths."""


def flavors_of(admission: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the flavor of each resource of an admission."""
    if admission is None:
        return {}
    return {resource: flavor for one in admission["assignments"] for resource, flavor in one["flavors"].items()}


def granted(row: WorkloadRow) -> dict[str, int]:
    """Return what a workload counts for, in thousandths by resource: as asked for, or as many of its devices as it got."""
    found = dict(row.requests)
    if row.min_device_count is not None and row.admission is not None:
        got = row.admission["assignments"][0]["count"]
        found[Resource.GPU_SHARES.value] = found[Resource.GPU_SHARES.value] * got // row.device_count
    return found


def held_by(rows: Iterable[WorkloadRow]) -> Held:
    """Return what workloads hold together."""
    held: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counted = granted(row)
        for resource, flavor in flavors_of(row.admission).items():
            held[flavor, resource] += counted.get(resource, 0)
    return held


def held_of_cluster_queues(ctx: Context, names: Iterable[str]) -> dict[str, Held]:
    """Return what is held of the quotas of cluster queues."""
    query = select(WorkloadRow).where(WorkloadRow.cluster_queue.in_(list(names)), WorkloadRow.state.in_(HOLDING))
    rows: defaultdict[str, list[WorkloadRow]] = defaultdict(list)
    for row in ctx.session.scalars(query):
        rows[row.cluster_queue].append(row)
    return {name: held_by(found) for name, found in rows.items()}


def held_of_queues(ctx: Context, ids: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return what workloads hold in projects' queues, by resource."""
    query = select(WorkloadRow).where(WorkloadRow.queue_id.in_(list(ids)), WorkloadRow.state.in_(HOLDING))
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in ctx.session.scalars(query):
        for (_, resource), held in held_by([row]).items():
            found[row.queue_id][resource] += held
    return {queue: dict(held) for queue, held in found.items()}


def held_of_holders(ctx: Context, ids: Iterable[str]) -> dict[str, dict[tuple[str | None, str], int]]:
    """Return what workloads hold together of tenants and projects, by flavor and resource; without a flavor in all of them,
    and how many `jobs` they are."""
    wanted = set(ids)
    of_them = or_(WorkloadRow.tenant_id.in_(wanted), WorkloadRow.project_id.in_(wanted))
    found: defaultdict[str, Counter[tuple[str | None, str]]] = defaultdict(Counter)
    for row in ctx.session.scalars(select(WorkloadRow).where(of_them, WorkloadRow.state.in_(HOLDING))):
        counted, flavors = granted(row), flavors_of(row.admission)
        for holder in wanted & {row.tenant_id, row.project_id}:
            held = found[holder]
            held[None, QuotaResource.JOBS.value] += UNIT
            for resource, amount in counted.items():
                held[None, resource] += amount
                if resource in flavors:
                    held[flavors[resource], resource] += amount
    return {holder: dict(held) for holder, held in found.items()}


def counts(ctx: Context, column: Any, keys: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return how many workloads wait, and how many hold quota, by a column's value."""
    query = (
        select(column, WorkloadRow.state, func.count())
        .where(column.in_(list(keys)), WorkloadRow.state != WorkloadState.FINISHED)
        .group_by(column, WorkloadRow.state)
    )
    found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for key, state, count in ctx.session.execute(query):
        found[key][state != WorkloadState.PENDING] += count
    return {key: (waiting, holding) for key, (waiting, holding) in found.items()}


def allocated_shares(ctx: Context) -> dict[tuple[str, str], int]:
    """Return the shares that are allocated, by pool and tenant."""
    query = select(AllocationRow.pool, AllocationRow.tenant_id, func.sum(AllocationRow.shares))
    rows = ctx.session.execute(query.group_by(AllocationRow.pool, AllocationRow.tenant_id))
    return {(pool, tenant): int(shares) for pool, tenant, shares in rows}


def pending_by_pool(ctx: Context) -> dict[tuple[str, str], int]:
    """Return how many workloads wait that could run in a pool, by pool and tenant."""
    queues = ctx.session.execute(select(ClusterQueueRow.name, ClusterQueueRow.groups))
    flavors = {name: {one["flavor"] for group in groups for one in group["flavors"]} for name, groups in queues}
    query = (
        select(WorkloadRow.cluster_queue, WorkloadRow.pool, WorkloadRow.tenant_id, func.count())
        .where(WorkloadRow.state == WorkloadState.PENDING, WorkloadRow.device_count > 0)
        .group_by(WorkloadRow.cluster_queue, WorkloadRow.pool, WorkloadRow.tenant_id)
    )
    found: Counter[tuple[str, str]] = Counter()
    for queue, wanted, tenant, count in ctx.session.execute(query):
        for pool in flavors.get(queue, ()):
            if wanted in (None, pool):
                found[pool, tenant] += count
    return found
