"""Admission by the engine: order, borrowing, flavors, parts, what is stopped, and what waits for what."""

from dataclasses import replace

import pytest

from modelops.domains.compute.allocator.checking import violations
from modelops.domains.compute.allocator.decisions import EvictionReason, WaitReason
from modelops.domains.compute.allocator.engine import Engine, decide
from modelops.domains.compute.allocator.explaining import why
from modelops.domains.compute.allocator.model import (
    Budget,
    ClusterQueue,
    Cohort,
    Device,
    DeviceRequest,
    FairStrategy,
    FlavorFungibility,
    FlavorQuotas,
    LocalQueue,
    PodSet,
    Pool,
    PoolMode,
    Preemption,
    PreemptionPolicy,
    QueueingStrategy,
    Quota,
    ResourceFlavor,
    ResourceGroup,
    Snapshot,
    StopPolicy,
    Taint,
    WhenCanBorrow,
    Workload,
)


def queue(name, cpu=4, cohort="all", borrowing=None, lending=None, flavors=("f",), **more):
    limits = [None if each is None else each * 1000 for each in (borrowing, lending)]
    quotas = tuple(FlavorQuotas(flavor, {"cpu": Quota(cpu * 1000, *limits)}) for flavor in flavors)
    return ClusterQueue(name, (ResourceGroup(("cpu",), quotas),), cohort, **more)


def work(key, of, cpu=1, priority=0, at=0.0, count=1, **more):
    return Workload(key, of, (PodSet("main", count, {"cpu": cpu * 1000}, **more),), priority, at)


def engine(*queues, pending=(), **more):
    flavors = more.pop("flavors", (ResourceFlavor("f"), ResourceFlavor("g")))
    return Engine(Snapshot(flavors, queues, pending=pending, **more))


def keys(found):
    return [each.key for each in found]


RECLAIM = Preemption(PreemptionPolicy.LOWER_PRIORITY, PreemptionPolicy.ANY)


def test_highest_priority_first_then_the_oldest():
    e = engine(
        queue("q"), pending=[work("young", "q", 2, at=2), work("old", "q", 2, at=1), work("high", "q", 2, 1, at=9)]
    )
    assert set(keys(e.settle(10.0).admitted)) == {"high", "old"}


def test_who_does_not_borrow_goes_before_who_does():
    e = engine(queue("a", 1), queue("b", 3), pending=[work("a1", "a", 2, 9), work("b1", "b", 3)])
    assert keys(e.settle(0.0).admitted) == ["b1"]


def test_nobody_borrows_beyond_the_limit_nor_what_is_not_lent():
    e = engine(queue("a", 2, borrowing=1), queue("b", 4), pending=[work("a1", "a", 4), work("a2", "a", 3)])
    assert keys(e.settle(0.0).admitted) == ["a2"]
    e = engine(queue("a", 2), queue("b", 4, lending=1), pending=[work("a1", "a", 4), work("a2", "a", 3)])
    assert keys(e.settle(0.0).admitted) == ["a2"]


@pytest.mark.parametrize(("strategy", "admitted"), [("StrictFIFO", []), ("BestEffortFIFO", ["small"])])
def test_only_with_best_effort_does_the_small_overtake(strategy, admitted):
    blocking = work("running", "q", 2)
    e = engine(queue("q", 4, None, strategy=QueueingStrategy(strategy)), pending=[blocking])
    e.settle(0.0)
    e.submit(work("big", "q", 4, at=1))
    e.submit(work("small", "q", 1, at=2))
    assert keys(e.settle(3.0).admitted) == admitted
    assert why(e, "big").position == 1


def test_what_waits_is_tried_again_when_what_it_needs_is_given_back():
    e = engine(queue("q", 2, None), pending=[work("first", "q", 2, at=0), work("second", "q", 2, at=1)])
    assert keys(e.settle(0.0).admitted) == ["first"]
    assert keys(e.settle(1.0).admitted) == []
    e.release("first")
    assert keys(e.settle(2.0).admitted) == ["second"]
    with pytest.raises(KeyError):
        e.release("first")


