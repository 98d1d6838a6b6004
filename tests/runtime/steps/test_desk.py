"""What a worker has in hand, and what of it is wanted no more."""

import pytest

from modelops.domains.pipelines.schemas import StepTask
from modelops.runtime.steps.desk import Desk


def task(attempt):
    return StepTask(
        id="s",
        key="s",
        attempt=attempt,
        function="m:f",
        inputs={},
        references={},
        outputs={},
        timeout_s=None,
        resources={},
        idempotency_key="k",
        lease_s=1,
    )


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_an_order_to_stop_an_attempt_says_nothing_of_the_next(desk):
    desk.take(task(1))
    attempts, _ = desk.roll()
    second = desk.take(task(2))
    desk.offer(second)
    desk.stop(attempts)
    assert desk.begin() is second
    assert not desk.is_stopped(second)
    desk.stop([("s", 2)])
    assert desk.is_stopped(second)


def test_what_is_stopped_before_it_began_never_begins(desk):
    desk.offer(desk.take(task(1)))
    desk.stop([("s", 1)])
    assert desk.begin() is None
    assert desk.roll() == ([], [])


def offered(desk, count):
    for number in range(count):
        desk.offer(desk.take(task(1).model_copy(update={"id": f"s{number}"})))


def ended(desk, **said):
    held = desk.begin()
    desk.finish(held, {"outputs": {}} | said)
    return held


def test_ends_of_quick_steps_are_told_together_when_nothing_is_left_to_begin(desk):
    desk.pace.note(0.001)
    offered(desk, 5)
    first = [ended(desk) for _ in range(5)]
    assert desk.wait_for_ended() == (first, desk.pace.most)


def test_of_several_reports_one_asks_for_more(desk):
    desk.pace.note(0.001)
    offered(desk, 1)
    ended(desk)
    assert desk.wait_for_ended()[1] > 0
    offered(desk, 1)
    ended(desk)
    assert desk.wait_for_ended()[1] == 0
    desk.asked()
    offered(desk, 1)
    ended(desk)
    assert desk.wait_for_ended()[1] > 0


def test_what_takes_its_time_to_be_sent_goes_alone_and_asks_for_nothing(desk):
    offered(desk, 2)
    large = ended(desk, outputs={"result": {"path": "x"}})
    small = ended(desk)
    assert desk.wait_for_ended() == ([large], 0)
    assert desk.wait_for_ended() == ([small], 1)


def test_a_report_holds_so_much_and_no_more(desk):
    desk.pace.note(0.001)
    offered(desk, 200)
    while held := desk.begin():
        desk.finish(held, {"outputs": {"result": {"content": "x" * 16_000}}})
    batches = []
    while sum(map(len, batches)) < 200:
        batches.append(desk.wait_for_ended()[0])
    assert max(map(len, batches)) <= 64
    assert max(sum(held.characters for held in batch) for batch in batches) <= 1024**2
