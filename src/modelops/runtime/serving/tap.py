"""The tap: what models saw and said, counted beside the request path and never in its way."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from modelops.domains.monitoring.schemas import ColumnSketch, Reference, SketchBatch
from modelops.domains.serving.schemas import RevisionDocument
from modelops.runtime.serving.metrics import Metrics
from modelops.runtime.serving.observing import Observer
from modelops.runtime.serving.predicting import Answer
from modelops.runtime.serving.spool import Lost, Spool

_CAPACITY_BYTES = 64 * 1024 * 1024
_POLL_S = 0.25

_log = logging.getLogger(__name__)


class Tap:
    """Takes rows and answers after the reply went out, and writes a batch of sketches each `flush_s` seconds.

    `count` and `offer` are called by the event loop alone, and never block: a lock would make a reply wait for a sketch.
    So each counter has one writer, and the thread works with differences.
    """

    def __init__(
        self,
        document: RevisionDocument,
        reference: Reference | None,
        source: str,
        spool: Spool,
        metrics: Metrics,
        flush_s: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._document, self._source, self._spool, self._metrics = document, source, spool, metrics
        self._observer = Observer(document.signature, reference)
        self._flush_s, self._clock = flush_s, clock
        self._queue: deque[tuple[Any, Answer, int, int]] = deque()
        self._requests = self._errors = self._dropped = self._offered_bytes = 0  # written by the event loop
        self._told = (0, 0, 0)
        self._taken_bytes = self._sequence = self._lost_rows = 0  # written by the thread
        self._complained = False
        self._started_at = clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def start(self) -> None:
        """Begin to sketch."""
        self._thread.start()

    def count(self, requests: int, failed: int) -> None:
        """Count requests that the model was asked, and how many failed for a reason of ours or the model's."""
        self._requests += requests
        self._errors += failed

    def offer(self, rows: Any, answer: Answer, count: int) -> None:
        """Hand over rows and answer for sketching, or drop and count them when too much waits."""
        size = _bytes(rows)
        if self._queue and self._offered_bytes - self._taken_bytes + size > _CAPACITY_BYTES:
            self._dropped += count
            self._metrics.drop(count)
            return
        self._offered_bytes += size
        self._queue.append((rows, answer, count, size))

    def close(self) -> None:
        """Sketch what waits, write the last batch, and end."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        waited = 0.0
        while True:
            pause = min(_POLL_S, self._flush_s)
            ended = self._ended.wait(pause)
            waited += pause
            self._sketch()
            if ended or waited >= self._flush_s:
                self._flush()
                waited = 0.0
            if ended:
                return

    def _sketch(self) -> None:
        while self._queue:
            rows, answer, count, size = self._queue.popleft()
            self._taken_bytes += size
            try:
                self._observer.add(rows, answer, count)
            except Exception:
                if not self._complained:  # what fails for one request likely fails for all: one traceback is enough
                    _log.exception("rows could not be sketched; from now on they are only counted as dropped")
                self._complained = True
                self._lost_rows += count
                self._metrics.drop(count)

    def _flush(self) -> None:
        inputs, outputs, rows = self._observer.take()
        now = (self._requests, self._errors, self._dropped)
        requests, errors, dropped = (new - old for new, old in zip(now, self._told, strict=True))
        dropped += self._lost_rows
        self._told = now
        if not (rows or requests or dropped):
            self._started_at = self._clock()
            return
        self._lost_rows = 0
        batch = self._batch(inputs, outputs, rows, requests, errors, dropped)
        try:
            lost = self._spool.put(batch)
        except OSError as wrong:
            _log.warning("a telemetry batch could not be written: %s", wrong)
            lost = Lost(batches=1, rows=rows + dropped)
        self._lost_rows += lost.rows
        if lost.batches:
            self._metrics.lose(lost.batches)

    def _batch(
        self,
        inputs: list[ColumnSketch],
        outputs: list[ColumnSketch],
        rows: int,
        requests: int,
        errors: int,
        dropped: int,
    ) -> SketchBatch:
        started, self._started_at = self._started_at, self._clock()
        sequence, self._sequence = self._sequence, self._sequence + 1
        return SketchBatch(
            source=self._source,
            sequence=sequence,
            deployment_id=self._document.deployment_id,
            revision=self._document.revision,
            model_version_id=self._document.model_version_id,
            started_at=started,
            ended_at=self._started_at,
            rows=rows,
            requests=requests,
            errors=errors,
            dropped_rows=dropped,
            inputs=inputs,
            outputs=outputs,
        )


def _bytes(rows: Any) -> int:
    return sum(column.nbytes for column in rows.values()) if isinstance(rows, dict) else rows.nbytes
