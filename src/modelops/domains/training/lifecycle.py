"""The life of a job beyond its submission: admitted, watched, ended. What the reconciler reads and writes."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from modelops.contracts.ports import Observation
from modelops.domains.experiments import service as experiments
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.identity import service as identity
from modelops.domains.training.rows import LIVE, attempt_name
from modelops.domains.training.rules import judge
from modelops.domains.training.schemas import JobState, Resources
from modelops.domains.training.tables import JobRow
from modelops.kernel.context import Context
from modelops.kernel.secrets import SecretBox

TRAINER_PERMISSIONS = (
    "artifacts.read",
    "artifacts.write",
    "datasets.read",
    "experiments.read",
    "experiments.write",
    "models.read",
    "models.write",
    "runs.write",
    "studies.read",
    "studies.write",
)
KEPT_ATTEMPTS = 200
"""Of so many jobs that ended last, the backend keeps files and output."""

_NO_TIMEOUT_S = 7 * 86_400
_TOKEN_MARGIN_S = 600
_RUN_STATUS = {JobState.SUCCEEDED: RunStatus.FINISHED, JobState.CANCELED: RunStatus.CANCELED}


@dataclass(frozen=True)
class Seen:
    """What one look at an attempt found. `problem` is what stood in the way of starting it, `hopeless` if it always will."""

    attempt: int
    observation: Observation
    problem: str | None = None
    hopeless: bool = False


@dataclass(frozen=True)
class Wanted:
    """The attempts that may run, and the ended ones whose files are kept."""

    live: frozenset[str]
    kept: frozenset[str]


def active_jobs(ctx: Context) -> list[str]:
    """Return the jobs that were admitted, and those that may be now, of every project, oldest first."""
    live = list(ctx.session.scalars(select(JobRow.id).where(JobRow.state.in_(LIVE)).order_by(JobRow.id)))
    free = ctx.settings.max_running_jobs - len(live)
    if free > 0:
        queued = select(JobRow.id).where(JobRow.state == JobState.QUEUED).order_by(JobRow.id).limit(free)
        live += ctx.session.scalars(queued)
    return live


def read_job(ctx: Context, job: str) -> JobRow | None:
    """Return a job of any project that has not ended."""
    row = ctx.session.get(JobRow, job)
    return None if row is None or JobState(row.state).final else row


def admit(ctx: Context, job: str) -> None:
    """Let a queued job start, with a token of its own that lives as long as the job may."""
    row = _locked(ctx, job)
    if row is None or row.state != JobState.QUEUED:
        return
    inside = _within(ctx, row)
    timeout = Resources.model_validate(row.resources).timeout_s or _NO_TIMEOUT_S
    token = identity.grant_token(inside, row.id, TRAINER_PERMISSIONS, ttl_s=int(timeout) + _TOKEN_MARGIN_S)
    row.attempt += 1
    row.sealed_token = ctx.port(SecretBox).seal(token.encode(), row.id)
    row.state, row.admitted_at = JobState.STARTING, ctx.clock.now()
    row.touch()
    inside.emit("modelops.training.job_admitted", row.id, attempt=row.attempt)


def settle(ctx: Context, job: str, seen: Seen) -> None:
    """Write what was seen of a job's process, and what follows from it."""
    row = _locked(ctx, job)
    if row is None or row.attempt != seen.attempt or row.state not in LIVE:
        return
    state, reason = judge(
        JobState(row.state),
        seen.observation,
        reported=row.result is not None,
        failure=row.failure,
        cancel_reason=row.cancel_reason,
        waited_since=row.admitted_at or row.created_at,
        now=ctx.clock.now(),
        start_timeout_s=ctx.settings.job_start_timeout_s,
        problem=seen.problem,
        hopeless=seen.hopeless,
    )
    inside = _within(ctx, row)
    _note_start(inside, row, seen.observation)
    if state.final:
        end_job(inside, row, state, reason, seen.observation)
    elif (state, reason) != (row.state, row.reason):
        row.state, row.reason = state, reason
        row.touch()


def end_job(ctx: Context, row: JobRow, state: JobState, reason: str | None, seen: Observation | None = None) -> None:
    """Write how a job ended: its runs end with it, and its token ends."""
    row.state, row.reason, row.ended_at, row.sealed_token = state, reason, ctx.clock.now(), None
    if seen is not None:
        row.exit_code = seen.exit_code
        row.peak_memory_bytes, row.cpu_seconds = seen.peak_memory_bytes, seen.cpu_seconds
    row.touch()
    experiments.end_runs_of_job(ctx, row.id, _RUN_STATUS.get(state, RunStatus.FAILED), reason)
    identity.revoke_grants(ctx, row.id)
    ctx.emit("modelops.training.job_ended", row.id, name=row.name, state=state, reason=reason)


def wanted_attempts(ctx: Context) -> Wanted:
    """Return the attempts that the backend is to run or keep, of every project."""
    columns = select(JobRow.id, JobRow.attempt)
    live = columns.where(JobRow.state.in_(LIVE))
    ended = columns.where(JobRow.ended_at.is_not(None), JobRow.attempt > 0).order_by(JobRow.ended_at.desc())
    return Wanted(
        _names(ctx.session.execute(live).all()), _names(ctx.session.execute(ended.limit(KEPT_ATTEMPTS)).all())
    )


def _note_start(ctx: Context, row: JobRow, seen: Observation) -> None:
    if row.started_at is None and seen.started_at is not None:
        row.started_at = seen.started_at
        row.touch()
        ctx.emit("modelops.training.job_started", row.id, name=row.name)


def _names(found: Sequence[tuple[str, int]]) -> frozenset[str]:
    return frozenset(attempt_name(job, attempt) for job, attempt in found)


def _locked(ctx: Context, job: str) -> JobRow | None:
    return ctx.session.get(JobRow, job, with_for_update=True)


def _within(ctx: Context, row: JobRow) -> Context:
    return ctx.within(row.project_id, identity.tenant_of(ctx, row.project_id))