def test_a_workload_is_admitted_with_all_of_its_pod_sets_or_not_at_all():
    pods = (PodSet("leader", 1, {"cpu": 1000}), PodSet("workers", 4, {"cpu": 1000}))
    e = engine(queue("q", 4, None), pending=[Workload("w", "q", pods)])
    assert not e.settle(0.0).admitted
    assert e.queues["q"].used == [0]


def test_fewer_pods_start_where_that_is_allowed():
    e = engine(queue("q", 5, None), pending=[work("w", "q", 1, count=8, min_count=2)])
    (admission,) = e.settle(0.0).admitted
    assert admission.assignments[0].count == 5


def test_the_first_flavor_that_fits_is_taken_unless_it_would_borrow():
    def flavors(when):
        q = queue("q", 2, flavors=("f", "g"), fungibility=FlavorFungibility(when))
        e = engine(q, queue("other", 4, flavors=("f",)), pending=[work("a", "q", 2, at=0), work("b", "q", 2, at=1)])
        return [each.assignments[0].flavors["cpu"] for each in e.settle(2.0).admitted]

    assert flavors(WhenCanBorrow.BORROW) == ["f", "f"]
    assert flavors(WhenCanBorrow.TRY_NEXT_FLAVOR) == ["f", "g"]


def test_flavors_that_do_not_match_are_left_out():
    tainted = ResourceFlavor("f", taints=(Taint("spot"),))
    other = ResourceFlavor("g", {"zone": "west"})
    e = engine(
        queue("q", 2, flavors=("f", "g")),
        pending=[work("w", "q", node_selector={"zone": "east"})],
        flavors=(tainted, other),
    )
    assert not e.settle(0.0).admitted
    told = why(e, "w")
    assert [wait.reason for wait in told.waits] == [WaitReason.FLAVOR_MISMATCH, WaitReason.FLAVOR_MISMATCH]
    assert "spot" in told.waits[0].sentence
    assert "zone=east" in told.waits[1].sentence


def test_what_was_lent_is_taken_back_and_the_preemptor_runs_when_it_is_gone():
    e = engine(queue("a", 2, preemption=RECLAIM), queue("b", 2), pending=[work("b1", "b", 2), work("b2", "b", 2, at=1)])
    e.settle(0.0)
    e.submit(work("a1", "a", 2, at=2))
    found = e.settle(2.0)
    assert not found.admitted
    (eviction,) = found.evicted
    assert (eviction.reason, eviction.preemptor, eviction.queue) == (EvictionReason.IN_COHORT_RECLAMATION, "a1", "b")
    assert eviction.key == "b2" or eviction.key == "b1"
    assert not e.settle(2.5).evicted, "it is not told twice"
    told = why(e, "a1")
    assert [wait.reason for wait in told.waits] == [WaitReason.QUOTA_USED, WaitReason.PREEMPTING]
    e.release(eviction.key)
    assert keys(e.settle(3.0).admitted) == ["a1"]
    assert violations(e.snapshot()) == []


def test_what_is_freed_for_a_preemptor_is_not_taken_by_others_meanwhile():
    e = engine(queue("a", 4, preemption=RECLAIM), queue("b", 0), pending=[work("b1", "b", 3)])
    e.settle(0.0)
    e.submit(work("a1", "a", 4, at=1))
    e.submit(work("b2", "b", 1, at=0))
    found = e.settle(2.0)
    assert keys(found.evicted) == ["b1"]
    assert not found.admitted


def test_stopped_queues_admit_nothing_and_are_drained():
    e = engine(queue("q"), pending=[work("w", "q")])
    e.settle(0.0)
    held = replace(e.snapshot(), cluster_queues=(queue("q", stop_policy=StopPolicy.HOLD),), pending=(work("x", "q"),))
    assert decide(held, 1.0).admitted == decide(held, 1.0).evicted == ()
    assert [wait.reason for wait in why(Engine(held), "x").waits] == [WaitReason.QUEUE_STOPPED]
    drained = decide(replace(held, cluster_queues=(queue("q", stop_policy=StopPolicy.HOLD_AND_DRAIN),)), 1.0)
    assert [(each.key, each.reason) for each in drained.evicted] == [("w", EvictionReason.STOPPED)]


