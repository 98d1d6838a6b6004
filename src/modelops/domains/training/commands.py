"""Training jobs and the recipes they run."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
from modelops.domains.data.client import Data
from modelops.domains.training.client import Training
from modelops.domains.training.drawing import drawn, requirements_lines, watch_usage
from modelops.domains.training.schemas import ArtifactRole, Engine, Job, JobState, Resources, Retry, RetryCause

_LOOK_S = 0.2

_SHORT = with_short_names(
    recipes="list_recipes",
    submit="submit_job",
    list="list_jobs",
    show="get_job",
    logs="get_job_log",
    usage="get_job_usage",
    attempts="list_job_attempts",
    artifacts="list_job_artifacts",
    cancel="cancel_job",
    retry="retry_job",
    requirements="get_training_requirements",
    estimate="estimate_cost",
    why="explain_job",
)

app = typer.Typer(cls=_SHORT, help="Training jobs and the recipes they run.", no_args_is_help=True)

JobArg = Annotated[str, typer.Argument(help="A job's id, job_….")]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="KEY=VALUE, the value in JSON; repeat it.")
]
AttemptOption = Annotated[int | None, typer.Option(min=1, help="Which attempt; by default the last.")]
RecipeArg = Annotated[str, typer.Argument(help="A recipe: mops jobs recipes")]
Dataset = Annotated[str | None, typer.Argument(help="A dataset version: name, or name:3.")]
Rows = Annotated[int | None, typer.Option(min=1, help="Of the data, where none is named.")]
Columns = Annotated[int | None, typer.Option(min=1, help="Of the data, where none is named.")]
ConfidenceOption = Annotated[float, typer.Option(min=0.5, max=0.99, help="How sure the intervals are to be.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE; repeat it.")]


@app.command()
def list_recipes(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the installed recipes with the parameters that they take."""
    recipes = group(ctx, Training).list_recipes()
    if as_json:
        show(recipes, as_json=True)
        return
    for recipe in recipes.items:
        engine = "" if recipe.engine is Engine.LOCAL else f" (engine {recipe.engine})"
        say(f"{recipe.name}{engine}: {recipe.description}")
        properties: Any = recipe.parameters.get("properties", {})
        for name, facts in properties.items():
            default = f" (default {facts['default']!r})" if "default" in facts else " (needed)"
            say(f"    {name}{default}: {facts.get('description', '')}")
        for role, declared in (("input", recipe.inputs), ("output", recipe.outputs)):
            for name, one in declared.items():
                say(f"    {role} {name} ({one.kind}{'' if one.required else ', may be left out'}): {one.description}")


