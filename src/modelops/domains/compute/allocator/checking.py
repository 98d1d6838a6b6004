"""What is wrong with who holds what: the invariants, reckoned anew from a snapshot.

It shares no code with the engine but the model and the table of GPUs, so that a mistake there does not hide itself here. Each of
its sentences is a violation; there are none where all is well.
"""

from collections.abc import Iterator

from modelops.domains.compute.allocator.devices import GPUS
from modelops.domains.compute.allocator.model import (
    Admitted,
    ClusterQueue,
    Cohort,
    PodSet,
    Pool,
    PoolMode,
    Quota,
    Snapshot,
)

Key = tuple[str, str]


def violations(snapshot: Snapshot) -> list[str]:
    """Return what is wrong: use beyond a queue's nominal quota and borrowing limit, beyond what a cohort has or what others
    lend, beyond a local queue's limit or a budget; workloads admitted in part, and shares that overlap or lie where none may."""
    return [*_quotas(snapshot), *_limits(snapshot), *_budgets(snapshot), *_admissions(snapshot), *_places(snapshot)]


def _own(node: ClusterQueue | Cohort) -> dict[Key, Quota]:
    return {
        (each.flavor, resource): quota
        for group in node.groups
        for each in group.flavors
        for resource, quota in each.resources.items()
    }


def _uses(admitted: Admitted) -> dict[Key, int]:
    pod_sets = {pod_set.name: pod_set for pod_set in admitted.workload.pod_sets}
    uses: dict[Key, int] = {}
    for assignment in admitted.admission.assignments:
        for resource, flavor in assignment.flavors.items():
            pods = pod_sets[assignment.pod_set]
            amount = pods.once.get(resource, 0) + pods.requests.get(resource, 0) * assignment.count
            uses[flavor, resource] = uses.get((flavor, resource), 0) + amount
    return uses


def _quotas(snapshot: Snapshot) -> Iterator[str]:
    """Each node of the tree may use its own quota, what its children may lend it, and what it may borrow; the top borrows
    nothing. What a node uses of its parent is what it uses beyond what it may not lend."""
    cohorts = {cohort.name: cohort for cohort in snapshot.cohorts}
    parents = {f"queue {queue.name}": queue.cohort for queue in snapshot.cluster_queues}
    nodes: dict[str, ClusterQueue | Cohort] = {f"queue {queue.name}": queue for queue in snapshot.cluster_queues}
    for name in {*cohorts, *(queue.cohort for queue in snapshot.cluster_queues), *(c.parent for c in cohorts.values())}:
        if name is not None:
            nodes[f"cohort {name}"] = cohorts.get(name, Cohort(name))
            parents[f"cohort {name}"] = cohorts[name].parent if name in cohorts else None
    direct: dict[str, dict[Key, int]] = {}
    for admitted in snapshot.admitted:
        held = direct.setdefault(f"queue {admitted.admission.queue}", {})
        for key, amount in _uses(admitted).items():
            held[key] = held.get(key, 0) + amount
    children: dict[str, list[str]] = {}
    for name, parent in parents.items():
        if parent is not None:
            children.setdefault(f"cohort {parent}", []).append(name)
    own = {name: _own(node) for name, node in nodes.items()}
    keys = {key for quotas in own.values() for key in quotas} | {key for held in direct.values() for key in held}

    def settle(name: str, key: Key) -> tuple[int, int, list[str]]:
        """Return what a node may lend its parent, what it uses of the parent's, and what is wrong below."""
        wrong: list[str] = []
        quota = own.get(name, {}).get(key, Quota(0))
        has, used = quota.nominal, direct.get(name, {}).get(key, 0)
        for child in children.get(name, ()):
            lends, takes, below = settle(child, key)
            has, used, wrong = has + lends, used + takes, wrong + below
        borrows = 0 if parents.get(name) is None else quota.borrowing_limit
        if borrows is not None and used > has + borrows:
            wrong.append(f"{name} uses {used} of {key[1]} in {key[0]}, and may use {has} and borrow {borrows}")
        lends = has if quota.lending_limit is None else min(has, quota.lending_limit)
        return lends, max(0, used - (has - lends)), wrong

    for name in {*nodes, *direct}:
        if parents.get(name) is None:
            for key in keys:
                yield from settle(name, key)[2]


def _limits(snapshot: Snapshot) -> Iterator[str]:
    for local in snapshot.local_queues:
        for resource, limit in local.limits.items():
            used = sum(
                amount
                for admitted in snapshot.admitted
                if admitted.workload.local_queue == local.name
                for (_, name), amount in _uses(admitted).items()
                if name == resource
            )
            if used > limit:
                yield f"local queue {local.name} holds {used} {resource}, and may hold {limit}"


