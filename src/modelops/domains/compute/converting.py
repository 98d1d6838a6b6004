"""From rows to the allocator's terms, and back."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from modelops.domains.compute.allocator import model
from modelops.domains.compute.allocator.model import Admission
from modelops.domains.compute.rules import POOL_LABEL, covered, thousandths
from modelops.domains.compute.schemas import PoolSpec, QuotaLimit, QuotaResource, Resource, ResourceGroup
from modelops.domains.compute.tables import (
    ClusterQueueRow,
    CohortRow,
    FlavorRow,
    PoolRow,
    QueueRow,
    QuotaRow,
    WorkloadRow,
)

POD_SET = "main"
"""The one pod set that a job is."""


def as_flavor(row: FlavorRow) -> model.ResourceFlavor:
    """Return a flavor; a pool's has a label that keeps jobs to the pool."""
    labels = {**row.node_labels, **({POOL_LABEL: row.pool} if row.pool else {})}
    return model.ResourceFlavor(
        name=row.name,
        node_labels=labels,
        tolerations=tuple(model.Toleration(**toleration) for toleration in row.tolerations),
    )


def as_pool(name: str, pool: PoolSpec | PoolRow) -> model.Pool:
    """Return a pool; its devices are called by their numbers."""
    cordoned = set(pool.cordoned)
    return model.Pool(
        name=name,
        flavor=name,
        mode=model.PoolMode(pool.mode),
        devices=tuple(model.Device(str(number), healthy=number not in cordoned) for number in range(pool.gpu_count)),
        model=pool.gpu_model,
        timeslice_replicas=pool.timeslice_replicas,
    )


def as_groups(groups: Iterable[Mapping[str, Any]]) -> tuple[model.ResourceGroup, ...]:
    """Return resource groups, read from a row."""
    return tuple(_group(ResourceGroup.model_validate(group)) for group in groups)


def as_cluster_queue(row: ClusterQueueRow) -> model.ClusterQueue:
    """Return a cluster queue."""
    said = row.preemption
    return model.ClusterQueue(
        name=row.name,
        groups=as_groups(row.groups),
        cohort=row.cohort,
        preemption=model.Preemption(
            within_cluster_queue=model.PreemptionPolicy(said["within_cluster_queue"]),
            reclaim_within_cohort=model.PreemptionPolicy(said["reclaim_within_cohort"]),
            borrow_within_cohort=model.BorrowWithinCohort(
                model.PreemptionPolicy(said["borrow_within_cohort"]), said["max_priority_threshold"]
            ),
        ),
        strategy=model.QueueingStrategy(row.strategy),
        fungibility=model.FlavorFungibility(
            model.WhenCanBorrow(row.when_can_borrow), model.WhenCanPreempt(row.when_can_preempt)
        ),
        fair_weight=thousandths(row.fair_weight),
        stop_policy=model.StopPolicy(row.stop_policy),
    )


def as_cohort(row: CohortRow) -> model.Cohort:
    """Return a cohort."""
    return model.Cohort(row.name, row.parent, as_groups(row.groups), thousandths(row.fair_weight))


def as_local_queue(row: QueueRow, budgets: tuple[str, ...]) -> model.LocalQueue:
    """Return a project's queue, which the allocator knows by its id, charged to the quotas of its project and tenant."""
    limits = {resource: thousandths(limit) for resource, limit in row.limits.items()}
    return model.LocalQueue(row.id, row.cluster_queue, limits, model.StopPolicy(row.stop_policy), budgets)


def as_budget(row: QuotaRow, holder: str) -> model.Budget:
    """Return a quota of a tenant or project, which is called `holder`."""
    limits = [QuotaLimit.model_validate(one) for one in row.limits]
    found = {(one.flavor, one.resource.value): thousandths(one.limit) for one in limits}
    return model.Budget(row.id, found, f"the {row.scope} {holder}")


def as_workload(row: WorkloadRow, counted: frozenset[Resource]) -> model.Workload:
    """Return a workload. Of CPUs and memory it asks for what its queue has quotas of; the rest counts in those of its project
    and tenant alone. One that may do with fewer devices has as many pods as devices; what else it asks for is theirs together."""
    asked = {
        resource: wanted
        for resource, wanted in row.requests.items()
        if wanted and (resource == Resource.GPU_SHARES or resource in counted)
    }
    beside = {resource: wanted for resource, wanted in row.requests.items() if wanted and resource not in asked}
    shares, least = asked.get(Resource.GPU_SHARES.value, 0), row.min_device_count
    once: dict[str, int] = {}
    if least is not None:
        once = {resource: wanted for resource, wanted in asked.items() if resource != Resource.GPU_SHARES}
        asked = {Resource.GPU_SHARES.value: shares // row.device_count}
    device = None
    if row.device_count:
        each = row.device_count if least is None else 1
        device = model.DeviceRequest(Resource.GPU_SHARES.value, row.mig_profile or "", each)
    pods = model.PodSet(
        name=POD_SET,
        count=1 if least is None else row.device_count,
        requests=asked,
        node_selector={POOL_LABEL: row.pool} if row.pool else {},
        min_count=least,
        device=device,
        once=once,
    )
    return model.Workload(
        key=row.id,
        queue=row.cluster_queue,
        pod_sets=(pods,),
        priority=row.priority,
        created_at=row.created_at.timestamp(),
        local_queue=row.queue_id,
        beside={**beside, QuotaResource.JOBS.value: model.UNIT},
    )


def as_admitted(row: WorkloadRow, counted: frozenset[Resource], *, evicted: bool) -> model.Admitted:
    """Return a workload that holds its quota."""
    return model.Admitted(as_workload(row, counted), read_admission(row), evicted)


def counted_by(row: ClusterQueueRow) -> frozenset[Resource]:
    """Return the resources that a cluster queue has quotas of."""
    return covered([ResourceGroup.model_validate(group) for group in row.groups])


def written(admission: Admission) -> dict[str, Any]:
    """Return an admission as it is kept."""
    return {
        "assignments": [
            {"pod_set": one.pod_set, "count": one.count, "flavors": dict(one.flavors)} for one in admission.assignments
        ],
        "placed": [
            {"pool": one.pool, "device": one.device, "profile": one.profile, "start": one.start, "pod": one.pod}
            for one in admission.placed
        ],
    }


def read_admission(row: WorkloadRow) -> Admission:
    """Return a workload's admission from its row."""
    kept: dict[str, Any] = row.admission or {"assignments": [], "placed": []}
    return Admission(
        key=row.id,
        queue=row.cluster_queue,
        admitted_at=(row.admitted_at or datetime.fromtimestamp(0, UTC)).timestamp(),
        assignments=tuple(model.Assignment(**one) for one in kept["assignments"]),
        placed=tuple(model.Placed(pod_set=POD_SET, **one) for one in kept["placed"]),
    )


def _group(group: ResourceGroup) -> model.ResourceGroup:
    flavors = tuple(
        model.FlavorQuotas(
            one.flavor,
            {
                resource.value: model.Quota(
                    thousandths(quota.nominal), _limit(quota.borrowing_limit), _limit(quota.lending_limit)
                )
                for resource, quota in one.quotas.items()
            },
        )
        for one in group.flavors
    )
    return model.ResourceGroup(tuple(sorted(resource.value for resource in group.flavors[0].quotas)), flavors)


def _limit(amount: float | None) -> int | None:
    return None if amount is None else thousandths(amount)
