"""A run that a program makes: what it logs goes into the spool, and from there to the platform."""

import contextlib
import io
import logging
import operator
import os
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from modelops.contracts.errors import ExperimentError, InvalidInput, MLOpsError
from modelops.domains.experiments.rules import check_parameters, to_microseconds
from modelops.domains.experiments.schemas import LogBatch, Run, RunArtifactCreate, RunStatus
from modelops.sdk.client import Client
from modelops.sdk.spool.courier import Courier
from modelops.sdk.spool.folder import digest_of
from modelops.sdk.spool.records import End, Parameter, Tag, write
from modelops.sdk.spool.segments import Writer
from modelops.sdk.spool.sender import Sender, sentence
from modelops.sdk.spool.values import MetricKeys, check_step, metric_pairs, plain

log = logging.getLogger(__name__)

_HEARTBEAT_S = 10.0
_PATIENCE_S = 30.0
_HURRY_S = 5.0
_LAST_S = 1.0


class ActiveRun:
    """A run that is being made. Leaving its `with` block ends it: `finished`, or as the exception says.

    Thread-safe, within the process that began it. Values may be Python numbers or anything that `float()` takes, such as
    NumPy's; NaN and infinities are kept.
    """

    def __init__(self, client: Client, sender: Sender, writer: Writer, run: Run | None) -> None:
        header = sender.header
        self.client = client
        self.name = run.name if run else header.name or header.spool_id
        self.experiment = run.experiment if run else header.experiment
        self._spool, self._writer = sender.spool, writer
        self._process = os.getpid()
        self._parameters = dict(header.parameters)
        self._keys = MetricKeys()
        self._lock, self._ending = threading.Lock(), threading.RLock()
        self._ended, self._is_warned = False, False
        self._tokens: list[Token[ActiveRun | None]] = []
        heartbeat_s = min(_HEARTBEAT_S, client.settings.run_heartbeat_timeout_s / 4)
        _unsent.add(self)
        self._courier = Courier(sender, writer, heartbeat_s, on_done=lambda: _unsent.discard(self))

    @property
    def id(self) -> str:
        """Return the run's id: the platform's, or while the platform does not know the run, the spool's (`local_…`)."""
        return self._courier.sender.progress.run_id or self._spool.path.name

    @property
    def is_open(self) -> bool:
        """Tell whether more can be recorded."""
        return not self._ended

    @property
    def dropped(self) -> int:
        """Return how many entries found no room on the disk, and are not recorded."""
        return self._writer.dropped

    def log_metric(self, key: str, value: Any, *, step: int = 0, timestamp: datetime | None = None) -> None:
        """Record one value of a metric at a step."""
        self.log_metrics({key: value}, step=step, timestamp=timestamp)

    def log_metrics(self, metrics: Mapping[str, Any], *, step: int = 0, timestamp: datetime | None = None) -> None:
        """Record values of metrics at a step. Returns at once; they are sent in the background.

        Raises:
            ExperimentError: the run has ended.
            TypeError, ValueError: a key, a value or the step is none; nothing of the call is recorded.
        """
        self._check_open()
        place = check_step(operator.index(step))
        moment = None if timestamp is None else to_microseconds(_in_utc(timestamp))
        for pairs, count in metric_pairs(self._keys, metrics):
            if not self._writer.append_points(moment, place, pairs, count):
                self._warn()

    def log_params(self, parameters: Mapping[str, Any]) -> None:
        """Record parameters; each is recorded once, and again only with the same value. Sent in the background.

        Raises:
            ParameterChanged: this program recorded another value before. What another program recorded shows at the end.
        """
        batch = LogBatch(parameters=plain(parameters))
        self._check_open()
        with self._lock:
            check_parameters(self._parameters, batch.parameters)
            for key, value in batch.parameters.items():
                self._append(write(Parameter(key, value)))
            self._parameters.update(batch.parameters)
        self._courier.wake()

    def log_param(self, key: str, value: Any) -> None:
        """Record one parameter."""
        self.log_params({key: value})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set labels; the last value of each counts. Sent in the background."""
        batch = LogBatch(tags=dict(tags))
        self._check_open()
        for key, value in batch.tags.items():
            self._append(write(Tag(key, value)))
        self._courier.wake()

    def log_artifact(self, content: Path | str | bytes | io.IOBase, path: str | None = None) -> str:
        """Record a file (or bytes, under `path`), and return its digest. It is copied now and sent in the background.

        What finds no room in the spool is stored on the platform before this returns; where that is away, it is dropped.

        Raises:
            InvalidInput: there is no such file.
        """
        self._check_open()
        source: Any = Path(content) if isinstance(content, str) else content
        if path is None:
            if not isinstance(source, Path):
                raise ExperimentError("Bytes need a `path` in the run.")
            path = source.name
        with _opened(source) as file:
            wanted = RunArtifactCreate(path=path, digest=f"sha256:{'0' * 64}")
            start = file.tell()
            with contextlib.suppress(OSError):
                if self._writer.has_room(_length(file)):
                    kept = self._spool.keep_file(file, wanted.path)
                    if self._writer.append(write(kept), anyway=True):
                        self._courier.wake()
                        return kept.digest
            file.seek(start)
            return self._store_now(file, wanted.path)

    def flush(self, *, within_s: float = _PATIENCE_S) -> None:
        """Deliver what was logged so far.

        Raises:
            MLOpsError: the platform refused something, which is set aside and told this once; or it did not answer in time,
                and what waits is sent later.
        """
        self._courier.wait(within_s)
        refusal, self._courier.sender.refusal = self._courier.sender.refusal, None
        if refusal is not None:
            raise refusal

    def end(
        self,
        status: RunStatus | str = RunStatus.FINISHED,
        reason: str | None = None,
        *,
        within_s: float | None = None,
    ) -> Run | None:
        """Deliver what waits and end the run. Ending it a second time returns it as it ended.

        Where the platform is away, the end lies in the spool, too, and None is returned. With `within_s` it must be there
        in that time.

        Raises:
            MLOpsError: only with `within_s`: something was refused, or not delivered in time. The run goes on then, and
                `end` may be called again.
        """
        final = RunStatus(status)
        if final is RunStatus.RUNNING:
            raise InvalidInput("A run ends as finished, failed or canceled.")
        if within_s is None:
            self.finish(final, reason)
        else:
            self._end_in_time(final, reason, within_s)
        return self._courier.sender.ended_run

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):  # left in another context than it was entered in
            _current.reset(self._tokens.pop())
        if error is None:
            self.finish(RunStatus.FINISHED, None)
            return
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        trouble = self.finish(RunStatus.CANCELED if stopped else RunStatus.FAILED, sentence(error), _HURRY_S)
        if trouble is not None:
            error.add_note(f"The record of the run '{self.id}' is incomplete: {trouble}")

    def finish(self, status: RunStatus, reason: str | None, within_s: float | None = None) -> Exception | None:
        """End the run whether or not all of it can be delivered now, and return what went wrong, after telling it.

        A forked child that leaves its parent's block changes nothing.
        """
        if os.getpid() != self._process:
            return None
        with self._ending:
            if not self._ended:
                self._ended = True
                self._courier.end(End(status, reason, whole_only=True))
            try:
                self._courier.wait_for_end(_PATIENCE_S if within_s is None else within_s, _HURRY_S)
            except MLOpsError as waiting:
                log.warning("The run '%s' is not sent yet: %s", self.id, waiting)
                return waiting
        refusal, self._courier.sender.refusal = self._courier.sender.refusal, None
        if refusal is not None:
            log.warning("The platform refused something of the run '%s': %s", self.id, refusal)
        return refusal

    def _end_in_time(self, status: RunStatus, reason: str | None, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        with self._ending:
            if not self._ended:
                self.flush(within_s=within_s)
                self._ended = True
                self._courier.end(End(status, reason, whole_only=False))
            left = max(_LAST_S, deadline - time.monotonic())
            self._courier.wait_for_end(left, left)
            refusal, self._courier.sender.refusal = self._courier.sender.refusal, None
            if refusal is not None:
                raise refusal

    def _append(self, line: bytes) -> None:
        if not self._writer.append(line):
            self._warn()

    def _warn(self) -> None:
        if not self._is_warned:
            self._is_warned = True
            log.warning(
                "The run '%s' is not recorded whole from here on: %s. Training goes on; what finds no room is counted.",
                self.id,
                self._writer.trouble,
            )

    def _store_now(self, file: BinaryIO, path: str) -> str:
        """Store a file for which the spool has no room: on the platform, if that is there."""
        start = file.tell()
        try:
            if self._courier.sender.progress.run_id is None:
                raise ExperimentError("The platform is away.")
            artifact = self.client.data.upload_artifact(file)
            self.client.experiments.link_run_artifact(self.id, path, artifact.digest)
            return artifact.digest
        except (MLOpsError, OSError) as failure:
            self._writer.dropped += 1
            self._writer.trouble = f"no room for '{path}' in the spool, nor on the platform: {failure}"
            self._warn()
        file.seek(start)
        return digest_of(file)

    def _check_open(self) -> None:
        if self._ended:
            raise ExperimentError(f"The run '{self.id}' has ended.", hint="Start another run.")
        if os.getpid() != self._process:
            raise ExperimentError(
                f"The run '{self.id}' was begun in another process, and only that one delivers what is logged.",
                hint="Begin a run in this process, or hand the values to the one that began it.",
            )


_unsent: set[ActiveRun] = set()
_current: ContextVar[ActiveRun | None] = ContextVar("modelops_run", default=None)


def current_run() -> ActiveRun | None:
    """Return the run whose `with` block this is."""
    run = _current.get()
    return run if run is not None and run.is_open and run._process == os.getpid() else None


def end_at_exit() -> None:
    """End what the program left running, and wait a moment for it; a forked child leaves its parent's runs alone."""
    deadline = time.monotonic() + _HURRY_S
    for run in [run for run in _unsent if run._process == os.getpid()]:
        if not run.is_open and run._courier.failure is not None:
            continue  # this was waited for, and told
        left = max(0.1, deadline - time.monotonic())
        run.finish(RunStatus.FAILED, "The program ended without ending the run.", left)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _opened(source: Any) -> contextlib.AbstractContextManager[BinaryIO]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, Path):
        return contextlib.nullcontext(source)
    try:
        return source.open("rb")
    except OSError as wrong:
        raise InvalidInput(f"'{source}' cannot be read: {wrong.strerror}.", hint="Name a file.") from wrong


def _length(file: BinaryIO) -> int:
    with contextlib.suppress(OSError, AttributeError):
        here = file.tell()
        length = file.seek(0, os.SEEK_END) - here
        file.seek(here)
        return length
    return 0
