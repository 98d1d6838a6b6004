"""The engine by itself: batches, limits, deadlines, and models that misbehave."""

import asyncio
import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput, MLOpsError, RateLimited, Unavailable
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature
from modelops.domains.serving.schemas import ServingLimits
from modelops.runtime.serving.counting.metrics import Counts, Durations, Metrics, added_up
from modelops.runtime.serving.engine.asks import Ask
from modelops.runtime.serving.engine.batches import Batcher
from modelops.runtime.serving.engine.engine import Engine
from modelops.runtime.serving.engine.pace import Pace, Watch
from modelops.runtime.serving.failures import DeadlineExceeded, ModelFailed
from modelops.runtime.serving.parsing import Parser
from modelops.runtime.serving.rates import Rates

SIGNATURE = ModelSignature(inputs=[Feature(name="x", type=FeatureType.INTEGER)])


class Model:
    """Doubles; raises at 666, gives too much at 7, and notes the sizes of what it was asked."""

    classes, feature_names, wants_columns, model = None, None, False, None

    def __init__(self):
        self.sizes, self.hold, self.leave = [], threading.Event(), None
        self.hold.set()

    def predict(self, rows):
        assert self.hold.wait(20)
        self.sizes.append(len(rows))
        if self.leave:
            raise self.leave
        if (rows == 666).any():
            raise ValueError("not that one")
        if (rows == 7).any():
            return np.zeros(len(rows) + 1)
        return rows[:, 0] * 2


class Tap:
    def __init__(self):
        self.requests = self.failed = self.rows = self.offers = 0

    def count(self, requests, failed):
        self.requests += requests
        self.failed += failed

    def offer(self, rows, answer, count):
        assert len(rows) == len(answer.values) == count
        self.rows += count
        self.offers += 1


class Place:
    """An engine on a loop of its own."""

    def __init__(self, fast=True, **limits):
        self.model, self.tap = Model(), Tap()
        self.counts = Counts()
        self.pace = Pace()
        for _ in range(4 * fast):
            self.pace.observe(1e-6, 1, 1)
        batcher = Batcher(self.model, Parser(SIGNATURE, 100, columns=False))
        self.engine = Engine(batcher, ServingLimits(**limits), self.pace, self.counts, self.tap)
        self.outcomes = {}

    def ask(self, key, rows, *, deadline=math.inf, listed=True, began=None):
        ask = Ask(
            [[float(value)] for value in rows] if listed else np.array([[float(value)] for value in rows]),
            len(rows),
            100,
            lambda answers, start, stop: b"[%b]" % b", ".join(answers.values[start:stop]),
            lambda outcome: self.outcomes.setdefault(key, []).append(outcome),
            listed=listed,
            began=time.perf_counter() if began is None else began,
            deadline=deadline,
        )
        self.engine.submit(ask)
        return ask

    def run(self, work):
        async def whole():
            await work
            await self.rest()

        try:
            asyncio.run(asyncio.wait_for(whole(), 30))
        finally:
            self.engine.close()

    async def rest(self):
        while self.engine.waiting or self.engine.inflight:
            await asyncio.sleep(0.001)

    def said(self):
        assert all(len(outcomes) == 1 for outcomes in self.outcomes.values())
        return {key: outcomes[0] for key, outcomes in self.outcomes.items()}


@pytest.fixture
def document(bench):
    folder = bench.folder / "files"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"x")
    return bench.document(bench.upload(folder), SIGNATURE)


@pytest.fixture
def place():
    return Place


def test_several_are_joined_by_what_following_ticks_bring_and_one_alone_goes_at_once(place):
    here = place()

    async def work():
        here.ask("alone", [1])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert here.said() == {"alone": b"[2.0]"}
        here.ask("a", [1])
        here.ask("b", [2])
        for value in range(3):  # ticks that bring something
            await asyncio.sleep(0)
            here.ask(f"c{value}", [value])
        await here.rest()

    here.run(work())
    assert here.model.sizes == [1, 5]


def test_a_batch_goes_however_long_more_comes(place):
    here = place()

    async def work():
        here.ask("a", [1])
        for value in range(100):
            here.ask(f"b{value}", [value])
            await asyncio.sleep(0)
        assert here.said()

    here.run(work())
    assert len(here.said()) == 101


