"""Tracking experiments from a program: `ExperimentTracker`, and `start_experiment` for those in a hurry.

Logging never waits for the network: points go into a buffer that a thread delivers about once a second. What could not be
delivered is tried again while the run lasts, and reported when it ends. A heartbeat tells the platform that the program
lives; one that is killed leaves a run that the platform ends as failed.
"""

import atexit
import contextlib
import io
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modelops.contracts.errors import AlreadyExists, ExperimentError, MLOpsError, NotFound, Unavailable
from modelops.domains.experiments.schemas import MetricPoint, Run, RunStatus
from modelops.sdk.client import Client

_FLUSH_S = 1.0
_HEARTBEAT_S = 10.0
_BATCH = 1_000
_KEPT = 1_000_000


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
        return ActiveRun(self.client, run)

    def close(self) -> None:
        """Close the connection, if the tracker opened it."""
        if self._owned:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ensure(self, name: str) -> None:
        try:
            self.client.experiments.get_experiment(name)
        except NotFound:
            with contextlib.suppress(AlreadyExists):  # another program may be faster
                self.client.experiments.create_experiment(name)


class ActiveRun:
    """A run that is being made. Leaving its `with` block ends it: `finished`, or as the exception says.

    Thread-safe. Values may be Python numbers or anything that `float()` takes, such as NumPy's.
    """

    def __init__(self, client: Client, run: Run) -> None:
        self.client = client
        self.id = run.id
        self.name = run.name
        self.experiment = run.experiment
        self._lock = threading.Lock()
        self._points: list[MetricPoint] = []
        self._failure: MLOpsError | None = None
        self._wake, self._ended = threading.Event(), threading.Event()
        self._sender = threading.Thread(target=self._send_forever, name=f"tracker-{self.id}", daemon=True)
        self._sender.start()
        _open_runs.add(self)

    def log_metric(self, key: str, value: Any, *, step: int = 0, timestamp: datetime | None = None) -> None:
        """Record one value of a metric at a step."""
        self.log_metrics({key: value}, step=step, timestamp=timestamp)

    def log_metrics(self, metrics: Mapping[str, Any], *, step: int = 0, timestamp: datetime | None = None) -> None:
        """Record values of metrics at a step. Returns at once; the values are delivered in the background.

        Raises:
            ExperimentError: the run has ended, or more than a million points wait to be delivered.
        """
        moment = timestamp or datetime.now(UTC)
        points = [
            MetricPoint(key=key, value=float(value), step=step, timestamp=moment) for key, value in metrics.items()
        ]
        with self._lock:
            self._check_open()
            if len(self._points) + len(points) > _KEPT:
                raise ExperimentError(
                    f"The platform is away, and {_KEPT:,} points wait for it already."
                ) from self._failure
            self._points += points
            if len(self._points) >= _BATCH:
                self._wake.set()

    def log_params(self, parameters: Mapping[str, Any]) -> None:
        """Record parameters; each is recorded once."""
        self._check_open()
        self.client.experiments.log_batch(self.id, parameters=_plain(parameters))

    def log_param(self, key: str, value: Any) -> None:
        """Record one parameter."""
        self.log_params({key: value})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set labels; the last value of each counts."""
        self._check_open()
        self.client.experiments.log_batch(self.id, tags=tags)

    def log_artifact(self, content: Path | str | bytes | io.IOBase, path: str | None = None) -> str:
        """Store a file (or bytes, under `path`) with the run, and return its digest."""
        self._check_open()
        source: Any = Path(content) if isinstance(content, str) else content
        if path is None:
            if not isinstance(source, Path):
                raise ExperimentError("Bytes need a `path` in the run.")
            path = source.name
        artifact = self.client.data.upload_artifact(source)
        self.client.experiments.link_run_artifact(self.id, path, artifact.digest)
        return artifact.digest

    def flush(self, *, within_s: float = 30.0) -> None:
        """Deliver what waits.

        Raises:
            MLOpsError: it could not be delivered in time, for the reason that the error gives.
        """
        deadline = time.monotonic() + within_s
        while self._deliver():
            if time.monotonic() > deadline:
                raise self._failure or Unavailable("The metrics could not be delivered in time.")
            if self._failure is not None:
                time.sleep(0.2)

    def end(self, status: RunStatus | str = RunStatus.FINISHED, reason: str | None = None) -> Run:
        """Deliver what waits and end the run. Ending it a second time returns it as it ended.

        Raises:
            MLOpsError: metrics could not be delivered; the run is not ended then, and `end` may be called again.
        """
        if not self._ended.is_set():
            self.flush()
            self.client.experiments.update_run(self.id, status=RunStatus(status), reason=reason)
            self._stop()
        return self.client.experiments.get_run(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
            return
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        status = RunStatus.CANCELED if stopped else RunStatus.FAILED
        try:
            self.end(status, f"{type(error).__name__}: {error}"[:4000].replace("\0", ""))
        except MLOpsError as undelivered:
            error.add_note(f"The run '{self.id}' could not be ended: {undelivered}")
            self._stop()

    def _check_open(self) -> None:
        if self._ended.is_set():
            raise ExperimentError(f"The run '{self.id}' has ended.", hint="Start another run.")

    def _stop(self) -> None:
        self._ended.set()
        self._wake.set()
        _open_runs.discard(self)

    def _send_forever(self) -> None:
        beat = time.monotonic()
        while not self._ended.is_set():
            self._wake.wait(_FLUSH_S)
            self._wake.clear()
            if self._deliver():
                beat = time.monotonic()
            elif time.monotonic() - beat > _HEARTBEAT_S and not self._ended.is_set():
                self._attempt(lambda: self.client.experiments.heartbeat(self.id))
                beat = time.monotonic()

    def _deliver(self) -> bool:
        """Send one batch, and tell whether anything waited."""
        with self._lock:
            batch = self._points[:_BATCH]
        if not batch:
            return False
        if self._attempt(lambda: self.client.experiments.log_batch(self.id, metrics=batch)):
            with self._lock:
                del self._points[: len(batch)]
        return True

    def _attempt(self, send: Callable[[], object]) -> bool:
        try:
            send()
        except MLOpsError as failure:
            self._failure = failure
            return False
        self._failure = None
        return True


_open_runs: "weakref.WeakSet[ActiveRun]" = weakref.WeakSet()
_default: ExperimentTracker | None = None
_default_lock = threading.Lock()


def start_experiment(name: str, **options: Any) -> ActiveRun:
    """Begin a run with the tracker of the settings: `with start_experiment("churn") as run: …`."""
    global _default
    with _default_lock:
        if _default is None:
            _default = ExperimentTracker()
    return _default.start_experiment(name, **options)


def _end_at_exit() -> None:
    """End what a program left running when it ended."""
    for run in list(_open_runs):
        try:
            run.end(RunStatus.FAILED, "The program ended without ending the run.")
        except MLOpsError:
            run._stop()  # the platform is away; its heartbeat check ends the run
    if _default is not None:
        _default.close()


atexit.register(_end_at_exit)


def _plain(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return parameters as JSON has them: NumPy's numbers as Python's, what JSON lacks as text."""
    return {key: _json(value) for key, value in (parameters or {}).items()}


def _json(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return _json(value.item()) if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else str(value)
