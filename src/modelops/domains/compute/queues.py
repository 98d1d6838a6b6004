"""Cluster queues, cohorts and projects' queues."""

from typing import Any

from sqlalchemy import select

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.compute.finding import find_named, find_queue, visible
from modelops.domains.compute.ledger import note_change
from modelops.domains.compute.rules import InUse, amount, check_groups, check_tree
from modelops.domains.compute.schemas import (
    ClusterQueue,
    ClusterQueueSpec,
    Cohort,
    CohortSpec,
    Queue,
    QueueSpec,
    Resource,
    ResourceGroup,
    Usage,
    WorkloadState,
)
from modelops.domains.compute.tables import (
    ClusterQueueRow,
    CohortRow,
    FlavorRow,
    QueueRow,
    WorkloadRow,
)
from modelops.domains.compute.usage import (
    HOLDING,
    Held,
    counts,
    flavors_of,
    held_of_cluster_queues,
    held_of_queues,
)
from modelops.domains.identity import service as identity
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_CLUSTER_FIELDS: dict[str, Any] = {
    "name": ClusterQueueRow.name,
    "cohort": ClusterQueueRow.cohort,
    "tenant_id": ClusterQueueRow.tenant_id,
    "created_at": ClusterQueueRow.created_at,
}
_COHORT_FIELDS: dict[str, Any] = {
    "name": CohortRow.name,
    "parent": CohortRow.parent,
    "created_at": CohortRow.created_at,
}
_QUEUE_FIELDS: dict[str, Any] = {
    "name": QueueRow.name,
    "cluster_queue": QueueRow.cluster_queue,
    "created_at": QueueRow.created_at,
}


def set_cluster_queue(ctx: Context, cluster_queue: str, body: ClusterQueueSpec) -> ClusterQueue:
    """Make a cluster queue, or change the one of this name."""
    ctx.require("compute.write")
    tenant_id = identity.get_tenant(ctx, body.tenant).id if body.tenant else None
    note_change(ctx)
    check_groups(body.groups, _flavors(ctx))
    row = ctx.session.scalars(select(ClusterQueueRow).where(ClusterQueueRow.name == cluster_queue)).one_or_none()
    if row is None:
        row = ClusterQueueRow(id=new_id("clq"), name=cluster_queue, revision=1, **_made(ctx))
        ctx.session.add(row)
    else:
        _check_held(ctx, row.name, body)
        if tenant_id not in (None, row.tenant_id):
            _check_others(ctx, row.name, tenant_id)
        ctx.check_revision(row)
    for name, value in body.model_dump(mode="json", exclude={"tenant"}).items():
        setattr(row, name, value)
    row.tenant_id = tenant_id
    ctx.session.flush()
    ctx.emit("modelops.compute.cluster_queue_set", row.id, name=row.name)
    return _cluster_queues(ctx, [row])[0]


