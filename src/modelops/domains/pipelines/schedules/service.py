"""What is done with schedules. Context first, one verb a function; the edge commits."""

from typing import Any

from sqlalchemy import or_

from modelops.contracts.errors import AlreadyExists, InvalidInput
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page, jsonable
from modelops.domains.pipelines.beginnings.beginning import (
    Cause,
    as_beginning,
    list_beginnings,
    record,
    settle_due,
    skip_waiting,
)
from modelops.domains.pipelines.beginnings.owners import Owner, owner_of
from modelops.domains.pipelines.beginnings.schemas import Beginning, JobTarget, Overlap
from modelops.domains.pipelines.beginnings.targets import check_target, read_target, with_parameters
from modelops.domains.pipelines.schedules.plans import Plan, given_parameters, plan_of
from modelops.domains.pipelines.schedules.schemas import (
    CatchUp,
    DueTime,
    DueTimes,
    Schedule,
    ScheduleCreate,
    ScheduleState,
    ScheduleUpdate,
)
from modelops.domains.pipelines.schedules.tables import ScheduleRow
from modelops.domains.pipelines.schedules.when import Times, read_when, read_zone
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_FIELDS = {
    "name": ScheduleRow.name,
    "paused": ScheduleRow.paused,
    "next_at": ScheduleRow.next_at,
    "created_at": ScheduleRow.created_at,
    "created_by": ScheduleRow.created_by,
}
_CLEARABLE = frozenset({"starts_at", "ends_at", "moment_parameter"})
_TIMES = frozenset({"when", "zone", "starts_at", "ends_at", "paused"})


def create_schedule(ctx: Context, body: ScheduleCreate) -> Schedule:
    """Begin something by the clock, from now on.

    Raises:
        AlreadyExists: the name is taken.
        NoCron, NoTime: it says no time, or the zone is none.
        InvalidInput: no moment is to come, or what is to begin takes no such parameters.
    """
    ctx.require("pipelines.write")
    _check_name(ctx, body.name)
    now, owner = ctx.clock.now(), owner_of(ctx)
    row = ScheduleRow(
        id=new_id("sch"),
        project_id=ctx.project_id,
        target=jsonable(body.target),
        owner=owner.id,
        permissions=owner.permissions,
        anchor=body.starts_at or now.replace(microsecond=0),
        cursor=now,
        revision=1,
        created_at=now,
        created_by=ctx.actor.id,
        **body.model_dump(exclude={"target"}),
    )
    _plan(ctx, row, anew=True)
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.pipelines.schedule_created", row.id, name=row.name, when=row.when, zone=row.zone)
    return as_schedule(row)


