"""Tracking experiments from a program: `ExperimentTracker`, and `start_experiment` for those in a hurry.

Logging metrics, parameters and tags never waits for the network and never raises for its sake: they go into a queue that a
thread delivers about once a second, and again after a failure, for as long as the run lasts. The end of a run delivers what
is left and says clearly what could not be: a run whose record is incomplete never reads `finished`. A heartbeat tells the
platform that the program lives; one that is killed leaves a run that the platform ends as failed.
"""

import atexit
import contextlib
import io
import logging
import operator
import os
import threading
import time
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modelops.contracts.errors import AlreadyExists, ExperimentError, InvalidInput, NotFound
from modelops.domains.experiments.delivery import BATCH, Delivery, passes
from modelops.domains.experiments.rules import check_parameters
from modelops.domains.experiments.schemas import LogBatch, MetricPoint, Run, RunStatus
from modelops.sdk.client import Client

log = logging.getLogger(__name__)

_FLUSH_S = 1.0
_HEARTBEAT_S = 10.0
_PATIENCE_S = 30.0
_HURRY_S = 5.0
_REASON = 4_000


class ExperimentTracker:
    """Tracks experiments on a platform.

    Args:
        backend: A client, a platform's address, or None for the one of the settings (in this process, where none is named).
        experiment: Where runs go that name no experiment.
        project: The project, where `backend` is no client.
    """

    def __init__(
        self, backend: Client | str | None = None, *, experiment: str | None = None, project: str | None = None
    ) -> None:
        self.client = backend if isinstance(backend, Client) else Client(backend, project=project)
        self.experiment = experiment
        self._owned = not isinstance(backend, Client)
        self._process = os.getpid()
        self._runs: weakref.WeakSet[ActiveRun] = weakref.WeakSet()

    def start_experiment(
        self,
        name: str | None = None,
        *,
        run_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> "ActiveRun":
        """Begin a run in an experiment, which is made if it is new, and return it for a `with` block.

        Raises:
            ExperimentError: no experiment is named, here or on the tracker.
        """
        name = name or self.experiment
        if name is None:
            raise ExperimentError("No experiment is named.", hint="Name one: `tracker.start_experiment('churn')`.")
        self._ensure(name)
        run = self.client.experiments.create_run(name, name=run_name, parameters=_plain(parameters), tags=tags)
        active = ActiveRun(self.client, run)
        self._runs.add(active)
        return active

    def flush(self, *, within_s: float = _PATIENCE_S) -> None:
        """Deliver what waits on every open run. Raises as `ActiveRun.flush`."""
        for run in self._open():
            run.flush(within_s=within_s)

    def close(self) -> None:
        """Deliver what waits, and close the connection if the tracker opened it; runs still open then end as failed.

        Raises:
            MLOpsError: something could not be delivered; the connection is closed all the same.
        """
        troubles = [self._leave(run) for run in self._open()]
        if self._owned:
            self.client.close()
        for trouble in filter(None, troubles):
            raise trouble

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> "list[ActiveRun]":
        return [run for run in self._runs if run.is_open]

    def _leave(self, run: "ActiveRun") -> Exception | None:
        if self._owned:
            return run._end_anyway(RunStatus.FAILED, "The tracker was closed without ending the run.", _PATIENCE_S)
        try:
            run.flush()
        except Exception as trouble:  # every run gets its turn
            return trouble
        return None

    def _ensure(self, name: str) -> None:
        try:
            self.client.experiments.get_experiment(name)
        except NotFound:
            with contextlib.suppress(AlreadyExists):  # another program may be faster
                self.client.experiments.create_experiment(name)


class ActiveRun:
    """A run that is being made. Leaving its `with` block ends it: `finished`, or as the exception says.

    Thread-safe, within the process that began it. Values may be Python numbers or anything that `float()` takes, such as
    NumPy's; NaN and infinities are kept.
    """

    def __init__(self, client: Client, run: Run) -> None:
        self.client = client
        self.id = run.id
        self.name = run.name
        self.experiment = run.experiment
        self._process = os.getpid()
        self._parameters = dict(run.parameters)
        self._lock, self._ending = threading.Lock(), threading.RLock()
        self._delivery = Delivery(self._send)
        self._heartbeat_s = min(_HEARTBEAT_S, client.settings.run_heartbeat_timeout_s / 4)
        self._wake, self._ended = threading.Event(), threading.Event()
        self._sender = threading.Thread(target=self._send_forever, name=f"tracker-{self.id}", daemon=True)
        self._sender.start()
        _open_runs.add(self)

    @property
    def is_open(self) -> bool:
        """Tell whether more can be recorded."""
        return not self._ended.is_set()

    def log_metric(self, key: str, value: Any, *, step: int = 0, timestamp: datetime | None = None) -> None:
        """Record one value of a metric at a step."""
        self.log_metrics({key: value}, step=step, timestamp=timestamp)

    def log_metrics(self, metrics: Mapping[str, Any], *, step: int = 0, timestamp: datetime | None = None) -> None:
        """Record values of metrics at a step. Returns at once; they are delivered in the background.

        Raises:
            ExperimentError: the run has ended, or a million values wait to be delivered.
        """
        moment, place = timestamp or datetime.now(UTC), operator.index(step)
        self._add(
            *(MetricPoint(key=key, value=float(value), step=place, timestamp=moment) for key, value in metrics.items())
        )

    def log_params(self, parameters: Mapping[str, Any]) -> None:
        """Record parameters; each is recorded once, and again only with the same value. Delivered in the background.

        Raises:
            ParameterChanged: this program recorded another value before. What another program recorded shows at the end.
        """
        batch = LogBatch(parameters=_plain(parameters))
        with self._lock:
            check_parameters(self._parameters, batch.parameters)
            self._add(batch)
            self._parameters.update(batch.parameters)

    def log_param(self, key: str, value: Any) -> None:
        """Record one parameter."""
        self.log_params({key: value})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set labels; the last value of each counts. Delivered in the background."""
        self._add(LogBatch(tags=dict(tags)))

    def log_artifact(self, content: Path | str | bytes | io.IOBase, path: str | None = None) -> str:
        """Store a file (or bytes, under `path`) with the run, and return its digest. Waits until it is stored.

        Raises:
            MLOpsError: it could not be stored.
        """
        self._check_open()
        source: Any = Path(content) if isinstance(content, str) else content
        if path is None:
            if not isinstance(source, Path):
                raise ExperimentError("Bytes need a `path` in the run.")
            path = source.name
        artifact = self.client.data.upload_artifact(source)
        self.client.experiments.link_run_artifact(self.id, path, artifact.digest)
        return artifact.digest

    def flush(self, *, within_s: float = _PATIENCE_S) -> None:
        """Deliver what was logged so far.

        Raises:
            MLOpsError: the platform refused something, which is dropped and told this once; or it did not answer in time,
                and what waits is tried again in the background.
        """
        self._delivery.flush(within_s)

    def end(
        self,
        status: RunStatus | str = RunStatus.FINISHED,
        reason: str | None = None,
        *,
        within_s: float = _PATIENCE_S,
    ) -> Run:
        """Deliver what waits and end the run. Ending it a second time returns it as it ended.

        Raises:
            MLOpsError: not all could be delivered; the run goes on then, and `end` may be called again.
        """
        final = RunStatus(status)
        if final is RunStatus.RUNNING:
            raise InvalidInput("A run ends as finished, failed or canceled.")
        with self._ending:
            if self._ended.is_set():
                return self.client.experiments.get_run(self.id)
            self._delivery.close()
            try:
                self._delivery.flush(within_s)
                run = self.client.experiments.update_run(self.id, status=final, reason=reason)
            except BaseException:
                self._delivery.reopen()
                raise
            self._stop()
            return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.is_open:
            return
        if error is None:
            self._finish()
            return
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        status = RunStatus.CANCELED if stopped else RunStatus.FAILED
        trouble = self._end_anyway(status, _sentence(error), _HURRY_S)
        if trouble is not None:
            error.add_note(f"The record of the run '{self.id}' is incomplete: {trouble}")

    def _finish(self) -> None:
        """End the run as finished, or, where its record would be incomplete, as failed; then raise."""
        try:
            self.end(within_s=_PATIENCE_S)
        except Exception as incomplete:
            self._give_up(RunStatus.FAILED, f"Its record is incomplete: {_sentence(incomplete)}", incomplete)
            raise

    def _end_anyway(self, status: RunStatus, reason: str, within_s: float) -> Exception | None:
        """End the run whether or not all of it can be delivered, and return what went wrong."""
        with self._ending:
            self._delivery.close()
            try:
                self._delivery.flush(within_s)
            except Exception as incomplete:
                return self._give_up(status, reason, incomplete)
            return self._give_up(status, reason, None)

    def _give_up(self, status: RunStatus, reason: str, trouble: Exception | None) -> Exception | None:
        """Tell the platform the end, unless it is away: then it ends the run itself, for want of heartbeats."""
        try:
            if trouble is None or not passes(trouble):
                self.client.experiments.update_run(self.id, status=status, reason=reason[:_REASON])
        except Exception as refused:
            trouble = trouble or refused
        self._delivery.close()
        self._stop()
        return trouble

    def _add(self, *entries: MetricPoint | LogBatch) -> None:
        self._check_open()
        if self._delivery.add(entries) >= BATCH or any(isinstance(entry, LogBatch) for entry in entries):
            self._wake.set()

    def _check_open(self) -> None:
        if self._ended.is_set():
            raise ExperimentError(f"The run '{self.id}' has ended.", hint="Start another run.")
        if os.getpid() != self._process:
            raise ExperimentError(
                f"The run '{self.id}' was begun in another process, and only that one delivers what is logged.",
                hint="Begin a run in this process, or hand the values to the one that began it.",
            )

    def _stop(self) -> None:
        self._ended.set()
        self._wake.set()
        _open_runs.discard(self)
        if self._sender is not threading.current_thread():
            self._sender.join(timeout=1)

    def _send(self, batch: LogBatch) -> object:
        if self.client.rest.http.is_closed:
            raise ExperimentError("The client was closed before all was delivered.", hint="End runs before closing it.")
        return self.client.experiments.log_batch(
            self.id, metrics=batch.metrics, parameters=batch.parameters, tags=batch.tags
        )

    def _send_forever(self) -> None:
        while not self._ended.is_set():
            self._wake.wait(min(_FLUSH_S, self._heartbeat_s))
            self._wake.clear()
            while not self._ended.is_set() and self._delivery.send_next():
                pass
            if not self._ended.is_set() and time.monotonic() - self._delivery.heard_at >= self._heartbeat_s:
                self._beat()

    def _beat(self) -> None:
        try:
            self.client.experiments.heartbeat(self.id)
        except Exception as failure:  # the next one may be heard
            log.debug("the heartbeat of run %s was not heard: %s", self.id, failure)
        else:
            self._delivery.heard_at = time.monotonic()


_open_runs: set[ActiveRun] = set()
_default: ExperimentTracker | None = None
_default_lock = threading.Lock()


def start_experiment(name: str, **options: Any) -> ActiveRun:
    """Begin a run with the tracker of the settings: `with start_experiment("churn") as run: …`."""
    global _default
    with _default_lock:
        if _default is None or _default._process != os.getpid():  # a forked child opens its own
            _default = ExperimentTracker()
    return _default.start_experiment(name, **options)


def _end_at_exit() -> None:
    """End what a program left running when it ended; a forked child leaves its parent's runs alone."""
    for run in [run for run in _open_runs if run._process == os.getpid()]:
        trouble = run._end_anyway(RunStatus.FAILED, "The program ended without ending the run.", _HURRY_S)
        if trouble is not None:
            log.warning("The record of the run '%s' is incomplete: %s", run.id, trouble)
    if _default is not None and _default._process == os.getpid():
        with contextlib.suppress(Exception):
            _default.close()


atexit.register(_end_at_exit)


def _sentence(error: BaseException) -> str:
    """Say in a line what was raised, in what a database takes: file names may hold bytes that are no text."""
    try:
        text = str(error)
    except Exception:
        text = ""
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line.replace("\0", "").encode(errors="replace").decode()[:_REASON]


def _plain(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return parameters as JSON has them: NumPy's numbers as Python's, what JSON lacks as text."""
    return {key: _json(value) for key, value in (parameters or {}).items()}


def _json(value: Any) -> Any:
    if isinstance(value, Enum):
        return _json(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return _json(value.item()) if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else str(value)
