"""Job rows: how they are found, and what is shown of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from modelops.contracts.errors import NotFound, PermissionDenied
from modelops.domains.compute import service as compute
from modelops.domains.training.rules import JobEnded, seconds_left, why_it_waits
from modelops.domains.training.schemas import Job, JobProgress, JobState
from modelops.domains.training.tables import JobRow
from modelops.kernel.context import Context
from modelops.kernel.work import JobRoom

LIVE = (JobState.STARTING, JobState.RUNNING, JobState.CANCELING, JobState.PREEMPTING)
"""The states of a job that has been admitted and has not ended."""


def room_for_jobs(ctx: Context) -> int:
    """Return how many jobs outside any queue may run at once."""
    room = ctx.ports.get(JobRoom)
    return ctx.settings.max_running_jobs if room is None else room.of(ctx)


def find_job(ctx: Context, job: str, *, lock: bool = False) -> JobRow:
    """Return the project's job of an id; `lock` holds it until the unit of work ends."""
    row = ctx.one(JobRow, f"job '{job}'", JobRow.id == job)
    if lock:
        ctx.session.refresh(row, with_for_update=True)
    return row


def own_job(ctx: Context, job: str) -> JobRow:
    """Return the job that the caller runs for, held until the unit of work ends.

    Raises:
        PermissionDenied: the caller is not that job.
        JobEnded: it has ended.
    """
    row = find_job(ctx, job, lock=True)
    if ctx.actor.kind != "grant" or ctx.actor.id != row.id:
        raise PermissionDenied("Only the job itself reports its result.")
    if JobState(row.state).final:
        raise JobEnded(f"The job has {row.state} already.")
    return row


def check_attempt(row: JobRow, attempt: int | None) -> int:
    """Return the number of an attempt, by default the last one's; 0 where there was none yet.

    Raises:
        NotFound: there was none of that number.
    """
    if attempt is not None and not 1 <= attempt <= row.attempt:
        raise NotFound(f"The job '{row.id}' has no attempt {attempt}; it has {row.attempt}.")
    return row.attempt if attempt is None else attempt


def attempt_name(job: str, attempt: int) -> str:
    """Return what an attempt at a job is called at the backend."""
    return f"{job}-{attempt}"


def as_job(ctx: Context, row: JobRow) -> Job:
    """Return a job as it is shown."""
    return as_jobs(ctx, [row])[0]


def as_jobs(ctx: Context, rows: Sequence[JobRow]) -> list[Job]:
    """Return jobs as they are shown; those that wait say why."""
    waiting = _reasons_to_wait(ctx, [row for row in rows if row.state == JobState.QUEUED])
    shown = []
    for row in rows:
        own = {name: getattr(row, name) for name in Job.model_fields}
        reason = " ".join(filter(None, (row.reason, waiting.get(row.id))))
        shown.append(Job.model_validate({**own, "reason": reason or None, "progress": _progress(row.progress)}))
    return shown


def _progress(kept: dict[str, Any] | None) -> JobProgress | None:
    """Return how far a job is, from its last report and the first one of the attempt."""
    if kept is None:
        return None
    at, since = datetime.fromisoformat(kept["at"]), datetime.fromisoformat(kept["first_at"])
    eta_s = seconds_left(kept["done"] - kept["first_done"], kept["of"] - kept["done"], (at - since).total_seconds())
    return JobProgress(done=kept["done"], of=kept["of"], message=kept["message"], at=at, eta_s=eta_s)


def _reasons_to_wait(ctx: Context, rows: Sequence[JobRow]) -> dict[str, str]:
    """Say of queued jobs why they wait, in three queries however many they are: those in a queue of compute's wait there, the
    others in one line of every project."""
    queues = compute.waits_of(ctx, [row.id for row in rows if row.queue is not None])
    jobs = [row.id for row in rows if row.queue is None]
    if not jobs:
        return queues
    machine = JobRow.queue.is_(None)
    running = ctx.session.scalar(select(func.count()).where(JobRow.state.in_(LIVE), machine)) or 0
    place = func.row_number().over(order_by=JobRow.id).label("place")
    queue = select(JobRow.id, place).where(JobRow.state == JobState.QUEUED, machine).subquery()
    places = ctx.session.execute(select(queue.c.id, queue.c.place).where(queue.c.id.in_(jobs)))
    most = room_for_jobs(ctx)
    return queues | {job: why_it_waits(running=running, ahead=place - 1, most=most) for job, place in places}
