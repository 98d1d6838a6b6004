"""Commands for triggers."""

from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, pairs, say, show, show_page, values
from modelops.domains.pipelines.schedules.client import target_of
from modelops.domains.pipelines.schedules.commands import (
    HISTORY,
    JobOption,
    OverlapOption,
    ParameterOption,
    PipelineOption,
    VersionOption,
    read_job,
)
from modelops.domains.pipelines.triggers.client import Triggers
from modelops.domains.pipelines.triggers.schemas import RateLimit

app = typer.Typer()

TriggerArg = Annotated[str, typer.Argument(help="A trigger, by name or id.")]
EventOption = Annotated[
    list[str] | None, typer.Option("--event", help="An event type, such as modelops.models.*; repeat it.")
]
ConditionOption = Annotated[str | None, typer.Option(help="""Such as: data.to_stage = "Production" """)]
MapOption = Annotated[
    list[str] | None, typer.Option("--map", help="PARAMETER=FIELD, such as model=data.model; repeat it.")
]
DebounceOption = Annotated[float | None, typer.Option(help="Begin once nothing has happened for so many seconds.")]
LimitOption = Annotated[str | None, typer.Option(help="At most so many in so many seconds, such as 10/3600.")]


@app.command()
def create_trigger(
    ctx: typer.Context,
    name: TriggerArg,
    event: EventOption = None,
    hook: Annotated[bool, typer.Option("--hook", help="A path of its own for signed messages from outside.")] = False,
    pipeline: PipelineOption = None,
    version: VersionOption = None,
    parameter: ParameterOption = None,
    job: JobOption = None,
    condition: ConditionOption = None,
    mapping: MapOption = None,
    description: str = "",
    paused: Annotated[bool, typer.Option("--paused", help="Nothing begins until it is let go on.")] = False,
    debounce_s: DebounceOption = None,
    limit: LimitOption = None,
    overlap: OverlapOption = None,
    as_json: AsJson = False,
) -> None:
    """Begin a pipeline, or a job, because something happens; of a hook, path and secret are shown this once."""
    chosen: dict[str, Any] = {"debounce_s": debounce_s, "overlap": overlap}
    made = group(ctx, Triggers).create_trigger(
        name,
        events=event or None,
        hook=hook,
        pipeline=pipeline,
        version=version,
        parameters=values(parameter, "a parameter"),
        job=read_job(job),
        condition=condition,
        mapping=pairs(mapping, "a field"),
        description=description,
        paused=paused,
        limit=_limit(limit),
        **{field: value for field, value in chosen.items() if value is not None},
    )
    show(made, as_json=as_json)


@app.command()
@paged
def list_triggers(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's triggers."""
    columns = ["name", "events", "hook", "condition", "target", "paused", "id"]
    empty = "There are no triggers yet. Make one: mops pipelines create-trigger NAME --event TYPE --pipeline PIPELINE"
    show_page(group(ctx, Triggers).list_triggers(**page), columns, as_json=as_json, empty=empty)


@app.command()
def get_trigger(ctx: typer.Context, trigger: TriggerArg, as_json: AsJson = False) -> None:
    """Show a trigger, and why its hook turned a message away."""
    show(group(ctx, Triggers).get_trigger(trigger), as_json=as_json)


@app.command()
def update_trigger(
    ctx: typer.Context,
    trigger: TriggerArg,
    event: EventOption = None,
    pipeline: PipelineOption = None,
    version: VersionOption = None,
    parameter: ParameterOption = None,
    job: JobOption = None,
    condition: ConditionOption = None,
    mapping: MapOption = None,
    description: str | None = None,
    paused: Annotated[bool | None, typer.Option("--pause/--resume", help="Whether anything begins.")] = None,
    debounce_s: DebounceOption = None,
    limit: LimitOption = None,
    overlap: OverlapOption = None,
    as_json: AsJson = False,
) -> None:
    """Change a trigger, or pause it or let it go on."""
    fields: dict[str, Any] = {
        "events": event or None,
        "target": target_of(pipeline, version, values(parameter, "a parameter"), read_job(job))
        if pipeline or job
        else None,
        "condition": condition,
        "mapping": pairs(mapping, "a field") or None,
        "description": description,
        "paused": paused,
        "debounce_s": debounce_s,
        "limit": _limit(limit),
        "overlap": overlap,
    }
    changes = {name: value for name, value in fields.items() if value is not None}
    show(group(ctx, Triggers).update_trigger(trigger, **changes), as_json=as_json)


@app.command()
def delete_trigger(ctx: typer.Context, trigger: TriggerArg) -> None:
    """Remove a trigger. What it began goes on."""
    group(ctx, Triggers).delete_trigger(trigger)
    say(f"The trigger '{trigger}' is gone.")


@app.command()
def rotate_trigger_secret(ctx: typer.Context, trigger: TriggerArg, as_json: AsJson = False) -> None:
    """Give a hook another path and secret; they are shown this once."""
    show(group(ctx, Triggers).rotate_trigger_secret(trigger), as_json=as_json)


@app.command()
@paged
def list_trigger_history(ctx: typer.Context, trigger: TriggerArg, page: Any, as_json: AsJson = False) -> None:
    """Show what a trigger led to, newest first."""
    found = group(ctx, Triggers).list_trigger_history(trigger, **page)
    show_page(found, HISTORY, as_json=as_json, empty="Nothing has happened that it is for.")


def _limit(text: str | None) -> RateLimit | None:
    most, _, seconds = (text or "").partition("/")
    try:
        return None if text is None else RateLimit(most=int(most), per_s=float(seconds))
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no limit; write it as 10/3600.") from None
