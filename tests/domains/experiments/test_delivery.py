"""The queue between a program and the platform: everything arrives once it is taken, in order, or the end says what did not."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import ExperimentError, MLOpsError, RateLimited, Unauthenticated, Unavailable
from modelops.domains.experiments import delivery as module
from modelops.domains.experiments.delivery import BATCH, Delivery, passes
from modelops.domains.experiments.rules import ParameterChanged, RunEnded
from modelops.domains.experiments.schemas import LogBatch, MetricPoint


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)


def points(count, start=0):
    return [MetricPoint(key="m", value=n, step=n) for n in range(start, start + count)]


class Platform:
    """Takes batches, and fails as the test says, before taking one or after."""

    def __init__(self, failures=()):
        self.taken = []
        self.failures = list(failures)

    def __call__(self, batch):
        failure, after = self.failures.pop(0) if self.failures else (None, False)
        if failure is None or after:
            self.taken.append(batch)
        if failure is not None:
            raise failure

    @property
    def steps(self):
        return [point.step for batch in self.taken for point in batch.metrics]


@given(st.lists(st.sampled_from([None, (Unavailable("away"), False), (Unavailable("lost"), True)]), max_size=12))
def test_whatever_passes_is_waited_out_and_nothing_is_lost(failures):
    platform = Platform([failure or (None, False) for failure in failures])
    delivery = Delivery(platform)
    for start in range(0, 3 * BATCH, 700):
        delivery.add(points(700, start))
    delivery.flush(30)
    assert list(dict.fromkeys(platform.steps)) == list(range(3500))  # what was taken twice is kept once over there


def test_what_was_sent_is_what_leaves_the_queue_whoever_sends():
    platform, gate = Platform(), threading.Event()

    def slow(batch):
        gate.wait(5)
        platform(batch)

    delivery = Delivery(slow)
    delivery.add(points(3 * BATCH))
    background = threading.Thread(target=delivery.send_next)
    background.start()
    flushing = threading.Thread(target=delivery.flush, args=(30,))
    flushing.start()
    gate.set()
    background.join()
    flushing.join()
    assert sorted(platform.steps) == list(range(3 * BATCH))


def test_what_is_added_while_it_flushes_does_not_keep_it():
    delivery = Delivery(lambda batch: delivery.add(points(1)))
    delivery.add(points(1))
    delivery.flush(5)


def test_order_is_kept_and_labels_go_alone():
    platform = Platform()
    delivery = Delivery(platform)
    delivery.add([LogBatch(parameters={"a": 1})])
    delivery.add(points(2))
    delivery.add([LogBatch(tags={"t": "1"})])
    delivery.add(points(1, 2))
    delivery.flush(5)
    assert [(len(batch.metrics), batch.parameters, batch.tags) for batch in platform.taken] == [
        (0, {"a": 1}, {}),
        (2, {}, {}),
        (0, {}, {"t": "1"}),
        (1, {}, {}),
    ]


def test_a_refusal_holds_nothing_back_and_is_told_once():
    platform = Platform([(ParameterChanged("'a' differs"), False)])
    delivery = Delivery(platform)
    delivery.add([LogBatch(parameters={"a": 1})])
    delivery.add(points(5))
    with pytest.raises(ParameterChanged):
        delivery.flush(5)
    assert platform.steps == list(range(5))
    delivery.flush(5)


def test_the_first_refusal_is_the_one_told():
    delivery = Delivery(Platform([(RunEnded("first"), False), (RunEnded("second"), False)]))
    delivery.add(points(2 * BATCH))
    with pytest.raises(RunEnded, match="first"):
        delivery.flush(5)


def test_what_stays_away_is_told_with_the_count_and_kept():
    platform = Platform([(Unavailable("nobody answers"), False)] * 1000)
    delivery = Delivery(platform)
    delivery.add(points(7))
    with pytest.raises(Unavailable, match=r"7 logged values.*nobody answers") as told:
        delivery.flush(0.01)
    assert isinstance(told.value.__cause__, Unavailable)
    platform.failures.clear()
    delivery.flush(5)
    assert platform.steps == list(range(7))


def test_a_closed_queue_takes_nothing_until_it_is_opened_again():
    platform = Platform()
    delivery = Delivery(platform)
    delivery.add(points(1))
    delivery.close()
    with pytest.raises(ExperimentError):
        delivery.add(points(1))
    delivery.flush(5)
    delivery.reopen()
    delivery.add(points(1, 1))
    delivery.flush(5)
    assert platform.steps == [0, 1]


def test_a_queue_has_an_end(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 10)
    platform = Platform([(Unavailable("away"), False)])
    delivery = Delivery(platform)
    delivery.add(points(10))
    delivery.send_next()
    with pytest.raises(ExperimentError, match="10 values wait"):
        delivery.add(points(1))
    delivery.flush(5)
    assert platform.steps == list(range(10))


@pytest.mark.parametrize(
    ("failure", "waited_for"),
    [
        (Unavailable("x"), True),
        (RateLimited("x"), True),
        (Unauthenticated("x"), True),
        (MLOpsError("x"), True),
        (OSError("x"), True),
        (RunEnded("x"), False),
        (ParameterChanged("x"), False),
        (ExperimentError("x"), False),
    ],
)
def test_what_may_pass(failure, waited_for):
    assert passes(failure) is waited_for
