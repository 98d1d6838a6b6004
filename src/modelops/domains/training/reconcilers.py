"""What brings jobs to run, and to a true end."""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.contracts.ports import JobBackend, JobSpec, Limits, Phase
from modelops.contracts.settings import Settings
from modelops.domains.compute import service as compute
from modelops.domains.identity import service as identity
from modelops.domains.training import lifecycle
from modelops.domains.training.lifecycle import Seen, Wanted
from modelops.domains.training.rows import attempt_name
from modelops.domains.training.rules import environments, given_devices
from modelops.domains.training.schemas import JobState, Resources
from modelops.domains.training.tables import JobRow
from modelops.domains.training.usage import pack
from modelops.kernel.context import Context
from modelops.kernel.secrets import SecretBox
from modelops.kernel.work import PlatformUrl

log = logging.getLogger(__name__)

ORPHANS = "orphans"
PREFIX = "job_"
"""What the names of attempts begin with at the backend; others have processes there, too."""

_SWEEP_EVERY_S = 30.0


@dataclass(frozen=True)
class _Attempt:
    """A job's present attempt: what is to be done with it. It has a command while it is to be started."""

    name: str
    number: int
    state: JobState
    stop_reason: str | None
    command: "_Command | None"


@dataclass(frozen=True)
class _Command:
    job_id: str
    spec: JobSpec
    sealed_token: str


@dataclass(frozen=True)
class _Admit:
    """The job may start."""


@dataclass(frozen=True)
class _GiveWay:
    """The job must end, and go on later."""

    reason: str


class Jobs:
    """Admits queued jobs while there is room, starts and watches their processes, and writes down how they ended.

    What starts a job is a unit of work of its own: after it, any controller may start the process, and because the attempt's
    name is fixed by then, none can start it twice.
    """

    name = "training.jobs"

    def __init__(self) -> None:
        self._sweeps: WeakKeyDictionary[Any, _Sweep] = WeakKeyDictionary()

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the jobs under way, those that may begin, and now and then the sweep."""
        keys = lifecycle.active_jobs(ctx)
        return [ORPHANS, *keys] if self._sweep_of(ctx.ports).is_due(ctx.clock.monotonic()) else keys

    def load(self, ctx: Context, key: str) -> Any:
        """Return what acting on a job needs."""
        if key == ORPHANS:
            return lifecycle.wanted_attempts(ctx)
        row = lifecycle.read_job(ctx, key)
        if row is None:
            return None
        if row.state == JobState.QUEUED:
            return _Admit()
        if row.queue is not None and row.state in (JobState.STARTING, JobState.RUNNING):
            reason = compute.preemption_of(ctx, row.id)
            if reason is not None:
                return _GiveWay(reason)
        return _attempt(ctx, row)

    def act(self, ports: Mapping[type, Any], state: Any) -> Any:
        """Start, stop or look at a job's process."""
        if isinstance(state, Wanted):
            self._sweep_of(ports).run(ports[JobBackend], state)
            return None
        return state if isinstance(state, _Admit | _GiveWay) else _drive(ports, state)

    def apply(self, ctx: Context, key: str, seen: Any) -> bool:
        """Write back what was seen; a job that was admitted just now is started at once."""
        if isinstance(seen, Seen):
            lifecycle.settle(ctx, key, seen)
            return False
        if isinstance(seen, _GiveWay):
            lifecycle.must_give_way(ctx, key, seen.reason)
        else:
            lifecycle.admit(ctx, key)
        return True

    def _sweep_of(self, ports: Mapping[type, Any]) -> "_Sweep":
        """Return the sweep of a backend: several platforms may be open in one process."""
        return self._sweeps.setdefault(ports[JobBackend], _Sweep())


class Leaks:
    """Frees what jobs hold in queues that have ended: they free it themselves as they end, so that there is never any, unless
    somebody changed rows by hand."""

    name = "training.leaks"
    rest_s = _SWEEP_EVERY_S

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the jobs that hold what they should not."""
        return lifecycle.leaks(ctx)

    def load(self, ctx: Context, key: str) -> str:
        """Return the job."""
        return key

    def act(self, ports: Mapping[type, Any], state: str) -> str:
        """Do nothing: only rows are wrong."""
        return state

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """Free it, and count it."""
        lifecycle.mend(ctx, key)


class _Sweep:
    """Ends what runs for no job, and forgets what ended long ago; each only when it was seen so twice: a job may have been
    admitted by another controller between the look at the database and the look at the backend."""

    def __init__(self) -> None:
        self._due_at = float("-inf")
        self._suspects: frozenset[str] = frozenset()

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to look again, and note that it was done."""
        if now < self._due_at:
            return False
        self._due_at = now + _SWEEP_EVERY_S
        return True

    def run(self, backend: JobBackend, wanted: Wanted) -> None:
        """Compare what the backend has with what is wanted."""
        strangers = [name for name in backend.names() if name.startswith(PREFIX) and name not in wanted.live]
        running = {name for name in strangers if not backend.observe(name).ended}
        suspects = frozenset(name for name in strangers if name in running or name not in wanted.kept)
        for name in sorted(suspects & self._suspects):
            if name in running:
                log.warning("the process of '%s' runs for no job and is ended", name)
                backend.stop(name, reason="it belongs to no job that runs")
            else:
                backend.remove(name)
        self._suspects = suspects


