"""Which flavors a workload gets: the queue's in their order, as its fungibility says.

A mode tells how a flavor would do; the larger the better. The method is Kueue's
(https://kueue.sigs.k8s.io/docs/concepts/cluster_queue/#flavors-and-resources).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from modelops.domains.compute.allocator.model import (
    Assignment,
    FlavorFungibility,
    FungibilityPreference,
    PreemptionPolicy,
    WhenCanBorrow,
    WhenCanPreempt,
)
from modelops.domains.compute.allocator.placing import Bay, Need
from modelops.domains.compute.allocator.plans import GroupPlan, Option, Plan, PodPlan
from modelops.domains.compute.allocator.preemption import Demand, Victim
from modelops.domains.compute.allocator.queues import Item, Usage

_KNOWN = 10_000
"""How many outcomes are kept to be used again."""


class Mode(IntEnum):
    """How a quantity fits: not at all; only if somebody goes, and nobody can; if somebody of the same queue, or of others,
    goes; as it is."""

    NO_FIT = 0
    NO_VICTIMS = 1
    PREEMPT = 2
    RECLAIM = 3
    FIT = 4


Fitness = tuple[Mode, int]
"""A mode, and from how far up the tree it borrows (0: not at all)."""

FindVictims = Callable[[Demand], list[Victim]]

Begin = dict[tuple[int, int], int]
"""By pod set and group: the flavor with which to begin."""


@dataclass(slots=True)
class Outcome:
    """What a workload would get. `contested`: the numbers for which somebody would have to go; `victims`: who that is, where it
    was found on the way; `later`: where other flavors are left to be tried; `barred`: nothing was tried, as a budget forbids
    it."""

    mode: Mode = Mode.FIT
    borrows: int = 0
    amounts: dict[int, int] = field(default_factory=dict)
    contested: set[int] = field(default_factory=set)
    picked: list[tuple[PodPlan, int, list[Option]]] = field(default_factory=list)
    needs: dict[str, list[Need]] = field(default_factory=dict)
    later: Begin = field(default_factory=dict)
    victims: list[Victim] | None = None
    barred: bool = False
    _told: tuple[Assignment, ...] = ()
    _usage: Usage | None = None

    def usage(self) -> Usage:
        """Return the quantities as whoever is admitted holds them."""
        if self._usage is None:
            self._usage = tuple(self.amounts.items())
        return self._usage

    def assignments(self) -> tuple[Assignment, ...]:
        """Return it as it is told to others."""
        self._told = self._told or tuple(
            Assignment(
                pod.name, count, {resource: option.flavor for option in options for resource in option.resources}
            )
            for pod, count, options in self.picked
        )
        return self._told


class Assigner:
    """Assigns flavors to workloads, given the pools' bays and a way to find victims."""

    def __init__(self, bays: Mapping[str, Bay], find: FindVictims, fair: bool) -> None:
        self._bays = bays
        self._find = find
        self._fair = fair
        self._fitting: dict[tuple[Plan, int], Outcome] = {}

    def assign(self, item: Item, counts: Sequence[int] | None = None, begin: Begin | None = None) -> Outcome:
        """Return what a workload would get, with `counts` pods of its sets (none: all)."""
        plan = item.plan
        if plan.single is not None:
            return self._assign_single(item, *plan.single)
        outcome = Outcome()
        if plan.uncovered:
            outcome.mode = Mode.NO_FIT
            return outcome
        for at, pod in enumerate(plan.pods):
            count = pod.count if counts is None else counts[at]
            picked: list[Option] = []
            for number, group in enumerate(pod.groups):
                first = begin.get((at, number), 0) if begin else 0
                option = self._pick(item, outcome, (at, number), group, count, first)
                if option is None:
                    outcome.mode = Mode.NO_FIT
                    return outcome
                picked.append(option)
            outcome.picked.append((pod, count, picked))
        if outcome.contested:
            outcome.mode = Mode.PREEMPT
        return outcome

    def _assign_single(self, item: Item, number: int, amount: int) -> Outcome:
        """Do what `assign` does, where there is but one flavor with one resource: what would fit is the same for all of the plan,
        and whoever has to go need not be looked for twice."""
        (mode, borrows), victims = self._quantity(item, number, amount)
        known = self._fitting.get((item.plan, borrows)) if mode is Mode.FIT else None
        if known is not None:
            return known
        pod = item.plan.pods[0]
        outcome = Outcome(mode if mode in (Mode.FIT, Mode.NO_FIT) else Mode.PREEMPT, borrows, {number: amount})
        outcome.picked.append((pod, pod.count, [pod.groups[0].options[0]]))
        if mode is Mode.FIT:
            if len(self._fitting) >= _KNOWN:
                self._fitting.clear()
            self._fitting[item.plan, borrows] = outcome
        elif mode is not Mode.NO_FIT:
            outcome.contested.add(number)
            outcome.victims = victims
        return outcome

    def demand(self, item: Item, outcome: Outcome) -> Demand:
        """Return what would have to be freed for it."""
        needs = [(self._bays[pool], needs) for pool, needs in outcome.needs.items()]
        return Demand(item, tuple(outcome.amounts.items()), outcome.contested, needs)

    def placeable(self, item: Item, option: Option, at: int, count: int) -> bool:
        """Tell whether there is a place for all shares of a pod set by itself, with `count` pods."""
        if option.pool is None:
            return True
        bay = self._bays[option.pool]
        return Demand(item, (), (), [(bay, self._needs(item, option, at, count))]).placeable()

    def _pick(
        self, item: Item, outcome: Outcome, place: tuple[int, int], group: GroupPlan, count: int, first: int
    ) -> Option | None:
        """Choose a flavor for one group of a pod set, and count it in."""
        rules = item.queue.spec.fungibility
        best: Option | None = None
        best_fitness: Fitness = (Mode.NO_FIT, 0)
        best_contested: set[int] = set()
        tried = len(group.options)
        for index in range(first, len(group.options)):
            option = group.options[index]
            fitness, contested = self.fitness(item, outcome, option, place[0], count)
            if not _try_next(fitness, rules):
                best, best_fitness, best_contested, tried = option, fitness, contested, index + 1
                break
            if preferred(fitness, best_fitness, rules):
                best, best_fitness, best_contested = option, fitness, contested
        if best is None or best_fitness[0] is Mode.NO_FIT:
            return None
        if tried < len(group.options):
            outcome.later[place] = tried
        outcome.borrows = max(outcome.borrows, best_fitness[1])
        outcome.contested |= best_contested
        for number, once, per_pod in best.asks:
            outcome.amounts[number] = outcome.amounts.get(number, 0) + once + per_pod * count
        if best.pool is not None:
            outcome.needs.setdefault(best.pool, []).extend(self._needs(item, best, place[0], count))
        return best

    def fitness(self, item: Item, outcome: Outcome, option: Option, at: int, count: int) -> tuple[Fitness, set[int]]:
        """Return how a flavor would do, beside what was chosen already, and what would be contested."""
        worst: Fitness = (Mode.FIT, 0)
        contested: set[int] = set()
        for number, once, per_pod in option.asks:
            found, _ = self._quantity(item, number, outcome.amounts.get(number, 0) + once + per_pod * count)
            if found[0] is Mode.NO_FIT:
                return found, contested
            if found[0] is not Mode.FIT:
                contested.add(number)
            if preferred(worst, found, item.queue.spec.fungibility):
                worst = found
        if option.pool is not None and worst[0] is Mode.FIT:
            found = self._placement(item, outcome, option, at, count)
            if found[0] is not Mode.FIT:
                contested.update(self._device_numbers(option))
                worst = (found[0], max(worst[1], found[1]))
        return worst, contested

    def _quantity(self, item: Item, number: int, amount: int) -> tuple[Fitness, list[Victim]]:
        queue = item.queue
        if item.accounts and any(account.lacks_of(number, amount) for account in item.accounts):
            return (Mode.NO_FIT, 0), []
        if amount <= queue.available(number):
            return (Mode.FIT, queue.lowest_fit(number, amount)[0]), []
        if amount > queue.capacity(number):
            return (Mode.NO_FIT, 0), []
        policy = queue.spec.preemption
        borrows, below_top = queue.lowest_fit(number, amount)
        while_borrowing = policy.borrow_within_cohort.policy is not PreemptionPolicy.NEVER or (
            self._fair and policy.reclaim_within_cohort is not PreemptionPolicy.NEVER
        )
        if queue.nominal[number] >= amount or below_top or while_borrowing:
            return self._by_preemption(Demand(item, ((number, amount),), (number,)))
        return (Mode.NO_FIT, borrows), []

    def _placement(self, item: Item, outcome: Outcome, option: Option, at: int, count: int) -> Fitness:
        """Return how the shares of a pod set could be placed, beside those of other sets."""
        assert option.pool is not None  # noqa: S101 -- asked only for flavors with a pool
        bay = self._bays[option.pool]
        needs = [*outcome.needs.get(option.pool, ()), *self._needs(item, option, at, count)]
        numbers = self._device_numbers(option)
        demand = Demand(item, (), numbers, [(bay, needs)])
        if demand.placeable():
            return Mode.FIT, 0
        if not bay.fits_when_empty(needs):
            return Mode.NO_FIT, 0
        return self._by_preemption(demand)[0]

    def _by_preemption(self, demand: Demand) -> tuple[Fitness, list[Victim]]:
        victims = self._find(demand)
        queue = demand.item.queue
        for victim, _ in victims:
            victim.vacate()
        borrows = max((queue.lowest_fit(number, amount)[0] for number, amount in demand.amounts), default=0)
        for victim, _ in victims:
            victim.occupy()
        if not victims:
            return (Mode.NO_VICTIMS, borrows), victims
        own = any(victim.queue is queue for victim, _ in victims)
        return (Mode.PREEMPT if own else Mode.RECLAIM, borrows), victims

    def _needs(self, item: Item, option: Option, at: int, count: int) -> list[Need]:
        device = option.device
        if device is None:
            return []
        name = item.plan.pods[at].name
        return [Need(name, pod, device.profile, device.count) for pod in range(count)]

    def _device_numbers(self, option: Option) -> set[int]:
        return {
            number
            for (number, _, _), resource in zip(option.asks, option.resources, strict=True)
            if option.device and resource == option.device.resource
        }


def preferred(one: Fitness, other: Fitness, rules: FlavorFungibility) -> bool:
    """Tell whether one way to fit is better than another."""
    if one[0] is Mode.NO_FIT or other[0] is Mode.NO_FIT:
        return one[0] is not Mode.NO_FIT
    if (one[0] is Mode.NO_VICTIMS) != (other[0] is Mode.NO_VICTIMS):
        return other[0] is Mode.NO_VICTIMS
    if rules.preference is FungibilityPreference.PREEMPTION_OVER_BORROWING and one[1] != other[1]:
        return one[1] < other[1]
    return one[0] > other[0] or (one[0] is other[0] and one[1] < other[1])


def _try_next(fitness: Fitness, rules: FlavorFungibility) -> bool:
    mode, borrows = fitness
    if mode in (Mode.NO_FIT, Mode.NO_VICTIMS):
        return True
    if mode in (Mode.PREEMPT, Mode.RECLAIM) and rules.when_can_preempt is WhenCanPreempt.TRY_NEXT_FLAVOR:
        return True
    return bool(borrows) and rules.when_can_borrow is WhenCanBorrow.TRY_NEXT_FLAVOR
