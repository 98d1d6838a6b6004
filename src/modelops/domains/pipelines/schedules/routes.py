"""Routes of schedules."""

from typing import Annotated

from fastapi import Query

from modelops.contracts.schemas import Page
from modelops.domains.pipelines.beginnings.schemas import Beginning
from modelops.domains.pipelines.schedules import service
from modelops.domains.pipelines.schedules.schemas import DueTimes, Schedule, ScheduleCreate, ScheduleUpdate
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router

router = Router("pipelines")

Count = Annotated[int, Query(ge=1, le=1_000, description="How many at most.")]
WhenQuery = Annotated[str, Query(min_length=1, max_length=250, description="Such as `30 2 * * 1-5` or `every 15m`.")]
ZoneQuery = Annotated[str, Query(min_length=1, max_length=100, description="An IANA time zone.")]


@router.post("/pipeline-schedules", status_code=201)
def create_schedule(ctx: Context, body: ScheduleCreate) -> Schedule:
    """Begin a pipeline or a job by the clock."""
    return service.create_schedule(ctx, body)


@router.get("/pipeline-schedules")
def list_schedules(ctx: Context, page: Listing) -> Page[Schedule]:
    """List the project's schedules."""
    return service.list_schedules(ctx, page)


@router.get("/training/scheduled")
def list_scheduled_jobs(ctx: Context, page: Listing) -> Page[Schedule]:
    """List the schedules that begin training jobs."""
    return service.list_scheduled_jobs(ctx, page)


@router.get("/pipeline-schedule-times")
def preview_times(ctx: Context, when: WhenQuery, zone: ZoneQuery = "UTC", count: Count = 10) -> DueTimes:
    """List the moments at which a schedule would be due that began now."""
    return service.preview_times(ctx, when, zone, count)


@router.get("/pipeline-schedules/{schedule}")
def get_schedule(ctx: Context, schedule: Ref) -> Schedule:
    """Return a schedule."""
    return service.get_schedule(ctx, schedule)


@router.patch("/pipeline-schedules/{schedule}")
def update_schedule(ctx: Context, schedule: Ref, body: ScheduleUpdate) -> Schedule:
    """Change a schedule, or pause it or let it go on."""
    return service.update_schedule(ctx, schedule, body)


@router.delete("/pipeline-schedules/{schedule}", status_code=204)
def delete_schedule(ctx: Context, schedule: Ref) -> None:
    """Remove a schedule. What it began goes on."""
    return service.delete_schedule(ctx, schedule)


@router.post("/pipeline-schedules/{schedule}/run", status_code=202)
def run_schedule(ctx: Context, schedule: Ref) -> Beginning:
    """Begin now what a schedule begins."""
    return service.run_schedule(ctx, schedule)


@router.get("/pipeline-schedules/{schedule}/next")
def list_next_times(ctx: Context, schedule: Ref, count: Count = 10) -> DueTimes:
    """List the next moments at which a schedule is due."""
    return service.list_next_times(ctx, schedule, count)


@router.get("/pipeline-schedules/{schedule}/history")
def list_schedule_history(ctx: Context, schedule: Ref, page: Listing) -> Page[Beginning]:
    """List what became of a schedule's moments, newest first."""
    return service.list_schedule_history(ctx, schedule, page)
