"""Delivery: what a program logs waits here, in order, until the platform has taken it. Light: it knows no connection."""

import threading
import time
from collections.abc import Callable, Sequence

from modelops.contracts.errors import ExperimentError, MLOpsError, RateLimited, Unauthenticated, Unavailable
from modelops.domains.experiments.schemas import LogBatch, MetricPoint

BATCH = 1_000
KEPT = 1_000_000

_PAUSE_S = 0.2


def passes(failure: Exception) -> bool:
    """Tell whether a failure may pass by waiting: the platform is away or overloaded, or does not know the caller now.

    What is refused for what it is (an ended run, a parameter with another value) stays refused however often it is sent.
    """
    if isinstance(failure, MLOpsError) and not isinstance(failure, RateLimited | Unauthenticated):
        return failure.status >= 500
    return True


class Delivery:
    """A queue of what was logged on one run. Thread-safe.

    Batches are sent one at a time, in order, and leave the queue when they are taken. A failure that may pass keeps them; what
    the platform refuses is dropped, so that it holds nothing back, and told by the next `flush`.

    Args:
        send: Sends a batch. It may be called with the same batch again, when the answer to the first was lost.
    """

    def __init__(self, send: Callable[[LogBatch], object]) -> None:
        self._send = send
        self._waiting: list[MetricPoint | LogBatch] = []
        self._added = self._gone = 0
        self._closed = False
        self._failure: Exception | None = None
        self._refusal: Exception | None = None
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self.heard_at = time.monotonic()
        """When the platform last took a batch, or was told that the run lives."""

    def add(self, entries: Sequence[MetricPoint | LogBatch]) -> int:
        """Put points and batches of labels behind what waits, and return how much waits then.

        Raises:
            ExperimentError: the run has ended, or `KEPT` entries wait already.
        """
        with self._lock:
            if self._closed:
                raise ExperimentError("The run has ended; nothing more is recorded on it.", hint="Start another run.")
            if len(self._waiting) + len(entries) > KEPT:
                raise ExperimentError(
                    f"The platform is away, and {KEPT:,} values wait for it already: {self._failure}",
                    hint="Nothing that waits is lost. Go on when the platform is back.",
                ) from self._failure
            self._waiting += entries
            self._added += len(entries)
            return len(self._waiting)

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            self._closed = True

    def reopen(self) -> None:
        """Take more again."""
        with self._lock:
            self._closed = False

    def send_next(self, within_s: float = -1) -> bool:
        """Send the batch at the head, and tell whether it left the queue. Waits `within_s` for another sender."""
        if not self._turn.acquire(timeout=within_s):
            return False
        try:
            batch, length = self._head()
            return length > 0 and self._send_one(batch, length)
        finally:
            self._turn.release()

    def flush(self, within_s: float) -> None:
        """Deliver what was added before this call; after `within_s` no further attempt is begun.

        Raises:
            MLOpsError: something was refused, and dropped (told once); or something still waits, for the reason given.
        """
        with self._lock:
            goal = self._added
        deadline = time.monotonic() + within_s
        while self._gone < goal:
            if not self.send_next(max(0.0, deadline - time.monotonic())) and self._gone < goal:
                if time.monotonic() >= deadline:
                    raise self._undelivered(goal - self._gone)
                time.sleep(_PAUSE_S)
        with self._lock:
            refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _head(self) -> tuple[LogBatch, int]:
        """Return the next batch and its length: labels go alone, so that a refused one takes no metrics with it."""
        with self._lock:
            points: list[MetricPoint] = []
            for entry in self._waiting[:BATCH]:
                if isinstance(entry, LogBatch):
                    return (LogBatch(metrics=points), len(points)) if points else (entry, 1)
                points.append(entry)
            return LogBatch(metrics=points), len(points)

    def _send_one(self, batch: LogBatch, length: int) -> bool:
        try:
            self._send(batch)
        except Exception as failure:  # a thread that delivers must outlive whatever a transport raises
            if passes(failure):
                self._failure = failure
                return False
            self._refusal = self._refusal or failure
        else:
            self._failure, self.heard_at = None, time.monotonic()
        with self._lock:
            del self._waiting[:length]
            self._gone += length
        return True

    def _undelivered(self, count: int) -> MLOpsError:
        reason = self._failure or "another delivery is still under way"
        error = Unavailable(f"{count:,} logged values could not be delivered: {reason}")
        error.__cause__ = self._failure
        return error