@app.command()
def submit_job(
    ctx: typer.Context,
    recipe: RecipeArg,
    dataset: Dataset = None,
    parameter: Parameters = None,
    given: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="NAME=REF, a dataset, model or artifact; repeat it.")
    ] = None,
    name: str | None = None,
    experiment: Annotated[str | None, typer.Option(help="Where its runs go; by default, the job's name.")] = None,
    cpus: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    memory_mb: Annotated[int | None, typer.Option(min=64, help="Memory limit in MiB.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Time limit in seconds.")] = 3600.0,
    processes: Annotated[
        int, typer.Option(min=1, help="Of a recipe whose engine runs several; they share all the rest.")
    ] = 1,
    max_attempts: Annotated[int, typer.Option(min=1, help="How often it is tried in all.")] = 3,
    retry_on: Annotated[
        list[RetryCause] | None, typer.Option(help="After which ends; by default, when it was lost. Repeat it.")
    ] = None,
    environment: Annotated[str | None, typer.Option(help="A lock of requirements: a file, or an artifact.")] = None,
    keep_checkpoints: Annotated[int, typer.Option(min=1, help="Checkpoints that are kept.")] = 3,
    tag: Tag = None,
    queue: Annotated[str | None, typer.Option(help="A queue of the project: mops queues list-queues")] = None,
    pool: Annotated[str | None, typer.Option(help="The pool whose devices it wants: mops pools list-pools")] = None,
    priority: Annotated[str | None, typer.Option(help="A priority class, for its place in the queue.")] = None,
    gpu_shares: Annotated[int, typer.Option(min=0, help="GPUs, turns of time-sliced ones, or MIG instances.")] = 0,
    min_gpu_shares: Annotated[
        int | None, typer.Option(min=1, help="With how few of them it may begin; by default, with all.")
    ] = None,
    mig_profile: Annotated[str | None, typer.Option(help="What each MIG instance is, such as 1g.10gb.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow its output until it ends; exit 1 if it fails.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a training job."""
    training = group(ctx, Training)
    job = training.submit_job(
        recipe,
        dataset,
        parameters=values(parameter, "a parameter"),
        inputs=pairs(given, "an input"),
        retry=Retry(max_attempts=max_attempts, causes=retry_on or [RetryCause.LOST]),
        environment=_lock(ctx, environment),
        keep_checkpoints=keep_checkpoints,
        resources=Resources(
            cpus=cpus,
            memory_mb=memory_mb,
            timeout_s=timeout_s,
            processes=processes,
            gpu_shares=gpu_shares,
            min_gpu_shares=min_gpu_shares,
            mig_profile=mig_profile,
        ),
        name=name,
        experiment=experiment,
        tags=pairs(tag, "a tag"),
        queue=queue,
        pool=pool,
        priority=priority,
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
def explain_job(ctx: typer.Context, job: JobArg, as_json: AsJson = False) -> None:
    """Say why a job waits, and what would let it run."""
    why = group(ctx, Training).explain_job(job)
    if as_json:
        show(why, as_json=True)
        return
    for reason in why.reasons:
        say(reason)
    for remedy in why.remedies:
        say(f"  → {remedy}")


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
def retry_job(ctx: typer.Context, job: JobArg, as_json: AsJson = False) -> None:
    """Try a job again that failed or was cancelled; it goes on from its last checkpoint."""
    found = group(ctx, Training).retry_job(job)
    show(found, as_json=True) if as_json else say(
        f"{found.id} is queued again. Follow it: mops jobs logs {found.id} -f"
    )


@app.command()
def list_job_attempts(ctx: typer.Context, job: JobArg, as_json: AsJson = False) -> None:
    """List the attempts at a job: when, how each ended, and what it used."""
    columns = ["number", "started_at", "ended_at", "cause", "exit_code", "cpu_seconds", "peak_memory_bytes", "reason"]
    page = group(ctx, Training).list_job_attempts(job)
    show_page(page, columns, as_json=as_json, empty="It has not been tried yet: it waits in the queue.")


@app.command()
def list_job_artifacts(
    ctx: typer.Context,
    job: JobArg,
    role: Annotated[ArtifactRole | None, typer.Option(help="Only these.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what files a job was given, and which it made."""
    columns = ["role", "name", "step", "size", "attempt", "created_at", "digest"]
    page = group(ctx, Training).list_job_artifacts(job, role=role)
    show_page(page, columns, as_json=as_json, empty="It was given no files, and has made none.")


@app.command()
def get_job_usage(
    ctx: typer.Context,
    job: JobArg,
    attempt: AttemptOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw it again until the job has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw what a job used over time: CPU, memory, reading and writing, GPUs."""
    training = group(ctx, Training)
    if watch and not as_json:
        watch_usage(training, job)
        return
    usage = training.get_job_usage(job, attempt=attempt)
    if as_json:
        show(usage, as_json=True)
        return
    for line in drawn(usage):
        say(line)


@app.command()
def get_job_log(
    ctx: typer.Context,
    job: JobArg,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    offset: Annotated[int, typer.Option(min=0, help="Bytes to skip.")] = 0,
    attempt: AttemptOption = None,
    as_json: AsJson = False,
) -> None:
    """Print a job's output."""
    training = group(ctx, Training)
    if follow:
        _follow(training, job, to_stderr=False, attempt=attempt, offset=offset)
        return
    piece = training.get_job_log(job, offset=offset, limit=1024 * 1024, attempt=attempt)
    show(piece, as_json=True) if as_json else sys.stdout.write(piece.text)


@app.command()
def get_training_requirements(
    ctx: typer.Context,
    recipe: RecipeArg,
    dataset: Dataset = None,
    rows: Rows = None,
    columns: Columns = None,
    parameter: Parameters = None,
    cpus: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    confidence: ConfidenceOption = 0.9,
    as_json: AsJson = False,
) -> None:
    """Tell what time, CPU and memory a training will take, from what earlier jobs of its recipe took."""
    found = group(ctx, Training).get_training_requirements(
        recipe,
        dataset,
        rows=rows,
        columns=columns,
        parameters=values(parameter, "a parameter"),
        cpus=cpus,
        confidence=confidence,
    )
    if as_json:
        show(found, as_json=True)
        return
    for line in requirements_lines(found):
        say(line)


@app.command()
def estimate_cost(
    ctx: typer.Context,
    recipe: RecipeArg,
    dataset: Dataset = None,
    rows: Rows = None,
    columns: Columns = None,
    parameter: Parameters = None,
    cpus: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    memory_mb: Annotated[int | None, typer.Option(min=64, help="Memory limit in MiB.")] = None,
    confidence: ConfidenceOption = 0.9,
    as_json: AsJson = False,
) -> None:
    """Tell what a training will take and cost, from what earlier jobs of its recipe took."""
    found = group(ctx, Training).estimate_cost(
        recipe,
        dataset,
        rows=rows,
        columns=columns,
        parameters=values(parameter, "a parameter"),
        resources=Resources(cpus=cpus, memory_mb=memory_mb),
        confidence=confidence,
    )
    if as_json:
        show(found, as_json=True)
        return
    for line in requirements_lines(found.requirements):
        say(line)
    if found.cost is not None:
        cost = found.cost
        say(f"cost        {cost.likely:.4g} {found.currency}, between {cost.low:.4g} and {cost.high:.4g}")
    elif found.requirements.known:
        say(str(found.reason))


def _lock(ctx: typer.Context, environment: str | None) -> str | None:
    """Return the digest of a lock, which is uploaded where it is a file."""
    if environment is None or environment.startswith("sha256:"):
        return environment
    return group(ctx, Data).upload_artifact(Path(environment), media_type="text/plain").digest


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


def _follow(
    training: Training, job: str, *, to_stderr: bool = True, attempt: int | None = None, offset: int = 0
) -> None:
    out = sys.stderr if to_stderr else sys.stdout
    for text in training.follow_log(job, attempt=attempt, offset=offset):
        out.write(text)
        out.flush()


def _told(job: Job) -> str:
    why = f": {job.reason}" if job.reason else ""
    result = job.result.model_version_id if job.result else None
    verb = "ended as" if job.state.final else "is"
    return f"{job.name} ({job.id}) {verb} {job.state}{why}" + (f", and made {result}." if result else ".")
