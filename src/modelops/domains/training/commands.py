"""Training jobs and the recipes they run."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    values,
    with_short_names,
)
from modelops.domains.training.client import Training
from modelops.domains.training.schemas import Job, JobState, Resources

_LOOK_S = 0.2

_SHORT = with_short_names(
    recipes="list_recipes",
    submit="submit_job",
    list="list_jobs",
    show="get_job",
    logs="get_job_log",
    cancel="cancel_job",
)

app = typer.Typer(cls=_SHORT, help="Training jobs and the recipes they run.", no_args_is_help=True)

JobArg = Annotated[str, typer.Argument(help="A job's id, job_….")]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="KEY=VALUE, the value in JSON; repeat it.")
]
Tag = Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE; repeat it.")]


@app.command()
def list_recipes(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the installed recipes with the parameters that they take."""
    recipes = group(ctx, Training).list_recipes()
    if as_json:
        show(recipes, as_json=True)
        return
    for recipe in recipes.items:
        say(f"{recipe.name}: {recipe.description}")
        properties: Any = recipe.parameters.get("properties", {})
        for name, facts in properties.items():
            default = f" (default {facts['default']!r})" if "default" in facts else " (needed)"
            say(f"    {name}{default}: {facts.get('description', '')}")


@app.command()
def submit_job(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe: mops jobs recipes")],
    dataset: Annotated[str, typer.Argument(help="A dataset version: name, or name:3.")],
    parameter: Parameters = None,
    name: str | None = None,
    experiment: Annotated[str | None, typer.Option(help="Where its runs go; by default, the job's name.")] = None,
    cpus: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    memory_mb: Annotated[int | None, typer.Option(min=64, help="Memory limit in MiB.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Time limit in seconds.")] = 3600.0,
    tag: Tag = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow its output until it ends; exit 1 if it fails.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a training job."""
    training = group(ctx, Training)
    job = training.submit_job(
        recipe,
        dataset,
        parameters=values(parameter, "a parameter"),
        resources=Resources(cpus=cpus, memory_mb=memory_mb, timeout_s=timeout_s),
        name=name,
        experiment=experiment,
        tags=pairs(tag, "a tag"),
    )
    if wait:
        job = _wait(training, job)
    if as_json:
        show(job, as_json=True)
    else:
        say(_told(job) if wait else f"{job.id} is queued. Follow it: mops jobs logs {job.id} -f")
    if wait and job.state is not JobState.SUCCEEDED:
        raise typer.Exit(1)


@app.command()
@paged
def list_jobs(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's jobs, newest first."""
    columns = ["name", "recipe", "dataset", "state", "reason", "created_at", "id"]
    empty = "There are no jobs yet. Submit one: mops jobs submit RECIPE DATASET"
    show_page(group(ctx, Training).list_jobs(**page), columns, as_json=as_json, empty=empty)


@app.command()
def get_job(ctx: typer.Context, job: JobArg, as_json: AsJson = False) -> None:
    """Show a job."""
    show(group(ctx, Training).get_job(job), as_json=as_json)


@app.command()
def cancel_job(ctx: typer.Context, job: JobArg, reason: str = "", as_json: AsJson = False) -> None:
    """Cancel a job."""
    found = group(ctx, Training).cancel_job(job, reason=reason)
    show(found, as_json=True) if as_json else say(_told(found))


@app.command()
def get_job_log(
    ctx: typer.Context,
    job: JobArg,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    offset: Annotated[int, typer.Option(min=0, help="Bytes to skip.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print a job's output."""
    training = group(ctx, Training)
    if follow:
        _follow(training, job, to_stderr=False)
        return
    piece = training.get_job_log(job, offset=offset, limit=1024 * 1024)
    show(piece, as_json=True) if as_json else sys.stdout.write(piece.text)


def _wait(training: Training, job: Job) -> Job:
    """Show a job's output until it has ended, and return it."""
    note(f"{job.id} is queued.")
    try:
        with _waiting() as tell:
            while job.state in (JobState.QUEUED, JobState.STARTING):
                tell(f"{job.state}: {job.reason or 'its process comes up'}")
                time.sleep(_LOOK_S)
                job = training.get_job(job.id)
        _follow(training, job.id)
    except KeyboardInterrupt:
        note(f"{job.id} goes on. Follow it: mops jobs logs {job.id} -f; end it: mops jobs cancel {job.id}")
        raise
    return training.wait_for_job(job.id)


@contextmanager
def _waiting() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what a job waits for; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("") as status:
        yield lambda sentence: status.update(escape(sentence))


def _follow(training: Training, job: str, *, to_stderr: bool = True) -> None:
    out = sys.stderr if to_stderr else sys.stdout
    for text in training.follow_log(job):
        out.write(text)
        out.flush()


def _told(job: Job) -> str:
    why = f": {job.reason}" if job.reason else ""
    result = job.result.model_version_id if job.result else None
    verb = "ended as" if job.state.final else "is"
    return f"{job.name} ({job.id}) {verb} {job.state}{why}" + (f", and made {result}." if result else ".")
