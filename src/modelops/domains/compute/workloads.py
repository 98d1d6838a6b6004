"""Workloads: jobs in queues, from the submission to their end."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.ports import Placement, Toleration
from modelops.contracts.schemas import Page
from modelops.domains.compute.admission import free
from modelops.domains.compute.allocator.devices import offers
from modelops.domains.compute.allocator.model import PoolMode
from modelops.domains.compute.converting import as_pool, counted_by
from modelops.domains.compute.ledger import hold_ledger, note_change
from modelops.domains.compute.quotas import limited_in_all
from modelops.domains.compute.rules import amount, least_of, slices_of, thousandths
from modelops.domains.compute.schemas import (
    PoolAllocation,
    QuotaResource,
    Resource,
    Workload,
    WorkloadRequest,
    WorkloadState,
)
from modelops.domains.compute.tables import (
    AllocationRow,
    ClusterQueueRow,
    FlavorRow,
    PoolRow,
    PriorityClassRow,
    QueueRow,
    WorkloadRow,
)
from modelops.domains.compute.usage import HOLDING, flavors_of, granted
from modelops.domains.identity import service as identity
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_FIELDS: dict[str, Any] = {
    "job_id": WorkloadRow.job_id,
    "queue": WorkloadRow.queue,
    "cluster_queue": WorkloadRow.cluster_queue,
    "pool": WorkloadRow.pool,
    "priority": WorkloadRow.priority,
    "state": WorkloadRow.state,
    "created_at": WorkloadRow.created_at,
}


def list_workloads(ctx: Context, page: PageQuery) -> Page[Workload]:
    """List the project's workloads, newest first."""
    ctx.require("compute.read")
    found = list_rows(ctx, ctx.query(WorkloadRow), WorkloadRow.id, _FIELDS, page, order="desc")
    return Page(items=_workloads(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_workload(ctx: Context, workload: str) -> Workload:
    """Return a workload, by its id or its job's."""
    ctx.require("compute.read")
    found = (WorkloadRow.id == workload) | (WorkloadRow.job_id == workload)
    return _workloads(ctx, [ctx.one(WorkloadRow, f"workload '{workload[:250]}'", found)])[0]


def enqueue(ctx: Context, job_id: str, asked: WorkloadRequest) -> str:
    """Put a job of the current project into a queue, and return the queue's name (for the domains above).

    Raises:
        InvalidInput: no queue of the project gives what is asked for; the error says what would.
    """
    least = least_of(asked)
    queue, cluster_queue = _choose(ctx, asked)
    counted = counted_by(cluster_queue)
    tenant_id = identity.tenant_of(ctx, ctx.project_id)
    _check_said(asked, counted, f"The queue '{queue.name}' has")
    limited = limited_in_all(ctx, tenant_id) & {QuotaResource.CPUS, QuotaResource.MEMORY_MB}
    _check_said(asked, frozenset(Resource(one) for one in limited), "The project or its tenant has")
    priority = _priority(ctx, asked.priority)
    note_change(ctx)
    before = delete(WorkloadRow).where(WorkloadRow.job_id == job_id, WorkloadRow.state == WorkloadState.FINISHED)
    ctx.session.execute(before)  # it is tried again by somebody's wish, and joins the end of the line
    devices = asked.gpu_shares
    shares = devices * (slices_of(asked.mig_profile) if asked.mig_profile else 1)
    requests = {
        Resource.CPUS.value: thousandths(asked.cpus or 0),
        Resource.MEMORY_MB.value: thousandths(asked.memory_mb or 0),
        Resource.GPU_SHARES.value: thousandths(shares),
    }
    row = WorkloadRow(
        id=new_id("wkl"),
        project_id=ctx.project_id,
        tenant_id=tenant_id,
        job_id=job_id,
        queue_id=queue.id,
        queue=queue.name,
        cluster_queue=cluster_queue.name,
        pool=asked.pool,
        priority_class=asked.priority,
        priority=priority,
        requests={resource: wanted for resource, wanted in requests.items() if wanted},
        mig_profile=asked.mig_profile,
        device_count=devices,
        min_device_count=least,
        state=WorkloadState.PENDING,
        preemptions=0,
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    return row.queue


def requeue(ctx: Context, job_id: str, *, not_before: datetime | None, reason: str) -> None:
    """Put a job back into its queue, at the place that its submission gives it; what it holds is free (for the domains
    above)."""
    row = _held_row(ctx, job_id)
    free(ctx, row)
    row.state, row.reason, row.not_before, row.ended_at = WorkloadState.PENDING, reason, not_before, None
    row.touch()


def finish(ctx: Context, job_id: str, reason: str | None = None) -> None:
    """Note that a job has ended; what it holds is free (for the domains above). Twice is no error."""
    row = _held_row(ctx, job_id)
    if row.state == WorkloadState.FINISHED:
        return
    free(ctx, row)
    row.state, row.reason, row.ended_at, row.not_before = WorkloadState.FINISHED, reason, ctx.clock.now(), None
    row.touch()


def take_up(ctx: Context, job_id: str) -> bool:
    """Tell whether a job is admitted, and note that it begins (for the domains above)."""
    row = _held_row(ctx, job_id, changes=False)
    if row.state != WorkloadState.ADMITTED:
        return False
    row.started_at = ctx.clock.now()
    return True


def admitted_jobs(ctx: Context) -> list[str]:
    """Return the jobs, of every project, that were admitted and have not begun (for the domains above)."""
    query = select(WorkloadRow.job_id).where(
        WorkloadRow.state == WorkloadState.ADMITTED, WorkloadRow.started_at.is_(None)
    )
    return list(ctx.session.scalars(query.order_by(WorkloadRow.admitted_at, WorkloadRow.id)))


def preemption_of(ctx: Context, job_id: str) -> str | None:
    """Return why a job that has begun must give way, or None where it may go on (for the domains above)."""
    query = select(WorkloadRow.reason).where(
        WorkloadRow.job_id == job_id, WorkloadRow.state == WorkloadState.PREEMPTING
    )
    return ctx.session.scalars(query).one_or_none()


def unfinished_jobs(ctx: Context) -> list[str]:
    """Return the jobs, of every project, that are in a queue or hold quota (for the domains above)."""
    return list(ctx.session.scalars(select(WorkloadRow.job_id).where(WorkloadRow.state != WorkloadState.FINISHED)))


def repair(ctx: Context, job_id: str) -> None:
    """Free what a job holds that has ended or is gone, and count that it was necessary (for the domains above)."""
    ledger = hold_ledger(ctx)
    row = ctx.session.scalars(select(WorkloadRow).where(WorkloadRow.job_id == job_id)).one_or_none()
    if row is None or row.state == WorkloadState.FINISHED:
        return
    if row.state in HOLDING:
        ledger.repaired += 1
    finish(ctx, job_id, "Its job had ended, and nobody had said so.")


def placement_of(ctx: Context, job_id: str) -> Placement | None:
    """Return where an admitted job runs and with which devices; None for a job in no queue (for the domains above)."""
    row = ctx.session.scalars(select(WorkloadRow).where(WorkloadRow.job_id == job_id)).one_or_none()
    if row is None or row.admission is None:
        return None
    names = sorted(set(flavors_of(row.admission).values()))
    flavors = ctx.session.scalars(select(FlavorRow).where(FlavorRow.name.in_(names)).order_by(FlavorRow.name)).all()
    selector = {label: value for flavor in flavors for label, value in flavor.node_labels.items()}
    tolerations = tuple(dict.fromkeys(Toleration(**one) for flavor in flavors for one in flavor.tolerations))
    held = ctx.session.scalars(
        select(AllocationRow)
        .where(AllocationRow.workload_id == row.id)
        .order_by(AllocationRow.device, AllocationRow.position)
    ).all()
    if not held:
        return Placement(queue=row.queue, node_selector=selector, tolerations=tolerations)
    pool = ctx.session.scalars(select(PoolRow).where(PoolRow.name == held[0].pool)).one()
    profile = row.mig_profile
    return Placement(
        pool=pool.name,
        queue=row.queue,
        node_selector=selector,
        tolerations=tolerations,
        gpu_resource=pool.gpu_resource_name or (f"nvidia.com/mig-{profile}" if profile else "nvidia.com/gpu"),
        gpu_count=len(held),
        devices=_names(held, pool.device_names),
        best_effort=pool.mode == PoolMode.TIME_SLICE,
    )


def _held_row(ctx: Context, job_id: str, *, changes: bool = True) -> WorkloadRow:
    """Return a job's workload, while the ledger is held."""
    (note_change if changes else hold_ledger)(ctx)
    query = select(WorkloadRow).where(WorkloadRow.job_id == job_id)
    row = ctx.session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise NotFound(f"The job '{job_id}' is in no queue.")
    return row


def _choose(ctx: Context, asked: WorkloadRequest) -> tuple[QueueRow, ClusterQueueRow]:
    """Return the queue that a job goes to: the named one, or the only one of the project that gives what it asks for."""
    query = ctx.query(QueueRow)
    rows = ctx.session.scalars(query.where(QueueRow.name == asked.queue) if asked.queue else query).all()
    if asked.queue and not rows:
        names = ", ".join(ctx.session.scalars(query.with_only_columns(QueueRow.name).order_by(QueueRow.name)))
        raise InvalidInput(f"There is no queue '{asked.queue}' in this project.", hint=f"It has: {names or 'none'}.")
    leads = {row.cluster_queue for row in rows}
    targets = {
        row.name: row for row in ctx.session.scalars(select(ClusterQueueRow).where(ClusterQueueRow.name.in_(leads)))
    }
    problems = {row.name: _misfit(ctx, targets[row.cluster_queue], asked) for row in rows}
    fitting = [row for row in rows if problems[row.name] is None]
    if len(fitting) == 1:
        return fitting[0], targets[fitting[0].cluster_queue]
    if len(fitting) > 1:
        which = ", ".join(sorted(row.name for row in fitting))
        raise InvalidInput(f"Several queues of the project would do: {which}.", hint="Name one: --queue NAME")
    if not rows:
        raise InvalidInput(
            "This project has no queue, and what the job asks for is given by queues alone.",
            hint="An operator of the platform makes one: mops queues set-queue NAME --cluster-queue NAME",
        )
    said = " ".join(f"The queue '{name}' {problem}." for name, problem in sorted(problems.items()))
    raise InvalidInput(
        f"No queue gives what the job asks for. {said}", hint="mops queues list-queues; mops pools list-pools"
    )


def _misfit(ctx: Context, queue: ClusterQueueRow, asked: WorkloadRequest) -> str | None:
    """Say why a cluster queue could never give what is asked for."""
    flavors = {
        one["flavor"] for group in queue.groups for one in group["flavors"] if Resource.GPU_SHARES in one["quotas"]
    }
    if asked.pool is None and not asked.gpu_shares:
        said = {Resource.CPUS: asked.cpus, Resource.MEMORY_MB: asked.memory_mb}
        counts = any(said.get(resource) for resource in counted_by(queue))
        return None if counts else "has no quota of anything that the job asks for"
    pools = ctx.session.scalars(select(PoolRow).where(PoolRow.name.in_(flavors))).all()
    if asked.pool is not None:
        pools = [pool for pool in pools if pool.name == asked.pool]
        if not pools:
            return f"has no quota of a pool '{asked.pool}'"
        if not asked.gpu_shares:
            return f"gives of the pool '{asked.pool}' to jobs that ask for GPU shares or a MIG profile"
    if any(offers(as_pool(pool.name, pool), asked.mig_profile or "") for pool in pools):
        return None
    if asked.mig_profile:
        return f"has no quota of a pool whose GPUs are parted into '{asked.mig_profile}'"
    return "has no quota of a pool whose GPUs are given out whole or in turns"


def _check_said(asked: WorkloadRequest, counted: frozenset[Resource], who: str) -> None:
    for resource, wanted in ((Resource.CPUS, asked.cpus), (Resource.MEMORY_MB, asked.memory_mb)):
        if resource in counted and wanted is None:
            raise InvalidInput(
                f"{who} a quota of '{resource.value}': a job must say how much it needs.",
                hint=f"--{'cpus' if resource is Resource.CPUS else 'memory-mb'} N",
            )


def _priority(ctx: Context, name: str | None) -> int:
    if name is None:
        return 0
    value = ctx.session.scalars(select(PriorityClassRow.value).where(PriorityClassRow.name == name)).one_or_none()
    if value is None:
        names = ", ".join(ctx.session.scalars(select(PriorityClassRow.name).order_by(PriorityClassRow.value.desc())))
        raise InvalidInput(f"There is no priority class '{name}'.", hint=f"There are: {names or 'none'}.")
    return value


def _names(held: Collection[AllocationRow], known: Mapping[str, str]) -> tuple[str, ...]:
    """Return what the devices are called on this machine, if all of them have a name there; each once."""
    keys = [f"{one.device}/{one.profile}/{one.position}" if one.profile else str(one.device) for one in held]
    return tuple(dict.fromkeys(known[key] for key in keys)) if all(key in known for key in keys) else ()


def _workloads(ctx: Context, rows: list[WorkloadRow]) -> list[Workload]:
    query = select(AllocationRow).where(AllocationRow.workload_id.in_([row.id for row in rows]))
    held: dict[str, list[PoolAllocation]] = {}
    for one in ctx.session.scalars(query.order_by(AllocationRow.device, AllocationRow.position)):
        held.setdefault(one.workload_id, []).append(PoolAllocation.model_validate(one, from_attributes=True))
    shown = []
    for row in rows:
        own = {name: getattr(row, name) for name in Workload.model_fields if hasattr(row, name)}
        requests = {Resource(resource): amount(wanted) for resource, wanted in granted(row).items()}
        facts = {"requests": requests, "flavors": flavors_of(row.admission), "allocations": held.get(row.id, [])}
        shown.append(Workload.model_validate({**own, **facts}))
    return shown
