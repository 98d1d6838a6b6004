"""Job rows: how they are found, and what is shown of them."""

from collections.abc import Sequence

from sqlalchemy import func, select

from modelops.domains.training.rules import why_it_waits
from modelops.domains.training.schemas import Job, JobState
from modelops.domains.training.tables import JobRow
from modelops.kernel.context import Context

LIVE = (JobState.STARTING, JobState.RUNNING, JobState.CANCELING)
"""The states of a job that has been admitted and has not ended."""


def find_job(ctx: Context, job: str, *, lock: bool = False) -> JobRow:
    """Return the project's job of an id; `lock` holds it until the unit of work ends."""
    row = ctx.one(JobRow, f"job '{job}'", JobRow.id == job)
    if lock:
        ctx.session.refresh(row, with_for_update=True)
    return row


def attempt_name(job: str, attempt: int) -> str:
    """Return what an attempt at a job is called at the backend."""
    return f"{job}-{attempt}"


def as_job(ctx: Context, row: JobRow) -> Job:
    """Return a job as it is shown."""
    return as_jobs(ctx, [row])[0]


def as_jobs(ctx: Context, rows: Sequence[JobRow]) -> list[Job]:
    """Return jobs as they are shown; those that wait say why."""
    waiting = _reasons_to_wait(ctx, [row.id for row in rows if row.state == JobState.QUEUED])
    shown = []
    for row in rows:
        own = {name: getattr(row, name) for name in Job.model_fields}
        shown.append(Job.model_validate({**own, "reason": waiting.get(row.id, row.reason)}))
    return shown


def _reasons_to_wait(ctx: Context, jobs: Sequence[str]) -> dict[str, str]:
    """Say of queued jobs why they wait, in two queries however many they are. The queue is that of every project."""
    if not jobs:
        return {}
    running = ctx.session.scalar(select(func.count()).where(JobRow.state.in_(LIVE))) or 0
    place = func.row_number().over(order_by=JobRow.id).label("place")
    queue = select(JobRow.id, place).where(JobRow.state == JobState.QUEUED).subquery()
    places = ctx.session.execute(select(queue.c.id, queue.c.place).where(queue.c.id.in_(jobs)))
    most = ctx.settings.max_running_jobs
    return {job: why_it_waits(running=running, ahead=place - 1, most=most) for job, place in places}
