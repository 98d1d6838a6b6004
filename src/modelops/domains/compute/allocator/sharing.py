"""Fair sharing: who borrows the most of what can be lent, weighed; and who gives way for that.

A node's share is the largest, over the resources, of what it borrows to what its cohort could use, in thousandths, divided by
its weight (dominant resource fairness: Ghodsi et al., NSDI 2011). The preemption is Kueue's
(https://kueue.sigs.k8s.io/docs/concepts/preemption/#fair-sharing): the queue with the highest share gives way first.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from modelops.domains.compute.allocator.decisions import EvictionReason
from modelops.domains.compute.allocator.model import UNIT, FairStrategy, PreemptionPolicy
from modelops.domains.compute.allocator.preemption import (
    Demand,
    Victim,
    may_preempt,
    preference,
    put_back,
    restore,
    uses,
)
from modelops.domains.compute.allocator.queues import Item, QueueNode
from modelops.domains.compute.allocator.tree import CohortNode, Node, Resources

Rank = tuple[int, float]
"""A share as it is compared: whoever borrows at weight 0 comes after all others."""

_NOTHING: Rank = (0, 0.0)


@dataclass(frozen=True, slots=True)
class Share:
    """How much a node borrows: `rank` to compare, and the numbers of which it uses more than its quota."""

    rank: Rank
    borrowed: frozenset[int]


def share(node: Node, resources: Resources) -> Share:
    """Return the share of a queue or cohort of what its parent could use."""
    parent = node.parent
    if parent is None:
        return Share(_NOTHING, frozenset())
    borrowed = [number for number, used in enumerate(node.used) if used > node.quota[number]]
    by_resource: dict[str, int] = {}
    for number in borrowed:
        resource = resources.names[number][1]
        by_resource[resource] = by_resource.get(resource, 0) + node.used[number] - node.quota[number]
    ratio = 0.0
    for resource, amount in by_resource.items():
        if (lendable := parent.lendable.get(resource, 0)) > 0:
            ratio = max(ratio, amount * 1000 / lendable)
    if ratio and not node.weight:
        rank: Rank = (1, ratio)
    else:
        rank = (0, ratio * UNIT / node.weight if ratio else 0.0)
    return Share(rank, frozenset(borrowed))


def fair_victims(demand: Demand, strategies: tuple[FairStrategy, ...], resources: Resources) -> list[Victim]:
    """Return who gives way so that shares become fairer; nobody where that does not help."""
    queue = demand.item.queue
    candidates = sorted(_candidates(demand), key=preference(queue))
    if not candidates:
        return []
    for number, amount in demand.amounts:
        queue.add(number, amount)
    victims: list[Victim] = []
    fits, again = _first(demand, candidates, strategies[0], resources, victims)
    if not fits and len(strategies) > 1:
        fits = _second(demand, again, resources, victims)
    for number, amount in demand.amounts:
        queue.remove(number, amount)
    if not fits:
        restore(victims)
        return []
    victims = put_back(victims, lambda: demand.fits(True))
    restore(victims)
    return victims


def _candidates(demand: Demand) -> list[Item]:
    item, queue = demand.item, demand.item.queue
    policy = queue.spec.preemption
    found: list[Item] = []
    if policy.within_cluster_queue is not PreemptionPolicy.NEVER:
        found += _of(queue, demand, policy.within_cluster_queue)
    if queue.parent is not None and policy.reclaim_within_cohort is not PreemptionPolicy.NEVER:
        for other in queues_below(item.queue.root()):
            if other is not queue and not other.within(demand.contested):
                found += _of(other, demand, policy.reclaim_within_cohort)
    return found


def _of(queue: QueueNode, demand: Demand, policy: PreemptionPolicy) -> list[Item]:
    others = queue.admitted.values()
    return [other for other in others if may_preempt(demand.item, other, policy) and uses(other, demand.contested)]


def queues_below(node: Node) -> Iterable[QueueNode]:
    """Yield the queues of a cohort and of all cohorts in it."""
    if isinstance(node, CohortNode):
        for cohort in node.cohorts:
            yield from queues_below(cohort)
        yield from node.queues


def _fits_besides(demand: Demand) -> bool:
    """Tell whether a workload fits whose usage is counted already."""
    queue = demand.item.queue
    for number, amount in demand.amounts:
        queue.remove(number, amount)
    fits = demand.fits(True)
    for number, amount in demand.amounts:
        queue.add(number, amount)
    return fits


def _take(demand: Demand, item: Item, reason: EvictionReason, victims: list[Victim]) -> bool:
    item.vacate()
    victims.append((item, reason))
    return _fits_besides(demand)


def _first(
    demand: Demand, candidates: list[Item], strategy: FairStrategy, resources: Resources, victims: list[Victim]
) -> tuple[bool, list[Item]]:
    """Take candidates away by the first strategy, and return whether it fits then, and who may be tried by the second."""
    queue = demand.item.queue
    entitled = queue.within(demand.contested)
    again: list[Item] = []
    order = _Order(queue, candidates, resources)
    while (target := order.next()) is not None:
        if target is queue or entitled:
            reason = EvictionReason.IN_CLUSTER_QUEUE if target is queue else EvictionReason.IN_COHORT_RECLAMATION
            if _take(demand, order.pop(target), reason, victims):
                return True, []
            continue
        ours, theirs = order.rivals(target)
        new, old = share(ours, resources).rank, share(theirs, resources).rank
        while order.left(target):
            item = order.pop(target)
            if _passes(strategy, new, old, theirs, item, resources):
                if _take(demand, item, EvictionReason.IN_COHORT_FAIR_SHARING, victims):
                    return True, []
                break
            again.append(item)
    return False, again


def _passes(strategy: FairStrategy, new: Rank, old: Rank, theirs: Node, item: Item, resources: Resources) -> bool:
    if strategy is FairStrategy.LESS_THAN_INITIAL_SHARE:
        return new < old
    for number, amount in item.usage:
        item.queue.remove(number, amount)
    after = share(theirs, resources).rank
    for number, amount in item.usage:
        item.queue.add(number, amount)
    return new <= after


def _second(demand: Demand, candidates: list[Item], resources: Resources, victims: list[Victim]) -> bool:
    """Take the first candidate of each queue whose share is larger than the workload's queue will have."""
    order = _Order(demand.item.queue, candidates, resources)
    while (target := order.next()) is not None:
        ours, theirs = order.rivals(target)
        item = order.pop(target)
        poorer = share(ours, resources).rank < share(theirs, resources).rank
        if poorer and _take(demand, item, EvictionReason.IN_COHORT_FAIR_SHARING, victims):
            return True
        order.drop(target)
    return False


