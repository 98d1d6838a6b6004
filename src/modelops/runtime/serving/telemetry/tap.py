"""The tap: what models saw and said, counted beside the request path and never in its way."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from modelops.domains.monitoring.schemas import Reference, SketchBatch
from modelops.domains.serving.schemas import RevisionDocument, VariantDocument
from modelops.runtime.serving.counting.metrics import Counts, Durations, Metrics
from modelops.runtime.serving.logs.log import PredictionLog
from modelops.runtime.serving.predicting import Answer
from modelops.runtime.serving.telemetry.observing import Observer
from modelops.runtime.serving.telemetry.spool import Lost, Spool

_CAPACITY_BYTES = 64 * 1024 * 1024
_POLL_S = 0.25

_BYTES_PER_S = 32 * 1024 * 1024
"""How much is sketched, on average: some 4 million numbers a second, which take a twentieth of a processor's time."""

_BURST_S = 1.0
"""How much of that may come at once."""

_TOGETHER = 32
"""How many batches are sketched at once, at most."""

_log = logging.getLogger(__name__)


class _Marks(NamedTuple):
    """How far the event loop's counters were at one moment."""

    requests: int
    errors: int
    dropped: int
    timed: Durations


class _Offer(NamedTuple):
    """A batch: its rows as a predictor took them, what it said, how many rows, and their bytes."""

    rows: Any
    answer: Answer
    length: int
    size: int


@dataclass(frozen=True)
class _Turn:
    """From here on rows are of another revision, or of a variant of another name. `marks` is where the old one ends."""

    revision: int
    variant: VariantDocument
    marks: _Marks
    begins: Durations


