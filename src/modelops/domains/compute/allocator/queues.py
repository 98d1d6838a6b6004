"""The workloads of a cluster queue: those that wait, in order, and those that hold quota.

Of those that are alike (one class: plan and priority) only the first is tried. Where it fits nowhere, its class is parked
until something changes that it depends on; in a queue with `StrictFIFO`, it stays at the head and everybody waits.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from modelops.domains.compute.allocator.budgets import Account
from modelops.domains.compute.allocator.model import (
    Admission,
    Assignment,
    ClusterQueue,
    PreemptionPolicy,
    QueueingStrategy,
    StopPolicy,
    Workload,
)
from modelops.domains.compute.allocator.placing import Held
from modelops.domains.compute.allocator.plans import Plan
from modelops.domains.compute.allocator.tree import Node, Resources

Order = tuple[int, float, str]
"""The place in a queue: highest priority first, then the oldest."""


Usage = tuple[tuple[int, int], ...]
"""Quantities by number."""


class Item:
    """A workload in the engine. `usage`: what it holds, by number; `admitted_at` is none while it waits; `accounts`: the budgets
    that it is charged to."""

    __slots__ = (
        "accounts",
        "admitted_at",
        "assignments",
        "at",
        "evicted",
        "gone",
        "held",
        "key",
        "order",
        "plan",
        "priority",
        "queue",
        "usage",
        "workload",
    )

    def __init__(self, workload: Workload, queue: "QueueNode", plan: Plan, accounts: tuple[Account, ...] = ()) -> None:
        self.workload = workload
        self.accounts = accounts
        self.key = workload.key
        self.queue = queue
        self.plan = plan
        self.priority = workload.priority
        self.at = workload.created_at if workload.queued_at is None else workload.queued_at
        self.order: Order = (-self.priority, self.at, self.key)
        self.admitted_at: float | None = None
        self.evicted = False
        self.gone = False
        self.usage: Usage = ()
        self.held: tuple[Held, ...] = ()
        self.assignments: tuple[Assignment, ...] = ()

    def __lt__(self, other: "Item") -> bool:
        return self.order < other.order

    def admission(self) -> Admission:
        """Return what it holds, as it is told to others."""
        placed = tuple(held.placed() for held in self.held) if self.held else ()
        return Admission(self.key, self.queue.name, self.admitted_at or 0.0, self.assignments, placed)

    def occupy(self) -> None:
        """Use what it holds."""
        for number, amount in self.usage:
            self.queue.add(number, amount)
        for held in self.held:
            held.bay.take(held)

    def vacate(self) -> None:
        """Use it no more."""
        for number, amount in self.usage:
            self.queue.remove(number, amount)
        for held in self.held:
            held.bay.free(held)


class Alike:
    """Workloads of one plan and priority, oldest first. `top`: the one of them that is among the queue's heads."""

    __slots__ = ("key", "members", "numbers", "parked", "top")

    def __init__(self, key: tuple[Plan, int], numbers: frozenset[int]) -> None:
        self.key = key
        self.members: list[tuple[Order, Item]] = []
        self.numbers = numbers
        self.parked = False
        self.top: Item | None = None

    def first(self) -> Item | None:
        """Return the oldest that still waits."""
        members = self.members
        while members:
            item = members[0][1]
            if not item.gone and item.admitted_at is None:
                return item
            heappop(members)
        return None


class QueueNode(Node):
    """A cluster queue in the tree. `claimant`: who told others to go, and comes before all others until it is admitted, so that
    nobody else takes what they leave."""

    __slots__ = ("_classes", "_heads", "_older_may", "admitted", "claimant", "parked", "spec", "stopped", "strict")

    def __init__(self, spec: ClusterQueue, resources: Resources) -> None:
        super().__init__(spec.name, spec.groups, spec.fair_weight, resources)
        self.spec = spec
        self.strict = spec.strategy is QueueingStrategy.STRICT_FIFO
        self.stopped = spec.stop_policy is not StopPolicy.NONE
        self.admitted: dict[str, Item] = {}
        self.claimant: Item | None = None
        self.parked: list[Alike] = []
        self._classes: dict[tuple[Plan, int], Alike] = {}
        self._heads: list[tuple[Order, Item, Alike]] = []
        policy = spec.preemption
        self._older_may = PreemptionPolicy.LOWER_OR_NEWER_EQUAL_PRIORITY in (
            policy.within_cluster_queue,
            policy.reclaim_within_cohort,
        )

    def wait(self, item: Item) -> bool:
        """Put a workload in its place, and tell whether there is something new to try."""
        key = (item.plan, item.priority)
        alike = self._classes.get(key)
        if alike is None:
            alike = self._classes[key] = Alike(key, item.plan.numbers)
        heappush(alike.members, (item.order, item))
        if alike.first() is not item:
            return False
        if alike.parked:
            if not self._older_may:
                return False
            alike.parked = False
            self.parked.remove(alike)
        self._offer(alike, item)
        return True

    def head(self) -> tuple[Item, Alike] | None:
        """Return who is tried next, and those who are alike."""
        claimant = self.claimant
        if claimant is not None:
            claiming = self._classes.get((claimant.plan, claimant.priority))
            if claiming is not None and claimant.admitted_at is None and not claimant.gone:
                return claimant, claiming
            self.claimant = None
        heads = self._heads
        while heads:
            _, item, alike = heads[0]
            if item is alike.top:
                if item.admitted_at is None and not item.gone:
                    return item, alike
                heappop(heads)
                self._offer(alike, alike.first())
            else:
                heappop(heads)
        return None

    def park(self, alike: Alike) -> None:
        """Try those who are alike no more until something changes."""
        alike.parked = True
        alike.top = None
        self.parked.append(alike)

    def unpark(self, numbers: Iterable[int] | None) -> bool:
        """Try those again who depend on `numbers` (none: all), and tell whether there are any."""
        if not self.parked:
            return False
        rest = []
        for alike in self.parked:
            if numbers is not None and alike.numbers.isdisjoint(numbers):
                rest.append(alike)
                continue
            alike.parked = False
            self._offer(alike, alike.first())
        found = len(rest) < len(self.parked)
        self.parked = rest
        return found

    def _offer(self, alike: Alike, first: Item | None) -> None:
        alike.top = first
        if first is None:
            self._classes.pop(alike.key, None)
        else:
            heappush(self._heads, (first.order, first, alike))
