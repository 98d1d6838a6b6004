"""Routes of compute."""

from typing import Annotated

from fastapi import Path

from modelops.contracts.schemas import Name, Page
from modelops.domains.compute import service
from modelops.domains.compute.schemas import (
    ClusterQueue,
    ClusterQueueSpec,
    Cohort,
    CohortSpec,
    Flavor,
    FlavorSpec,
    Pool,
    PoolAllocation,
    PoolSpec,
    PriorityClass,
    PriorityClassSpec,
    Queue,
    QueueSpec,
    Quota,
    QuotaLimits,
    QuotaScope,
    Workload,
)
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router

router = Router("compute")

NewName = Annotated[Name, Path(description="A name; what has it is changed.")]


@router.put("/pools/{pool}")
def set_pool(ctx: Context, pool: NewName, body: PoolSpec) -> Pool:
    """Make a pool, or change the one of this name; it offers a flavor of the same name."""
    return service.set_pool(ctx, pool, body)


@router.get("/pools")
def list_pools(ctx: Context, page: Listing) -> Page[Pool]:
    """List the pools that your queues have quotas of."""
    return service.list_pools(ctx, page)


@router.get("/pools/{pool}")
def get_pool(ctx: Context, pool: Ref) -> Pool:
    """Return a pool: its capacity, and how much of it is allocated."""
    return service.get_pool(ctx, pool)


@router.delete("/pools/{pool}", status_code=204)
def delete_pool(ctx: Context, pool: Ref) -> None:
    """Remove a pool that no queue has a quota of."""
    return service.delete_pool(ctx, pool)


@router.get("/pools/{pool}/allocations")
def list_pool_allocations(ctx: Context, pool: Ref, page: Listing) -> Page[PoolAllocation]:
    """List which jobs hold which devices of a pool."""
    return service.list_pool_allocations(ctx, pool, page)


@router.put("/flavors/{flavor}")
def set_flavor(ctx: Context, flavor: NewName, body: FlavorSpec) -> Flavor:
    """Make a flavor of nodes without a pool, or change the one of this name."""
    return service.set_flavor(ctx, flavor, body)


@router.get("/flavors")
def list_flavors(ctx: Context, page: Listing) -> Page[Flavor]:
    """List the flavors that your queues have quotas of."""
    return service.list_flavors(ctx, page)


@router.get("/flavors/{flavor}")
def get_flavor(ctx: Context, flavor: Ref) -> Flavor:
    """Return a flavor."""
    return service.get_flavor(ctx, flavor)


@router.delete("/flavors/{flavor}", status_code=204)
def delete_flavor(ctx: Context, flavor: Ref) -> None:
    """Remove a flavor that no queue has a quota of."""
    return service.delete_flavor(ctx, flavor)


@router.put("/cohorts/{cohort}")
def set_cohort(ctx: Context, cohort: NewName, body: CohortSpec) -> Cohort:
    """Make a cohort of queues, or change the one of this name."""
    return service.set_cohort(ctx, cohort, body)


@router.get("/cohorts")
def list_cohorts(ctx: Context, page: Listing) -> Page[Cohort]:
    """List the cohorts that your cluster queues are in."""
    return service.list_cohorts(ctx, page)


@router.get("/cohorts/{cohort}")
def get_cohort(ctx: Context, cohort: Ref) -> Cohort:
    """Return a cohort."""
    return service.get_cohort(ctx, cohort)


@router.delete("/cohorts/{cohort}", status_code=204)
def delete_cohort(ctx: Context, cohort: Ref) -> None:
    """Remove a cohort's own quotas and its place in the tree."""
    return service.delete_cohort(ctx, cohort)


@router.put("/cluster-queues/{cluster_queue}")
def set_cluster_queue(ctx: Context, cluster_queue: NewName, body: ClusterQueueSpec) -> ClusterQueue:
    """Make a cluster queue, or change the one of this name."""
    return service.set_cluster_queue(ctx, cluster_queue, body)


@router.get("/cluster-queues")
def list_cluster_queues(ctx: Context, page: Listing) -> Page[ClusterQueue]:
    """List the cluster queues of your tenant, and of all."""
    return service.list_cluster_queues(ctx, page)


@router.get("/cluster-queues/{cluster_queue}")
def get_cluster_queue(ctx: Context, cluster_queue: Ref) -> ClusterQueue:
    """Return a cluster queue: its quotas, and how much of them is used."""
    return service.get_cluster_queue(ctx, cluster_queue)


@router.delete("/cluster-queues/{cluster_queue}", status_code=204)
def delete_cluster_queue(ctx: Context, cluster_queue: Ref) -> None:
    """Remove a cluster queue that no project's queue leads to."""
    return service.delete_cluster_queue(ctx, cluster_queue)


@router.put("/queues/{queue}")
def set_queue(ctx: Context, queue: NewName, body: QueueSpec) -> Queue:
    """Make a queue of the project, or change the one of this name."""
    return service.set_queue(ctx, queue, body)


@router.get("/queues")
def list_queues(ctx: Context, page: Listing) -> Page[Queue]:
    """List the project's queues."""
    return service.list_queues(ctx, page)


@router.get("/queues/{queue}")
def get_queue(ctx: Context, queue: Ref) -> Queue:
    """Return a queue of the project: its limits, and how much of them is used."""
    return service.get_queue(ctx, queue)


@router.delete("/queues/{queue}", status_code=204)
def delete_queue(ctx: Context, queue: Ref) -> None:
    """Remove a queue that nothing waits or runs in."""
    return service.delete_queue(ctx, queue)


@router.put("/quotas/{scope}/{holder}")
def set_quota(ctx: Context, scope: QuotaScope, holder: Ref, body: QuotaLimits) -> Quota:
    """Limit what a tenant, over all its projects, or one project holds at a time."""
    return service.set_quota(ctx, scope, holder, body)


@router.get("/quotas")
def list_quotas(ctx: Context, page: Listing) -> Page[Quota]:
    """List the quotas of your tenant and project, and how much of them is used."""
    return service.list_quotas(ctx, page)


@router.get("/quotas/{scope}/{holder}")
def get_quota(ctx: Context, scope: QuotaScope, holder: Ref) -> Quota:
    """Return the quota of a tenant or project, and how much of it is used."""
    return service.get_quota(ctx, scope, holder)


@router.delete("/quotas/{scope}/{holder}", status_code=204)
def delete_quota(ctx: Context, scope: QuotaScope, holder: Ref) -> None:
    """Limit a tenant or project no more."""
    return service.delete_quota(ctx, scope, holder)


@router.put("/priority-classes/{priority_class}")
def set_priority_class(ctx: Context, priority_class: NewName, body: PriorityClassSpec) -> PriorityClass:
    """Name a priority, or change what the name means from now on."""
    return service.set_priority_class(ctx, priority_class, body)


@router.get("/priority-classes")
def list_priority_classes(ctx: Context, page: Listing) -> Page[PriorityClass]:
    """List the priorities that have a name."""
    return service.list_priority_classes(ctx, page)


@router.delete("/priority-classes/{priority_class}", status_code=204)
def delete_priority_class(ctx: Context, priority_class: Ref) -> None:
    """Remove a name of a priority."""
    return service.delete_priority_class(ctx, priority_class)


@router.get("/workloads")
def list_workloads(ctx: Context, page: Listing) -> Page[Workload]:
    """List the project's jobs in queues, newest first."""
    return service.list_workloads(ctx, page)


@router.get("/workloads/{workload}")
def get_workload(ctx: Context, workload: Ref) -> Workload:
    """Return a job in a queue, by the workload's id or the job's."""
    return service.get_workload(ctx, workload)
