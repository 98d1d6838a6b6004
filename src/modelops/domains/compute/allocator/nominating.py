"""What a workload would get now, and who would have to go for it: with all of its pods, or else with as many as can be had.

Fewer pods are looked for by halves, as Kueue does (https://github.com/kubernetes-sigs/kueue/tree/main/keps/420-partial-admission);
a number that only preemption would give counts as one that can be had.
"""

from typing import TYPE_CHECKING

from modelops.domains.compute.allocator.assigning import Begin, Mode, Outcome
from modelops.domains.compute.allocator.budgets import over_budget
from modelops.domains.compute.allocator.preemption import Victim
from modelops.domains.compute.allocator.queues import Item

if TYPE_CHECKING:
    from modelops.domains.compute.allocator.engine import Engine


def find(engine: "Engine", item: Item) -> tuple[Outcome, list[Victim]]:
    """Return what a workload would get now, and who would have to go for it."""
    begin: Begin = {}
    first: Outcome | None = None
    while not item.accounts or over_budget(item) is None:
        outcome = engine.assigner.assign(item, None, begin)
        first = first or outcome
        if outcome.mode is Mode.FIT:
            return outcome, []
        if outcome.mode is Mode.PREEMPT and (victims := _victims(engine, item, outcome)):
            return outcome, victims
        if not outcome.later:
            break
        begin |= outcome.later
    if item.plan.partial:
        reduced = _reduce(engine, item)
        if reduced is not None:
            return reduced
    return first or Outcome(Mode.NO_FIT, barred=True), []


def _victims(engine: "Engine", item: Item, outcome: Outcome) -> list[Victim]:
    if outcome.victims is not None:
        return outcome.victims
    return engine.victims(engine.assigner.demand(item, outcome))


def _reduce(engine: "Engine", item: Item) -> tuple[Outcome, list[Victim]] | None:
    """Return the most that a workload can get with fewer pods, all its sets reduced alike."""
    pods = item.plan.pods
    spare = sum(pod.count - pod.least for pod in pods)
    low, high = 1, spare
    found: tuple[Outcome, list[Victim]] | None = None
    while low <= high:
        middle = (low + high) // 2
        counts = [pod.count - (pod.count - pod.least) * middle // spare for pod in pods]
        tried = _try_counts(engine, item, counts)
        if tried is None:
            low = middle + 1
        else:
            found, high = tried, middle - 1
    return found


def _try_counts(engine: "Engine", item: Item, counts: list[int]) -> tuple[Outcome, list[Victim]] | None:
    if over_budget(item, counts) is not None:
        return None
    outcome = engine.assigner.assign(item, counts)
    if outcome.mode is Mode.FIT:
        return outcome, []
    if outcome.mode is Mode.PREEMPT and (victims := _victims(engine, item, outcome)):
        return outcome, victims
    return None
