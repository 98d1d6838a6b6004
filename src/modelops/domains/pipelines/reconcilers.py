"""What drives runs outside of requests: their stories, their workers, their jobs, and the clock."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, MLOpsError, TooLarge
from modelops.contracts.ports import BlobStore, JobBackend, JobSpec, Phase
from modelops.contracts.schemas import Json
from modelops.domains.pipelines import caching, staffing, watching
from modelops.domains.pipelines.conduct import NAME
from modelops.domains.pipelines.schemas import ValueRef
from modelops.domains.pipelines.staffing import PREFIX, Place, Sight, Staff
from modelops.domains.pipelines.values import put_json, read_json
from modelops.domains.pipelines.watching import JobSeen
from modelops.domains.training.schemas import JobState
from modelops.kernel.context import Context
from modelops.kernel.secrets import SecretBox
from modelops.kernel.work import PlatformUrl
from modelops.kernel.workflows import StoryState, Workflows

log = logging.getLogger(__name__)

_CHECK_EVERY_S = 10.0
_SWEEP_EVERY_S = 60.0
_TIDY_EVERY_S = 600.0
_SWEEP = "sweep"


class _Now:
    """Tells, for each platform in this process, whether it is time again."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._due: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    def is_due(self, ctx: Context) -> bool:
        """Tell whether it is time, and note that it was done."""
        owner, now = ctx.ports[JobBackend], ctx.clock.monotonic()
        if now < self._due.get(owner, float("-inf")):
            return False
        self._due[owner] = now + self._every_s
        return True


class Stories:
    """Begins the story of each run, and ends runs whose story broke."""

    name = "pipelines.stories"

    def __init__(self) -> None:
        self._check = _Now(_CHECK_EVERY_S)

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the runs whose story is to begin, and now and then all that are under way."""
        begin = watching.runs_to_begin(ctx)
        return [*begin, *watching.runs_under_way(ctx)] if self._check.is_due(ctx) else begin

    def load(self, ctx: Context, key: str) -> str:
        """Return the run."""
        return key

    def act(self, ports: Mapping[type, Any], state: str) -> str | None:
        """Begin its story, and return how it broke, if it did."""
        workflows: Workflows = ports[Workflows]
        told = workflows.tell(state)
        if told is None:
            workflows.start(NAME, state, {"run": state})
        elif told.state in (StoryState.FAILED, StoryState.CANCELED):
            return told.failure or f"its story was {told.state}."
        return None

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """End a run whose story broke."""
        watching.end_broken(ctx, key, seen)


class Workers:
    """Keeps as many workers alive for each run as it can use, and clears away what was left behind."""

    name = "pipelines.workers"

    def __init__(self) -> None:
        self._sweep = _Now(_SWEEP_EVERY_S)

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the runs that need workers or have some, and now and then the sweep."""
        runs = staffing.staffed_runs(ctx)
        return [*runs, _SWEEP] if self._sweep.is_due(ctx) else runs

    def load(self, ctx: Context, key: str) -> Staff | frozenset[str] | None:
        """Return what a run has of workers and what it lacks; for the sweep, every worker that may run."""
        return staffing.live_workers(ctx) if key == _SWEEP else staffing.read_staff(ctx, key)

    def act(self, ports: Mapping[type, Any], state: Staff | frozenset[str]) -> Any:
        """Start, stop and look at processes."""
        backend: JobBackend = ports[JobBackend]
        if not isinstance(state, Staff):
            _clear(backend, state)
            return None
        seen = [sight for place in state.places if (sight := _drive(ports, place, over=state.over)) is not None]
        return (seen, state.missing) if seen or state.missing else None

    def apply(self, ctx: Context, key: str, seen: tuple[Sequence[Sight], Sequence[str]]) -> None:
        """Write what was seen, and add the workers that are lacking."""
        staffing.settle_staff(ctx, key, *seen)


class Jobs:
    """Watches the training jobs of steps."""

    name = "pipelines.jobs"

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the steps whose jobs are under way."""
        return watching.job_steps(ctx)

    def load(self, ctx: Context, key: str) -> JobSeen | None:
        """Return how a step's job is, where something follows from it."""
        return watching.read_job_step(ctx, key)

    def act(self, ports: Mapping[type, Any], state: JobSeen) -> tuple[JobSeen, dict[str, ValueRef]]:
        """Put the outputs of a job that succeeded into the store."""
        if state.state is not JobState.SUCCEEDED:
            return state, {}
        outputs = watching.job_outputs(state)
        stored = {name: put_json(ports[BlobStore], value) for name, value in outputs.items()}
        return state, stored | watching.job_model(state)

    def apply(self, ctx: Context, key: str, seen: tuple[JobSeen, dict[str, ValueRef]]) -> None:
        """Write how a job ended, or have it cancelled."""
        watching.settle_job_step(ctx, key, *seen)


