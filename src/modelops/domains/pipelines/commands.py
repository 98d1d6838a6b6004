"""Pipelines, their runs and steps."""

import sys
from typing import Annotated, Any

import typer

from modelops.contracts.terminal import (
    AsJson,
    group,
    note,
    paged,
    pairs,
    say,
    show,
    show_page,
    show_rows,
    values,
    with_short_names,
)
from modelops.domains.pipelines import template_commands
from modelops.domains.pipelines.client import Pipelines
from modelops.domains.pipelines.files import load_pipeline
from modelops.domains.pipelines.schedules import commands as schedule_commands
from modelops.domains.pipelines.schemas import PipelineRun, RunState, StepState
from modelops.domains.pipelines.showing import follow_run
from modelops.domains.pipelines.template_commands import is_file, run_id
from modelops.domains.pipelines.triggers import commands as trigger_commands

_SHORT = with_short_names(
    register="register_pipeline",
    run="start_run",
    list="list_runs",
    show="get_run",
    steps="list_steps",
    logs="get_step_log",
    cancel="cancel_run",
    pause="pause_run",
    resume="resume_run",
    rerun="rerun_run",
    approve="decide_step",
    schedule="create_schedule",
    schedules="list_schedules",
    next="list_next_times",
    trigger="create_trigger",
    triggers="list_triggers",
)

app = typer.Typer(cls=_SHORT, help="Pipelines, their runs and steps.", no_args_is_help=True)


