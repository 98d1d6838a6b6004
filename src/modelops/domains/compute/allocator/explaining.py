"""Why a workload waits: what it lacks and who has it, who would give way or why nobody does, and what would let it run.

A look changes nothing: whoever is taken away to see whether it would fit then is put back.
"""

from typing import Any

from modelops.domains.compute.allocator.assigning import Mode, Outcome
from modelops.domains.compute.allocator.budgets import Over, over_budget
from modelops.domains.compute.allocator.decisions import Explanation, Wait, WaitReason
from modelops.domains.compute.allocator.engine import Engine
from modelops.domains.compute.allocator.model import UNIT, PreemptionPolicy, StopPolicy
from modelops.domains.compute.allocator.nominating import find
from modelops.domains.compute.allocator.plans import Option, PodPlan
from modelops.domains.compute.allocator.preemption import Victim, may_preempt, uses
from modelops.domains.compute.allocator.queues import Item
from modelops.domains.compute.allocator.sharing import queues_below

_NAMED = 5
"""How many workloads a sentence names."""

_TRIED = 50
"""How many of those who hold what is lacking are tried for whether their end would do."""


def why(engine: Engine, key: str) -> Explanation:
    """Return why a workload waits, and what would let it run.

    Args:
        engine: The engine, after `settle`: it tells what is, not what will be decided.
        key: The workload's.

    Raises:
        KeyError: The engine does not know the workload.
    """
    item = engine.items[key]
    if item.admitted_at is not None:
        return Explanation(key, True, None, (), ())
    ahead = [other for other in engine.waiting(item.queue.name) if other.order < item.order]
    waits, remedies = _barred(engine, item)
    if not waits:
        outcome, victims = find(engine, item)
        if outcome.mode is Mode.FIT:
            waits = [_next(item, ahead)]
        else:
            waits, remedies = _lacks(engine, item, outcome, victims)
            if item.queue.strict and ahead:
                waits.insert(0, _ahead(ahead))
    return Explanation(key, False, len(ahead) + 1, tuple(waits), tuple(remedies))


def _barred(engine: Engine, item: Item) -> tuple[list[Wait], list[str]]:
    """Return what keeps a workload from being tried at all."""
    queue, local = item.queue, engine.local_queues.get(item.workload.local_queue)
    if queue.name in engine.unknown:
        sentence = f"There is no cluster queue {queue.name}."
        return [Wait(WaitReason.QUEUE_UNKNOWN, sentence, {"queue": queue.name})], [f"Create the queue {queue.name}."]
    stopped = (
        queue.name if queue.stopped else local.name if local and local.stop_policy is not StopPolicy.NONE else None
    )
    if stopped:
        sentence = f"Queue {stopped} is stopped: it admits nothing."
        return [Wait(WaitReason.QUEUE_STOPPED, sentence, {"queue": stopped})], [f"Let queue {stopped} admit again."]
    if item.plan.uncovered:
        names = ", ".join(item.plan.uncovered)
        sentence = f"Queue {queue.name} has no quota for {names}."
        facts = {"queue": queue.name, "resources": list(item.plan.uncovered)}
        return [Wait(WaitReason.RESOURCE_NOT_COVERED, sentence, facts)], [f"Give queue {queue.name} quota for {names}."]
    over = over_budget(item, [pod.least for pod in item.plan.pods])
    return ([_over(over)], [_raise_budget(over)]) if over is not None else ([], [])


def _over(over: Over) -> Wait:
    """Return that a local queue's limit, or a budget, does not allow so much."""
    facts = {"resource": over.resource, "used": over.used, "requested": over.asked, "limit": over.limit}
    holder = over.account.told
    sentence = f"{_amount(over.limit)} {_of(over)} and holds {_amount(over.used)}; {_amount(over.asked)} are asked for."
    if over.account.local:
        return Wait(WaitReason.LOCAL_LIMIT, f"Queue {holder} may hold {sentence}", {"queue": holder, **facts})
    facts |= {"quota": over.account.name, "holder": holder, "flavor": over.flavor}
    return Wait(WaitReason.OVER_QUOTA, f"By its quota {holder} may hold {sentence}", facts)


def _raise_budget(over: Over) -> str:
    remedy = f"Raise the {'limit' if over.account.local else 'quota'} of {over.account.told} for {_of(over)}"
    return f"{remedy}." if over.asked > over.limit else f"{remedy}, or wait until its own workloads end."


def _of(over: Over) -> str:
    return over.resource if over.flavor is None else f"{over.resource} of flavor {over.flavor}"


