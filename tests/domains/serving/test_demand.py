"""How many replicas a load needs, over every course of it that can be thought of."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelops.domains.serving.policies.autoscaling import Autoscaling
from modelops.domains.serving.policies.demand import GAP_S, TOLERANCE, Demand, Sample

TICK_S = 0.5

loads = st.floats(0, 500, allow_nan=False)
waits = st.none() | st.floats(0, 5_000, allow_nan=False)


@st.composite
def policies(draw, **fixed):
    low = draw(st.integers(0, 8))
    return Autoscaling(
        **{
            "min_replicas": low,
            "max_replicas": draw(st.integers(max(1, low), 20)),
            "target_inflight": draw(st.floats(0.5, 20)),
            "target_queue_wait_ms": draw(st.none() | st.floats(1, 1_000)),
            "scale_up_window_s": draw(st.floats(0, 5)),
            "scale_down_window_s": draw(st.floats(0, 20)),
            "idle_s": draw(st.floats(0.5, 20)),
        }
        | fixed
    )


@st.composite
def samples(draw):
    """A course of looks: loads, waits, replicas that do not answer, and pauses."""
    at, found = 0.0, []
    for _ in range(draw(st.integers(1, 25))):
        at += draw(st.sampled_from([TICK_S, 1.0, 5.0, 3 * GAP_S]))
        wanted = draw(st.integers(0, 20))
        answered = draw(st.integers(0, wanted))
        found.append(Sample(at, wanted, answered, draw(loads) if answered else 0.0, draw(waits), draw(st.booleans())))
    return found


def follow(policy, load, ticks, *, replicas=1, wait_ms=lambda replicas: None):
    """Run a deployment whose replicas all work at once; return how many there were at each tick."""
    demand, course = Demand(), []
    for tick in range(ticks):
        sample = Sample(tick * TICK_S, replicas, replicas, load, wait_ms(replicas), asked=load > 0)
        replicas = demand.decide(policy, sample).replicas
        course.append(replicas)
    return course


def settled(policy):
    """Ticks after which nothing of the beginning matters any more."""
    return int((policy.scale_up_window_s + policy.scale_down_window_s + policy.idle_s) / TICK_S) + 12


@given(policies(), samples())
def test_bounds_hold_whatever_is_seen(policy, course):
    demand = Demand()
    for sample in course:
        decision = demand.decide(policy, sample)
        assert policy.min_replicas <= decision.replicas <= policy.max_replicas
        assert decision.why


@given(policies(), samples())
def test_it_is_never_scaled_down_while_a_replica_is_silent(policy, course):
    demand = Demand()
    for sample in course:
        decision = demand.decide(policy, sample)
        if sample.answered < sample.wanted <= policy.max_replicas:
            assert decision.replicas >= sample.wanted


@given(policies(), samples())
def test_a_step_doubles_at_most(policy, course):
    demand = Demand()
    for sample in course:
        most = max(2 * sample.answered, 2, sample.wanted, policy.min_replicas)
        assert demand.decide(policy, sample).replicas <= most


@given(policies(), loads, st.integers(1, 20))
def test_a_constant_load_is_met_and_does_not_flap(policy, load, start):
    assume(policy.min_replicas <= start <= policy.max_replicas)
    first = settled(policy)
    course = follow(policy, load, 2 * first, replicas=start)
    assert len(set(course[first:])) == 1
    replicas = course[-1]
    assert replicas == policy.max_replicas or load <= replicas * policy.target_inflight * (1 + TOLERANCE) + 1e-6
    enough = math.ceil(load / policy.target_inflight / (1 - TOLERANCE)) + 1
    assert replicas <= max(enough, policy.min_replicas, 1)


@given(policies(target_queue_wait_ms=50.0, target_inflight=1_000.0), st.floats(1, 2_000))
def test_waiting_that_is_shared_out_does_not_flap(policy, work_ms):
    first = settled(policy)
    course = follow(policy, 1.0, 2 * first, replicas=policy.bound(1), wait_ms=lambda replicas: work_ms / replicas)
    assert len(set(course[first:])) == 1
    replicas = course[-1]
    assert replicas == policy.max_replicas or work_ms / replicas <= 50.0 * (1 + TOLERANCE) + 1e-6


@given(policies(), samples(), st.data())
def test_more_load_never_means_fewer(policy, course, data):
    calm, busy = Demand(), Demand()
    for sample in course:
        more = sample.inflight + data.draw(st.floats(0, 100)) if sample.answered else sample.inflight
        worse = None if sample.wait_ms is None else sample.wait_ms + data.draw(st.floats(0, 1_000))
        fewer = calm.decide(policy, sample).replicas
        assert busy.decide(policy, replace(sample, inflight=more, wait_ms=worse)).replicas >= fewer


class TestZero:
    policy = Autoscaling(min_replicas=0, max_replicas=4, idle_s=5.0, scale_down_window_s=1.0)

    def test_it_ends_once_nobody_asked_for_so_long(self):
        course = follow(self.policy, 0.0, 30, replicas=3)
        assert course.index(0) == 10
        assert 1 in course[:10]

    def test_not_with_one_replica_at_least(self):
        assert follow(self.policy.model_copy(update={"min_replicas": 1}), 0.0, 60)[-1] == 1

    @pytest.mark.parametrize(
        "sign", [{"asked": True}, {"inflight": 1.0}, {"answered": 0}], ids=["asked", "at work", "silent"]
    )
    def test_any_sign_of_life_starts_the_time_again(self, sign):
        demand, quiet = Demand(), Sample(0.0, 1, 1, 0.0)
        for tick in range(9):
            assert demand.decide(self.policy, replace(quiet, at=tick * TICK_S)).replicas == 1
        demand.decide(self.policy, replace(quiet, at=4.5, **sign))
        for tick in range(10, 20):
            assert demand.decide(self.policy, replace(quiet, at=tick * TICK_S)).replicas == 1
        assert demand.decide(self.policy, replace(quiet, at=10.0)).replicas == 0

    def test_whoever_did_not_look_does_not_know_that_nobody_asked(self):
        demand, quiet = Demand(), Sample(0.0, 1, 1, 0.0)
        demand.decide(self.policy, quiet)
        assert demand.decide(self.policy, replace(quiet, at=60.0)).replicas == 1


def test_it_scales_down_only_after_the_whole_window():
    policy = Autoscaling(min_replicas=1, max_replicas=8, target_inflight=1, scale_up_window_s=0, scale_down_window_s=10)
    demand = Demand()
    for tick in range(8):
        demand.decide(policy, Sample(tick * TICK_S, 8, 8, 8.0))
    course = [demand.decide(policy, Sample(4 + tick * TICK_S, 8, 8, 2.0)).replicas for tick in range(40)]
    assert course[:20] == [8] * 20
    assert course[-1] == 2


def test_a_burst_goes_up_by_doubling():
    policy = Autoscaling(min_replicas=1, max_replicas=16, target_inflight=1, scale_up_window_s=0)
    assert follow(policy, 100.0, 6) == [2, 4, 8, 16, 16, 16]
