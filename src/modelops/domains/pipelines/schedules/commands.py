"""Commands for schedules."""

from datetime import datetime
from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, say, show, show_page, show_rows, values
from modelops.domains.pipelines.beginnings.schemas import Overlap
from modelops.domains.pipelines.schedules.client import Schedules, target_of
from modelops.domains.pipelines.schedules.schemas import CatchUp, DueTimes
from modelops.domains.training.schemas import JobCreate

app = typer.Typer()

ScheduleArg = Annotated[str, typer.Argument(help="A schedule, by name or id.")]
WhenArg = Annotated[str, typer.Argument(help="'30 2 * * 1-5', @daily, 'every 15m' or 'at 2026-01-31T12:00'.")]
WhenOption = Annotated[str | None, typer.Option(help="Other times.")]
ZoneOption = Annotated[str, typer.Option(help="An IANA time zone, such as Europe/Berlin.")]
PipelineOption = Annotated[str | None, typer.Option(help="What runs, by name.")]
VersionOption = Annotated[int | None, typer.Option(help="Of the pipeline; by default the newest whenever it begins.")]
ParameterOption = Annotated[list[str] | None, typer.Option("--parameter", help="KEY=VALUE of the pipeline; repeat it.")]
JobOption = Annotated[
    str | None, typer.Option(help="""A training job instead: '{"recipe": "…", "dataset": "…", "parameters": {…}}'""")
]
OverlapOption = Annotated[Overlap | None, typer.Option(help="While what began before is under way.")]
CatchUpOption = Annotated[CatchUp | None, typer.Option(help="What becomes of moments that were missed.")]
JitterOption = Annotated[float | None, typer.Option(help="It begins within so many seconds after its moment.")]
MomentOption = Annotated[str | None, typer.Option(help="The parameter that is given the due moment.")]
StartsOption = Annotated[str | None, typer.Option(help="Nothing is due before, such as 2026-01-31T12:00Z.")]
EndsOption = Annotated[str | None, typer.Option(help="Nothing is due after.")]
CountOption = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
HISTORY = ["moment", "state", "reason", "run_id", "job_id", "missed", "id"]


@app.command()
def create_schedule(
    ctx: typer.Context,
    name: ScheduleArg,
    when: WhenArg,
    pipeline: PipelineOption = None,
    version: VersionOption = None,
    parameter: ParameterOption = None,
    job: JobOption = None,
    zone: ZoneOption = "UTC",
    description: str = "",
    starts_at: StartsOption = None,
    ends_at: EndsOption = None,
    paused: Annotated[bool, typer.Option("--paused", help="Nothing begins until it is let go on.")] = False,
    catch_up: CatchUpOption = None,
    overlap: OverlapOption = None,
    jitter_s: JitterOption = None,
    moment_parameter: MomentOption = None,
    as_json: AsJson = False,
) -> None:
    """Begin a pipeline, or a job, by the clock."""
    chosen: dict[str, Any] = {
        "catch_up": catch_up,
        "overlap": overlap,
        "jitter_s": jitter_s,
    }
    made = group(ctx, Schedules).create_schedule(
        name,
        when,
        pipeline=pipeline,
        version=version,
        parameters=values(parameter, "a parameter"),
        job=read_job(job),
        zone=zone,
        description=description,
        starts_at=_moment(starts_at),
        ends_at=_moment(ends_at),
        paused=paused,
        moment_parameter=moment_parameter,
        **{field: value for field, value in chosen.items() if value is not None},
    )
    show(made, as_json=as_json)