def _ahead(ahead: list[Item]) -> Wait:
    sentence = (
        f"{_workloads(len(ahead))} come first in this queue, which lets nobody overtake; the first is {ahead[0].key}."
    )
    return Wait(WaitReason.AHEAD, sentence, {"ahead": len(ahead), "first": ahead[0].key})


def _next(item: Item, ahead: list[Item]) -> Wait:
    if ahead:
        sentence = f"It fits, and {_workloads(len(ahead))} before it in queue {item.queue.name} are tried first."
        return Wait(WaitReason.AHEAD, sentence, {"ahead": len(ahead), "first": ahead[0].key})
    return Wait(WaitReason.OVERTAKEN, "It fits, and is admitted when its queue is looked at next.", {})


def _lacks(engine: Engine, item: Item, outcome: Outcome, victims: list[Victim]) -> tuple[list[Wait], list[str]]:
    waits: list[Wait] = []
    remedies: list[str] = []
    numbers: set[int] = set()
    for at, pod in enumerate(item.plan.pods):
        for group in pod.groups:
            for rejected in group.rejected:
                reason = WaitReason.FLAVOR_UNKNOWN if rejected.unknown else WaitReason.FLAVOR_MISMATCH
                facts = {"pod_set": pod.name, "flavor": rejected.flavor}
                waits.append(Wait(reason, f"{rejected.sentence[0].upper()}{rejected.sentence[1:]}.", facts))
            for option in group.options:
                found, lacking = _flavor(engine, item, at, pod, option)
                waits += found
                numbers |= lacking
    if victims:
        waits.append(_preempting(victims))
        remedies.append("It runs when those are gone who were told to go.")
    elif numbers:
        waits.append(_no_victims(engine, item, numbers))
        remedies += _ends(engine, item, numbers)
    remedies += _raises(engine, item, waits)
    return waits, remedies


def _flavor(engine: Engine, item: Item, at: int, pod: PodPlan, option: Option) -> tuple[list[Wait], set[int]]:
    """Return what a pod set lacks in one flavor, by itself; and the numbers of what others hold of it."""
    queue, found, numbers = item.queue, [], set()
    for (number, once, per_pod), resource in zip(option.asks, option.resources, strict=True):
        amount = once + per_pod * pod.count
        facts: dict[str, Any] = {
            "pod_set": pod.name,
            "flavor": option.flavor,
            "resource": resource,
            "requested": amount,
        }
        capacity, available = queue.capacity(number), queue.available(number)
        over = next((barred for account in item.accounts if (barred := account.lacks_of(number, amount))), None)
        if over is not None:
            wait = _over(over)
            found.append(Wait(wait.reason, wait.sentence, {**facts, **wait.facts, "remedy": _raise_budget(over)}))
        elif amount > capacity:
            sentence = (
                f"{_amount(amount)} {resource} of flavor {option.flavor} are asked for, and queue {queue.name} can never have"
                f" more than {_amount(capacity)}."
            )
            found.append(Wait(WaitReason.ABOVE_CAPACITY, sentence, {**facts, "capacity": capacity}))
        elif amount > available:
            users = _users(item, number)
            held = ", ".join(f"{user.key} ({_amount(held)})" for user, held in users[:_NAMED])
            sentence = (
                f"{_amount(amount)} {resource} of flavor {option.flavor} are asked for and {_amount(max(0, available))} are free"
                f" to queue {queue.name}: {_amount(amount - available)} are lacking"
                + (f"; held by {held}{' and others' if len(users) > _NAMED else ''}." if held else ".")
            )
            facts |= {"available": available, "lacking": amount - available, "nominal": queue.nominal[number]}
            facts["holders"] = [{"key": user.key, "queue": user.queue.name, "amount": held} for user, held in users]
            found.append(Wait(WaitReason.QUOTA_USED, sentence, facts))
            numbers.add(number)
    if not found and not engine.assigner.placeable(item, option, at, pod.count):
        device = option.device
        what = (device.profile if device else "") or "device"
        each = device.count if device else 1
        sentence = (
            f"There is no place in pool {option.pool} for {each * pod.count} x {what}"
            + (f", {each} together on one node" if each > 1 else "")
            + ": the quota would do, but what is free lies apart or is taken."
        )
        facts = {"pod_set": pod.name, "flavor": option.flavor, "pool": option.pool, "profile": what, "per_pod": each}
        found.append(Wait(WaitReason.NO_PLACEMENT, sentence, {**facts, "pods": pod.count}))
        numbers.update(number for number, _, _ in option.asks)
    return found, numbers


