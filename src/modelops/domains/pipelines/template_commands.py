"""Commands of pipelines themselves: registered, looked at, drawn."""

from typing import Annotated, Any

import typer

from modelops.contracts.errors import NotFound
from modelops.contracts.terminal import AsJson, group, paged, say, show, show_page, show_rows
from modelops.domains.pipelines.client import Pipelines
from modelops.domains.pipelines.files import load_pipeline
from modelops.domains.pipelines.schemas import StepRun
from modelops.domains.pipelines.showing import GraphForm, draw

app = typer.Typer()

Source = Annotated[str, typer.Argument(help="A file: nightly.yaml, nightly.py, or nightly.py:name.")]
Named = Annotated[str, typer.Argument(help="A pipeline, by name or id.")]

_SHOWN = 200


@app.command()
def register_pipeline(ctx: typer.Context, source: Source, as_json: AsJson = False) -> None:
    """Register the pipeline of a file, with the code of its steps; a changed one is its next version."""
    version = group(ctx, Pipelines).register_pipeline(load_pipeline(source))
    if as_json:
        show(version, as_json=True)
    else:
        say(f"{version.pipeline} is version {version.version}. Run it: mops pipelines run {version.pipeline}")


@app.command()
@paged
def list_pipelines(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's pipelines."""
    columns = ["name", "latest_version", "description", "updated_at", "created_by"]
    empty = "There are no pipelines yet. Register one: mops pipelines register FILE"
    show_page(group(ctx, Pipelines).list_pipelines(**page), columns, as_json=as_json, empty=empty)


@app.command()
def get_pipeline(ctx: typer.Context, pipeline: Named, as_json: AsJson = False) -> None:
    """Show a pipeline."""
    show(group(ctx, Pipelines).get_pipeline(pipeline), as_json=as_json)


@app.command()
def delete_pipeline(ctx: typer.Context, pipeline: Named, as_json: AsJson = False) -> None:
    """Remove a pipeline that has no runs."""
    group(ctx, Pipelines).delete_pipeline(pipeline)
    show({"deleted": pipeline}, as_json=True) if as_json else say(f"The pipeline {pipeline} is deleted.")


@app.command()
@paged
def list_pipeline_versions(ctx: typer.Context, pipeline: Named, page: Any, as_json: AsJson = False) -> None:
    """List a pipeline's versions, newest first."""
    found = group(ctx, Pipelines).list_pipeline_versions(pipeline, **page)
    show_page(found, ["version", "digest", "created_at", "created_by"], as_json=as_json)


@app.command()
def get_pipeline_version(
    ctx: typer.Context,
    pipeline: Named,
    version: Annotated[str, typer.Argument(help="A number, or latest.")] = "latest",
    as_json: AsJson = False,
) -> None:
    """Show a version of a pipeline: its parameters and steps."""
    found = group(ctx, Pipelines).get_pipeline_version(pipeline, version)
    if as_json:
        show(found, as_json=True)
        return
    document = found.document
    say(f"{found.pipeline}, version {found.version}{': ' + document.description if document.description else ''}")
    parameters = [{"name": name, **spec.model_dump(mode="json")} for name, spec in document.parameters.items()]
    columns = ["name", "type", "default", "required", "choices", "description"]
    show_rows(parameters, columns, as_json=False, empty="It takes no parameters.")
    steps = [
        {"step": name, "needs": spec.after, "description": spec.description} for name, spec in document.steps.items()
    ]
    show_rows(steps[:_SHOWN], ["step", "description"], as_json=False, empty="It has no steps.")


@app.command()
def graph(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="A run's id or latest, a registered pipeline, or a file.")],
    version: Annotated[str, typer.Option(help="Of a registered pipeline: a number, or latest.")] = "latest",
    form: Annotated[GraphForm, typer.Option("--format", help="What is written.")] = GraphForm.TEXT,
    as_json: AsJson = False,
) -> None:
    """Draw a pipeline, or a run with the states of its steps."""
    steps: list[StepRun] = []
    if is_file(source):
        document = load_pipeline(source).document
    else:
        pipelines = group(ctx, Pipelines)
        if source.startswith("prn_") or source == "latest":
            run = pipelines.get_run(run_id(ctx, source))
            source, version, steps = run.pipeline, str(run.version), list(pipelines.all_steps(run.id))
        document = pipelines.get_pipeline_version(source, version).document
    if as_json:
        show(document, as_json=True)
    else:
        draw(document, steps, form)


def is_file(source: str) -> bool:
    """Tell whether a file is meant; a pipeline's name may have a dot in it, but does not end so."""
    return source.endswith((".py", ".yaml", ".yml")) or ".py:" in source


def run_id(ctx: typer.Context, run: str) -> str:
    """Return the id of a run; `latest` is the project's newest."""
    if run != "latest" or ctx.resilient_parsing:
        return run
    newest = group(ctx, Pipelines).list_runs(limit=1).items
    if not newest:
        raise NotFound("There are no runs yet.", hint="Begin one: mops pipelines run PIPELINE")
    return newest[0].id
