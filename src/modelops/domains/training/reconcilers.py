"""What brings jobs to run, and to a true end."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelops.contracts.ports import JobBackend, JobSpec, Limits, Observation
from modelops.domains.training import service
from modelops.domains.training.schemas import JobState, Resources
from modelops.domains.training.tables import JobRow
from modelops.kernel.context import Context
from modelops.kernel.secrets import SecretBox
from modelops.kernel.work import PlatformUrl

LEFTOVERS = "leftovers"
_CLEAN_EVERY_S = 30.0


@dataclass(frozen=True)
class _Attempt:
    """A job's present attempt: what is to be done with it, and what is known of it."""

    job_id: str
    name: str
    number: int
    state: JobState
    cancel_reason: str | None
    spec: JobSpec | None
    sealed_token: str | None


@dataclass(frozen=True)
class _Admit:
    """The job may start."""


class Jobs:
    """Admits queued jobs while there is room, starts and watches their processes, and writes down how they ended."""

    name = "training.jobs"

    def __init__(self) -> None:
        self._cleaned_at = float("-inf")
        self._suspects: frozenset[str] = frozenset()

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the jobs under way, those that may begin, and now and then the cleaning up."""
        keys = service.active_jobs(ctx)
        now = ctx.clock.monotonic()
        if now - self._cleaned_at >= _CLEAN_EVERY_S:
            self._cleaned_at = now
            keys = [LEFTOVERS, *keys]
        return keys

    def load(self, ctx: Context, key: str) -> Any:
        """Return what acting on a job needs."""
        if key == LEFTOVERS:
            return service.kept_attempts(ctx)
        row = service.read_job_row(ctx, key)
        if row is None or JobState(row.state).final:
            return None
        return _Admit() if row.state == JobState.QUEUED else _attempt(row)

    def act(self, ports: Mapping[type, Any], state: Any) -> Any:
        """Start, stop or look at a job's process."""
        backend: JobBackend = ports[JobBackend]
        if isinstance(state, set):
            self._clean(backend, state)
            return None
        if isinstance(state, _Admit):
            return state
        if state.state is JobState.STARTING:
            backend.start(_with_secrets(state, ports))
        elif state.state is JobState.CANCELING:
            backend.stop(state.name, reason=state.cancel_reason or "cancelled")
        seen = backend.observe(state.name)
        if state.state is JobState.RUNNING and not seen.ended and seen.pid is not None:
            return None  # nothing new
        return state.number, seen

    def apply(self, ctx: Context, key: str, seen: Any) -> None:
        """Write back what was seen."""
        if isinstance(seen, _Admit):
            service.admit(ctx, key)
            return
        attempt, observation = seen
        assert isinstance(observation, Observation)  # noqa: S101 - what `act` returned
        service.settle(ctx, key, attempt, observation)

    def _clean(self, backend: JobBackend, kept: set[str]) -> None:
        """End and forget what belongs to no job, once it was seen twice: a job may have been admitted in between."""
        strangers = frozenset(backend.names()) - kept
        for name in strangers & self._suspects:
            if backend.observe(name).ended:
                backend.remove(name)
            else:
                backend.stop(name, reason="it belongs to no job")
        self._suspects = strangers


def _attempt(row: JobRow) -> _Attempt:
    starting = row.state == JobState.STARTING
    return _Attempt(
        job_id=row.id,
        name=service.attempt_name(row),
        number=row.attempt,
        state=JobState(row.state),
        cancel_reason=row.cancel_reason,
        spec=_spec(row) if starting else None,
        sealed_token=row.sealed_token if starting else None,
    )


def _spec(row: JobRow) -> JobSpec:
    resources = Resources.model_validate(row.resources)
    task = {
        "job_id": row.id,
        "recipe": row.recipe,
        "parameters": row.parameters,
        "dataset_version_id": row.dataset_version_id,
        "dataset": row.dataset,
        "experiment": row.experiment,
    }
    return JobSpec(
        name=service.attempt_name(row),
        argv=(sys.executable, "-m", "modelops.runtime", "train"),
        files={"job.json": json.dumps(task)},
        limits=Limits(
            cpus=resources.cpus,
            memory_bytes=resources.memory_mb * 1024 * 1024 if resources.memory_mb else None,
            timeout_s=resources.timeout_s,
        ),
    )


def _with_secrets(attempt: _Attempt, ports: Mapping[type, Any]) -> JobSpec:
    """Return the attempt's command with its token and the platform's address."""
    if attempt.spec is None or attempt.sealed_token is None:
        raise RuntimeError(f"The job '{attempt.job_id}' has no token to start with.")
    box: SecretBox = ports[SecretBox]
    url: PlatformUrl = ports[PlatformUrl]
    token = box.open(attempt.sealed_token, attempt.job_id).decode()
    spec = attempt.spec
    return JobSpec(
        name=spec.name,
        argv=spec.argv,
        env={"MODELOPS_URL": url.get()},
        files={**spec.files, "token": token},
        limits=spec.limits,
    )
