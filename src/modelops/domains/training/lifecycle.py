"""The life of a job beyond its submission: admitted, watched, ended. What the reconciler reads and writes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import or_, select

from modelops.contracts.ports import Observation
from modelops.domains.compute import service as compute
from modelops.domains.experiments import service as experiments
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.identity import service as identity
from modelops.domains.training.queueing import leave, rejoin
from modelops.domains.training.rows import LIVE, attempt_name, room_for_jobs
from modelops.domains.training.rules import cause_of, delay_before_next, judge
from modelops.domains.training.schemas import EndCause, JobState, Resources, Retry
from modelops.domains.training.tables import JobAttemptRow, JobRow
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
"""Of so many attempts that ended last, the backend keeps files and output."""

_NO_TIMEOUT_S = 7 * 86_400
_TOKEN_MARGIN_S = 600
_RUN_STATUS = {
    EndCause.SUCCEEDED: RunStatus.FINISHED,
    EndCause.CANCELED: RunStatus.CANCELED,
    EndCause.PREEMPTED: RunStatus.CANCELED,
}


@dataclass(frozen=True)
class Seen:
    """What one look at an attempt found. `problem` is what stood in the way of starting it, `hopeless` if it always will;
    `samples` are what an attempt that has ended used over time, packed."""

    attempt: int
    observation: Observation
    problem: str | None = None
    hopeless: bool = False
    samples: bytes | None = None


@dataclass(frozen=True)
class Wanted:
    """The attempts that may run, and the ended ones whose files are kept."""

    live: frozenset[str]
    kept: frozenset[str]


def active_jobs(ctx: Context) -> list[str]:
    """Return the jobs that were admitted, and those that may be now, of every project, oldest first."""
    under_way = ctx.session.execute(
        select(JobRow.id, JobRow.queue).where(JobRow.state.in_(LIVE)).order_by(JobRow.id)
    ).all()
    live = [job for job, _ in under_way]
    free = room_for_jobs(ctx) - sum(queue is None for _, queue in under_way)
    if free > 0:
        due = or_(JobRow.retry_at.is_(None), JobRow.retry_at <= ctx.clock.now())
        queued = select(JobRow.id).where(JobRow.state == JobState.QUEUED, JobRow.queue.is_(None), due)
        live += ctx.session.scalars(queued.order_by(JobRow.id).limit(free))
    return live + compute.admitted_jobs(ctx)


def read_job(ctx: Context, job: str) -> JobRow | None:
    """Return a job of any project that has not ended."""
    row = ctx.session.get(JobRow, job)
    return None if row is None or JobState(row.state).final else row


def admit(ctx: Context, job: str) -> None:
    """Let a queued job start, with a token of its own that lives as long as the job may."""
    row = _locked(ctx, job)
    if row is None or row.state != JobState.QUEUED:
        return
    if row.queue is not None and not compute.take_up(ctx, row.id):
        return
    inside = _within(ctx, row)
    timeout = Resources.model_validate(row.resources).timeout_s or _NO_TIMEOUT_S
    token = identity.grant_token(inside, row.id, TRAINER_PERMISSIONS, ttl_s=int(timeout) + _TOKEN_MARGIN_S)
    row.attempt += 1
    row.sealed_token = ctx.port(SecretBox).seal(token.encode(), row.id)
    row.state, row.reason, row.admitted_at, row.retry_at = JobState.STARTING, None, ctx.clock.now(), None
    row.result = row.failure = row.exit_code = row.cause = row.progress = None
    row.out_of_memory = False
    row.touch()
    _attempt(ctx, row)
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
    if state is JobState.QUEUED:
        _give_way(inside, row, seen)
    elif state.final:
        cause = cause_of(JobState(row.state), state, seen.observation, out_of_memory=row.out_of_memory)
        end_attempt(inside, row, cause, reason, seen)
        if not _goes_again(inside, row, cause, reason):
            end_job(inside, row, state, reason)
    elif state is not JobState.PREEMPTING and (state, reason) != (row.state, row.reason):
        row.state, row.reason = state, reason
        row.touch()


def end_attempt(ctx: Context, row: JobRow, cause: EndCause, reason: str | None, seen: Seen | None = None) -> None:
    """Write how an attempt ended, if the job has one under way: its runs end with it, and its token ends."""
    if row.attempt == 0 or (attempt := _attempt(ctx, row)).ended_at is not None:
        return
    attempt.ended_at, attempt.cause, attempt.reason = ctx.clock.now(), cause, reason
    if seen is not None:
        found = seen.observation
        attempt.started_at = attempt.started_at or found.started_at
        attempt.exit_code, attempt.samples = found.exit_code, seen.samples
        attempt.peak_memory_bytes, attempt.cpu_seconds = found.peak_memory_bytes, found.cpu_seconds
    row.exit_code, row.cause, row.sealed_token = attempt.exit_code, cause, None
    row.peak_memory_bytes, row.cpu_seconds = attempt.peak_memory_bytes, attempt.cpu_seconds
    experiments.end_runs_of_job(ctx, row.id, _RUN_STATUS.get(cause, RunStatus.FAILED), reason)
    identity.revoke_grants(ctx, row.id)


def end_job(ctx: Context, row: JobRow, state: JobState, reason: str | None) -> None:
    """Write how a job ended."""
    row.state, row.reason, row.ended_at, row.retry_at = state, reason, ctx.clock.now(), None
    row.touch()
    leave(ctx, row)
    ctx.emit("modelops.training.job_ended", row.id, name=row.name, state=state, reason=reason)


def queue_again(ctx: Context, row: JobRow, *, after_s: float, why: str) -> None:
    """Put a job whose attempt ended back into the queue, not to be tried before so many seconds."""
    row.state, row.reason, row.ended_at = JobState.QUEUED, why, None
    row.retry_at = ctx.clock.now() + timedelta(seconds=after_s) if after_s else None
    row.touch()
    ctx.emit("modelops.training.job_queued_again", row.id, name=row.name, attempt=row.attempt, reason=why)


def _give_way(ctx: Context, row: JobRow, seen: Seen) -> None:
    """Put a job that gave way back into its queue. That costs it none of its attempts."""
    reason = row.reason or "It gave way to other work."
    end_attempt(ctx, row, EndCause.PREEMPTED, reason, seen)
    row.attempts_before += 1
    queue_again(ctx, row, after_s=0, why=f"Attempt {row.attempt} was preempted. {reason}")
    rejoin(ctx, row)


def _goes_again(ctx: Context, row: JobRow, cause: EndCause, reason: str | None) -> bool:
    """Queue the job again if its policy says so."""
    retry = Retry.model_validate(row.retry)
    made = row.attempt - row.attempts_before
    delay = delay_before_next(retry, cause, made)
    if delay is None:
        return False
    ended = (reason or cause).rstrip(".")
    why = f"Attempt {row.attempt} ended: {ended}. It is tried again ({made + 1} of {retry.max_attempts})."
    queue_again(ctx, row, after_s=delay, why=why)
    rejoin(ctx, row)
    return True


def must_give_way(ctx: Context, job: str, reason: str) -> None:
    """Have a job's process stopped, because other work takes its place in the queue."""
    row = _locked(ctx, job)
    if row is not None and row.state in (JobState.STARTING, JobState.RUNNING):
        row.state, row.reason = JobState.PREEMPTING, reason
        row.touch()
        _within(ctx, row).emit("modelops.training.job_preempted", row.id, name=row.name, reason=reason)