def test_what_comes_in_one_tick_is_asked_at_once(place):
    here = place()

    async def work():
        for key in range(5):
            here.ask(key, [key] * (key + 1), listed=key % 2 == 0)
        assert here.engine.waiting == 5
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    here.run(work())
    assert here.said() == {key: repr([2.0 * key] * (key + 1)).encode() for key in range(5)}
    assert here.model.sizes == [15]
    assert (here.tap.requests, here.tap.failed, here.tap.rows, here.tap.offers) == (5, 0, 15, 1)
    assert sum(here.counts.waits.counts) == 5


@pytest.mark.parametrize("fast", [True, False])
def test_who_poisons_a_batch_fails_alone(place, fast):
    here = place(fast=fast)

    async def work():
        for key, value in enumerate([1, 666, 2, 7, 3, 1.5, 4]):
            here.ask(key, [value])

    here.run(work())
    said = here.said()
    assert [said[key] for key in (0, 2, 4, 6)] == [b"[2.0]", b"[4.0]", b"[6.0]", b"[8.0]"]
    assert "ValueError: not that one" in said[1].detail
    assert "2 predictions for 1 rows" in said[3].detail
    assert isinstance(said[5], InvalidInput)
    assert (here.tap.requests, here.tap.failed, here.tap.rows) == (6, 2, 4)


@pytest.mark.parametrize("error", [SystemExit(1), MemoryError(), RecursionError()])
def test_a_model_that_wants_to_leave_does_not_take_the_server_with_it(place, error):
    here = place()
    here.model.leave = error

    async def work():
        here.ask("a", [1])
        await here.rest()
        here.model.leave = None
        here.ask("b", [1])

    here.run(work())
    assert isinstance(here.said()["a"], ModelFailed)
    assert here.said()["b"] == b"[2.0]"


def test_a_busy_model_gathers_and_those_who_waited_too_long_are_told(place):
    here = place(fast=False)
    here.model.hold.clear()

    async def work():
        here.ask("first", [1])
        await asyncio.sleep(0.01)
        for key in range(3):
            here.ask(key, [key])
        here.ask("late", [9], deadline=time.perf_counter() + 0.01)
        here.ask("left", [9]).gone = True
        while "late" not in here.outcomes:
            await asyncio.sleep(0.001)
        assert here.engine.waiting == 3
        here.model.hold.set()

    here.run(work())
    said = here.said()
    assert here.model.sizes == [1, 3]
    assert isinstance(said.pop("late"), DeadlineExceeded)
    assert set(said) == {"first", 0, 1, 2}
    assert here.tap.requests == 4


def test_a_time_that_is_over_is_over_before_the_model_is_asked(place):
    here = place()

    async def work():
        here.ask("late", [1], deadline=time.perf_counter() - 1)

    here.run(work())
    assert isinstance(here.said()["late"], DeadlineExceeded)
    assert here.model.sizes == []


@pytest.mark.parametrize(
    ("limits", "taken"), [({"max_concurrency": 2}, 2), ({"max_queue_rows": 6}, 3), ({"max_queue_bytes": 1024}, 10)]
)
def test_the_queue_is_bounded(place, limits, taken):
    here = place(**limits)

    async def work():
        for key in range(taken):
            here.ask(key, [1, 2])
        with pytest.raises(Unavailable, match="full"):
            here.ask("more", [1, 2])
        await here.rest()
        here.ask("again", [1, 2])

    here.run(work())
    assert set(here.said()) == {*range(taken), "again"}
    assert here.counts.rejected == 1


def test_a_batch_waits_for_company_only_where_that_is_wanted(place):
    here = place(batch_wait_ms=30, max_rows=4)

    async def work():
        here.ask(0, [1])
        await asyncio.sleep(0.005)
        here.ask(1, [1])
        assert here.engine.waiting == 2
        await here.rest()
        assert here.model.sizes == [2]
        here.ask(2, [1, 2])
        here.ask(3, [1, 2])
        here.ask(4, [1, 2])
        await here.rest()

    here.run(work())
    assert here.model.sizes == [2, 4, 2]