def test_a_local_queue_holds_no_more_than_its_limit():
    local = LocalQueue("mine", "q", {"cpu": 2000})
    pending = [replace(work(name, "q", 2), local_queue="mine") for name in ("a", "b")]
    e = engine(queue("q", 9), pending=pending, local_queues=(local,))
    assert keys(e.settle(0.0).admitted) == ["a"]
    (wait,) = why(e, "b").waits
    assert (wait.reason, wait.facts["used"], wait.facts["limit"]) == (WaitReason.LOCAL_LIMIT, 2000, 2000)
    e.release("a")
    assert keys(e.settle(1.0).admitted) == ["b"]


def charged(key, of, cpu=1, *, to="mine", **more):
    return replace(work(key, of, cpu, **more), local_queue=to, beside={"jobs": 1000})


def test_a_budget_holds_over_all_queues_that_are_charged_to_it():
    """Two queues without a cohort, two trees: one budget."""
    local = tuple(LocalQueue(f"in-{name}", name, budgets=("ours",)) for name in "ab")
    budgets = (Budget("ours", {(None, "cpu"): 3000, (None, "jobs"): 2000}, "the tenant ours"),)
    pending = [charged("a1", "a", 2, to="in-a"), charged("b1", "b", 2, to="in-b", at=1)]
    pending += [charged("b2", "b", 1, to="in-b", at=2), charged("b3", "b", 1, to="in-b", at=3)]
    queues = [queue(name, 9, None) for name in "ab"]
    e = engine(*queues, pending=pending, local_queues=local, budgets=budgets)
    assert keys(e.settle(4.0).admitted) == ["a1", "b2"]
    (wait,) = why(e, "b1").waits
    assert (wait.reason, wait.facts["used"], wait.facts["limit"]) == (WaitReason.OVER_QUOTA, 3000, 3000)
    assert wait.sentence == "By its quota the tenant ours may hold 3 cpu and holds 3; 2 are asked for."
    assert why(e, "b3").waits[0].facts["resource"] == "cpu"
    e.release("a1")
    assert keys(e.settle(5.0).admitted) == ["b1"], "a place in one tree lets the other go on"
    assert why(e, "b3").waits[0].facts["resource"] == "cpu"
    assert violations(e.snapshot()) == []


def test_a_budget_of_one_flavor_leaves_the_next_to_be_tried():
    local = (LocalQueue("mine", "q", budgets=("ours",)),)
    budgets = (Budget("ours", {("f", "cpu"): 1000}, "the project ours"),)
    pending = [charged(name, "q", 1, at=at) for at, name in enumerate("abcd")]
    e = engine(queue("q", 2, flavors=("f", "g")), pending=pending, local_queues=local, budgets=budgets)
    given = {each.key: each.assignments[0].flavors["cpu"] for each in e.settle(5.0).admitted}
    assert given == {"a": "f", "b": "g", "c": "g"}
    told = why(e, "d")
    assert told.waits[0].reason is WaitReason.OVER_QUOTA
    assert "Raise the quota of the project ours for cpu of flavor f" in str(told.remedies)
    assert violations(e.snapshot()) == []


def test_nobody_gives_way_for_who_is_over_budget_and_he_is_in_nobodys_way():
    local = (LocalQueue("mine", "q", budgets=("ours",)), LocalQueue("yours", "q"))
    budgets = (Budget("ours", {(None, "jobs"): 1000}),)
    own = Preemption(PreemptionPolicy.LOWER_PRIORITY)
    strict = queue("q", 3, None, strategy=QueueingStrategy.STRICT_FIFO, preemption=own)
    e = engine(strict, pending=[charged("a", "q")], local_queues=local, budgets=budgets)
    e.settle(0.0)
    e.submit(charged("b", "q", priority=9, at=1))
    e.submit(charged("c", "q", to="yours", at=2))
    found = e.settle(3.0)
    assert (keys(found.admitted), found.evicted) == (["c"], ())
    e.release("a")
    assert keys(e.settle(4.0).admitted) == ["b"]


