"""The client of compute."""

from typing import Any

from modelops.contracts.rest import Group
from modelops.contracts.schemas import Page
from modelops.domains.compute.rules import ComputeError, InUse
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

# The errors too, so that a client far away can raise them.
__all__ = ["Compute", "ComputeError", "InUse"]


class Compute(Group):
    """Pools of GPUs, and the queues that share them. Listings take `limit`, `cursor`, `filter` and `order_by`.

    What sets something makes it, or changes what has its name; with `revision`, only while it is still at that one.
    """

    def set_pool(self, pool: str, spec: PoolSpec, *, revision: int | None = None) -> Pool:
        """Make a pool, or change the one of this name; it offers a flavor of the same name."""
        return self._put(Pool, f"/pools/{pool}", spec, headers=_if_match(revision))

    def list_pools(self, **page: Any) -> Page[Pool]:
        """List the pools that your queues have quotas of."""
        return self._list(Pool, "/pools", **page)

    def get_pool(self, pool: str) -> Pool:
        """Return a pool: its capacity, and how much of it is allocated."""
        return self._get(Pool, f"/pools/{pool}")

    def delete_pool(self, pool: str) -> None:
        """Remove a pool that no queue has a quota of."""
        self._delete(f"/pools/{pool}")

    def list_pool_allocations(self, pool: str, **page: Any) -> Page[PoolAllocation]:
        """List which jobs hold which devices of a pool."""
        return self._list(PoolAllocation, f"/pools/{pool}/allocations", **page)

    def set_flavor(self, flavor: str, spec: FlavorSpec, *, revision: int | None = None) -> Flavor:
        """Make a flavor of nodes without a pool, or change the one of this name."""
        return self._put(Flavor, f"/flavors/{flavor}", spec, headers=_if_match(revision))

    def list_flavors(self, **page: Any) -> Page[Flavor]:
        """List the flavors that your queues have quotas of."""
        return self._list(Flavor, "/flavors", **page)

    def get_flavor(self, flavor: str) -> Flavor:
        """Return a flavor."""
        return self._get(Flavor, f"/flavors/{flavor}")

    def delete_flavor(self, flavor: str) -> None:
        """Remove a flavor that no queue has a quota of."""
        self._delete(f"/flavors/{flavor}")

    def set_cohort(self, cohort: str, spec: CohortSpec, *, revision: int | None = None) -> Cohort:
        """Make a cohort of queues, or change the one of this name."""
        return self._put(Cohort, f"/cohorts/{cohort}", spec, headers=_if_match(revision))

    def list_cohorts(self, **page: Any) -> Page[Cohort]:
        """List the cohorts that your cluster queues are in."""
        return self._list(Cohort, "/cohorts", **page)

    def get_cohort(self, cohort: str) -> Cohort:
        """Return a cohort."""
        return self._get(Cohort, f"/cohorts/{cohort}")

    def delete_cohort(self, cohort: str) -> None:
        """Remove a cohort's own quotas and its place in the tree."""
        self._delete(f"/cohorts/{cohort}")

    def set_cluster_queue(
        self, cluster_queue: str, spec: ClusterQueueSpec, *, revision: int | None = None
    ) -> ClusterQueue:
        """Make a cluster queue, or change the one of this name."""
        return self._put(ClusterQueue, f"/cluster-queues/{cluster_queue}", spec, headers=_if_match(revision))

    def list_cluster_queues(self, **page: Any) -> Page[ClusterQueue]:
        """List the cluster queues of your tenant, and of all."""
        return self._list(ClusterQueue, "/cluster-queues", **page)

    def get_cluster_queue(self, cluster_queue: str) -> ClusterQueue:
        """Return a cluster queue: its quotas, and how much of them is used."""
        return self._get(ClusterQueue, f"/cluster-queues/{cluster_queue}")

    def delete_cluster_queue(self, cluster_queue: str) -> None:
        """Remove a cluster queue that no project's queue leads to."""
        self._delete(f"/cluster-queues/{cluster_queue}")

    def set_queue(self, queue: str, spec: QueueSpec, *, revision: int | None = None) -> Queue:
        """Make a queue of the project, or change the one of this name."""
        return self._put(Queue, f"/queues/{queue}", spec, headers=_if_match(revision))

    def list_queues(self, **page: Any) -> Page[Queue]:
        """List the project's queues."""
        return self._list(Queue, "/queues", **page)

    def get_queue(self, queue: str) -> Queue:
        """Return a queue of the project: its limits, and how much of them is used."""
        return self._get(Queue, f"/queues/{queue}")

    def delete_queue(self, queue: str) -> None:
        """Remove a queue that nothing waits or runs in."""
        self._delete(f"/queues/{queue}")

    def set_quota(
        self, scope: QuotaScope | str, holder: str, limits: QuotaLimits, *, revision: int | None = None
    ) -> Quota:
        """Limit what a tenant (`scope` "tenant"), over all its projects, or a project ("project") holds at a time."""
        return self._put(Quota, f"/quotas/{scope}/{holder}", limits, headers=_if_match(revision))

    def list_quotas(self, **page: Any) -> Page[Quota]:
        """List the quotas of your tenant and project, and how much of them is used."""
        return self._list(Quota, "/quotas", **page)

    def get_quota(self, scope: QuotaScope | str, holder: str) -> Quota:
        """Return the quota of a tenant or project, and how much of it is used."""
        return self._get(Quota, f"/quotas/{scope}/{holder}")

    def delete_quota(self, scope: QuotaScope | str, holder: str) -> None:
        """Limit a tenant or project no more."""
        self._delete(f"/quotas/{scope}/{holder}")

    def set_priority_class(
        self, priority_class: str, spec: PriorityClassSpec, *, revision: int | None = None
    ) -> PriorityClass:
        """Name a priority, or change what the name means from now on."""
        return self._put(PriorityClass, f"/priority-classes/{priority_class}", spec, headers=_if_match(revision))

    def list_priority_classes(self, **page: Any) -> Page[PriorityClass]:
        """List the priorities that have a name."""
        return self._list(PriorityClass, "/priority-classes", **page)

    def delete_priority_class(self, priority_class: str) -> None:
        """Remove a name of a priority."""
        self._delete(f"/priority-classes/{priority_class}")

    def list_workloads(self, **page: Any) -> Page[Workload]:
        """List the project's jobs in queues, newest first."""
        return self._list(Workload, "/workloads", **page)

    def get_workload(self, workload: str) -> Workload:
        """Return a job in a queue, by the workload's id or the job's."""
        return self._get(Workload, f"/workloads/{workload}")


def _if_match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"If-Match": f'"{revision}"'}