def test_a_reply_that_cannot_be_written_keeps_nobody_else_from_theirs(place):
    here = place()

    def broken(_outcome):
        raise OSError("gone")

    async def work():
        ask = here.ask("a", [1])
        ask.done = broken
        here.ask("b", [2])

    here.run(work())
    assert here.said() == {"b": b"[4.0]"}


@settings(max_examples=60, deadline=None)
@given(seconds=st.lists(st.floats(1e-6, 0.1), max_size=200), rows=st.integers(1, 1000))
def test_pace_goes_by_what_it_measures(seconds, rows):
    pace = Pace()
    assert not pace.suits_loop(1)
    for each in seconds:
        pace.observe(each, 1, rows)
    for _ in range(20_000):
        pace.observe(1e-5, 1, 1)
    assert pace.suits_loop(1)
    for _ in range(50):
        pace.observe(0.05, 1, 1)
    assert not pace.suits_loop(1)


def test_pace_never_lets_what_may_hang_onto_the_loop():
    pace = Pace(may_suit=False)
    for _ in range(50):
        pace.observe(1e-6, 1, 1)
    assert not pace.suits_loop(1)


def test_the_time_of_a_batch_is_the_processors_and_no_wait_for_others():
    watch = Watch()
    time.sleep(0.05)  # as one waits for the interpreter while another thread has it
    assert watch.seconds() < 0.03
    began = time.thread_time()
    while time.thread_time() < began + 0.02:
        pass
    assert 0.02 <= watch.seconds() < 0.05


def test_pace_keeps_large_batches_of_a_costly_row_off_the_loop():
    pace = Pace()
    for _ in range(50):
        pace.observe(100e-6, 1, 1)
    assert pace.suits_loop(200)
    assert not pace.suits_loop(10_000)


@settings(deadline=None)
@given(gaps=st.lists(st.floats(0, 0.5), max_size=100), burst=st.integers(1, 5))
def test_rates_let_through_the_burst_and_then_the_rate(gaps, burst):
    now = 0.0
    rates = Rates(10, burst, clock=lambda: now)
    passed = []
    for gap in gaps:
        now += gap
        try:
            rates.check("a")
            passed.append(now)
        except RateLimited as wrong:
            now += wrong.retry_after_s + 1e-6
            rates.check("a")
            passed.append(now)
    for index, start in enumerate(passed):
        later = passed[index:]
        assert all(number <= burst + 10 * (at - start) + 1e-3 for number, at in enumerate(later, start=1))


def test_rates_are_of_each_caller_and_forget_them():
    now = 0.0
    rates = Rates(1, 1, clock=lambda: now)
    for caller in range(10_001):
        rates.check(str(caller))
    rates.check("0")  # with more callers than it remembers, it forgets rather than grow
    with pytest.raises(RateLimited):
        rates.check("0")
    for _ in range(100):
        Rates(None, 1).check("anyone")


def test_counts_of_processes_add_up(document):
    one, two = Metrics(document), Metrics(document)
    for metrics, status, seconds in ((one, "200", 0.001), (two, "200", 0.2), (two, "500", 50.0)):
        counts = metrics.of(7, "champion")
        metrics.adopt(7, "champion", counts)
        counts.tally("/predict").answered(status, seconds)
    total = added_up([one.counted(), two.counted()])[7, "champion"]

    assert total.answers == {"/predict": {"200": 2, "500": 1}}
    assert sum(total.timed().counts) == 3
    text = one.render([one.counted(), two.counted()]).decode()
    assert 'status="200",tenant="ten_1",variant="champion"} 2.0' in text
    assert 'le="+Inf",path="/predict",project="prj_1",revision="7",tenant="ten_1",variant="champion"} 3.0' in text
    assert isinstance(Durations().total, float)


def test_errors_of_ours_do_not_leave_anybody_waiting(place, monkeypatch):
    here = place()
    monkeypatch.setattr(Batcher, "_work", lambda *_: 1 / 0)

    async def work():
        here.ask("a", [1])

    here.run(work())
    assert type(here.said()["a"]) is MLOpsError
