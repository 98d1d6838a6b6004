"""What always holds, in worlds made at random in which workloads come and go."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domains.compute.allocator.worlds import workload, world

from modelops.domains.compute.allocator.assigning import Mode
from modelops.domains.compute.allocator.checking import violations
from modelops.domains.compute.allocator.engine import Engine, decide
from modelops.domains.compute.allocator.model import Budget, PreemptionPolicy, ResourceGroup, Workload
from modelops.domains.compute.allocator.nominating import find

randoms = st.integers(0, 2**32).map(Random)
ROUNDS = 60


def apply(engine):
    """Let those go who were told to, and wait again; return how many they were."""
    going = [item for item in engine.items.values() if item.evicted]
    for item in going:
        engine.release(item.key)
        engine.submit(item.workload)
    return len(going)


def churn(random, engine, snapshot, steps, check=lambda: None):
    for step in range(steps):
        for _ in range(random.randint(2, 7)):
            work = workload(random, snapshot, f"w{step}-{random.randrange(10**9)}", float(step))
            engine.submit(work)
        engine.settle(float(step))
        check()
        if random.random() < 0.8:
            apply(engine)
        holding = sorted(key for key, item in engine.items.items() if item.admitted_at is not None)
        for key in random.sample(holding, random.randint(0, len(holding) // 2)):
            engine.release(key)
        engine.settle(step + 0.5)
        check()


def state(engine):
    """Usage, and what lies where: for comparison. Numbers of flavors' resources may differ from engine to engine."""
    names = engine.resources.names
    nodes = [*engine.queues.values(), *engine.cohorts.values()]
    used = {(node.name, names[at]): each for node in nodes for at, each in enumerate(node.used) if each}
    return used, {name: list(bay.taken) for name, bay in engine.bays.items()}


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize("devices", [False, True])
@settings(max_examples=60, deadline=None)
@given(random=randoms)
def test_no_quota_is_exceeded_and_no_shares_overlap(random, devices, fair):
    snapshot = world(random, devices=devices, fair=fair)
    engine = Engine(snapshot)

    def check():
        assert violations(engine.snapshot()) == []
        assert state(engine) == state(Engine(engine.snapshot())), "kept up to date as if reckoned anew"

    churn(random, engine, snapshot, 6, check)


@pytest.mark.parametrize("fair", [False, True])
@settings(max_examples=100, deadline=None)
@given(random=randoms)
def test_victims_are_enough_and_none_too_many(random, fair):
    snapshot = world(random, devices=random.random() < 0.5, fair=fair)
    engine = Engine(snapshot)
    churn(random, engine, snapshot, 4)
    for item in [each for each in engine.items.values() if each.admitted_at is None]:
        before = state(engine)
        outcome, victims = find(engine, item)
        assert state(engine) == before
        if outcome.mode is not Mode.PREEMPT or not victims:
            continue
        demand = engine.assigner.demand(item, outcome)
        for victim, _ in victims:
            victim.vacate()
        assert demand.fits(True)
        for victim, _ in victims:
            victim.occupy()
            assert not demand.fits(fair)
            victim.vacate()
        for victim, _ in victims:
            victim.occupy()
        assert len({victim.key for victim, _ in victims}) == len(victims)


@pytest.mark.parametrize("fair", [False, True])
@settings(max_examples=60, deadline=None)
@given(random=randoms)
def test_preemption_comes_to_an_end_and_a_second_pass_changes_nothing(random, fair):
    snapshot = world(random, devices=random.random() < 0.3, fair=fair)
    engine = Engine(snapshot)
    churn(random, engine, snapshot, 4)
    for at in range(ROUNDS):
        engine.settle(100.0 + at)
        if not apply(engine):
            break
    else:
        pytest.fail("they displace each other without end")
    again = engine.settle(1000.0)
    assert not again.admitted
    assert not again.evicted


@settings(max_examples=60, deadline=None)
@given(random=randoms)
def test_a_budget_lowered_below_what_is_held_admits_nothing_and_ends_nothing(random):
    snapshot = world(random, devices=random.random() < 0.3, fair=random.random() < 0.5)
    engine = Engine(snapshot)
    churn(random, engine, snapshot, 3)
    now = engine.snapshot()
    if not now.admitted:
        return
    lowered = Budget("lowered", {(None, "jobs"): random.randrange(len(now.admitted)) * 1000})
    queues = tuple(replace(each, budgets=(*each.budgets, "lowered")) for each in now.local_queues)
    found = decide(replace(now, budgets=(*now.budgets, lowered), local_queues=queues), 50.0)
    assert found.admitted == found.evicted == ()


@settings(max_examples=60, deadline=None)
@given(random=randoms)
def test_a_snapshot_gives_the_same_decisions_in_whatever_order_it_is_told(random):
    snapshot = world(random, devices=random.random() < 0.5, fair=random.random() < 0.5)
    engine = Engine(snapshot)
    churn(random, engine, snapshot, 3)
    now = engine.snapshot()

    def shuffled(things):
        return tuple(random.sample(things, len(things)))

    other = replace(now, pending=shuffled(now.pending), admitted=shuffled(now.admitted), cohorts=shuffled(now.cohorts))
    other = replace(other, cluster_queues=shuffled(now.cluster_queues), flavors=shuffled(now.flavors))
    first, second = decide(now, 9.0), decide(other, 9.0)
    assert set(map(repr, first.admitted)) == set(map(repr, second.admitted))
    assert set(first.evicted) == set(second.evicted)


@settings(max_examples=100, deadline=None)
@given(random=randoms)
def test_what_is_lent_can_be_had_back(random):
    """A queue that reclaims from any gets its own quota, whatever others hold, where nobody but it waits."""
    snapshot = world(random)
    queues = tuple(
        replace(
            each,
            groups=tuple(ResourceGroup(group.covered, group.flavors[:1]) for group in each.groups),
            preemption=replace(each.preemption, reclaim_within_cohort=PreemptionPolicy.ANY),
        )
        for each in snapshot.cluster_queues
    )
    snapshot = replace(snapshot, cluster_queues=queues, local_queues=())
    engine = Engine(snapshot)
    churn(random, engine, snapshot, 4)
    chosen = random.choice(queues)
    for key, item in list(engine.items.items()):
        if item.admitted_at is None or item.queue.name == chosen.name:
            engine.withdraw(key)
    flavor = chosen.groups[0].flavors[0]
    free = {name: quota.nominal for name, quota in flavor.resources.items() if quota.nominal}
    work = Workload(
        "mine", chosen.name, (replace(workload(random, snapshot, "x", 0.0).pod_sets[0], count=1, min_count=None),)
    )
    pods = replace(work.pod_sets[0], requests=free, once={}, node_selector={}, tolerations=(), device=None)
    taints = {each.name: each.taints for each in snapshot.flavors}
    if taints[flavor.flavor] or not free:
        return
    engine.submit(replace(work, pod_sets=(pods,)))
    for at in range(ROUNDS):
        engine.settle(100.0 + at)
        for item in [item for item in engine.items.values() if item.evicted]:
            engine.release(item.key)
        if engine.items["mine"].admitted_at is not None:
            return
    pytest.fail("it does not get what is its own")