class Clockwork:
    """Ends attempts whose worker fell silent or that took too long, and approvals that nobody gave in time."""

    name = "pipelines.clockwork"

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the steps whose time is over."""
        return watching.overdue_steps(ctx)

    def load(self, ctx: Context, key: str) -> set[str]:
        """Return what must be read before."""
        return watching.read_overdue_step(ctx, key)

    def act(self, ports: Mapping[type, Any], state: set[str]) -> dict[str, Json]:
        """Read it."""
        found = {}
        for digest in state:
            try:
                found[digest] = read_json(ports[BlobStore], digest)
            except (ArtifactCorrupted, TooLarge) as wrong:  # the step fails for the lack of it
                log.warning("a step's input cannot be read: %s", wrong)
        return found

    def apply(self, ctx: Context, key: str, seen: dict[str, Json]) -> None:
        """Write what became of the step."""
        watching.end_overdue_step(ctx, key, seen)


class Tidying:
    """Forgets kept results that nobody used for long, and runs past their time."""

    name = "pipelines.tidying"
    rest_s = 30.0

    def __init__(self) -> None:
        self._tidy = _Now(_TIDY_EVERY_S)

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return one key, now and then."""
        return ["old"] if self._tidy.is_due(ctx) else []

    def load(self, ctx: Context, key: str) -> str:
        """Return the key."""
        return key

    def act(self, ports: Mapping[type, Any], state: str) -> str:
        """There is nothing to do in the world."""
        return state

    def apply(self, ctx: Context, key: str, seen: str) -> None:
        """Forget what is old."""
        caching.forget_unused(ctx, ctx.settings.step_cache_retention_s)
        if ctx.settings.pipeline_run_retention_s is not None:
            watching.forget_old_runs(ctx, ctx.settings.pipeline_run_retention_s)


@dataclass(frozen=True)
class _Start:
    problem: str | None = None
    hopeless: bool = False


def _drive(ports: Mapping[type, Any], place: Place, *, over: bool) -> Sight | None:
    """Move a worker's process one step, and look at it; None where nothing is new."""
    backend: JobBackend = ports[JobBackend]
    start = _Start()
    if place.command is not None:
        start = _start(ports, place, place.command)
    elif over:
        backend.stop(place.id, reason="its run is over")
    seen = backend.observe(place.id)
    if seen.phase is Phase.ABSENT and place.command is None:
        return Sight(place.id, replace(seen, phase=Phase.LOST, reason="nothing is left of it"), None, hopeless=False)
    if start.problem is None and seen.phase in (Phase.STARTING, Phase.ABSENT):
        return None
    if start.problem is None and seen.phase is Phase.RUNNING and place.state == staffing.RUNNING:
        return None
    if seen.ended and seen.exit_code:
        seen = replace(seen, reason=_last_words(backend, place.id, seen.exit_code))
    return Sight(place.id, seen, start.problem, start.hopeless)


def _last_words(backend: JobBackend, name: str, code: int) -> str:
    """Say how a worker ended by itself, with the last line of its output: it tells why."""
    lines = backend.log(name).decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"it ended with code {code}{': ' + said[:500] if said else ''}"


def _start(ports: Mapping[type, Any], place: Place, command: JobSpec) -> _Start:
    box: SecretBox = ports[SecretBox]
    url: PlatformUrl = ports[PlatformUrl]
    backend: JobBackend = ports[JobBackend]
    try:
        token = box.open(place.sealed_token or "", place.id).decode()
        files = {**command.files, "token": token}
        backend.start(replace(command, env={**command.env, "MODELOPS_URL": url.get()}, files=files))
    except Exception as wrong:
        expected = isinstance(wrong, MLOpsError)
        log.warning("the worker '%s' could not be started: %s", place.id, wrong, exc_info=None if expected else wrong)
        return _Start(str(wrong) or type(wrong).__name__, isinstance(wrong, InvalidInput))
    return _Start()


def _clear(backend: JobBackend, live: frozenset[str]) -> None:
    """End the processes of workers that are none any more, and forget those that ended."""
    for name in backend.names():
        if not name.startswith(PREFIX) or name in live:
            continue
        if backend.observe(name).ended:
            backend.remove(name)
        else:
            backend.stop(name, reason="it works for no run")
