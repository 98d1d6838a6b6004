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