def test_a_budget_that_is_lowered_below_what_is_held_ends_nothing_and_admits_nothing():
    local = (LocalQueue("mine", "q", budgets=("ours",)),)
    e = engine(queue("q", 9, None), pending=[charged(name, "q", 2) for name in "abc"], local_queues=local)
    e.settle(0.0)
    waiting = replace(e.snapshot(), pending=(charged("d", "q", 1),))
    for limits in ({(None, "cpu"): 3000}, {(None, "jobs"): 2000}, {("f", "cpu"): 0}):
        found = decide(replace(waiting, budgets=(Budget("ours", limits),)), 1.0)
        assert found.admitted == found.evicted == ()
    assert keys(decide(waiting, 1.0).admitted) == ["d"]


def test_what_a_preemptor_of_a_budget_waits_for_is_not_taken_by_its_fellows():
    """Its place in the budget is kept, as is what its victim leaves."""
    local = (LocalQueue("in-a", "a", budgets=("ours",)), LocalQueue("in-b", "b", budgets=("ours",)))
    budgets = (Budget("ours", {(None, "jobs"): 1000}),)
    e = engine(
        queue("a", 2, preemption=RECLAIM),
        queue("b", 1),
        queue("c", 1),
        pending=[work("c1", "c", 3)],
        local_queues=local,
        budgets=budgets,
    )
    e.settle(0.0)
    e.submit(charged("a1", "a", 2, to="in-a", at=1))
    e.submit(charged("b1", "b", 1, to="in-b", at=2))
    found = e.settle(3.0)
    assert (keys(found.admitted), keys(found.evicted)) == ([], ["c1"])
    e.release("c1")
    assert keys(e.settle(4.0).admitted) == ["a1"]


@pytest.mark.parametrize(
    ("free", "least", "budget", "got"),
    [(8, 2, None, 8), (5, 2, None, 5), (2, 2, None, 2), (1, 2, None, None), (8, 2, 4, 4), (8, 5, 4, None)],
)
def test_as_many_pods_start_as_quota_and_budget_let_but_not_fewer_than_the_least(free, least, budget, got):
    """What is needed once (a CPU) is needed however few they are."""
    q = ClusterQueue(
        "q",
        tuple(ResourceGroup((r,), (FlavorQuotas("f", {r: Quota(n * 1000)}),)) for r, n in (("gpu", free), ("cpu", 1))),
    )
    pods = PodSet("main", 8, {"gpu": 1000}, min_count=least, once={"cpu": 1000})
    local = (LocalQueue("mine", "q", budgets=("ours",)),)
    budgets = (Budget("ours", {(None, "gpu"): budget * 1000}),) if budget else ()
    e = engine(q, pending=[Workload("w", "q", (pods,), local_queue="mine")], local_queues=local, budgets=budgets)
    admitted = e.settle(0.0).admitted
    assert [each.assignments[0].count for each in admitted] == ([] if got is None else [got])
    assert violations(e.snapshot()) == []
    if got:
        assert sorted(amount for _, amount in e.items["w"].usage) == sorted([got * 1000, 1000])


def test_all_pods_by_preemption_come_before_fewer_without():
    """As in Kueue: with fewer pods it is tried only where not even preemption lets all of them in."""
    own = Preemption(PreemptionPolicy.LOWER_PRIORITY)
    e = engine(queue("q", 8, None, preemption=own), pending=[work("low", "q", 4)])
    e.settle(0.0)
    e.submit(work("w", "q", 1, priority=1, count=8, min_count=2, at=1))
    assert keys(e.settle(2.0).evicted) == ["low"]
    e.release("low")
    (admission,) = e.settle(3.0).admitted
    assert admission.assignments[0].count == 8


def test_fewer_pods_start_by_preemption_where_all_cannot():
    own = Preemption(PreemptionPolicy.LOWER_PRIORITY)
    e = engine(queue("q", 6, None, preemption=own), pending=[work("same", "q", 2, priority=1), work("low", "q", 4)])
    e.settle(0.0)
    e.submit(work("w", "q", 1, priority=1, count=6, min_count=2, at=1))
    assert keys(e.settle(2.0).evicted) == ["low"]
    e.release("low")
    (admission,) = e.settle(3.0).admitted
    assert admission.assignments[0].count == 4