def _budgets(snapshot: Snapshot) -> Iterator[str]:
    for budget in snapshot.budgets:
        queues = {local.name for local in snapshot.local_queues if budget.name in local.budgets}
        charged = [admitted for admitted in snapshot.admitted if admitted.workload.local_queue in queues]
        for (flavor, resource), limit in budget.limits.items():
            used = sum(
                amount
                for admitted in charged
                for (kind, name), amount in _uses(admitted).items()
                if name == resource and flavor in (None, kind)
            )
            if flavor is None:
                used += sum(admitted.workload.beside.get(resource, 0) for admitted in charged)
            if used > limit:
                yield f"{used} {resource} of {flavor or 'all flavors'} are charged to {budget.name}, which may hold {limit}"


def _admissions(snapshot: Snapshot) -> Iterator[str]:
    """All pod sets of a workload are admitted, each with enough pods, all its resources in a flavor, and its shares placed."""
    pools = {pool.flavor: pool for pool in snapshot.pools}
    for admitted in snapshot.admitted:
        given = {assignment.pod_set: assignment for assignment in admitted.admission.assignments}
        for pod_set in admitted.workload.pod_sets:
            assignment = given.get(pod_set.name)
            least = pod_set.count if pod_set.min_count is None else pod_set.min_count
            if assignment is None or not least <= assignment.count <= pod_set.count:
                yield f"{admitted.workload.key} is admitted without all of {pod_set.name}"
                continue
            if {name for name, amount in (*pod_set.requests.items(), *pod_set.once.items()) if amount} - set(
                assignment.flavors
            ):
                yield f"{admitted.workload.key} is admitted without a flavor for all that {pod_set.name} asks for"
            if pod_set.device is not None:
                pool = pools.get(assignment.flavors.get(pod_set.device.resource, ""))
                yield from _placed_whole(admitted, pod_set, assignment.count, pool)


def _placed_whole(admitted: Admitted, pod_set: PodSet, pods: int, pool: Pool | None) -> Iterator[str]:
    device = pod_set.device
    found: dict[int, list[str]] = {}
    nodes = {each.name: each.node for each in pool.devices} if pool else {}
    for placed in admitted.admission.placed:
        if placed.pod_set == pod_set.name:
            found.setdefault(placed.pod, []).append(nodes.get(placed.device, "gone"))
            if device is None or placed.profile != device.profile or pool is None or placed.pool != pool.name:
                yield f"{admitted.workload.key} holds {placed.profile or 'a device'} of {placed.pool}, for which it did not ask"
    for pod in range(pods):
        if device is not None and (len(found.get(pod, ())) != device.count or len(set(found.get(pod, ()))) != 1):
            yield f"pod {pod} of {pod_set.name} of {admitted.workload.key} has not all its devices on one node"


def _places(snapshot: Snapshot) -> Iterator[str]:
    """No two shares overlap, and each begins where the hardware lets it."""
    pools = {pool.name: pool for pool in snapshot.pools}
    slices: dict[tuple[str, str], dict[int, str]] = {}
    counts: dict[tuple[str, str, str], int] = {}
    for admitted in snapshot.admitted:
        for placed in admitted.admission.placed:
            pool = pools.get(placed.pool)
            if pool is None or placed.device not in {device.name for device in pool.devices}:
                yield f"{admitted.workload.key} lies on {placed.device} of {placed.pool}, which is not there"
                continue
            if pool.mode is PoolMode.MIG:
                profile = GPUS[pool.model].profiles[placed.profile]
                taken, legal = range(placed.start, placed.start + profile.size), placed.start in profile.starts
                counts[pool.name, placed.device, profile.name] = (
                    counts.get((pool.name, placed.device, profile.name), 0) + 1
                )
                legal = legal and counts[pool.name, placed.device, profile.name] <= profile.limit
            else:
                width = pool.timeslice_replicas if pool.mode is PoolMode.TIME_SLICE else 1
                taken, legal = range(placed.start, placed.start + 1), 0 <= placed.start < width and not placed.profile
            if not legal:
                yield f"{placed.profile} of {admitted.workload.key} begins at {placed.start} of {placed.device}"
            held = slices.setdefault((pool.name, placed.device), {})
            for each in taken:
                if each in held:
                    yield f"{admitted.workload.key} and {held[each]} overlap at {each} of {placed.device}"
                held[each] = admitted.workload.key