class _Order:
    """The queues that give way, again and again the one with the highest share, found from the root downwards."""

    def __init__(self, queue: QueueNode, candidates: Iterable[Item], resources: Resources) -> None:
        self._queue = queue
        self._key = preference(queue)
        self._resources = resources
        self._left: dict[QueueNode, list[Item]] = {}
        for item in candidates:
            self._left.setdefault(item.queue, []).append(item)
        for items in self._left.values():
            items.reverse()
        self._above: Collection[Node] = set(queue.path())
        self._done: set[Node] = set()

    def next(self) -> QueueNode | None:
        """Return the queue that gives way next; none where nobody is left."""
        if self._queue.parent is None:
            return self._queue if self.left(self._queue) and self._queue not in self._done else None
        root = self._queue.root()
        while root not in self._done:
            found = self._below(root)
            if found is not None:
                return found
        return None

    def left(self, queue: QueueNode) -> bool:
        """Tell whether a queue has candidates left."""
        return bool(self._left.get(queue))

    def pop(self, queue: QueueNode) -> Item:
        """Return a queue's next candidate, who is then no candidate any more."""
        return self._left[queue].pop()

    def drop(self, queue: QueueNode) -> None:
        """Leave a queue alone."""
        self._done.add(queue)

    def rivals(self, target: QueueNode) -> tuple[Node, Node]:
        """Return the nodes just below the lowest cohort above both queues: ours, and the target's."""
        common = next(node for node in target.path() if node in self._above)
        return _below_of(self._queue, common), _below_of(target, common)

    def _below(self, cohort: Node) -> QueueNode | None:
        """Return the queue with the highest share below a cohort; none where something had to be left out first."""
        assert isinstance(cohort, CohortNode)  # noqa: S101 -- only cohorts have something below them
        queue, queue_rank = self._highest_queue(cohort)
        best, best_rank = self._highest_cohort(cohort)
        if queue is None and best is None:
            self._done.add(cohort)
            return None
        if best is not None and best_rank >= queue_rank:
            return self._below(best)
        return queue

    def _highest_queue(self, cohort: CohortNode) -> tuple[QueueNode | None, Rank]:
        best: QueueNode | None = None
        best_rank: Rank = (-1, 0.0)
        for queue in cohort.queues:
            if queue in self._done:
                continue
            found = share(queue, self._resources)
            if (not found.borrowed and queue is not self._queue) or not self.left(queue):
                self._done.add(queue)
            elif best is not None and found.rank == best_rank:
                if self._key(self._left[queue][-1]) < self._key(self._left[best][-1]):
                    best = queue
            elif found.rank > best_rank:
                best, best_rank = queue, found.rank
        return best, best_rank

    def _highest_cohort(self, cohort: CohortNode) -> tuple[CohortNode | None, Rank]:
        best: CohortNode | None = None
        best_rank: Rank = (-1, 0.0)
        for child in cohort.cohorts:
            if child in self._done:
                continue
            found = share(child, self._resources)
            if not found.borrowed and child not in self._above:
                self._done.add(child)
            elif found.rank >= best_rank:
                best, best_rank = child, found.rank
        return best, best_rank


def _below_of(queue: QueueNode, common: Node) -> Node:
    node: Node = queue
    for above in queue.path():
        if above is common:
            break
        node = above
    return node