def list_cluster_queues(ctx: Context, page: PageQuery) -> Page[ClusterQueue]:
    """List the cluster queues of the caller's tenant and of all; for operators of the platform, every one."""
    ctx.require("compute.read")
    query = select(ClusterQueueRow).where(visible(ctx, ClusterQueueRow))
    found = list_rows(ctx, query, ClusterQueueRow.id, _CLUSTER_FIELDS, page)
    return Page(items=_cluster_queues(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_cluster_queue(ctx: Context, cluster_queue: str) -> ClusterQueue:
    """Return a cluster queue."""
    ctx.require("compute.read")
    return _cluster_queues(ctx, [find_named(ctx, ClusterQueueRow, "cluster queue", cluster_queue)])[0]


def delete_cluster_queue(ctx: Context, cluster_queue: str) -> None:
    """Remove a cluster queue that no project's queue leads to."""
    ctx.require("compute.write")
    note_change(ctx)
    row = find_named(ctx, ClusterQueueRow, "cluster queue", cluster_queue)
    query = select(QueueRow.name).where(QueueRow.cluster_queue == row.name).limit(1)
    if (queue := ctx.session.scalars(query).first()) is not None:
        raise InUse(f"The queue '{queue}' of a project leads to '{row.name}'.", hint="Remove or redirect it first.")
    ctx.session.delete(row)
    ctx.emit("modelops.compute.cluster_queue_deleted", row.id, name=row.name)


def set_cohort(ctx: Context, cohort: str, body: CohortSpec) -> Cohort:
    """Make a cohort, or change the one of this name. One that is only named by its members needs none of this."""
    ctx.require("compute.write")
    note_change(ctx)
    check_groups(body.groups, _flavors(ctx))
    parents = dict(ctx.session.execute(select(CohortRow.name, CohortRow.parent)).all())
    check_tree(cohort, body.parent, parents)
    row = ctx.session.scalars(select(CohortRow).where(CohortRow.name == cohort)).one_or_none()
    if row is None:
        row = CohortRow(id=new_id("coh"), name=cohort, revision=1, **_made(ctx))
        ctx.session.add(row)
    else:
        ctx.check_revision(row)
    for name, value in body.model_dump(mode="json").items():
        setattr(row, name, value)
    ctx.session.flush()
    ctx.emit("modelops.compute.cohort_set", row.id, name=row.name)
    return _cohorts(ctx, [row])[0]


def list_cohorts(ctx: Context, page: PageQuery) -> Page[Cohort]:
    """List the cohorts that the caller's cluster queues are in; for operators of the platform, all."""
    ctx.require("compute.read")
    found = list_rows(ctx, select(CohortRow).where(visible(ctx, CohortRow)), CohortRow.id, _COHORT_FIELDS, page)
    return Page(items=_cohorts(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_cohort(ctx: Context, cohort: str) -> Cohort:
    """Return a cohort."""
    ctx.require("compute.read")
    return _cohorts(ctx, [find_named(ctx, CohortRow, "cohort", cohort)])[0]


def delete_cohort(ctx: Context, cohort: str) -> None:
    """Remove a cohort's own quotas and its parent; queues that name it go on sharing among themselves."""
    ctx.require("compute.write")
    note_change(ctx)
    row = find_named(ctx, CohortRow, "cohort", cohort)
    ctx.session.delete(row)
    ctx.emit("modelops.compute.cohort_deleted", row.id, name=row.name)


def set_queue(ctx: Context, queue: str, body: QueueSpec) -> Queue:
    """Make a queue of the current project, or change the one of this name: for operators of the platform."""
    ctx.require("compute.write")
    note_change(ctx)
    tenant_id = identity.tenant_of(ctx, ctx.project_id)
    target = find_named(ctx, ClusterQueueRow, "cluster queue", body.cluster_queue)
    if target.tenant_id not in (None, tenant_id):
        raise InvalidInput(f"The cluster queue '{target.name}' is another tenant's.")
    row = ctx.session.scalars(ctx.query(QueueRow).where(QueueRow.name == queue)).one_or_none()
    if row is None:
        row = QueueRow(id=new_id("que"), project_id=ctx.project_id, name=queue, revision=1, **_made(ctx))
        ctx.session.add(row)
    else:
        if row.cluster_queue != target.name:
            _check_empty(ctx, row)
        ctx.check_revision(row)
    row.cluster_queue, row.stop_policy = target.name, body.stop_policy
    row.limits = {resource.value: limit for resource, limit in body.limits.items()}
    ctx.session.flush()
    ctx.emit("modelops.compute.queue_set", row.id, name=row.name, cluster_queue=row.cluster_queue)
    return _queues(ctx, [row])[0]


def list_queues(ctx: Context, page: PageQuery) -> Page[Queue]:
    """List the project's queues."""
    ctx.require("compute.read")
    found = list_rows(ctx, ctx.query(QueueRow), QueueRow.id, _QUEUE_FIELDS, page)
    return Page(items=_queues(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_queue(ctx: Context, queue: str) -> Queue:
    """Return a queue of the project."""
    ctx.require("compute.read")
    return _queues(ctx, [find_queue(ctx, queue)])[0]


def delete_queue(ctx: Context, queue: str) -> None:
    """Remove a queue of the project that nothing waits or runs in; what ended there is forgotten with it."""
    ctx.require("compute.write")
    note_change(ctx)
    row = find_queue(ctx, queue)
    _check_empty(ctx, row)
    for ended in ctx.session.scalars(select(WorkloadRow).where(WorkloadRow.queue_id == row.id)):
        ctx.session.delete(ended)
    ctx.session.flush()
    ctx.session.delete(row)
    ctx.emit("modelops.compute.queue_deleted", row.id, name=row.name)


def _made(ctx: Context) -> dict[str, Any]:
    return {"created_at": ctx.clock.now(), "created_by": ctx.actor.id}


def _flavors(ctx: Context) -> frozenset[str]:
    return frozenset(ctx.session.scalars(select(FlavorRow.name)))


def _check_held(ctx: Context, name: str, body: ClusterQueueSpec) -> None:
    """Refuse to take a flavor out of a queue while workloads hold it."""
    offered = {
        (one.flavor, resource.value) for group in body.groups for one in group.flavors for resource in one.quotas
    }
    query = select(WorkloadRow).where(WorkloadRow.cluster_queue == name, WorkloadRow.state.in_(HOLDING))
    for row in ctx.session.scalars(query):
        for resource, flavor in flavors_of(row.admission).items():
            if (flavor, resource) not in offered:
                raise InUse(
                    f"A job holds '{resource}' of the flavor '{flavor}' in '{name}'.",
                    hint="Give the flavor a quota of 0, and take it out when nothing is held there.",
                )


def _check_others(ctx: Context, name: str, tenant_id: str | None) -> None:
    """Refuse to give a cluster queue to one tenant while projects of others lead to it."""
    for project in set(ctx.session.scalars(select(QueueRow.project_id).where(QueueRow.cluster_queue == name))):
        if identity.tenant_of(ctx, project) != tenant_id:
            raise InUse(f"A project of another tenant has a queue that leads to '{name}'.", hint="Remove it first.")


def _check_empty(ctx: Context, row: QueueRow) -> None:
    query = select(WorkloadRow.job_id).where(
        WorkloadRow.queue_id == row.id, WorkloadRow.state != WorkloadState.FINISHED
    )
    if (job := ctx.session.scalars(query.limit(1)).first()) is not None:
        raise InUse(f"The job '{job}' is in the queue '{row.name}'.", hint="Wait for its end, or cancel it.")


def _cluster_queues(ctx: Context, rows: list[ClusterQueueRow]) -> list[ClusterQueue]:
    names = [row.name for row in rows]
    held, many = held_of_cluster_queues(ctx, names), counts(ctx, WorkloadRow.cluster_queue, names)
    shown = []
    for row in rows:
        own = {name: getattr(row, name) for name in ClusterQueue.model_fields if hasattr(row, name)}
        waiting, holding = many.get(row.name, (0, 0))
        groups = [ResourceGroup.model_validate(group) for group in row.groups]
        usage = _usage(groups, held.get(row.name, {}))
        shown.append(ClusterQueue.model_validate({**own, "usage": usage, "pending": waiting, "admitted": holding}))
    return shown


def _usage(groups: list[ResourceGroup], held: Held) -> list[Usage]:
    found = []
    for group in groups:
        for one in group.flavors:
            for resource, quota in one.quotas.items():
                used = amount(held.get((one.flavor, resource.value), 0))
                borrowed = max(0.0, used - quota.nominal)
                found.append(
                    Usage(flavor=one.flavor, resource=resource, nominal=quota.nominal, used=used, borrowed=borrowed)
                )
    return found


def _cohorts(ctx: Context, rows: list[CohortRow]) -> list[Cohort]:
    query = select(ClusterQueueRow.name, ClusterQueueRow.cohort).where(visible(ctx, ClusterQueueRow))
    members = ctx.session.execute(query.order_by(ClusterQueueRow.name)).all()
    shown = []
    for row in rows:
        own = {name: getattr(row, name) for name in Cohort.model_fields if hasattr(row, name)}
        names = [name for name, cohort in members if cohort == row.name]
        shown.append(Cohort.model_validate({**own, "cluster_queues": names}))
    return shown


def _queues(ctx: Context, rows: list[QueueRow]) -> list[Queue]:
    ids = [row.id for row in rows]
    held, many = held_of_queues(ctx, ids), counts(ctx, WorkloadRow.queue_id, ids)
    shown = []
    for row in rows:
        own = {name: getattr(row, name) for name in Queue.model_fields if hasattr(row, name)}
        waiting, holding = many.get(row.id, (0, 0))
        used = {Resource(resource): amount(count) for resource, count in held.get(row.id, {}).items()}
        shown.append(Queue.model_validate({**own, "used": used, "pending": waiting, "admitted": holding}))
    return shown