def _users(item: Item, number: int) -> list[tuple[Item, int]]:
    """Return who holds some of it in the queue's tree, whoever holds the most first."""
    root = item.queue.root()
    queues = [item.queue] if root is item.queue else list(queues_below(root))
    found = [
        (other, amount)
        for queue in queues
        for other in queue.admitted.values()
        for held, amount in other.usage
        if held == number and amount
    ]
    return sorted(found, key=lambda each: (-each[1], each[0].key))


def _preempting(victims: list[Victim]) -> Wait:
    named = ", ".join(f"{victim.key} ({reason.value})" for victim, reason in victims[:_NAMED])
    sentence = f"{_workloads(len(victims))} give way for it: {named}{' and others' if len(victims) > _NAMED else ''}."
    facts = {
        "victims": [{"key": victim.key, "queue": victim.queue.name, "reason": reason} for victim, reason in victims]
    }
    return Wait(WaitReason.PREEMPTING, sentence, facts)


def _no_victims(engine: Engine, item: Item, numbers: set[int]) -> Wait:
    """Return why nobody gives way."""
    queue, policy = item.queue, item.queue.spec.preemption
    reasons = []
    own = [other for other in queue.admitted.values() if uses(other, numbers)]
    if policy.within_cluster_queue is PreemptionPolicy.NEVER:
        reasons.append("its queue preempts none of its own")
    elif not any(may_preempt(item, other, policy.within_cluster_queue) for other in own):
        reasons.append(f"nobody in its queue has a lower priority than {item.priority}")
    else:
        reasons.append("what may be preempted in its queue does not suffice")
    if queue.parent is None:
        reasons.append("it shares with no cohort")
    elif policy.reclaim_within_cohort is PreemptionPolicy.NEVER:
        reasons.append("its queue reclaims nothing from its cohort")
    else:
        others = [each for each in queues_below(queue.root()) if each is not queue and not each.within(numbers)]
        reasons.append(
            "what others borrow may not be reclaimed, or does not suffice"
            if others
            else "no other queue uses more than its own"
        )
    facts = {
        "within_cluster_queue": policy.within_cluster_queue,
        "reclaim_within_cohort": policy.reclaim_within_cohort,
        "priority": item.priority,
        "fair_sharing": bool(engine.fair),
    }
    return Wait(WaitReason.NO_VICTIMS, f"Nobody gives way: {'; '.join(reasons)}.", facts)


def _ends(engine: Engine, item: Item, numbers: set[int]) -> list[str]:
    """Return whose end would let it run: one that would do alone, else the fewest of the first that would."""
    holders = list({other.key: other for number in sorted(numbers) for other, _ in _users(item, number)}.values())[
        :_TRIED
    ]
    for other in reversed(holders):  # the smallest that would do
        if _fits_without(engine, item, [other]):
            return [f"It would run when {other.key} ends."]
    gone: list[Item] = []
    for other in holders:
        gone.append(other)
        if _fits_without(engine, item, gone):
            return (
                [f"It would run when {', '.join(each.key for each in gone)} end."]
                if len(gone) <= _NAMED
                else [f"It would run when {_workloads(len(gone))} end."]
            )
    return []


def _fits_without(engine: Engine, item: Item, gone: list[Item]) -> bool:
    for other in gone:
        other.vacate()
    fits = engine.assigner.assign(item).mode is Mode.FIT
    for other in reversed(gone):
        other.occupy()
    return fits


def _raises(engine: Engine, item: Item, waits: list[Wait]) -> list[str]:
    found = []
    for wait in waits:
        facts = wait.facts
        if wait.reason is WaitReason.ABOVE_CAPACITY:
            more = facts["requested"] - facts["capacity"]
            found.append(
                f"Ask for less, or give queue {item.queue.name} or its cohort {_amount(more)} more {facts['resource']} of"
                f" flavor {facts['flavor']}."
            )
        elif wait.reason is WaitReason.OVER_QUOTA:
            found.append(facts["remedy"])
        elif wait.reason is WaitReason.QUOTA_USED:
            found.append(
                f"It would run with {_amount(facts['lacking'])} more {facts['resource']} of flavor {facts['flavor']}."
            )
    return found


def _workloads(count: int) -> str:
    return "1 workload" if count == 1 else f"{count} workloads"


def _amount(thousandths: int) -> str:
    whole, rest = divmod(thousandths, UNIT)
    return str(whole) if not rest else f"{thousandths / UNIT:.3f}".rstrip("0")
