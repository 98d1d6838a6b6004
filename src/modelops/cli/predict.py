"""`mops predict`: a version asked for every row of a table."""

from typing import Annotated

import typer

from modelops.contracts.terminal import AsJson, note, print_json, say, session_of

Model = Annotated[str, typer.Option("--model", "-m", help="name, name:3, name@alias, or an id.")]
Source = Annotated[str, typer.Argument(help="A Parquet, CSV or Arrow file, or a dataset version (name:3).")]
Output = Annotated[str, typer.Option("--output", "-o", help="The file to write: .parquet, .csv or .arrow.")]
Keep = Annotated[list[str] | None, typer.Option("--keep", help="A column to keep; repeat it, or '*' for all.")]
Restart = Annotated[bool, typer.Option("--restart", help="Begin anew, whatever an earlier run left.")]


def predict(
    ctx: typer.Context,
    source: Source,
    model: Model,
    output: Output,
    keep: Keep = None,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Predict every row of a table into a file, on this machine. Run it again after a stop: it goes on from there."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from modelops.sdk.client import Client
    from modelops.sdk.inference import InferencePipeline

    session = session_of(ctx)
    client = Client.over(session.rest, session.settings)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=None)
        found = InferencePipeline(model, client, keep=keep or ()).run(
            source,
            output,
            resume=not restart,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(found)
        return
    if found.resumed_rows:
        note(f"{found.resumed_rows:,} rows were answered by an earlier run.")
    say(
        f"{found.rows:,} rows, {found.model} version {found.version}, {found.seconds:.1f} s: {found.output} "
        f"({', '.join(found.columns)})"
    )
