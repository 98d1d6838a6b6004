"""Sending a spool: in order, each entry at least once, and what the platform refuses is set aside and holds nothing back."""

import contextlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from modelops.contracts.errors import (
    AlreadyExists,
    ExperimentError,
    MLOpsError,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
)
from modelops.contracts.rest import Rest
from modelops.domains.data.client import Data
from modelops.domains.experiments.client import Experiments, RunEnded
from modelops.domains.experiments.rules import RunDeleted
from modelops.domains.experiments.schemas import Run, RunStatus
from modelops.sdk.client import Client
from modelops.sdk.spool.folder import SpoolFolder
from modelops.sdk.spool.records import End, Entry, File, Parameter, Point, Tag
from modelops.sdk.spool.segments import forget_before, read_batch

REASON = 4_000
"""The longest reason that is told for the end of a run."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC, as what is added to it
_ALL_ALIKE = (RunEnded, RunDeleted, NotFound, PermissionDenied)


class ClientClosed(ExperimentError):
    """The client was closed before all that was logged could be sent."""

    code, title = "experiments.client_closed", "The client is closed"


def passes(failure: Exception) -> bool:
    """Tell whether a failure may pass by waiting: the platform is away or overloaded, or does not know the caller now.

    What is refused for what it is (an ended run, a parameter with another value) stays refused however often it is sent.
    """
    if isinstance(failure, MLOpsError) and not isinstance(failure, RateLimited | Unauthenticated):
        return failure.status >= 500
    return True


def sentence(error: BaseException) -> str:
    """Say in a line what was raised, in what a database takes: file names may hold bytes that are no text."""
    try:
        text = str(error)
    except Exception:
        text = ""
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line.replace("\0", "").encode(errors="replace").decode()[:REASON]


class Sender:
    """Sends one spool, whose lock its user holds, a step at a time. Not thread-safe.

    Args:
        spool: What to send.
        client: Where to; it asks once and does not wait, so its user decides when to try again.
        dropped: Tells how many entries the program that still writes could not keep.
    """

    def __init__(self, spool: SpoolFolder, client: Client, dropped: Callable[[], int] | None = None) -> None:
        self.spool, self.header, self.progress = spool, spool.header(), spool.progress()
        self.handled = 0
        self.refusal: Exception | None = None
        self.ended_run: Run | None = None
        self._is_over = False
        self._http = client.rest.http
        rest = Rest(self._http, retry_for_s=0)
        self.runs, self._data = Experiments(rest), Data(rest)
        self._dropped = dropped or (lambda: self.progress.dropped)

    def begin(self) -> Run:
        """Begin the run on the platform, and remember its id. Sent again, it is the same run.

        Raises:
            MLOpsError: the platform is away (`passes`), or refuses the run.
        """
        header = self.header
        try:
            self._check_open()
            self._ensure(header.experiment)
            run = self.runs.create_run(
                header.experiment, name=header.name, parameters=header.parameters, tags=header.tags, key=header.key
            )
        except Exception as failure:
            if not passes(failure):
                self._keep(failure=sentence(failure))
            raise
        self._keep(run_id=run.id, failure=None)
        return run

    def step(self) -> bool:
        """Send what is next, and tell whether there was something.

        Raises:
            MLOpsError: a failure that may pass, after which nothing was skipped; or the run itself is refused.
        """
        self._check_open()
        if self.progress.run_id is None:
            self.begin()
            return True
        batch = read_batch(self.spool.path, self.progress.position)
        if batch.end == self.progress.position:
            return False
        match batch.entries:
            case [File() as file]:
                refused = self._send_file(file)
            case [End() as end]:
                self.end(end)
                refused = []
            case entries:
                refused = self._send(entries) if entries else []
        for group, failure in refused:
            self._set_aside(group, failure)
        self.handled += len(batch.entries)
        self._keep(
            segment=batch.end.segment,
            offset=batch.end.offset,
            damaged=(*self.progress.damaged, *batch.damaged),
            dropped=self._dropped(),
        )
        forget_before(self.spool.path, batch.end)
        match batch.entries:
            case [File() as file] if not refused:
                self.spool.content(file).unlink(missing_ok=True)
        return True

    def end(self, end: End) -> None:
        """End the run on the platform; one whose record has gaps does not read as finished, where that is asked."""
        status, reason = end.status, end.reason
        self._keep(dropped=self._dropped())
        if end.whole_only and status == RunStatus.FINISHED and self.progress.gaps:
            told = next((why for why, _ in self.spool.refused()), self.progress.gaps)
            status, reason = RunStatus.FAILED, f"Its record is incomplete: {told}"[:REASON]
        try:
            self.ended_run = self.runs.update_run(self._run_id, status=status, reason=reason)
        except Exception as failure:
            if passes(failure):
                raise
            self._set_aside([end], failure)
        self._keep(ended=True)

    @property
    def _run_id(self) -> str:
        if self.progress.run_id is None:
            raise ExperimentError("The run has not begun on the platform yet.")
        return self.progress.run_id

    def _send(self, entries: Sequence[Entry]) -> list[tuple[Sequence[Entry], Exception]]:
        """Send entries, and return what was refused of them: halves are tried until the refused ones stand alone."""
        try:
            self.runs.log_json(self._run_id, write_batch(entries))
        except Exception as failure:
            if passes(failure):
                raise
            if isinstance(failure, RunEnded) and self._goes_on():
                return self._send(entries)
            if len(entries) == 1 or isinstance(failure, _ALL_ALIKE):
                return [(entries, failure)]
            middle = len(entries) // 2
            return self._send(entries[:middle]) + self._send(entries[middle:])
        return []

    def _goes_on(self) -> bool:
        """Tell whether the run goes on: one that the platform took for dead does, now that its maker is heard of."""
        if self._is_over:
            return False
        try:
            self.runs.update_run(self._run_id, status=RunStatus.RUNNING)
        except Exception as refused:
            if passes(refused):
                raise
            self._is_over = True
        return not self._is_over

    def _send_file(self, file: File) -> list[tuple[Sequence[Entry], Exception]]:
        content = self.spool.content(file)
        try:
            artifact = self._data.upload_artifact(content, digest=file.digest)
            self.runs.link_run_artifact(self._run_id, file.path, artifact.digest)
        except Exception as failure:
            if passes(failure):
                raise
            return [([file], failure)]
        return []

    def _set_aside(self, entries: Sequence[Entry], failure: Exception) -> None:
        self.refusal = self.refusal or failure
        with contextlib.suppress(OSError):  # it is counted, and the disk is full
            self.spool.set_aside(entries, sentence(failure))
        self._keep(refused=self.progress.refused + len(entries))

    def _keep(self, **changes: object) -> None:
        self.progress = self.progress.model_copy(update=changes)
        self.spool.save(self.progress)

    def _ensure(self, experiment: str) -> None:
        try:
            self.runs.get_experiment(experiment)
        except NotFound:
            with contextlib.suppress(AlreadyExists):  # another program may be faster
                self.runs.create_experiment(experiment)

    def _check_open(self) -> None:
        if self._http.is_closed:
            raise ClientClosed(
                "The client was closed before all was delivered.",
                hint=f"End runs before closing it. What was logged lies in {self.spool.path}: mops runs sync",
            )


def write_batch(entries: Sequence[Entry]) -> bytes:
    """Return entries as the JSON of a `LogBatch`."""
    metrics, parameters, tags = [], {}, {}
    second, moment = -1, ""
    for entry in entries:
        match entry:
            case Point(key, value, step, time_us):
                if time_us // 1_000_000 != second:
                    second = time_us // 1_000_000
                    moment = (_EPOCH + timedelta(seconds=second)).isoformat()
                time = f"{moment}.{time_us % 1_000_000:06d}Z"
                metrics.append({"key": key, "value": _wire(value), "step": step, "timestamp": time})
            case Parameter(key, value):
                parameters[key] = value
            case Tag(key, value):
                tags[key] = value
    return json.dumps({"metrics": metrics, "parameters": parameters, "tags": tags}, allow_nan=False).encode()


def _wire(value: float) -> float | str:
    if value - value == 0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
