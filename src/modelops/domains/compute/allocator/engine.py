"""The engine: a snapshot that is kept up to date, and the cycles in which the heads of its queues are admitted.

A cycle takes the head of every queue, finds flavors for each (and who would have to go), and goes through them in order: those
that borrow less first, then by priority and age, or by their share where sharing is fair. What was admitted before in the
same cycle counts. Trees of cohorts have nothing to do with each other, and only those in which something changed are looked at.
"""

from collections.abc import Mapping
from dataclasses import replace

from modelops.domains.compute.allocator.assigning import Assigner
from modelops.domains.compute.allocator.budgets import open_accounts
from modelops.domains.compute.allocator.cycles import Cycle, Tree
from modelops.domains.compute.allocator.decisions import Decisions, Eviction, EvictionReason
from modelops.domains.compute.allocator.model import (
    Admitted,
    ClusterQueue,
    PodSet,
    Snapshot,
    StopPolicy,
    Workload,
)
from modelops.domains.compute.allocator.placing import Bay
from modelops.domains.compute.allocator.plans import Plan, Shape, plan_of, shape_of
from modelops.domains.compute.allocator.preemption import Demand, Victim, classical_victims
from modelops.domains.compute.allocator.queues import Item, QueueNode
from modelops.domains.compute.allocator.sharing import fair_victims
from modelops.domains.compute.allocator.tree import Node, Resources, plant

_PLANS = 10_000
"""How many plans are kept; more are forgotten together."""


def decide(snapshot: Snapshot, now: float) -> Decisions:
    """Return who is admitted and who must go, after as many cycles as change something.

    Whoever would be admitted and told to go at once stays where he is. The same snapshot gives the same decisions.

    Args:
        snapshot: All that the decision depends on; one cohort's tree is enough, where its queues share no pool with others.
        now: When, in seconds since the epoch.

    Raises:
        ValueError: A cohort is its own ancestor.
    """
    found = Engine(snapshot).settle(now)
    both = {each.key for each in found.admitted} & {each.key for each in found.evicted}
    return Decisions(
        tuple(each for each in found.admitted if each.key not in both),
        tuple(each for each in found.evicted if each.key not in both),
        found.waiting,
    )