def _drive(ports: Mapping[type, Any], attempt: _Attempt) -> Seen | None:
    """Move a job's process one step, and look at it. What keeps it from starting is an observation too."""
    backend: JobBackend = ports[JobBackend]
    problem, hopeless = None, False
    if attempt.command is not None:
        try:
            backend.start(_command(attempt.command, ports))
        except Exception as wrong:
            expected = isinstance(wrong, MLOpsError)
            log.warning("'%s' could not be started: %s", attempt.name, wrong, exc_info=None if expected else wrong)
            problem, hopeless = str(wrong) or type(wrong).__name__, isinstance(wrong, InvalidInput)
    elif attempt.state in (JobState.CANCELING, JobState.PREEMPTING):
        backend.stop(attempt.name, reason=attempt.stop_reason or "cancelled")
    seen = backend.observe(attempt.name)
    if seen.phase is Phase.STARTING:
        problem = problem or seen.reason
    if attempt.state is JobState.RUNNING and seen.phase in (Phase.STARTING, Phase.RUNNING):
        return None  # nothing new
    samples = pack(backend.usage(attempt.name)) if seen.ended else None
    return Seen(attempt.number, seen, problem, hopeless, samples)


def _attempt(ctx: Context, row: JobRow) -> _Attempt:
    starting = row.state == JobState.STARTING
    return _Attempt(
        name=attempt_name(row.id, row.attempt),
        number=row.attempt,
        state=JobState(row.state),
        stop_reason=row.reason if row.state == JobState.PREEMPTING else row.cancel_reason,
        command=_Command(row.id, _spec(ctx, row), row.sealed_token or "") if starting else None,
    )


def _spec(ctx: Context, row: JobRow) -> JobSpec:
    resources = Resources.model_validate(row.resources)
    placement = compute.placement_of(ctx, row.id) if row.queue is not None else None
    task = {
        "job_id": row.id,
        "recipe": row.recipe,
        "parameters": row.parameters,
        "dataset_version_id": row.dataset_version_id,
        "dataset": row.dataset,
        "inputs": row.inputs,
        "attempt": row.attempt,
        "environment": row.environment,
        "experiment": row.experiment,
        "processes": resources.processes,
        "cpus": resources.cpus,
        "memory_mb": resources.memory_mb,
        "gpu_shares": placement.gpu_count if placement is not None else 0,
    }
    return JobSpec(
        name=attempt_name(row.id, row.attempt),
        argv=(sys.executable, "-m", "modelops.runtime", "train"),
        # How often the trainer's runs must be heard of: a quiet recipe would be taken for gone under a shorter timeout.
        env={
            "MODELOPS_RUN_HEARTBEAT_TIMEOUT_S": str(ctx.settings.run_heartbeat_timeout_s),
            **(environments(ctx.settings) if row.environment else {}),
            **_containers(ctx.settings),
            **({"SPARK_MASTER_URL": ctx.settings.spark_master_url} if ctx.settings.spark_master_url else {}),
            **given_devices(placement),
        },
        files={"job.json": json.dumps(task)},
        limits=Limits(
            cpus=resources.cpus,
            memory_bytes=resources.memory_mb * 1024 * 1024 if resources.memory_mb else None,
            timeout_s=resources.timeout_s,
        ),
        placement=placement,
        tenant=identity.tenant_of(ctx, row.project_id),
    )


def _containers(settings: Settings) -> dict[str, str]:
    """Return the variables that say how containers are run, where that is not the usual way."""
    said = {
        "MODELOPS_CONTAINER_COMMAND": settings.container_command,
        "MODELOPS_CONTAINER_OPTIONS": settings.container_options,
    }
    usual = {"MODELOPS_CONTAINER_COMMAND": "podman", "MODELOPS_CONTAINER_OPTIONS": ""}
    return {name: value for name, value in said.items() if value != usual[name]}


def _command(command: _Command, ports: Mapping[type, Any]) -> JobSpec:
    """Return the command with the job's token and the platform's address."""
    box: SecretBox = ports[SecretBox]
    url: PlatformUrl = ports[PlatformUrl]
    token = box.open(command.sealed_token, command.job_id).decode()
    files = {**command.spec.files, "token": token}
    return replace(command.spec, env={**command.spec.env, "MODELOPS_URL": url.get()}, files=files)
