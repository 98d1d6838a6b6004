"""The outbox: what was committed is delivered, in order per subject, and counted once."""

import pytest

from modelops.kernel import leases, outbox
from modelops.kernel.tables import EventRow
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def place(tmp_path, clock):
    with running_platform(tmp_path / "home", clock=clock) as platform:
        yield platform.place


def lease_of(place):
    with place.work() as ctx:
        return leases.acquire(ctx.session, place.clock, "outbox", "test", 3600)


def emit(place, *facts):
    with place.work() as ctx:
        for subject, number in facts:
            ctx.emit("modelops.test.happened", subject, number=number)


def handlers(*functions):
    return {"modelops.test.happened": [(function.__name__, function) for function in functions]}


def test_events_arrive_in_order_and_once(place):
    seen = []

    def remember(ctx, event):
        seen.append((event.subject, event.data["number"]))

    facts = [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    emit(place, *facts)
    lease = lease_of(place)
    while outbox.dispatch(place, handlers(remember), lease):
        pass
    assert seen == facts


def test_what_was_rolled_back_never_happened(place):
    def fail():
        with place.work() as ctx:
            ctx.emit("modelops.test.happened", "a", number=1)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail()
    assert outbox.dispatch(place, handlers(), lease_of(place)) == 0


def test_a_failing_subject_waits_and_the_others_go_on(place, clock):
    seen, broken = [], {"a"}

    def remember(ctx, event):
        if event.subject in broken:
            raise RuntimeError("not now")
        seen.append((event.subject, event.data["number"]))

    emit(place, ("a", 1), ("b", 1), ("a", 2))
    lease = lease_of(place)
    outbox.dispatch(place, handlers(remember), lease)
    assert seen == [("b", 1)]
    broken.clear()
    clock.advance(1)
    while outbox.dispatch(place, handlers(remember), lease):
        pass
    assert seen == [("b", 1), ("a", 1), ("a", 2)]


def test_a_handler_that_succeeded_is_not_run_again_beside_one_that_failed(place, clock):
    calls = {"good": 0, "bad": 0}

    def good(ctx, event):
        calls["good"] += 1

    def bad(ctx, event):
        calls["bad"] += 1
        if calls["bad"] < 3:
            raise RuntimeError("not yet")

    emit(place, ("a", 1))
    lease = lease_of(place)
    for _ in range(5):
        outbox.dispatch(place, handlers(good, bad), lease)
        clock.advance(60)
    assert calls == {"good": 1, "bad": 3}


def test_an_effect_and_its_receipt_are_one_transaction(place, clock):
    def write_then_fail(ctx, event):
        ctx.emit("modelops.test.effect", "effect")
        raise RuntimeError("after the effect")

    emit(place, ("a", 1))
    outbox.dispatch(place, handlers(write_then_fail), lease_of(place))
    with place.work(write=False) as ctx:
        assert ctx.session.query(EventRow).filter_by(type="modelops.test.effect").count() == 0


def test_a_hopeless_event_is_given_up_and_kept(place, clock):
    def hopeless(ctx, event):
        raise RuntimeError("never")

    emit(place, ("a", 1))
    lease = lease_of(place)
    for _ in range(outbox.GIVE_UP_AFTER):
        outbox.dispatch(place, handlers(hopeless), lease)
        clock.advance(600)
    with place.work(write=False) as ctx:
        assert outbox.given_up(ctx.session) == 1


def test_a_dispatcher_that_lost_its_lease_settles_nothing(place, clock):
    emit(place, ("a", 1))
    old = lease_of(place)
    clock.advance(7200)
    with place.work() as ctx:
        leases.acquire(ctx.session, clock, "outbox", "other", 3600)
    with pytest.raises(leases.LeaseLost):
        outbox.dispatch(place, handlers(), old)


def test_old_events_are_forgotten_and_the_stream_goes_on(place, clock):
    emit(place, ("a", 1))
    lease = lease_of(place)
    outbox.dispatch(place, handlers(), lease)
    clock.advance(10)
    emit(place, ("a", 2))
    outbox.dispatch(place, handlers(), lease)
    with place.work() as ctx:
        assert outbox.forget(ctx.session, clock, 5) == 1


def test_positions_are_counted_on_where_all_events_are_old(place, clock):
    emit(place, ("a", 1), ("a", 2))
    lease = lease_of(place)
    outbox.dispatch(place, handlers(), lease)
    clock.advance(10)
    with place.work() as ctx:
        assert outbox.newest(ctx.session) == 2
        outbox.forget(ctx.session, clock, 5)
    emit(place, ("a", 3))
    outbox.dispatch(place, handlers(), lease)
    with place.work(write=False) as ctx:
        assert outbox.newest(ctx.session) == 3