class Engine:
    """A snapshot kept up to date. Not safe for use by several threads.

    Raises:
        ValueError: A cohort of the snapshot is its own ancestor.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._given = snapshot
        self.resources = Resources()
        self.flavors = {flavor.name: flavor for flavor in snapshot.flavors}
        self.local_queues = {queue.name: queue for queue in snapshot.local_queues}
        self._pools = {pool.flavor: pool for pool in snapshot.pools}
        self.bays = {pool.name: Bay(pool) for pool in snapshot.pools}
        self.cohorts = plant(snapshot.cohorts, snapshot.cluster_queues, self.resources)
        self.unknown: set[str] = set()
        self.queues = self._queues(snapshot)
        self.items: dict[str, Item] = {}
        self._accounts = open_accounts(snapshot.budgets, snapshot.local_queues, self.resources)
        self._seen: dict[tuple[int, str, str], tuple[tuple[PodSet, ...], Mapping[str, int], Plan]] = {}
        self._plans: dict[Shape, Plan] = {}
        self.fair = strategies = snapshot.fair_strategies

        def victims(demand: Demand) -> list[Victim]:
            return fair_victims(demand, strategies, self.resources) if strategies else classical_victims(demand)

        self.victims = victims
        self.assigner = Assigner(self.bays, victims, bool(strategies))
        holders = [self._holder(each) for each in snapshot.admitted]
        self.trees = self._trees()
        self.tree_of = {queue.name: tree for tree in self.trees for queue in tree.queues}
        self._dirty: dict[Tree, None] = {}
        self._drained: list[Eviction] = []
        for item in holders:
            self._hold(item)
        for workload in snapshot.pending:
            self.submit(workload)

    def submit(self, workload: Workload) -> None:
        """Let a workload wait. Where it waits already, or holds quota, it is taken out first."""
        self.withdraw(workload.key)
        item = self._item(workload)
        self.items[item.key] = item
        local = self.local_queues.get(workload.local_queue)
        if local is not None and local.stop_policy is not StopPolicy.NONE:
            return
        if item.queue.wait(item):
            self._dirty[self.tree_of[item.queue.name]] = None

    def withdraw(self, key: str) -> None:
        """Let a workload wait no more; one that holds quota gives it back. Nothing happens where it is not known."""
        item = self.items.get(key)
        if item is None:
            return
        if item.admitted_at is not None:
            self.release(key)
            return
        item.gone = True
        del self.items[key]
        self._dirty[self.tree_of[item.queue.name]] = None

    def release(self, key: str) -> None:
        """Give back what a workload holds: it ended, or did go when it was told to.

        Raises:
            KeyError: It holds nothing.
        """
        item = self.items[key]
        if item.admitted_at is None:
            raise KeyError(key)
        del self.items[key]
        queue = item.queue
        del queue.admitted[key]
        item.vacate()
        if item.accounts:
            self._charge(item, -1)
        tree = self.tree_of[queue.name]
        numbers = [number for number, _ in item.usage]
        for each in tree.queues:
            if each.parked:
                each.unpark(numbers)
        if item.held:
            self._unpark_pools(item)
        self._dirty[tree] = None

    def cycle(self, now: float) -> Decisions:
        """Try one head of every queue where something changed."""
        return self._run(now, 1)

    def settle(self, now: float) -> Decisions:
        """Run cycles until they change nothing."""
        return self._run(now, None)

    def waiting(self, queue: str) -> list[Item]:
        """Return the workloads that wait in a cluster queue, in their order, those of stopped local queues among them."""
        found = [item for item in self.items.values() if item.queue.name == queue and item.admitted_at is None]
        return sorted(found, key=lambda item: item.order)

    def snapshot(self) -> Snapshot:
        """Return what there is now."""
        pending = [item for item in self.items.values() if item.admitted_at is None]
        holding = [item for item in self.items.values() if item.admitted_at is not None]
        return replace(
            self._given,
            pending=tuple(item.workload for item in pending),
            admitted=tuple(Admitted(item.workload, item.admission(), item.evicted) for item in holding),
        )

    def admit(self, item: Item) -> None:
        """Let a workload hold what was found for it."""
        item.queue.admitted[item.key] = item
        for number, amount in item.usage:
            item.queue.add(number, amount)
        if item.accounts:
            self._charge(item, 1)

    def _run(self, now: float, most: int | None) -> Decisions:
        cycle = Cycle(self, now)
        cycle.evicted += self._drained
        self._drained = []
        while self._dirty:  # what one tree gives back another may have, where they share a pool or a budget
            for tree in list(self._dirty):
                del self._dirty[tree]
                left = most
                while cycle.run(tree):
                    left = None if left is None else left - 1
                    if left == 0:
                        self._dirty[tree] = None
                        break
            if most is not None:
                break
        return Decisions(cycle.admitted, tuple(cycle.evicted), tuple(cycle.waiting))

    def _queues(self, snapshot: Snapshot) -> dict[str, QueueNode]:
        """Return the queues by name; one that is only named by workloads has no quota, and admits nobody."""
        specs = {queue.name: queue for queue in snapshot.cluster_queues}
        for workload in (*snapshot.pending, *[each.workload for each in snapshot.admitted]):
            if workload.queue not in specs:
                specs[workload.queue] = _unknown(workload.queue)
                self.unknown.add(workload.queue)
        nodes = {name: QueueNode(spec, self.resources) for name, spec in sorted(specs.items())}
        for name, node in nodes.items():
            cohort = specs[name].cohort
            if cohort is not None:
                node.parent = self.cohorts[cohort]
                self.cohorts[cohort].queues.append(node)
        return nodes

    def _trees(self) -> list[Tree]:
        width = len(self.resources.names)
        found = []
        for cohort in self.cohorts.values():
            if cohort.parent is None:
                cohort.settle(width)
                cohort.settle_lendable(self.resources.names)
                found.append(Tree(cohort))
        for queue in self.queues.values():
            if queue.parent is None:
                _settle_alone(queue, width)
                found.append(Tree(queue))
        return found

    def _item(self, workload: Workload) -> Item:
        queue = self.queues.get(workload.queue)
        if queue is None:
            queue = self._late(workload.queue)
        accounts = self._accounts.get(workload.local_queue, ())
        for account in accounts:
            account.queues[queue] = None
        return Item(workload, queue, self._plan(workload, queue), accounts)

    def _plan(self, workload: Workload, queue: QueueNode) -> Plan:
        """Return a workload's plan, the same for all that are alike; those that share their pod sets are not looked at anew."""
        place = (id(workload.pod_sets), queue.name, workload.local_queue)
        seen = self._seen.get(place)
        if seen is not None and seen[0] is workload.pod_sets and seen[1] == workload.beside:
            return seen[2]
        if len(self._seen) >= _PLANS:
            self._seen.clear()
            self._plans.clear()
        kind = (queue.name, workload.local_queue, *shape_of(workload))
        plan = self._plans.get(kind)
        if plan is None:
            plan = plan_of(workload, queue.spec, self.flavors, self._pools, self.resources)
            self._plans[kind] = plan
        self._seen[place] = workload.pod_sets, workload.beside, plan
        return plan

    def _late(self, name: str) -> QueueNode:
        """Return a queue that nobody knows, for a workload that names it."""
        queue = QueueNode(_unknown(name), self.resources)
        _settle_alone(queue, len(self.resources.names))
        self.unknown.add(name)
        self.queues[name] = queue
        tree = self.tree_of[name] = Tree(queue)
        self.trees.append(tree)
        return queue

    def _holder(self, admitted: Admitted) -> Item:
        item = self._item(admitted.workload)
        item.admitted_at = admitted.admission.admitted_at
        item.evicted = admitted.evicted
        item.assignments = admitted.admission.assignments
        pod_sets = {each.name: each for each in admitted.workload.pod_sets}
        amounts: dict[int, int] = {}
        for assignment in item.assignments:
            for resource, flavor in assignment.flavors.items():
                number = self.resources.number(flavor, resource)
                pods = pod_sets[assignment.pod_set]
                amount = pods.once.get(resource, 0) + pods.requests.get(resource, 0) * assignment.count
                amounts[number] = amounts.get(number, 0) + amount
        item.usage = tuple(amounts.items())
        found = [(self.bays.get(placed.pool), placed) for placed in admitted.admission.placed]
        held = [bay.held(placed) for bay, placed in found if bay is not None]
        item.held = tuple(each for each in held if each is not None)
        return item

    def _hold(self, item: Item) -> None:
        self.items[item.key] = item
        for held in item.held:
            held.bay.take(held)
        self.admit(item)
        local = self.local_queues.get(item.workload.local_queue)
        policies = (item.queue.spec.stop_policy, local.stop_policy if local else StopPolicy.NONE)
        if StopPolicy.HOLD_AND_DRAIN in policies and not item.evicted:
            item.evicted = True
            self._drained.append(Eviction(item.key, item.queue.name, EvictionReason.STOPPED))

    def _charge(self, item: Item, sign: int) -> None:
        """Count in its budgets what a workload holds. Where it gives it back, those are tried again who wait for that."""
        for account in item.accounts:
            account.charge(item.usage, item.workload.beside, sign)
            if sign < 0:
                for queue in account.queues:
                    if queue.unpark(None):
                        self._dirty[self.tree_of[queue.name]] = None

    def _unpark_pools(self, item: Item) -> None:
        """Try those again, in other trees, who wait for a place in the same pools."""
        numbers = [number for number, _ in item.usage]
        for tree in self.trees:
            for queue in tree.queues:
                if queue.parked and queue.unpark(numbers):
                    self._dirty[tree] = None


def _unknown(name: str) -> ClusterQueue:
    return ClusterQueue(name, stop_policy=StopPolicy.HOLD)


def _settle_alone(queue: Node, width: int) -> None:
    queue.widen(width)
    queue.settle_quota(())
