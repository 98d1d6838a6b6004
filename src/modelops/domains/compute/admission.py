"""Admission: one transaction in which it is decided who is admitted and who gives way, and in which that is written."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select

from modelops.domains.compute.allocator.decisions import Decisions, Eviction, EvictionReason
from modelops.domains.compute.allocator.engine import decide
from modelops.domains.compute.allocator.model import Admission, Budget, FairStrategy, LocalQueue, Snapshot
from modelops.domains.compute.converting import (
    as_admitted,
    as_budget,
    as_cluster_queue,
    as_cohort,
    as_flavor,
    as_local_queue,
    as_pool,
    as_workload,
    counted_by,
    written,
)
from modelops.domains.compute.ledger import hold_ledger
from modelops.domains.compute.rules import slices_of
from modelops.domains.compute.schemas import WorkloadState
from modelops.domains.compute.tables import (
    AllocationRow,
    ClusterQueueRow,
    CohortRow,
    FlavorRow,
    LedgerRow,
    PoolRow,
    QueueRow,
    QuotaRow,
    WorkloadRow,
)
from modelops.domains.compute.usage import HOLDING
from modelops.domains.identity import service as identity
from modelops.kernel.context import Context

MOST_CONSIDERED = 1_000
"""How many of those that wait are considered of each cluster queue, those whose turn is next."""

_WHY = {
    EvictionReason.IN_CLUSTER_QUEUE: "work of a higher priority needs its place in the queue",
    EvictionReason.IN_COHORT_RECLAMATION: "a queue of the cohort needs back what it lent",
    EvictionReason.IN_COHORT_RECLAIM_WHILE_BORROWING: "work of a higher priority in the cohort needs what it had borrowed",
    EvictionReason.IN_COHORT_FAIR_SHARING: "another queue of the cohort has less than its fair share",
    EvictionReason.STOPPED: "its queue was stopped and drained",
}


def is_due(ctx: Context) -> bool:
    """Tell whether anything changed since it was last decided who is admitted, or anyone waited until now."""
    ledger = ctx.session.scalars(select(LedgerRow)).one_or_none()
    if ledger is None:
        return False
    if ledger.generation != ledger.considered:
        return True
    due = _waiting().where(WorkloadRow.not_before > ledger.considered_at, WorkloadRow.not_before <= ctx.clock.now())
    return ctx.session.scalars(due.with_only_columns(WorkloadRow.id).limit(1)).first() is not None


def run_cycle(ctx: Context) -> Decisions:
    """Decide who is admitted and who gives way, and write it. Whoever does so at the same time waits for this unit of work,
    and sees what it wrote."""
    ledger, now = hold_ledger(ctx), ctx.clock.now()
    snapshot, rows = load_snapshot(ctx)
    decisions = decide(snapshot, now.timestamp())
    ledger.considered, ledger.considered_at = ledger.generation, now
    for admission in decisions.admitted:
        _admit(ctx, rows[admission.key], admission, now)
    for eviction in decisions.evicted:
        _evict(ctx, rows[eviction.key], eviction)
    ctx.session.flush()
    return decisions


def load_snapshot(ctx: Context, *, also: str | None = None) -> tuple[Snapshot, dict[str, WorkloadRow]]:
    """Return all that a decision depends on, and the workloads' rows by id.

    Args:
        also: A workload that is to be in it, however long the queue before it is.
    """
    session = ctx.session
    queues = {row.name: row for row in session.scalars(select(ClusterQueueRow))}
    counted = {name: counted_by(row) for name, row in queues.items()}
    holding = session.scalars(_fresh(select(WorkloadRow).where(WorkloadRow.state.in_(HOLDING)))).all()
    pending = _pending(ctx, also)
    local_queues, budgets = _budgeted(ctx)
    fair = (FairStrategy.LESS_THAN_OR_EQUAL_TO_FINAL_SHARE, FairStrategy.LESS_THAN_INITIAL_SHARE)
    snapshot = Snapshot(
        flavors=tuple(as_flavor(row) for row in session.scalars(select(FlavorRow))),
        cluster_queues=tuple(as_cluster_queue(row) for row in queues.values()),
        cohorts=tuple(as_cohort(row) for row in session.scalars(select(CohortRow))),
        local_queues=local_queues,
        pools=tuple(as_pool(row.name, row) for row in session.scalars(select(PoolRow))),
        pending=tuple(as_workload(row, counted.get(row.cluster_queue, frozenset())) for row in pending),
        admitted=tuple(
            as_admitted(row, counted.get(row.cluster_queue, frozenset()), evicted=row.state == WorkloadState.PREEMPTING)
            for row in holding
        ),
        fair_strategies=fair if ctx.settings.fair_sharing else (),
        budgets=budgets,
    )
    return snapshot, {row.id: row for row in (*holding, *pending)}


def _budgeted(ctx: Context) -> tuple[tuple[LocalQueue, ...], tuple[Budget, ...]]:
    """Return the projects' queues, and the quotas of tenants and projects that they are charged to."""
    queues = ctx.session.scalars(select(QueueRow)).all()
    quotas = {row.holder_id: row for row in ctx.session.scalars(select(QuotaRow))}
    if not quotas:
        return tuple(as_local_queue(row, ()) for row in queues), ()
    tenants = identity.tenants_of(ctx, {row.project_id for row in queues})
    names = identity.names_of(ctx, list(quotas))
    return tuple(
        as_local_queue(
            row,
            tuple(quotas[key].id for key in (row.project_id, tenants.get(row.project_id, "")) if key in quotas),
        )
        for row in queues
    ), tuple(as_budget(row, names.get(key, key)) for key, row in quotas.items())


