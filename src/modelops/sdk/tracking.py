"""Tracking experiments from a program: `ExperimentTracker`, and `start_experiment` for those in a hurry.

Logging never waits for the network and never raises for its sake: what is logged is handed to the operating system in a file
of the spool before the call returns, so that a killed program loses nothing of it, and a thread sends it from there. A
platform that is away costs nothing but time: a run may begin and end without it, and `mops runs sync` sends what a program
left behind. What the platform refuses is set aside and told; a run whose record has gaps never reads `finished`.
"""

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from modelops.contracts.errors import ExperimentError, MLOpsError, RateLimited
from modelops.contracts.ids import new_id
from modelops.domains.experiments.schemas import Run, RunCreate, RunStatus
from modelops.sdk.active_run import ActiveRun, end_at_exit
from modelops.sdk.client import Client
from modelops.sdk.spool.folder import Header, SpoolFolder
from modelops.sdk.spool.segments import Room, Writer
from modelops.sdk.spool.sender import Sender
from modelops.sdk.spool.values import plain

log = logging.getLogger(__name__)

_PATIENCE_S = 30.0
_START_S = 3.0
_AWAY_S = 30.0
_PAUSE_S = 0.1


class ExperimentTracker:
    """Tracks experiments on a platform.

    Args:
        backend: A client, a platform's address, or None for the one of the settings (in this process, where none is named).
        experiment: Where runs go that name no experiment.
        project: The project, where `backend` is no client.
        offline: Whether runs may begin while the platform is away; they are begun there when it is back.
        spool: Where what is logged lies until it is sent; by default as the settings say.
    """

    def __init__(
        self,
        backend: Client | str | None = None,
        *,
        experiment: str | None = None,
        project: str | None = None,
        offline: bool = True,
        spool: Path | None = None,
    ) -> None:
        self.client = backend if isinstance(backend, Client) else Client(backend, project=project)
        self.experiment = experiment
        self.offline = offline
        settings = self.client.settings
        self.spool = (spool or settings.tracking_spool or settings.home / "runs").expanduser().absolute()
        self._owned = not isinstance(backend, Client)
        self._process = os.getpid()
        self._away_until = 0.0
        self._runs: weakref.WeakSet[ActiveRun] = weakref.WeakSet()

    def start_experiment(
        self,
        name: str | None = None,
        *,
        run_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> ActiveRun:
        """Begin a run in an experiment, which is made if it is new, and return it for a `with` block.

        Raises:
            ExperimentError: no experiment is named, here or on the tracker; or the spool cannot be written.
            MLOpsError: the platform refuses the run; or it is away, and `offline` is not allowed.
        """
        name = name or self.experiment
        if name is None:
            raise ExperimentError("No experiment is named.", hint="Name one: `tracker.start_experiment('churn')`.")
        wanted = RunCreate(experiment=name, name=run_name, parameters=plain(parameters), tags=dict(tags or {}))
        spool, writer = self._open_spool(wanted)
        sender = Sender(spool, self.client, dropped=lambda: writer.dropped)
        try:
            run = self._begin(sender)
        except BaseException:
            writer.close()
            spool.remove()
            raise
        active = ActiveRun(self.client, sender, writer, run)
        self._runs.add(active)
        return active

    def flush(self, *, within_s: float = _PATIENCE_S) -> None:
        """Deliver what waits on every open run. Raises as `ActiveRun.flush`."""
        for run in self._open():
            run.flush(within_s=within_s)

    def close(self) -> None:
        """Deliver what waits, and close the connection if the tracker opened it; runs still open then end as failed."""
        for run in self._open():
            if self._owned:
                run.finish(RunStatus.FAILED, "The tracker was closed without ending the run.")
            else:
                try:
                    run.flush()
                except MLOpsError as trouble:  # it lies in the spool, and the run goes on
                    log.warning("Not all of the run '%s' was delivered: %s", run.id, trouble)
        if self._owned:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> list[ActiveRun]:
        return [run for run in self._runs if run.is_open]

    def _open_spool(self, wanted: RunCreate) -> tuple[SpoolFolder, Writer]:
        header = Header(
            spool_id=new_id("local"),
            key=new_id("begin"),
            url=self.client.settings.url,
            project=self.client.settings.project,
            experiment=wanted.experiment,
            name=wanted.name,
            parameters=wanted.parameters,
            tags=wanted.tags,
            began_at=datetime.now(UTC),
        )
        try:
            spool = SpoolFolder.create(self.spool, header)
            return spool, Writer(spool.path, Room(self.spool, self.client.settings.tracking_spool_bytes))
        except OSError as failure:
            raise ExperimentError(
                f"What is logged cannot be kept in {self.spool}: {failure.strerror or failure}.",
                hint="Name a folder that can be written: MODELOPS_TRACKING_SPOOL.",
            ) from failure

    def _begin(self, sender: Sender) -> Run | None:
        """Begin the run on the platform, or leave that for later while it is away."""
        if self.offline and time.monotonic() < self._away_until:
            return None
        patience = self.client.rest.retry_for_s
        deadline = time.monotonic() + (min(patience, _START_S) if self.offline else patience)
        while True:
            try:
                return sender.begin()
            except MLOpsError as failure:
                if not (isinstance(failure, RateLimited) or failure.status >= 500):
                    raise
                pause = max(_PAUSE_S, failure.retry_after_s)
                if time.monotonic() + pause > deadline:
                    if not self.offline:
                        raise
                    self._away_until = time.monotonic() + _AWAY_S
                    log.warning("The run is recorded in %s until it can be sent: %s", sender.spool.path, failure)
                    return None
                time.sleep(pause)


_default: ExperimentTracker | None = None
_default_lock = threading.Lock()


def start_experiment(name: str, **options: Any) -> ActiveRun:
    """Begin a run with the tracker of the settings: `with start_experiment("churn") as run: …`."""
    return default_tracker().start_experiment(name, **options)


def default_tracker() -> ExperimentTracker:
    """Return this process's tracker of the settings."""
    global _default
    with _default_lock:
        if _default is None or _default._process != os.getpid():  # a forked child opens its own
            _default = ExperimentTracker()
    return _default


def _end_at_exit() -> None:
    end_at_exit()
    if _default is not None and _default._process == os.getpid():
        with contextlib.suppress(Exception):
            _default.close()


atexit.register(_end_at_exit)
