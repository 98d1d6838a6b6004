"""Leases: one holder at a time, and a token that fences the one before."""

import threading
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops.kernel import leases
from modelops.kernel.reconciler import Holdings, Tenure
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform


def take(platform, clock, holder, ttl=10):
    with platform.place.work() as ctx:
        return leases.acquire(ctx.session, clock, "x", holder, ttl)


def test_a_second_holder_waits_until_the_lease_runs_out(platform):
    clock = VirtualClock()
    first = take(platform, clock, "a")
    assert take(platform, clock, "b") is None
    clock.advance(11)
    second = take(platform, clock, "b")
    assert second is not None
    assert second.token > first.token
    with platform.place.work() as ctx, pytest.raises(leases.LeaseLost):
        leases.guard(ctx.session, first)
    with platform.place.work() as ctx:
        leases.guard(ctx.session, second)


def test_renewal_keeps_the_token_and_a_lapse_grows_it(platform):
    clock = VirtualClock()
    first = take(platform, clock, "a")
    clock.advance(5)
    assert take(platform, clock, "a").token == first.token
    clock.advance(11)
    assert take(platform, clock, "a").token == first.token + 1


def test_of_several_those_are_renewed_that_are_held_still(platform):
    clock = VirtualClock()

    def ask(name, holder, ttl):
        with platform.place.work() as ctx:
            return leases.acquire(ctx.session, clock, name, holder, ttl)

    mine, lapsed, other = ask("mine", "a", 10), ask("lapsed", "a", 3), ask("other", "b", 10)
    clock.advance(5)
    with platform.place.work() as ctx:
        renewed = leases.renew(ctx.session, clock, ["mine", "lapsed", "other", "none"], "a", 10)
    assert renewed == {"mine"}
    clock.advance(7)
    assert ask("mine", "b", 10) is None
    assert ask("mine", "a", 10).token == mine.token
    assert ask("lapsed", "b", 10).token == lapsed.token + 1
    assert ask("other", "a", 10).token == other.token + 1


def test_a_controller_renews_its_leases_together_and_notices_the_one_it_lost(sqlite_platform):
    place = sqlite_platform.place
    clock = VirtualClock()
    place = replace(place, clock=clock, settings=place.settings.model_copy(update={"lease_ttl_s": 15.0}))
    holdings = Holdings(place, "a")
    tenures = [Tenure(holdings, name) for name in ("one", "two", "three")]
    first = [tenure.hold() for tenure in tenures]
    for _ in range(10):
        clock.advance(5)
        assert [tenure.hold() for tenure in tenures] == first
    tenures[1].release()
    with place.work() as ctx:
        assert leases.acquire(ctx.session, clock, "two", "b", 60) is not None
    clock.advance(5)
    assert [tenure.hold() for tenure in tenures] == [first[0], None, first[2]]


def test_a_released_lease_is_free_at_once(platform):
    clock = VirtualClock()
    lease = take(platform, clock, "a")
    leases.release(platform.place.database, clock, lease)
    assert take(platform, clock, "b").token == lease.token + 1


def test_of_many_that_ask_at_once_one_gets_it(platform):
    clock = VirtualClock()
    won, barrier = [], threading.Barrier(8)

    def ask(name):
        barrier.wait()
        lease = take(platform, clock, name)
        if lease is not None:
            won.append(lease)

    threads = [threading.Thread(target=ask, args=(f"h{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 15)), max_size=12))
def test_tokens_never_repeat_between_holders(tmp_path_factory, steps):
    with running_platform(tmp_path_factory.mktemp("lease") / "home") as platform:
        clock = VirtualClock()
        owner_of: dict[int, str] = {}
        for holder, pause in steps:
            clock.advance(pause)
            lease = take(platform, clock, holder)
            if lease is not None:
                assert owner_of.setdefault(lease.token, holder) == holder