def free(ctx: Context, row: WorkloadRow) -> None:
    """Give back what a workload holds. The caller holds the ledger."""
    ctx.session.execute(delete(AllocationRow).where(AllocationRow.workload_id == row.id))
    row.admission = row.admitted_at = row.started_at = None


def _waiting() -> Any:
    return select(WorkloadRow).where(WorkloadRow.state == WorkloadState.PENDING)


def _pending(ctx: Context, also: str | None) -> Sequence[WorkloadRow]:
    """Return those whose turn is next in each cluster queue, that need not wait for a time."""
    now = ctx.clock.now()
    order = (WorkloadRow.priority.desc(), WorkloadRow.created_at, WorkloadRow.id)
    place = func.row_number().over(partition_by=WorkloadRow.cluster_queue, order_by=order).label("place")
    due = (WorkloadRow.not_before.is_(None)) | (WorkloadRow.not_before <= now)
    ranked = select(WorkloadRow.id, place).where(WorkloadRow.state == WorkloadState.PENDING, due).subquery()
    wanted = (ranked.c.place <= MOST_CONSIDERED) | (ranked.c.id == also)
    ids = select(ranked.c.id).where(wanted)
    return ctx.session.scalars(_fresh(select(WorkloadRow).where(WorkloadRow.id.in_(ids)).order_by(*order))).all()


def _fresh(query: Any) -> Any:
    """Read rows as they are now, also those that this unit of work read before it held the ledger."""
    return query.execution_options(populate_existing=True)


def _admit(ctx: Context, row: WorkloadRow, admission: Admission, now: datetime) -> None:
    row.state, row.reason, row.admission = WorkloadState.ADMITTED, None, written(admission)
    row.admitted_at, row.not_before = now, None
    row.touch()
    for placed in admission.placed:
        ctx.session.add(
            AllocationRow(
                pool=placed.pool,
                device=int(placed.device),
                position=placed.start,
                profile=placed.profile,
                shares=slices_of(placed.profile) if placed.profile else 1,
                workload_id=row.id,
                job_id=row.job_id,
                tenant_id=row.tenant_id,
                project_id=row.project_id,
                since=now,
            )
        )
    pools = sorted({placed.pool for placed in admission.placed})
    inside = ctx.within(row.project_id, row.tenant_id)
    inside.emit("modelops.compute.workload_admitted", row.id, job=row.job_id, queue=row.queue, pools=pools)


def _evict(ctx: Context, row: WorkloadRow, eviction: Eviction) -> None:
    row.state, row.reason = WorkloadState.PREEMPTING, f"It gives way: {_WHY[eviction.reason]}."
    row.preemptions += 1
    row.touch()
    if row.started_at is None:  # nothing runs that would have to end first
        free(ctx, row)
        row.state = WorkloadState.PENDING
        hold_ledger(ctx).generation += 1
    ctx.within(row.project_id, row.tenant_id).emit(
        "modelops.compute.workload_preempted", row.id, job=row.job_id, queue=row.queue, reason=eviction.reason.value
    )
