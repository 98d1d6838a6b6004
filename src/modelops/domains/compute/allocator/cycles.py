"""One cycle after the other over a tree of cohorts: nominate the heads, order them, admit what fits, tell others to go."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from modelops.domains.compute.allocator.assigning import Mode, Outcome
from modelops.domains.compute.allocator.budgets import within_budgets
from modelops.domains.compute.allocator.decisions import Eviction
from modelops.domains.compute.allocator.model import Admission, PreemptionPolicy
from modelops.domains.compute.allocator.nominating import find
from modelops.domains.compute.allocator.placing import Bay, Held
from modelops.domains.compute.allocator.preemption import Victim
from modelops.domains.compute.allocator.queues import Alike, Item, Order, QueueNode, Usage
from modelops.domains.compute.allocator.sharing import Rank, queues_below, share
from modelops.domains.compute.allocator.tree import CohortNode, Node

if TYPE_CHECKING:
    from modelops.domains.compute.allocator.engine import Engine


class Tree:
    """A root and the queues below it. One without a cohort is a tree of its own."""

    __slots__ = ("queues", "root")

    def __init__(self, root: Node) -> None:
        self.root = root
        self.queues: list[QueueNode] = [root] if isinstance(root, QueueNode) else list(queues_below(root))


class Entry:
    """A head in a cycle: what it would get, and who would have to go. `deferred`: it fits once those are gone whom others told
    to go."""

    __slots__ = ("alike", "deferred", "item", "outcome", "victims")

    def __init__(self, item: Item, alike: Alike, outcome: Outcome, victims: list[Victim]) -> None:
        self.item = item
        self.alike = alike
        self.outcome = outcome
        self.victims = victims
        self.deferred = False


def place_in_cycle(entry: Entry) -> tuple[bool, int, Order]:
    """Return where a head comes in a cycle: first who told others to go, then who borrows less, then the highest priority, then
    the oldest."""
    return entry.item.queue.claimant is not entry.item, entry.outcome.borrows, entry.item.order


class Cycle:
    """What the cycles of one call decide."""

    def __init__(self, engine: "Engine", now: float) -> None:
        self._engine = engine
        self._now = now
        self.evicted: list[Eviction] = []
        self.waiting: dict[str, None] = {}
        self._going: dict[str, Item] = {}
        self._fresh: dict[str, Admission] = {}
        self._revoked: dict[str, Item] = {}
        self._spared: set[str] = set()
        self._reserved: list[tuple[QueueNode, int, int]] = []
        self._claimed: list[tuple[Item, Usage]] = []
        self._blocked: list[Bay] = []
        self._moved = False
        self._touched = False

    @property
    def admitted(self) -> tuple[Admission, ...]:
        """Who was admitted."""
        return tuple(self._fresh.values())

    def run(self, tree: Tree) -> bool:
        """Run one cycle over a tree, and tell whether it changed anything."""
        entries = []
        for queue in tree.queues:
            if not queue.stopped:
                head = queue.head()
                if head is not None:
                    entries.append(self._nominate(*head))
        if not entries:
            return False
        self._moved = self._touched = False
        for entry in self._ordered(tree, entries) if len(entries) > 1 else entries:
            self._process(entry)
        self._going.clear()
        if self._reserved:
            self._unreserve()
        if self._revoked:
            self._revoke()
        return self._moved

    def _nominate(self, item: Item, alike: Alike) -> Entry:
        outcome, victims = find(self._engine, item)
        return Entry(item, alike, outcome, victims)

    def _process(self, entry: Entry) -> None:
        if entry.outcome.mode is Mode.PREEMPT and any(victim.key in self._going for victim, _ in entry.victims):
            self._again(entry)
        mode = entry.outcome.mode
        if mode is Mode.NO_FIT or (mode is Mode.PREEMPT and not entry.victims):
            self._refuse(entry)
        elif entry.deferred:
            self.waiting[entry.item.key] = None
            self._claim(entry)
        elif self._touched and not self._fits(entry):
            self.waiting[entry.item.key] = None
        elif mode is Mode.FIT:
            self._admit(entry)
        else:
            self._preempt(entry)

    def _refuse(self, entry: Entry) -> None:
        item, queue = entry.item, entry.item.queue
        self.waiting[item.key] = None
        queue.claimant = None
        policy = queue.spec.preemption.reclaim_within_cohort
        if entry.outcome.mode is Mode.PREEMPT and policy is not PreemptionPolicy.ANY:
            self._reserve(queue, _reservable(entry))
        if not queue.strict or entry.outcome.barred:  # who waits for a budget's sake is not in the others' way
            queue.park(entry.alike)
            self._moved = True

    def _admit(self, entry: Entry) -> None:
        item, outcome = entry.item, entry.outcome
        held: list[Held] = []
        for pool, needs in outcome.needs.items():
            held += self._engine.bays[pool].place(needs) or ()
        item.usage = outcome.usage()
        item.held = tuple(held)
        item.assignments = outcome.assignments()
        item.admitted_at = self._now
        self._engine.admit(item)
        self._fresh[item.key] = item.admission()
        self.waiting.pop(item.key, None)
        self._moved = self._touched = True

    def _preempt(self, entry: Entry) -> None:
        item = entry.item
        for victim, reason in entry.victims:
            self._going[victim.key] = victim
            if victim.evicted:
                continue
            victim.evicted = self._moved = True
            if victim.key in self._fresh and victim.key not in self._spared:
                self._revoked[victim.key] = victim
            else:
                self.evicted.append(Eviction(victim.key, victim.queue.name, reason, item.key, item.queue.name))
        item.queue.claimant = item
        self.waiting[item.key] = None
        self._keep_places(entry)
        self._claim(entry)

    def _revoke(self) -> None:
        """Let those wait again, as if nothing had been, who were admitted just now and would have to go at once. Nobody is spared
        so twice."""
        for key, item in self._revoked.items():
            del self._fresh[key]
            self._spared.add(key)
            self._engine.release(key)
            self._engine.submit(item.workload)
        self._revoked.clear()

    def _keep_places(self, entry: Entry) -> None:
        """Let nobody else take the places that the victims leave, nor those that are free and wanted, in this cycle."""
        if not entry.outcome.needs:
            return
        for victim, _ in entry.victims:
            victim.vacate()
        for pool, needs in entry.outcome.needs.items():
            bay = self._engine.bays[pool]
            self._blocked.append(bay)
            for held in bay.place(needs) or ():
                bay.free(held)
                bay.block(held)
        for victim, _ in entry.victims:
            victim.occupy()

    def _again(self, entry: Entry) -> None:
        """Find flavors and victims anew, as if those were gone who were told to go in this cycle."""
        going = list(self._going.values())
        for victim in going:
            victim.vacate()
            del victim.queue.admitted[victim.key]
        entry.outcome, entry.victims = find(self._engine, entry.item)
        for victim in going:
            victim.occupy()
            victim.queue.admitted[victim.key] = victim
        entry.deferred = entry.outcome.mode is Mode.FIT

    def _fits(self, entry: Entry) -> bool:
        """Tell whether a head fits still: with what others reserved, once those are gone who must go; and, if it is to begin at
        once, beside those who are not gone yet."""
        if entry.item.accounts and not within_budgets(entry.item, entry.outcome.usage()):
            return False
        if not (self._going or entry.victims or entry.outcome.needs):
            queue = entry.item.queue
            return all(amount <= queue.available(number) for number, amount in entry.outcome.usage())
        demand = self._engine.assigner.demand(entry.item, entry.outcome)
        gone = self._going | {victim.key: victim for victim, _ in entry.victims}
        for victim in gone.values():
            victim.vacate()
        fits = demand.fits(True)
        for victim in gone.values():
            victim.occupy()
        if not fits or not gone or entry.victims:
            return fits
        for queue, number, amount in self._reserved:
            queue.remove(number, amount)
        fits = demand.fits(True)
        for queue, number, amount in self._reserved:
            queue.add(number, amount)
        return fits

    def _claim(self, entry: Entry) -> None:
        """Let nobody else take what a head gets once those are gone who were told to go, nor its place in its budgets."""
        item, usage = entry.item, entry.outcome.usage()
        self._reserve(item.queue, usage)
        for account in item.accounts:
            account.charge(usage, item.workload.beside, 1)
        self._claimed.append((item, usage))

    def _reserve(self, queue: QueueNode, amounts: Iterable[tuple[int, int]]) -> None:
        for number, amount in amounts:
            queue.add(number, amount)
            self._reserved.append((queue, number, amount))
        self._touched = True

    def _unreserve(self) -> None:
        for queue, number, amount in self._reserved:
            queue.remove(number, amount)
        self._reserved.clear()
        for item, usage in self._claimed:
            for account in item.accounts:
                account.charge(usage, item.workload.beside, -1)
        self._claimed.clear()
        for bay in self._blocked:
            bay.blocked.clear()
        self._blocked.clear()

    def _ordered(self, tree: Tree, entries: list[Entry]) -> Iterator[Entry]:
        if not self._engine.fair:
            yield from sorted(entries, key=place_in_cycle)
            return
        left = {entry.item.queue: entry for entry in entries}
        while left:
            best = self._winner(tree.root, left)
            del left[best.item.queue]
            yield best

    def _winner(self, root: Node, left: dict[QueueNode, Entry]) -> Entry:
        """Return whose turn it is: at each cohort, whoever has the least share after his admission wins."""
        if isinstance(root, QueueNode):
            return left[root]
        resources = self._engine.resources
        places: dict[tuple[Node, str], tuple[bool, bool, Rank, Order]] = {}
        for queue, entry in left.items():
            amounts = entry.outcome.amounts
            for number, amount in amounts.items():
                queue.add(number, amount)
            below: Node = queue
            for cohort in queue.path():
                found = share(below, resources)
                borrows = not found.borrowed.isdisjoint(amounts)
                places[cohort, entry.item.key] = queue.claimant is not entry.item, borrows, found.rank, entry.item.order
                below = cohort
            for number, amount in amounts.items():
                queue.remove(number, amount)
        best = _tournament(root, left, places)
        assert best is not None  # noqa: S101 -- there are entries left
        return best


def _tournament(
    cohort: Node, left: dict[QueueNode, Entry], places: dict[tuple[Node, str], tuple[bool, bool, Rank, Order]]
) -> Entry | None:
    assert isinstance(cohort, CohortNode)  # noqa: S101 -- a queue has nobody below it
    entries = [_tournament(child, left, places) for child in cohort.cohorts]
    entries += [left.get(queue) for queue in cohort.queues]
    return min(
        (entry for entry in entries if entry is not None),
        key=lambda entry: places[cohort, entry.item.key],
        default=None,
    )


def _reservable(entry: Entry) -> Iterator[tuple[int, int]]:
    """Yield what a head may keep others from taking while there is nobody whom it could tell to go."""
    queue = entry.item.queue
    for number, amount in entry.outcome.amounts.items():
        room = queue.nominal[number] - queue.used[number]
        borrowing = queue.borrowing[number]
        if entry.outcome.borrows:
            room = amount if borrowing is None else room + borrowing
        yield number, max(0, min(amount, room))
