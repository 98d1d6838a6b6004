"""`mops import mlflow` and `mops export mlflow`: whole stores, moved and counted."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, note, print_json, say, session_of, show_rows

if TYPE_CHECKING:  # `mops --help` must not wait for httpx
    from modelops.sdk.exchange import Summary

importing = typer.Typer(help="Bring what another system holds here.", no_args_is_help=True)
exporting = typer.Typer(help="Bring what is here to another system.", no_args_is_help=True)

UriArg = Annotated[str, typer.Argument(help="MLflow's tracking URI: http(s)://…, sqlite:///…, or a folder.")]
Names = Annotated[
    list[str] | None, typer.Option("--experiment", help="Only this experiment, and no models; repeat it.")
]
Deleted = Annotated[bool, typer.Option("--deleted", help="What is deleted there, too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]
Token = Annotated[
    str | None, typer.Option(envvar="MLFLOW_TRACKING_TOKEN", help="For a server that asks for one.", show_envvar=True)
]


@importing.callback()
def _importing() -> None:
    """Bring what another system holds here."""


@exporting.callback()
def _exporting() -> None:
    """Bring what is here to another system."""


@importing.command("mlflow")
def import_mlflow(
    ctx: typer.Context,
    uri: UriArg,
    experiment: Names = None,
    deleted: Deleted = False,
    dry_run: DryRun = False,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Bring an MLflow store's experiments, runs, files and models into the project. Run it again after a stop."""
    from modelops.sdk.exchange import import_mlflow as move

    _move(ctx, move, uri, as_json, experiments=experiment or [], deleted=deleted, dry_run=dry_run, token=token)


@exporting.command("mlflow")
def export_mlflow(
    ctx: typer.Context,
    uri: UriArg,
    experiment: Names = None,
    deleted: Deleted = False,
    dry_run: DryRun = False,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Bring the project's experiments, runs, files and models into an MLflow store. Run it again after a stop."""
    from modelops.sdk.exchange import export_mlflow as move

    _move(ctx, move, uri, as_json, experiments=experiment or [], deleted=deleted, dry_run=dry_run, token=token)


def _move(ctx: typer.Context, move: "Callable[..., Summary]", uri: str, as_json: bool, **options: Any) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from modelops.sdk.client import Client

    session = session_of(ctx)
    client = Client.over(session.rest, session.settings)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what[:40], completed=done, total=total)

        summary = move(uri, client, progress=tell, **options)
    if as_json:
        print_json(summary.as_dict())
    else:
        _show(summary, options["dry_run"])
    if not summary.whole:
        raise typer.Exit(1)


def _show(summary: "Summary", dry_run: bool) -> None:
    found = summary.as_dict()
    kinds = ["experiments", "runs", "points", "files", "versions"]
    columns = ["kind", "found", "moved", "there", "verified", "failed"]
    show_rows([{"kind": kind, **found[kind]} for kind in kinds], columns, as_json=False, empty="")
    for remark in summary.remarks:
        note(f"Remark: {remark}")
    for failure in summary.failures:
        note(f"Failed: {failure}")
    if dry_run:
        say("Nothing was moved: this was a dry run, which counts no points and files.")
    elif not summary.whole:
        say("Run the same command again: what arrived stays, and the rest is tried anew.")
