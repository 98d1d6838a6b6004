"""The log of one variant's predictions: a sample of requests, what the model saw of them, and what it said.

Whether a request is logged follows from its id alone, so that whatever variants and replicas see it, all log it or none.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from modelops.domains.serving.schemas import RevisionDocument, VariantDocument
from modelops.runtime.serving.config import ReplicaConfig
from modelops.runtime.serving.counting.metrics import Counts, Metrics
from modelops.runtime.serving.logs.logged import About, Asked, Entry, Logged
from modelops.runtime.serving.predicting import Answer

if TYPE_CHECKING:  # PyArrow is loaded only where predictions are logged
    from modelops.runtime.serving.logs.files import LogFile, LogFolder

_CAPACITY_BYTES = 64 * 1024 * 1024
_ROWS, _PAUSE_S = 1_000, 1.0
_SPACE = 2**64
_FILE_FLUSHES = 15
"""A file is written to for so many flushes of telemetry at most: half a minute, as a rule."""

_log = logging.getLogger(__name__)


class PredictionLog:
    """Takes what was predicted after the reply went out, and writes it to files.

    `pick`, `become` and `offer` are called by the event loop alone, and never block; `write` and `close` by one thread.

    Args:
        folder: Where files go.
        file_s: How long a file is written to at most.
    """

    def __init__(self, folder: "LogFolder", metrics: Metrics, file_s: float) -> None:
        self._folder, self._metrics, self._file_s = folder, metrics, file_s
        self._about: About | None = None
        self._counts = Counts()
        self._queue: deque[tuple[Logged, int]] = deque()
        self._offered_bytes = self._taken_bytes = 0
        self._file: LogFile | None = None
        self._batches: list[Any] = []
        self._written_at = time.monotonic()
        self._failing = False

    def become(self, about: About | None, counts: Counts) -> None:
        """Log for another part in a revision from now on; None for nothing."""
        self._about, self._counts = about, counts

    def pick(self, request_id: str | None) -> str | None:
        """Return the id under which a request is logged; None where it is not."""
        about, name = self._about, request_id or uuid4().hex
        return name if about is not None and is_picked(name, about.share) else None

    def offer(self, rows: Any, answer: Answer, asks: Sequence[Asked]) -> None:
        """Hand over what a model saw and said; what is to be logged of that is dropped and counted where too much waits."""
        entries, start = [], 0
        for ask in asks:
            if ask.logged is not None:
                entries.append(Entry(ask.logged, start, ask.count, ask.began))
            start += ask.count
        if not entries or self._about is None:
            return
        size = sum(column.nbytes for column in rows.values()) if isinstance(rows, dict) else rows.nbytes
        if self._queue and self._offered_bytes - self._taken_bytes + size > _CAPACITY_BYTES:
            self._drop(sum(entry.length for entry in entries))
            return
        self._offered_bytes += size
        self._queue.append((Logged(self._about, rows, answer, entries, time.perf_counter()), size))

    def write(self) -> None:
        """Write what waits, once it is much or waited long, and finish a file that is large or old."""
        from modelops.runtime.serving.logs.batches import batch_of

        while self._queue:
            logged, size = self._queue.popleft()
            self._taken_bytes += size
            try:
                self._add(batch_of(logged), logged.about)
            except Exception as wrong:
                self._fail(wrong, sum(entry.length for entry in logged.entries))
        now = time.monotonic()
        if self._batches and (_rows(self._batches) >= _ROWS or now - self._written_at >= _PAUSE_S):
            self._flush()
        if self._file is not None and now - self._file.began >= self._file_s:
            self._finish()

    def close(self) -> None:
        """Write all that waits, and finish the file."""
        self.write()
        self._finish()

    def _add(self, batch: Any, about: About) -> None:
        file = self._file
        if file is not None and (
            not file.schema.equals(batch.schema, check_metadata=True) or file.size >= about.file_bytes
        ):
            self._finish()
        if self._file is None:
            self._file = self._folder.begin(batch.schema)
        self._batches.append(batch)
        if _rows(self._batches) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        batches, self._batches, self._written_at = self._batches, [], time.monotonic()
        if self._file is None or not batches:
            return
        try:
            whole = pa.Table.from_batches(batches).combine_chunks().to_batches()
            for batch in whole:
                self._file.write(batch)
        except Exception as wrong:
            self._fail(wrong, _rows(batches))

    def _finish(self) -> None:
        self._flush()
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.finish()
            self._drop(self._folder.trim())
        except Exception as wrong:
            self._fail(wrong, 0)

    def _fail(self, wrong: Exception, rows: int) -> None:
        if not self._failing:  # what fails once likely fails for all: one traceback is enough
            _log.error("predictions could not be logged; from now on they are only counted as dropped", exc_info=wrong)
        self._failing = True
        self._drop(rows)

    def _drop(self, rows: int) -> None:
        if rows:
            self._metrics.drop_logged(self._counts, rows)


def is_picked(request_id: str, share: float) -> bool:
    """Tell whether a request is among a share, 0 to 1, of all."""
    if share >= 1:
        return True
    return int.from_bytes(blake2b(request_id.encode(errors="replace"), digest_size=8).digest(), "big") < share * _SPACE


def about_of(
    config: ReplicaConfig, document: RevisionDocument, variant: VariantDocument, classes: list[Any] | None
) -> About | None:
    """Return what is logged of a variant's part in a revision; None for nothing."""
    limits = document.limits
    if limits.log_sample <= 0 or not (limits.log_inputs or limits.log_outputs) or log_folder(config) is None:
        return None
    facts = {
        "deployment_id": document.deployment_id,
        "revision": document.revision,
        "replica": config.replica,
        "variant": variant.name,
        "model": variant.model,
        "version": variant.version,
        "model_version_id": variant.model_version_id,
    }
    return About(
        facts=facts,
        signature=variant.signature,
        classes=classes,
        inputs=limits.log_inputs,
        outputs=limits.log_outputs,
        share=limits.log_sample,
        file_bytes=limits.log_file_mb * 1024**2,
    )


def log_of(config: ReplicaConfig, metrics: Metrics) -> PredictionLog | None:
    """Return a new log in the process's folder; None where there is none."""
    folder = log_folder(config)
    return None if folder is None else PredictionLog(folder, metrics, _FILE_FLUSHES * config.flush_s)


@cache
def log_folder(config: ReplicaConfig) -> "LogFolder | None":
    """Return where a process's logged predictions go; None, and one warning, where PyArrow is not installed."""
    try:
        from modelops.runtime.serving.logs.files import LogFolder
    except ImportError:
        _log.warning("predictions cannot be logged here: PyArrow is not installed")
        return None
    return LogFolder(config.spool / "predictions", config.source)


def _rows(batches: Sequence[Any]) -> int:
    return sum(batch.num_rows for batch in batches)
