"""The engine's queue and its clock: what waits, what is worked on, and when the next batch goes."""

import asyncio
import logging
import time
from collections import deque

from modelops.contracts.errors import Unavailable
from modelops.domains.serving.schemas import ServingLimits
from modelops.runtime.serving.counting.metrics import Counts
from modelops.runtime.serving.engine.asks import Ask
from modelops.runtime.serving.engine.batches import Batcher, Results
from modelops.runtime.serving.engine.pace import Pace, Watch
from modelops.runtime.serving.engine.worker import Worker
from modelops.runtime.serving.failures import DeadlineExceeded
from modelops.runtime.serving.logs.log import PredictionLog
from modelops.runtime.serving.telemetry.tap import Tap

_log = logging.getLogger(__name__)

_MOST_TICKS, _ENOUGH_ROWS = 16, 256
"""How many further ticks are looked at before a batch goes, and how many rows make one large enough."""

UNWRITTEN = "a reply could not be written"

_SWEEP_S = 0.02
"""How late a request may be told that its time is over while the model is busy with others."""


class Engine:
    """Takes requests, and answers them in batches. Belongs to one event loop; nothing in it may be called from elsewhere.

    A batch is what came in one tick of the loop, and goes at the tick's end: nobody waits for company. Where several came, what
    the following ticks bring is read first, until one brings nothing: it must be read anyway, and what a batch costs is
    shared by more. While a slow model works, on a thread of its own, the next batch gathers.

    Args:
        limits: How much may wait, in requests, rows and bytes, and for how long a batch waits to grow.
    """

    def __init__(self, batcher: Batcher, limits: ServingLimits, pace: Pace, counts: Counts, tap: Tap) -> None:
        self._batcher, self._pace = batcher, pace
        self._tap = tap
        self.become(limits, counts)
        self._waiting: deque[Ask] = deque()
        self._requests = self._rows = self._bytes = 0
        self._scheduled: asyncio.Handle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._worker: Worker | None = None
        self._busy = False
        self._gathered = self._ticks = 0

    def become(self, limits: ServingLimits, counts: Counts, log: PredictionLog | None = None) -> None:
        """Go by other limits from now on, count elsewhere, and log there, if anywhere."""
        self._counts, self._log = counts, log
        self._most_requests, self._most_rows = limits.max_concurrency, limits.max_queue_rows
        self._most_bytes, self._batch_rows = limits.max_queue_bytes, limits.max_rows
        self._wait_s = limits.batch_wait_ms / 1000

    @property
    def waiting(self) -> int:
        """Return how many requests wait for the model."""
        return len(self._waiting)

    @property
    def inflight(self) -> int:
        """Return how many requests the model is working on."""
        return self._requests - len(self._waiting)

    def submit(self, ask: Ask) -> None:
        """Take a request; `ask.done` is called later.

        Raises:
            Unavailable: too much waits.
        """
        if self._requests and (
            self._requests >= self._most_requests
            or self._rows + ask.count > self._most_rows
            or self._bytes + ask.size > self._most_bytes
        ):
            self._refuse()
        self._requests += 1
        self._rows += ask.count
        self._bytes += ask.size
        self._waiting.append(ask)
        if not self._busy:
            if self._scheduled is None or self._wait_s:
                self._schedule()
        elif self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._drop_late)

    def close(self) -> None:
        """End the thread once it is through with what it works on; what waits is not asked any more."""
        if self._worker is not None:
            self._worker.close()

    def _refuse(self) -> None:
        self._counts.rejected += 1
        raise Unavailable(
            f"The replica is full: {self._requests:,} requests with {self._rows:,} rows are in it, and its limits are "
            f"{self._most_requests:,} requests, {self._most_rows:,} rows and {self._most_bytes:,} bytes.",
            hint="Try again after the time in `Retry-After`, or give the deployment more replicas.",
        )

    def _schedule(self) -> None:
        full = self._rows >= self._batch_rows
        if self._scheduled is not None:
            if not (full and isinstance(self._scheduled, asyncio.TimerHandle)):
                return
            self._scheduled.cancel()
        loop = asyncio.get_running_loop()
        if self._wait_s and not full:
            self._scheduled = loop.call_later(self._wait_s, self._flush)
        else:
            self._scheduled = loop.call_soon(self._flush)

    def _flush(self) -> None:
        came, self._gathered = len(self._waiting) - self._gathered, len(self._waiting)
        if came > 0 and self._gathered > 1 and self._ticks < _MOST_TICKS and self._rows < _ENOUGH_ROWS:
            self._ticks += 1
            self._scheduled = asyncio.get_running_loop().call_soon(self._flush)
            return
        self._scheduled, self._gathered, self._ticks = None, 0, 0
        batch, rows = self._take()
        if not batch:
            return
        if self._pace.suits_loop(rows):
            watch = Watch()
            results = self._batcher.work(batch)
            self._finish(batch, rows, results, watch.seconds())
            return
        if self._worker is None:
            self._worker = Worker(asyncio.get_running_loop(), self._batcher)
        self._busy = True
        self._worker.give(batch, lambda results, seconds: self._come_back(batch, rows, results, seconds))

    def _come_back(self, batch: list[Ask], rows: int, results: Results, seconds: float) -> None:
        self._busy = False
        self._finish(batch, rows, results, seconds)

    def _take(self) -> tuple[list[Ask], int]:
        """Return the next batch and its rows, without those that are late or gone."""
        now, most = time.perf_counter(), self._batch_rows
        batch: list[Ask] = []
        rows = 0
        waiting = self._waiting
        while waiting and (not batch or rows + waiting[0].count <= most):
            ask = waiting.popleft()
            if ask.gone or ask.deadline <= now:
                self._drop(ask)
                continue
            batch.append(ask)
            rows += ask.count
        self._counts.waited([now - ask.began for ask in batch])
        return batch, rows

    def _finish(self, batch: list[Ask], rows: int, results: Results, seconds: float) -> None:
        self._pace.observe(seconds, len(batch), rows)
        self._requests -= len(batch)
        self._rows -= rows
        self._bytes -= sum([ask.size for ask in batch])
        for ask in batch:
            if not ask.gone:
                try:
                    ask.done(ask.outcome)  # type: ignore[arg-type]  # it has one by now
                except Exception:  # the others of the batch want their replies
                    _log.exception(UNWRITTEN)
        self._tap.count(len(batch) - results.refused, results.failed)
        for seen in results.seen:
            self._tap.offer(seen.rows, seen.answer, seen.count)
            if self._log is not None:
                self._log.offer(seen.rows, seen.answer, seen.asks)
        if self._waiting:
            self._schedule()

    def _drop_late(self) -> None:
        """Answer those whose time is over while others keep the model busy."""
        self._sweep = None
        now = time.perf_counter()
        late = [ask for ask in self._waiting if ask.gone or ask.deadline <= now]
        for ask in late:
            self._waiting.remove(ask)
            self._drop(ask)
        if self._waiting and self._busy:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._drop_late)

    def _drop(self, ask: Ask) -> None:
        self._requests -= 1
        self._rows -= ask.count
        self._bytes -= ask.size
        if not ask.gone:
            ask.outcome = DeadlineExceeded("The request waited longer than its time limit; the model was not asked.")
            _tell(ask)


def _tell(ask: Ask) -> None:
    try:
        ask.done(ask.outcome)  # type: ignore[arg-type]  # it has one by now
    except Exception:  # the others of the batch want their replies
        _log.exception(UNWRITTEN)