@app.command()
@paged
def list_schedules(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's schedules."""
    columns = ["name", "when", "zone", "target", "state", "next_at", "id"]
    empty = "There are no schedules yet. Make one: mops pipelines create-schedule NAME '0 2 * * *' --pipeline PIPELINE"
    show_page(group(ctx, Schedules).list_schedules(**page), columns, as_json=as_json, empty=empty)


@app.command()
@paged
def list_scheduled_jobs(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the schedules that begin training jobs."""
    columns = ["name", "when", "zone", "target", "state", "next_at", "id"]
    show_page(group(ctx, Schedules).list_scheduled_jobs(**page), columns, as_json=as_json)


@app.command()
def get_schedule(ctx: typer.Context, schedule: ScheduleArg, as_json: AsJson = False) -> None:
    """Show a schedule."""
    show(group(ctx, Schedules).get_schedule(schedule), as_json=as_json)


@app.command()
def update_schedule(
    ctx: typer.Context,
    schedule: ScheduleArg,
    when: WhenOption = None,
    zone: Annotated[str | None, typer.Option(help="Another IANA time zone.")] = None,
    pipeline: PipelineOption = None,
    version: VersionOption = None,
    parameter: ParameterOption = None,
    job: JobOption = None,
    description: str | None = None,
    starts_at: StartsOption = None,
    ends_at: EndsOption = None,
    paused: Annotated[bool | None, typer.Option("--pause/--resume", help="Whether anything begins.")] = None,
    catch_up: CatchUpOption = None,
    overlap: OverlapOption = None,
    jitter_s: JitterOption = None,
    moment_parameter: MomentOption = None,
    as_json: AsJson = False,
) -> None:
    """Change a schedule, or pause it or let it go on."""
    fields: dict[str, Any] = {
        "when": when,
        "zone": zone,
        "target": target_of(pipeline, version, values(parameter, "a parameter"), read_job(job))
        if pipeline or job
        else None,
        "description": description,
        "starts_at": _moment(starts_at),
        "ends_at": _moment(ends_at),
        "paused": paused,
        "catch_up": catch_up,
        "overlap": overlap,
        "jitter_s": jitter_s,
        "moment_parameter": moment_parameter,
    }
    changes = {name: value for name, value in fields.items() if value is not None}
    show(group(ctx, Schedules).update_schedule(schedule, **changes), as_json=as_json)


@app.command()
def delete_schedule(ctx: typer.Context, schedule: ScheduleArg) -> None:
    """Remove a schedule. What it began goes on."""
    group(ctx, Schedules).delete_schedule(schedule)
    say(f"The schedule '{schedule}' is gone.")


@app.command()
def run_schedule(ctx: typer.Context, schedule: ScheduleArg, as_json: AsJson = False) -> None:
    """Begin now what a schedule begins."""
    show(group(ctx, Schedules).run_schedule(schedule), as_json=as_json)


@app.command()
def list_next_times(
    ctx: typer.Context, schedule: ScheduleArg, count: CountOption = 10, as_json: AsJson = False
) -> None:
    """Show when a schedule is due next."""
    _show_times(group(ctx, Schedules).list_next_times(schedule, count=count), as_json=as_json)


@app.command()
def preview_times(
    ctx: typer.Context, when: WhenArg, zone: ZoneOption = "UTC", count: CountOption = 10, as_json: AsJson = False
) -> None:
    """Show when a schedule would be due, without making one."""
    _show_times(group(ctx, Schedules).preview_times(when, zone=zone, count=count), as_json=as_json)


@app.command()
@paged
def list_schedule_history(ctx: typer.Context, schedule: ScheduleArg, page: Any, as_json: AsJson = False) -> None:
    """Show what became of a schedule's moments, newest first."""
    found = group(ctx, Schedules).list_schedule_history(schedule, **page)
    show_page(found, HISTORY, as_json=as_json, empty="No moment of it has come yet.")


def _show_times(found: DueTimes, *, as_json: bool) -> None:
    if as_json:
        show(found, as_json=True)
        return
    show_rows(found.times, ["local", "at"], as_json=False, empty="No moment is to come.", heads=[found.zone, "UTC"])


def read_job(text: str | None) -> JobCreate | None:
    """Read a job that is written as JSON."""
    try:
        return None if text is None else JobCreate.model_validate_json(text)
    except ValueError as wrong:
        raise typer.BadParameter(f"The job is none: {wrong}") from None


def _moment(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no time; write it as 2026-01-31T12:00Z.") from None
