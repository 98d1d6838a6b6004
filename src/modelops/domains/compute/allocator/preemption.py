"""Who gives way for a workload that does not fit: as few as need be, by the policies of its queue.

The method is Kueue's (https://kueue.sigs.k8s.io/docs/concepts/preemption/): candidates are taken away in order until the
workload fits, and are then put back, last first, where it fits all the same.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from modelops.domains.compute.allocator.decisions import EvictionReason
from modelops.domains.compute.allocator.model import PreemptionPolicy
from modelops.domains.compute.allocator.placing import Bay, Need
from modelops.domains.compute.allocator.queues import Item, QueueNode
from modelops.domains.compute.allocator.tree import CohortNode

Victim = tuple[Item, EvictionReason]


@dataclass(slots=True)
class Demand:
    """What a workload needs: quantities by number, those of them that are contested, and shares to be placed."""

    item: Item
    amounts: Sequence[tuple[int, int]]
    contested: Collection[int]
    needs: Sequence[tuple[Bay, list[Need]]] = ()

    def fits(self, borrowing: bool) -> bool:
        """Tell whether it fits now, with borrowing or without."""
        queue = self.item.queue
        for number, amount in self.amounts:
            if not borrowing and queue.borrows_with(number, amount):
                return False
            if amount > queue.available(number):
                return False
        return self.placeable()

    def placeable(self) -> bool:
        """Tell whether there is a place for all of its shares."""
        for bay, needs in self.needs:
            done = bay.place(needs)
            if done is None:
                return False
            for held in done:
                bay.free(held)
        return True


class Kind(IntEnum):
    """What makes somebody a candidate."""

    NEVER = 0
    SAME_QUEUE = 1
    HIERARCHY = 2
    NOT_BORROWING = 3
    BORROWING = 4


_REASONS = {
    Kind.SAME_QUEUE: EvictionReason.IN_CLUSTER_QUEUE,
    Kind.HIERARCHY: EvictionReason.IN_COHORT_RECLAMATION,
    Kind.NOT_BORROWING: EvictionReason.IN_COHORT_RECLAMATION,
    Kind.BORROWING: EvictionReason.IN_COHORT_RECLAIM_WHILE_BORROWING,
}


@dataclass(slots=True)
class Candidate:
    """Somebody who may have to go. `common`: the lowest cohort above both queues."""

    item: Item
    kind: Kind
    common: CohortNode | None


def may_preempt(item: Item, other: Item, policy: PreemptionPolicy) -> bool:
    """Tell whether a policy lets `item` take the place of `other`."""
    if policy is PreemptionPolicy.ANY:
        return True
    if policy is PreemptionPolicy.NEVER:
        return False
    if item.priority > other.priority:
        return True
    newer = item.priority == other.priority and item.at < other.at
    return newer and policy is PreemptionPolicy.LOWER_OR_NEWER_EQUAL_PRIORITY


def uses(item: Item, numbers: Collection[int]) -> bool:
    """Tell whether somebody holds any of these."""
    for number, amount in item.usage:  # noqa: SIM110 -- a generator would cost more than the comparison
        if number in numbers and amount:
            return True
    return False


def preference(queue: QueueNode) -> Callable[[Item], tuple[bool, bool, int, float, str]]:
    """Return the order in which candidates go: whoever was told to go already, then those of other queues, then the lowest
    priority, then the latest."""

    def key(other: Item) -> tuple[bool, bool, int, float, str]:
        return not other.evicted, other.queue is queue, other.priority, -(other.admitted_at or 0.0), other.key

    return key


def classical_victims(demand: Demand) -> list[Victim]:
    """Return who gives way by priority and by reclaiming what was lent; nobody where that does not help."""
    item, queue = demand.item, demand.item.queue
    same = _of_queue(demand, queue, None, False)
    forbidden = queue.spec.preemption.borrow_within_cohort.policy is PreemptionPolicy.NEVER
    below = all(queue.used[number] < queue.nominal[number] for number in demand.contested)
    hierarchy, others = _of_cohort(demand, not forbidden or (below and (bool(same) or _lends(demand))))
    if not (same or hierarchy or others):
        return []
    candidates = _ordered(queue, (hierarchy, others, same))
    if not (hierarchy or others) or (forbidden and not below):
        attempts: tuple[bool, ...] = (True,)
    elif forbidden and not hierarchy:
        attempts = (False, True)
    else:
        attempts = (True, False)
    for borrowing in attempts:
        victims: list[Victim] = []
        for candidate in candidates:
            if not _valid(candidate, item.queue, borrowing, demand.contested):
                continue
            candidate.item.vacate()
            victims.append((candidate.item, _REASONS[candidate.kind]))
            if demand.fits(borrowing):
                victims = put_back(victims, lambda: demand.fits(borrowing))  # noqa: B023
                restore(victims)
                return victims
        restore(victims)
    return []


def _lends(demand: Demand) -> bool:
    """Tell whether a queue has quota for what is demanded, so that it need not borrow."""
    return not any(demand.item.queue.borrows_with(number, amount) for number, amount in demand.amounts)


def put_back(victims: list[Victim], fits: Callable[[], bool]) -> list[Victim]:
    """Return those who are needed: all but the last are put back where it fits all the same, last first."""
    at = len(victims) - 2
    while at >= 0:
        victims[at][0].occupy()
        if fits():
            victims[at] = victims[-1]
            victims.pop()
        else:
            victims[at][0].vacate()
        at -= 1
    return victims


def restore(victims: Iterable[Victim]) -> None:
    """Put everybody back."""
    for item, _ in victims:
        item.occupy()


def _ordered(queue: QueueNode, lists: Iterable[list[Candidate]]) -> list[Candidate]:
    key = preference(queue)
    told: list[Candidate] = []
    rest: list[Candidate] = []
    for candidates in lists:
        candidates.sort(key=lambda each: key(each.item))
        for each in candidates:
            (told if each.item.evicted else rest).append(each)
    return told + rest


def _valid(candidate: Candidate, queue: QueueNode, borrowing: bool, contested: Collection[int]) -> bool:
    """Tell whether somebody is a candidate still: not where the queue, or a cohort below the common one, is within its quota
    by now."""
    other = candidate.item.queue
    if other is queue:
        return True
    if (borrowing and candidate.kind is Kind.NOT_BORROWING) or other.within(contested):
        return False
    for node in other.path():
        if node is candidate.common:
            break
        if node.within(contested):
            return False
    return True


def _of_queue(demand: Demand, queue: QueueNode, common: CohortNode | None, advantage: bool) -> list[Candidate]:
    item = demand.item
    policy = item.queue.spec.preemption
    rule = policy.within_cluster_queue if queue is item.queue else policy.reclaim_within_cohort
    if rule is PreemptionPolicy.NEVER:
        return []
    return [
        Candidate(other, _kind(item, other, advantage), common)
        for other in queue.admitted.values()
        if may_preempt(item, other, rule) and uses(other, demand.contested)
    ]


def _kind(item: Item, other: Item, advantage: bool) -> Kind:
    if other.queue is item.queue:
        return Kind.SAME_QUEUE
    if advantage:
        return Kind.HIERARCHY
    borrow = item.queue.spec.preemption.borrow_within_cohort
    threshold = borrow.max_priority_threshold
    if (
        borrow.policy is PreemptionPolicy.NEVER
        or other.priority >= item.priority
        or (threshold is not None and other.priority > threshold)
    ):
        return Kind.NOT_BORROWING
    return Kind.BORROWING


def _of_cohort(demand: Demand, all_of_them: bool) -> tuple[list[Candidate], list[Candidate]]:
    """Return the candidates of other queues: those over whom the workload has the advantage of being nearer to the quota that
    they use, and the others. These are left out unless `all_of_them`: whoever must not borrow gains nothing by them where he
    has no quota of his own left."""
    queue = demand.item.queue
    hierarchy: list[Candidate] = []
    others: list[Candidate] = []
    if queue.parent is None or queue.spec.preemption.reclaim_within_cohort is PreemptionPolicy.NEVER:
        return hierarchy, others
    advantage, rest = queue.fits_in_quota(demand.amounts)
    below: CohortNode | None = None
    for cohort in queue.path():
        if advantage or all_of_them:
            _of_subtree(demand, cohort, cohort, below, advantage, hierarchy if advantage else others)
        fits, rest = cohort.fits_in_quota(rest)
        advantage = advantage or fits
        below = cohort
    return hierarchy, others


def _of_subtree(
    demand: Demand,
    cohort: CohortNode,
    top: CohortNode,
    below: CohortNode | None,
    advantage: bool,
    found: list[Candidate],
) -> None:
    for child in cohort.cohorts:
        if child is not below and not child.within(demand.contested):
            _of_subtree(demand, child, top, below, advantage, found)
    for queue in cohort.queues:
        if queue is not demand.item.queue and not queue.within(demand.contested):
            found += _of_queue(demand, queue, top, advantage)