def leaks(ctx: Context) -> list[str]:
    """Return the jobs that hold their place in a queue although they have ended, or are gone."""
    ongoing = select(JobRow.id).where(JobRow.state.in_((JobState.QUEUED, *LIVE)), JobRow.queue.is_not(None))
    return sorted(set(compute.unfinished_jobs(ctx)) - set(ctx.session.scalars(ongoing)))


def mend(ctx: Context, job: str) -> None:
    """Free what a job holds that has ended, or is gone."""
    row = _locked(ctx, job)
    if row is None or JobState(row.state).final:
        compute.repair(ctx, job)


def wanted_attempts(ctx: Context) -> Wanted:
    """Return the attempts that the backend is to run or keep, of every project."""
    live = select(JobRow.id, JobRow.attempt).where(JobRow.state.in_(LIVE))
    ended = select(JobAttemptRow.job_id, JobAttemptRow.number).where(JobAttemptRow.ended_at.is_not(None))
    kept = ended.order_by(JobAttemptRow.ended_at.desc()).limit(KEPT_ATTEMPTS)
    return Wanted(*(_names((job, number) for job, number in ctx.session.execute(query)) for query in (live, kept)))


def _note_start(ctx: Context, row: JobRow, seen: Observation) -> None:
    attempt = _attempt(ctx, row)
    if attempt.started_at is not None or seen.started_at is None:
        return
    attempt.started_at = seen.started_at
    row.started_at = row.started_at or seen.started_at
    row.touch()
    ctx.emit("modelops.training.job_started", row.id, name=row.name, attempt=row.attempt)


def _attempt(ctx: Context, row: JobRow) -> JobAttemptRow:
    """Return the row of the job's present attempt, which may have been admitted before there were such rows."""
    found = ctx.session.get(JobAttemptRow, (row.id, row.attempt))
    if found is None:
        found = JobAttemptRow(job_id=row.id, number=row.attempt, admitted_at=row.admitted_at or row.created_at)
        ctx.session.add(found)
    return found


def _names(found: Iterable[tuple[str, int]]) -> frozenset[str]:
    return frozenset(attempt_name(job, attempt) for job, attempt in found)


def _locked(ctx: Context, job: str) -> JobRow | None:
    return ctx.session.get(JobRow, job, with_for_update=True)


def _within(ctx: Context, row: JobRow) -> Context:
    return ctx.within(row.project_id, identity.tenant_of(ctx, row.project_id))