class Tap:
    """Takes a variant's rows and answers after the reply went out, and writes a batch of sketches each `flush_s` seconds.

    `count`, `offer` and `become` are called by the event loop alone, and never block: a lock would make a reply wait for a
    sketch. So each counter has one writer, and the thread works with differences.

    Args:
        counts: Where the variant's answers are timed, and what is dropped is counted.
        sequence: The numbers of batches, among all taps of one source.
    """

    def __init__(
        self,
        document: RevisionDocument,
        variant: VariantDocument,
        reference: Reference | None,
        source: str,
        spool: Spool,
        metrics: Metrics,
        counts: Counts,
        flush_s: float,
        sequence: Iterator[int],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._deployment_id, self._revision, self._variant = document.deployment_id, document.revision, variant
        self._source, self._spool, self._metrics, self._counts = source, spool, metrics, counts
        self._observer = Observer(variant.signature, reference)
        self._flush_s, self._clock, self._sequence = flush_s, clock, sequence
        self._queue: deque[_Offer | _Turn] = deque()
        self._requests = self._errors = self._dropped = self._offered_bytes = 0  # written by the event loop
        self._due_at = 0.0
        """When all that was handed over would be through at the average rate, in seconds of `time.perf_counter`."""
        self._told = _Marks(0, 0, 0, counts.timed())
        self._taken_bytes = self._lost_rows = 0  # written by the thread
        self._complained = False
        self._started_at = clock()
        self.log: PredictionLog | None = None
        """What else is written by the tap's thread."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def start(self) -> None:
        """Begin to sketch."""
        self._thread.start()

    def count(self, requests: int, failed: int) -> None:
        """Count requests that the model was asked, and how many failed for a reason of ours or the model's."""
        self._requests += requests
        self._errors += failed

    def become(self, revision: int, variant: VariantDocument, counts: Counts) -> None:
        """Take what comes from now on as another revision's, or as that of the same model under another name."""
        marks = self._marks()
        self._counts = counts
        self._queue.append(_Turn(revision, variant, marks, counts.timed()))

    def offer(self, rows: Any, answer: Answer, count: int) -> None:
        """Hand over rows and answer for sketching, or drop and count them when too much waits or comes.

        Of more than `_BYTES_PER_S` some batches are left out, evenly in time: what is a sample of millions tells as much.
        """
        size, now = _bytes(rows), time.perf_counter()
        is_too_much = self._queue and self._offered_bytes - self._taken_bytes + size > _CAPACITY_BYTES
        if is_too_much or self._due_at > now + _BURST_S:
            self._dropped += count
            self._metrics.drop(self._counts, count)
            return
        self._due_at = max(self._due_at, now) + size / _BYTES_PER_S
        self._offered_bytes += size
        self._queue.append(_Offer(rows, answer, count, size))

    def close(self) -> None:
        """Sketch what waits, write the last batch, and end."""
        self._ended.set()
        if self._thread.ident is not None:  # what never served has nothing to tell
            self._thread.join()

    def _run(self) -> None:
        waited = 0.0
        while True:
            pause = min(_POLL_S, self._flush_s)
            ended = self._ended.wait(pause)
            waited += pause
            self._sketch()
            if self.log is not None:
                self.log.write()
            if ended or waited >= self._flush_s:
                self._flush(self._marks())
                waited = 0.0
            if ended:
                if self.log is not None:
                    self.log.close()
                return

    def _sketch(self) -> None:
        while self._queue:
            taken = self._queue.popleft()
            if isinstance(taken, _Turn):
                self._flush(taken.marks)
                self._told = taken.marks._replace(timed=taken.begins)
                self._revision, self._variant = taken.revision, taken.variant
                continue
            batches = [taken]
            while len(batches) < _TOGETHER and self._queue and isinstance(following := self._queue[0], _Offer):
                batches.append(following)
                self._queue.popleft()
            self._taken_bytes += sum(batch.size for batch in batches)
            self._observe(batches)

    def _observe(self, batches: list[_Offer]) -> None:
        """Sketch batches, all at once, since most of the work is for each time and not for each row."""
        try:
            self._observer.add([(batch.rows, batch.answer, batch.length) for batch in batches])
        except Exception:
            if len(batches) > 1:
                for batch in batches:
                    self._observe([batch])
                return
            if not self._complained:  # what fails for one request likely fails for all: one traceback is enough
                _log.exception("rows could not be sketched; from now on they are only counted as dropped")
            self._complained = True
            self._lost_rows += batches[0].length
            self._metrics.drop(self._counts, batches[0].length)

    def _marks(self) -> _Marks:
        return _Marks(self._requests, self._errors, self._dropped, self._counts.timed())

    def _flush(self, now: _Marks) -> None:
        inputs, outputs, rows = self._observer.take()
        told = self._told
        requests, dropped = now.requests - told.requests, now.dropped - told.dropped + self._lost_rows
        if not (rows or requests or dropped):
            self._started_at = self._clock()
            return
        self._told, self._lost_rows = now, 0
        started, self._started_at = self._started_at, self._clock()
        batch = SketchBatch(
            source=self._source,
            sequence=next(self._sequence),
            deployment_id=self._deployment_id,
            revision=self._revision,
            model_version_id=self._variant.model_version_id,
            started_at=started,
            ended_at=self._started_at,
            rows=rows,
            requests=requests,
            errors=now.errors - told.errors,
            dropped_rows=dropped,
            inputs=inputs,
            outputs=outputs,
            variant=self._variant.name,
            latencies=[new - old for new, old in zip(now.timed.counts, told.timed.counts, strict=True)],
            latency_sum_s=max(0.0, now.timed.total - told.timed.total),
        )
        try:
            lost = self._spool.put(batch)
        except OSError as wrong:
            _log.warning("a telemetry batch could not be written: %s", wrong)
            lost = Lost(batches=1, rows=rows + dropped)
        self._lost_rows += lost.rows
        if lost.batches:
            self._metrics.lose(lost.batches)


def _bytes(rows: Any) -> int:
    return sum(column.nbytes for column in rows.values()) if isinstance(rows, dict) else rows.nbytes