def list_schedules(ctx: Context, page: PageQuery) -> Page[Schedule]:
    """List the project's schedules."""
    ctx.require("pipelines.read")
    found = list_rows(ctx, ctx.query(ScheduleRow), ScheduleRow.id, _FIELDS, page)
    return Page(items=[as_schedule(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def list_scheduled_jobs(ctx: Context, page: PageQuery) -> Page[Schedule]:
    """List the schedules that begin training jobs."""
    ctx.require("pipelines.read")
    jobs = ctx.query(ScheduleRow).where(ScheduleRow.kind == "job")
    found = list_rows(ctx, jobs, ScheduleRow.id, _FIELDS, page)
    return Page(items=[as_schedule(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_schedule(ctx: Context, schedule: str) -> Schedule:
    """Return a schedule, by name or id."""
    ctx.require("pipelines.read")
    return as_schedule(_find(ctx, schedule))


def update_schedule(ctx: Context, schedule: str, body: ScheduleUpdate) -> Schedule:
    """Change a schedule, or pause it or let it go on. It acts in the caller's name from then on.

    Where it is due at other times now, what was due before is not made up for, and what waits to begin is skipped.
    """
    ctx.require("pipelines.write")
    row = _find(ctx, schedule, lock=True)
    ctx.check_revision(row)
    changes: dict[str, Any] = {
        name: getattr(body, name)
        for name in body.model_fields_set
        if getattr(body, name) is not None or name in _CLEARABLE
    }
    for name, value in changes.items():
        setattr(row, name, jsonable(value) if name == "target" else value)
    owner = owner_of(ctx)
    row.owner, row.permissions = owner.id, owner.permissions
    anew = bool(changes.keys() & _TIMES)
    if anew:
        row.cursor, row.anchor = ctx.clock.now(), row.starts_at or row.anchor
        skip_waiting(ctx, row.id, "The schedule was changed.")
    _plan(ctx, row, anew=anew)
    ctx.session.flush()
    ctx.emit("modelops.pipelines.schedule_updated", row.id, name=row.name, paused=row.paused)
    return as_schedule(row)


def delete_schedule(ctx: Context, schedule: str) -> None:
    """Remove a schedule. What it began goes on."""
    ctx.require("pipelines.write")
    row = _find(ctx, schedule, lock=True)
    skip_waiting(ctx, row.id, "The schedule was removed.")
    ctx.session.delete(row)
    ctx.emit("modelops.pipelines.schedule_deleted", row.id, name=row.name)


def run_schedule(ctx: Context, schedule: str) -> Beginning:
    """Begin now what a schedule begins, by its policy of overlap and in its owner's name. Its moments stay as they are."""
    ctx.require("pipelines.write")
    row = _find(ctx, schedule, lock=True)
    now = ctx.clock.now()
    target = with_parameters(read_target(row.target), given_parameters(row, now))
    begun, _ = record(ctx, cause_of(row), new_id("now"), now, target, begins_at=now)
    settle_due(ctx, row.id)
    return as_beginning(begun)


def list_next_times(ctx: Context, schedule: str, count: int) -> DueTimes:
    """List the next moments at which a schedule is due; a paused one is shown as if it were not."""
    ctx.require("pipelines.read")
    row = _find(ctx, schedule)
    return _times(ctx, plan_of(row), row.when, row.zone, count)


def preview_times(ctx: Context, when: str, zone: str, count: int) -> DueTimes:
    """List the moments at which a schedule would be due that began now."""
    ctx.require("pipelines.read")
    times = Times(read_when(when), read_zone(zone), ctx.clock.now().replace(microsecond=0))
    return _times(ctx, Plan(times, None, None, CatchUp.NONE, 1, 0.0), when, zone, count)


def list_schedule_history(ctx: Context, schedule: str, page: PageQuery) -> Page[Beginning]:
    """List what became of a schedule's moments, newest first."""
    ctx.require("pipelines.read")
    return list_beginnings(ctx, _find(ctx, schedule).id, page)


def cause_of(row: ScheduleRow) -> Cause:
    """Return a schedule as a cause."""
    return Cause(
        row.id, f"schedule:{row.name}", row.project_id, Owner(row.owner, row.permissions), Overlap(row.overlap)
    )


def as_schedule(row: ScheduleRow) -> Schedule:
    """Return a row as it is shown."""
    state = ScheduleState.PAUSED if row.paused else ScheduleState.ACTIVE if row.next_at else ScheduleState.ENDED
    shown = {name: getattr(row, name) for name in Schedule.model_fields if name != "state"}
    return Schedule(**shown, state=state)


def _plan(ctx: Context, row: ScheduleRow, *, anew: bool) -> None:
    """Write when a schedule is due next; refuse one that could never begin anything, its times being `anew`."""
    target = read_target(row.target)
    row.kind = "job" if isinstance(target, JobTarget) else "pipeline"
    plan = plan_of(row)
    if row.starts_at is not None and row.ends_at is not None and row.ends_at < row.starts_at:
        raise InvalidInput("The schedule ends before it starts.")
    upcoming = plan.next_after(row.cursor)
    if upcoming is None and anew and not row.paused:
        raise InvalidInput(
            f"'{row.when}' is due at no time that is to come.", hint="Look at its moment, its start and its end."
        )
    check_target(ctx, with_parameters(target, given_parameters(row, upcoming or row.cursor)))
    row.next_at = None if row.paused else upcoming


def _times(ctx: Context, plan: Plan, when: str, zone: str, count: int) -> DueTimes:
    clock = read_zone(zone)
    found = plan.upcoming(ctx.clock.now(), count)
    shown = [DueTime(at=one, local=one.astimezone(clock).isoformat(" ", "seconds")) for one in found]
    return DueTimes(when=when, zone=zone, times=shown)


def _check_name(ctx: Context, name: str) -> None:
    if ctx.session.scalars(ctx.query(ScheduleRow).where(ScheduleRow.name == name)).first() is not None:
        raise AlreadyExists(f"There is a schedule '{name}' already.")


def _find(ctx: Context, schedule: str, *, lock: bool = False) -> ScheduleRow:
    named = or_(ScheduleRow.id == schedule, ScheduleRow.name == schedule)
    row = ctx.one(ScheduleRow, f"schedule '{schedule[:250]}'", named)
    if lock:
        ctx.session.refresh(row, with_for_update=True)
    return row