def test_fair_sharing_lets_the_poorer_queue_go_first():
    queues = [queue(name, 0) for name in "ab"] + [queue("lender", 6)]
    pending = [work(f"a{n}", "a", 1, at=n) for n in range(6)] + [work(f"b{n}", "b", 1, at=10 + n) for n in range(6)]
    found = engine(*queues, pending=pending, fair_strategies=(FairStrategy.LESS_THAN_OR_EQUAL_TO_FINAL_SHARE,)).settle(
        0.0
    )
    assert sorted(key[0] for key in keys(found.admitted)) == ["a"] * 3 + ["b"] * 3


def test_cohorts_in_a_circle_are_refused():
    with pytest.raises(ValueError, match="x, y"):
        Engine(Snapshot(cohorts=(Cohort("x", "y"), Cohort("y", "x"))))


def test_a_place_is_looked_for_in_the_next_flavor_too():
    def mig(flavor, taken):
        return Pool(f"p{flavor}", flavor, PoolMode.MIG, tuple(Device(f"{flavor}{n}") for n in range(taken)), "A30")

    quotas = tuple(FlavorQuotas(flavor, {"gpu": Quota(8000)}) for flavor in "fg")
    q = ClusterQueue("q", (ResourceGroup(("gpu",), quotas),), preemption=Preemption(PreemptionPolicy.LOWER_PRIORITY))

    def asks(key, profile, at, priority=0):
        shares = int(profile[0]) * 1000
        pods = (PodSet("main", 1, {"gpu": shares}, device=DeviceRequest("gpu", profile)),)
        return Workload(key, "q", pods, priority, at)

    e = engine(q, pools=(mig("f", 1), mig("g", 1)), pending=[asks("a", "1g.6gb", 0), asks("b", "4g.24gb", 1)])
    admitted = {each.key: each for each in e.settle(2.0).admitted}
    assert admitted["a"].placed[0].device == "f0"
    assert admitted["b"].placed[0].device == "g0", "the quota of the first would do, but there is no place"
    e.submit(asks("c", "4g.24gb", 3))
    assert not e.settle(3.0).admitted
    reasons = [wait.reason for wait in why(e, "c").waits]
    assert reasons == [WaitReason.NO_PLACEMENT, WaitReason.NO_PLACEMENT, WaitReason.NO_VICTIMS]
    assert why(e, "c").remedies == ("It would run when a ends.",) or why(e, "c").remedies == (
        "It would run when b ends.",
    )
    e.submit(asks("d", "4g.24gb", 4, priority=1))
    (eviction,) = e.settle(4.0).evicted
    e.release(eviction.key)
    assert keys(e.settle(5.0).admitted) == ["d"]
    assert violations(e.snapshot()) == []


def test_why_tells_what_is_lacking_who_has_it_and_what_would_do():
    e = engine(queue("a", 2), queue("b", 2), pending=[work("b1", "b", 3)])
    e.settle(0.0)
    e.submit(work("a1", "a", 2, at=1))
    e.submit(work("huge", "a", 5, at=2))
    e.settle(3.0)
    told = why(e, "a1")
    lacking, nobody = told.waits
    assert lacking.reason is WaitReason.QUOTA_USED
    assert (lacking.facts["available"], lacking.facts["lacking"]) == (1000, 1000)
    assert lacking.facts["holders"] == [{"key": "b1", "queue": "b", "amount": 3000}]
    assert nobody.reason is WaitReason.NO_VICTIMS
    assert "reclaims nothing" in nobody.sentence
    assert "It would run when b1 ends." in told.remedies
    assert [wait.reason for wait in why(e, "huge").waits] == [WaitReason.ABOVE_CAPACITY]
    assert why(e, "b1").admitted
    e.submit(Workload("lost", "nowhere", ()))
    assert [wait.reason for wait in why(e, "lost").waits] == [WaitReason.QUEUE_UNKNOWN]
    e.submit(Workload("odd", "a", (PodSet("main", 1, {"memory": 1}),)))
    e.settle(4.0)
    assert [wait.reason for wait in why(e, "odd").waits] == [WaitReason.RESOURCE_NOT_COVERED]