RunArg = Annotated[str, typer.Argument(help="A run's id, prn_…, or latest.", callback=run_id)]
StepArg = Annotated[str, typer.Argument(help="A step: its name, or name[3] for a member of a fan-out.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="KEY=VALUE, the value in JSON; repeat it.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it has ended; exit 1 unless it succeeded.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show its steps until it has ended; exit as with --wait.")]
Fresh = Annotated[bool, typer.Option("--no-cache", help="Run every step, also where an equal one succeeded before.")]

_STEP_COLUMNS = ["key", "state", "attempt", "started_at", "ended_at", "cpu_seconds", "peak_memory_bytes", "reason"]
_SHOWN = 200


@app.command()
def start_run(
    ctx: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="A registered pipeline, or a file that is registered first.")],
    parameter: Parameters = None,
    version: Annotated[int | None, typer.Option(min=1, help="By default, the newest.")] = None,
    name: str | None = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE; repeat it.")] = None,
    no_cache: Fresh = False,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Begin a run of a pipeline."""
    pipelines = group(ctx, Pipelines)
    if is_file(pipeline):
        registered = pipelines.register_pipeline(load_pipeline(pipeline))
        pipeline, version = registered.pipeline, version or registered.version
    run = pipelines.start_run(
        pipeline,
        version=version,
        parameters=values(parameter, "a parameter"),
        name=name,
        tags=pairs(tag, "a tag"),
        use_cache=not no_cache,
    )
    _begun(pipelines, run, wait=wait, watch=watch, as_json=as_json)


@app.command()
@paged
def list_runs(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's runs of pipelines, newest first."""
    columns = ["pipeline", "version", "name", "state", "steps", "created_at", "ended_at", "id"]
    empty = "There are no runs yet. Begin one: mops pipelines run PIPELINE"
    show_page(group(ctx, Pipelines).list_runs(**page), columns, as_json=as_json, empty=empty)


@app.command()
def get_run(ctx: typer.Context, run: RunArg, watch: Watch = False, as_json: AsJson = False) -> None:
    """Show a run and its steps."""
    pipelines = group(ctx, Pipelines)
    if watch:
        _end(follow_run(pipelines, pipelines.get_run(run)), as_json=as_json)
        return
    found = pipelines.get_run(run)
    show(found, as_json=as_json)
    if not as_json:
        page = pipelines.list_steps(run, limit=_SHOWN)
        show_rows(page.items, _STEP_COLUMNS, as_json=False, empty="Its steps are not laid out yet.")


@app.command()
def delete_run(ctx: typer.Context, run: RunArg, as_json: AsJson = False) -> None:
    """Remove a run that has ended, with what it made and nothing else needs."""
    group(ctx, Pipelines).delete_run(run)
    show({"deleted": run}, as_json=True) if as_json else say(f"The run {run} is deleted.")


@app.command()
def cancel_run(ctx: typer.Context, run: RunArg, reason: str = "", as_json: AsJson = False) -> None:
    """Cancel a run: nothing begins any more, and what is under way is ended."""
    _told(group(ctx, Pipelines).cancel_run(run, reason=reason), as_json=as_json)


@app.command()
def pause_run(ctx: typer.Context, run: RunArg, as_json: AsJson = False) -> None:
    """Pause a run: what is under way goes on, and nothing new begins."""
    _told(group(ctx, Pipelines).pause_run(run), as_json=as_json)


@app.command()
def resume_run(ctx: typer.Context, run: RunArg, as_json: AsJson = False) -> None:
    """Let a paused run go on."""
    _told(group(ctx, Pipelines).resume_run(run), as_json=as_json)


@app.command()
def rerun_run(
    ctx: typer.Context,
    run: RunArg,
    from_step: Annotated[str | None, typer.Option(help="Only this step and what lies behind it.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what did not succeed.")] = False,
    parameter: Parameters = None,
    no_cache: Fresh = False,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Begin a run again: whole, from a step on, or what did not succeed."""
    pipelines = group(ctx, Pipelines)
    again = pipelines.rerun_run(
        run,
        from_step=from_step,
        only_failed=failed,
        parameters=values(parameter, "a parameter"),
        use_cache=not no_cache,
    )
    _begun(pipelines, again, wait=wait, watch=watch, as_json=as_json)


@app.command()
@paged
def list_steps(ctx: typer.Context, run: RunArg, page: Any, as_json: AsJson = False) -> None:
    """List a run's steps in the pipeline's order."""
    show_page(group(ctx, Pipelines).list_steps(run, **page), _STEP_COLUMNS, as_json=as_json)


@app.command()
def get_step(ctx: typer.Context, run: RunArg, step: StepArg, as_json: AsJson = False) -> None:
    """Show a step of a run."""
    show(group(ctx, Pipelines).get_step(run, step), as_json=as_json)


@app.command()
def output(
    ctx: typer.Context,
    run: RunArg,
    step: StepArg,
    name: Annotated[str, typer.Argument(help="Which of its outputs.")] = "result",
    as_json: AsJson = False,
) -> None:
    """Print a JSON output of a step."""
    value = group(ctx, Pipelines).read_output(run, step, name)
    show({"value": value}, as_json=True) if as_json else show(value, as_json=False)


@app.command()
def get_step_log(
    ctx: typer.Context,
    run: RunArg,
    step: Annotated[str | None, typer.Argument(help="A step; by default, all of them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the step has ended.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="By default, the newest.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Characters to skip.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print what a step wrote; without a step, what all of them wrote."""
    pipelines = group(ctx, Pipelines)
    if step is None:
        for each in pipelines.all_steps(run):
            piece = pipelines.get_step_log(run, each.key, limit=1024 * 1024)
            if as_json and piece.text:
                show({"step": each.key, **piece.model_dump()}, as_json=True)
            elif piece.text:
                note(f"── {each.key}")
                sys.stdout.write(piece.text)
        return
    job = pipelines.get_step(run, step).job_id
    if job is not None:
        note(f"The step is a training job. What it wrote: mops jobs logs {job}")
    if follow:
        for text in pipelines.follow_log(run, step):
            sys.stdout.write(text)
            sys.stdout.flush()
        return
    piece = pipelines.get_step_log(run, step, offset=offset, limit=1024 * 1024, attempt=attempt)
    show(piece, as_json=True) if as_json else sys.stdout.write(piece.text)


@app.command()
def decide_step(
    ctx: typer.Context,
    run: RunArg,
    step: StepArg,
    reject: Annotated[bool, typer.Option("--reject", help="Reject it; the step has failed then.")] = False,
    comment: str = "",
    as_json: AsJson = False,
) -> None:
    """Approve a step that waits for it, or reject it."""
    found = group(ctx, Pipelines).decide_step(run, step, approved=not reject, comment=comment)
    if as_json:
        show(found, as_json=True)
    else:
        say(f"The step {found.key} is {'approved' if found.state is StepState.SUCCEEDED else 'rejected'}.")


@app.command()
def clear_cache(
    ctx: typer.Context,
    pipeline: Annotated[str | None, typer.Option(help="Of this pipeline alone, by name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Forget kept results of steps."""
    found = group(ctx, Pipelines).clear_cache(pipeline)
    show(found, as_json=True) if as_json else say(f"{found.removed} results are forgotten.")


def _begun(pipelines: Pipelines, run: PipelineRun, *, wait: bool, watch: bool, as_json: bool) -> None:
    """Tell of a run that began, and wait for it where that is wanted."""
    if watch:
        _end(follow_run(pipelines, run), as_json=as_json)
    elif wait:
        _end(pipelines.wait_for_run(run.id), as_json=as_json)
    elif as_json:
        show(run, as_json=True)
    else:
        say(f"{run.id} is {run.state}. Watch it: mops pipelines show {run.id} --watch")


app.add_typer(template_commands.app)
app.add_typer(schedule_commands.app)
app.add_typer(trigger_commands.app)


def _end(run: PipelineRun, *, as_json: bool) -> None:
    _told(run, as_json=as_json)
    if run.state is not RunState.SUCCEEDED:
        raise typer.Exit(1)


def _told(run: PipelineRun, *, as_json: bool) -> None:
    if as_json:
        show(run, as_json=True)
        return
    why = f": {run.reason}" if run.reason else "."
    say(f"{run.name} ({run.id}) is {run.state}{why}")
