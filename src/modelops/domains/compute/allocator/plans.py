"""What a workload needs of its queue: pod set by pod set, which flavors may be asked for which quantities.

Workloads that are alike share a plan, and wait as one: where the first does not fit, the others are not tried.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelops.domains.compute.allocator.devices import offers
from modelops.domains.compute.allocator.model import (
    ClusterQueue,
    DeviceRequest,
    PodSet,
    Pool,
    PoolMode,
    ResourceFlavor,
    ResourceGroup,
    Taint,
    Toleration,
    Workload,
)
from modelops.domains.compute.allocator.tree import Resources

Shape = tuple[object, ...]


def shape_of(workload: Workload) -> Shape:
    """Return what makes workloads of a queue alike, apart from their priority and their local queue."""
    return tuple(sorted(workload.beside.items())), *(
        (
            each.name,
            each.count,
            each.min_count,
            tuple(sorted(each.requests.items())),
            tuple(sorted(each.once.items())),
            tuple(sorted(each.node_selector.items())),
            each.tolerations,
            each.device,
        )
        for each in workload.pod_sets
    )


@dataclass(frozen=True, slots=True)
class Option:
    """A flavor that would do, and the pool behind it. `asks`: the numbers of its resources, with the quantity that is needed
    once and that per pod."""

    flavor: str
    asks: tuple[tuple[int, int, int], ...]
    resources: tuple[str, ...]
    pool: str | None
    device: DeviceRequest | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A flavor that would not do, and why."""

    flavor: str
    unknown: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """The flavors of one resource group, in the queue's order."""

    options: tuple[Option, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class PodPlan:
    """A pod set: its groups, and the resources that the queue does not have."""

    name: str
    count: int
    least: int
    groups: tuple[GroupPlan, ...]
    uncovered: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All pod sets. `numbers`: the flavors' resources on which the answer depends; `totals`: what is asked of each resource;
    `single`: number and quantity where there is only that one to look at."""

    pods: tuple[PodPlan, ...]
    numbers: frozenset[int]
    totals: tuple[tuple[str, int], ...]
    uncovered: tuple[str, ...]
    partial: bool
    single: tuple[int, int] | None


def plan_of(
    workload: Workload,
    queue: ClusterQueue,
    flavors: Mapping[str, ResourceFlavor],
    pools: Mapping[str, Pool],
    resources: Resources,
) -> Plan:
    """Return the plan of a workload in its queue. `pools` by flavor."""
    pods = tuple(_pod_plan(each, queue, flavors, pools, resources) for each in workload.pod_sets)
    totals: dict[str, int] = {}
    for each in workload.pod_sets:
        for resource, amount in each.requests.items():
            totals[resource] = totals.get(resource, 0) + amount * each.count
        for resource, amount in each.once.items():
            totals[resource] = totals.get(resource, 0) + amount
    numbers = frozenset(
        resources.number(each.flavor, resource)
        for group in queue.groups
        for each in group.flavors
        for resource in group.covered
        if resource in totals
    )
    uncovered = tuple(sorted({resource for pod in pods for resource in pod.uncovered}))
    partial = any(pod.least < pod.count for pod in pods)
    return Plan(pods, numbers, tuple(totals.items()), uncovered, partial, None if uncovered else _single(pods))


def _single(pods: tuple[PodPlan, ...]) -> tuple[int, int] | None:
    if len(pods) != 1 or len(pods[0].groups) != 1 or pods[0].least < pods[0].count:
        return None
    group = pods[0].groups[0]
    if len(group.options) != 1 or group.options[0].device or len(group.options[0].asks) != 1:
        return None
    number, once, per_pod = group.options[0].asks[0]
    return number, once + per_pod * pods[0].count


def _pod_plan(
    pod_set: PodSet,
    queue: ClusterQueue,
    flavors: Mapping[str, ResourceFlavor],
    pools: Mapping[str, Pool],
    resources: Resources,
) -> PodPlan:
    covered: set[str] = set()
    groups = []
    for group in queue.groups:
        wanted = [each for each in group.covered if pod_set.requests.get(each) or pod_set.once.get(each)]
        covered.update(group.covered)
        if wanted:
            groups.append(_group_plan(pod_set, group, wanted, flavors, pools, resources))
    asked = {each for needs in (pod_set.requests, pod_set.once) for each, amount in needs.items() if amount}
    uncovered = tuple(sorted(asked - covered))
    least = pod_set.count if pod_set.min_count is None else min(pod_set.min_count, pod_set.count)
    return PodPlan(pod_set.name, pod_set.count, least, tuple(groups), uncovered)


def _group_plan(
    pod_set: PodSet,
    group: ResourceGroup,
    wanted: list[str],
    flavors: Mapping[str, ResourceFlavor],
    pools: Mapping[str, Pool],
    resources: Resources,
) -> GroupPlan:
    options, rejected = [], []
    device = pod_set.device if pod_set.device and pod_set.device.resource in wanted else None
    for each in group.flavors:
        flavor = flavors.get(each.flavor)
        if flavor is None:
            rejected.append(Rejected(each.flavor, True, f"flavor {each.flavor} is not known"))
            continue
        pool = pools.get(each.flavor) if device else None
        why_not = _mismatch(pod_set, flavor) or (_not_offered(device, pool, each.flavor) if device else None)
        if why_not:
            rejected.append(Rejected(each.flavor, False, why_not))
            continue
        asks = tuple(
            (resources.number(each.flavor, name), pod_set.once.get(name, 0), pod_set.requests.get(name, 0))
            for name in wanted
        )
        options.append(Option(each.flavor, asks, tuple(wanted), pool.name if pool else None, device))
    return GroupPlan(tuple(options), tuple(rejected))


def _mismatch(pod_set: PodSet, flavor: ResourceFlavor) -> str | None:
    tolerations = (*pod_set.tolerations, *flavor.tolerations)
    for taint in flavor.taints:
        if taint.effect != "PreferNoSchedule" and not tolerated(taint, tolerations):
            return (
                f"flavor {flavor.name} has the taint {taint.key}={taint.value}:{taint.effect}, which is not tolerated"
            )
    for key, value in pod_set.node_selector.items():
        if key in flavor.node_labels and flavor.node_labels[key] != value:
            return f"flavor {flavor.name} has {key}={flavor.node_labels[key]}, and {key}={value} is asked for"
    return None


def _not_offered(device: DeviceRequest, pool: Pool | None, flavor: str) -> str | None:
    if pool is None:
        return f"flavor {flavor} has no pool of devices"
    if not offers(pool, device.profile):
        what = f"the profile {device.profile}" if device.profile else "a device without a profile"
        return f"pool {pool.name} ({PoolMode(pool.mode).value}) does not offer {what}"
    return None


def tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    """Tell whether one of `tolerations` puts up with a taint, by the rules of Kubernetes."""
    return any(
        (not each.effect or each.effect == taint.effect)
        and (each.key == taint.key or (not each.key and each.operator == "Exists"))
        and (each.operator == "Exists" or each.value == taint.value)
        for each in tolerations
    )
