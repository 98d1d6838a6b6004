"""Experiments and runs: what was tried and what came out."""

from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, pairs, say, show, show_page, values
from modelops.domains.experiments import analysis_commands, view_commands
from modelops.domains.experiments.client import Experiments
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.experiments.terminal_tables import show_runs

app = typer.Typer(help="Experiments and runs.", no_args_is_help=True)

ExperimentArg = Annotated[str, typer.Argument(help="An experiment, by name or id.")]
RunArg = Annotated[str, typer.Argument(help="A run's id, run_….")]
_METRICS_SHOWN = 5

Deleted = Annotated[bool, typer.Option("--deleted", help="The deleted ones, which can be restored.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE; repeat it.")]


@app.command()
def create_experiment(
    ctx: typer.Context, name: ExperimentArg, description: str = "", tag: Tag = None, as_json: AsJson = False
) -> None:
    """Make an experiment."""
    made = group(ctx, Experiments).create_experiment(name, description=description, tags=pairs(tag, "a tag"))
    show(made, as_json=as_json)


@app.command()
@paged
def list_experiments(ctx: typer.Context, page: Any, deleted: Deleted = False, as_json: AsJson = False) -> None:
    """List the project's experiments, or the deleted ones."""
    columns = ["name", "description", "created_at", "id"]
    empty = "There are no experiments yet. Make one: mops experiments create-experiment NAME"
    show_page(group(ctx, Experiments).list_experiments(deleted=deleted, **page), columns, as_json=as_json, empty=empty)


@app.command()
def get_experiment(ctx: typer.Context, experiment: ExperimentArg, as_json: AsJson = False) -> None:
    """Show an experiment."""
    show(group(ctx, Experiments).get_experiment(experiment), as_json=as_json)


@app.command()
def update_experiment(
    ctx: typer.Context,
    experiment: ExperimentArg,
    description: str | None = None,
    tag: Tag = None,
    as_json: AsJson = False,
) -> None:
    """Change an experiment's description, or all of its tags."""
    tags = pairs(tag, "a tag") if tag else None
    show(group(ctx, Experiments).update_experiment(experiment, description=description, tags=tags), as_json=as_json)


@app.command()
def delete_experiment(ctx: typer.Context, experiment: ExperimentArg) -> None:
    """Delete an experiment and its runs; they can be restored for a while."""
    group(ctx, Experiments).delete_experiment(experiment)
    say(f"Deleted. Bring it back with: mops experiments restore-experiment {experiment}")


@app.command()
def restore_experiment(ctx: typer.Context, experiment: ExperimentArg, as_json: AsJson = False) -> None:
    """Restore a deleted experiment, and the runs that were deleted with it."""
    show(group(ctx, Experiments).restore_experiment(experiment), as_json=as_json)


@app.command()
def create_run(
    ctx: typer.Context,
    experiment: ExperimentArg,
    name: str | None = None,
    parameter: Annotated[list[str] | None, typer.Option("--parameter", help="KEY=VALUE; repeat it.")] = None,
    tag: Tag = None,
    as_json: AsJson = False,
) -> None:
    """Begin a run that you will log to."""
    parameters, tags = values(parameter, "a parameter"), pairs(tag, "a tag")
    run = group(ctx, Experiments).create_run(experiment, name=name, parameters=parameters, tags=tags)
    show(run, as_json=as_json)


@app.command()
@paged
def list_runs(
    ctx: typer.Context,
    page: Any,
    experiment: Annotated[str | None, typer.Option(help="Only of this experiment.")] = None,
    deleted: Deleted = False,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first, such as: --order-by "metrics.accuracy desc" --filter 'status = "finished"'."""
    found = group(ctx, Experiments).list_runs(experiment, deleted=deleted, **page)
    if as_json:
        show(found, as_json=True)
        return
    keys = list(dict.fromkeys(key for run in found.items for key in run.metrics))[:_METRICS_SHOWN]
    columns = ["name", "experiment", "status", *(f"metrics.{key}" for key in keys), "started_at", "id"]
    empty = "There are no runs yet. A program begins one: with modelops.start_experiment('NAME') as run: …"
    show_runs(found, columns, empty=empty)


@app.command()
def get_run(ctx: typer.Context, run: RunArg, as_json: AsJson = False) -> None:
    """Show a run with its parameters and the latest value of each metric."""
    show(group(ctx, Experiments).get_run(run), as_json=as_json)


@app.command()
def update_run(
    ctx: typer.Context,
    run: RunArg,
    name: str | None = None,
    status: RunStatus | None = None,
    reason: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Rename a run, or end it."""
    show(group(ctx, Experiments).update_run(run, name=name, status=status, reason=reason), as_json=as_json)


@app.command()
def delete_run(ctx: typer.Context, run: RunArg) -> None:
    """Delete a run; it can be restored for a while."""
    group(ctx, Experiments).delete_run(run)
    say(f"Deleted. Bring it back with: mops experiments restore-run {run}")


@app.command()
def restore_run(ctx: typer.Context, run: RunArg, as_json: AsJson = False) -> None:
    """Restore a deleted run."""
    show(group(ctx, Experiments).restore_run(run), as_json=as_json)


@app.command()
@paged
def get_metric_history(
    ctx: typer.Context,
    run: RunArg,
    key: Annotated[str, typer.Argument(help="The metric.")],
    page: Any,
    as_json: AsJson = False,
) -> None:
    """Show the points of a metric by step."""
    page = {name: page[name] for name in ("limit", "cursor")}
    history = group(ctx, Experiments).get_metric_history(run, key, **page)
    show_page(history, ["step", "value", "timestamp"], as_json=as_json, empty=f"The run has no metric '{key}'.")


@app.command()
def list_run_artifacts(ctx: typer.Context, run: RunArg, as_json: AsJson = False) -> None:
    """List a run's files."""
    columns = ["path", "size", "media_type", "digest"]
    show_page(group(ctx, Experiments).list_run_artifacts(run), columns, as_json=as_json, empty="The run has no files.")


app.add_typer(analysis_commands.app)
app.add_typer(view_commands.app)
