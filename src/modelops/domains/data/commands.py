"""Artifacts and datasets: bytes and tables that the platform keeps."""

import mimetypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, note, paged, pairs, say, show, show_page, show_rows
from modelops.domains.data.client import Data
from modelops.domains.data.schemas import DataFormat

app = typer.Typer(help="Artifacts and datasets.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A file.")]
Target = Annotated[Path, typer.Argument(help="Where to write it.")]
Digest = Annotated[str, typer.Argument(help="sha256:<64 hex digits>")]
UploadArg = Annotated[str, typer.Argument(help="The id of an upload.")]
DatasetArg = Annotated[str, typer.Argument(help="A dataset, by name or id.")]
Version = Annotated[str, typer.Argument(help="A version's number, or latest.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE; repeat it.")]
Format = Annotated[DataFormat | None, typer.Option(help="By default told from the file's name.")]


@app.command()
def upload_artifact(
    ctx: typer.Context,
    file: File,
    media_type: Annotated[str | None, typer.Option(help="By default guessed from the file's name.")] = None,
    digest: Annotated[str | None, typer.Option(help="Refuse another content than this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Store a file as an artifact."""
    kind = media_type or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    with _progress(file.name, file.stat().st_size) as progress:
        artifact = group(ctx, Data).upload_artifact(file, media_type=kind, digest=digest, progress=progress)
    show(artifact, as_json=as_json)


@app.command()
def get_artifact(ctx: typer.Context, digest: Digest, as_json: AsJson = False) -> None:
    """Show what is known of an artifact."""
    show(group(ctx, Data).get_artifact(digest), as_json=as_json)


@app.command()
@paged
def list_artifacts(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's artifacts."""
    columns = ["digest", "size", "media_type", "created_at"]
    empty = "There are no artifacts yet. Store one: mops data upload-artifact FILE"
    show_page(group(ctx, Data).list_artifacts(**page), columns, as_json=as_json, empty=empty)


@app.command()
def download_artifact(ctx: typer.Context, digest: Digest, to: Target) -> None:
    """Download an artifact into a file."""
    data = group(ctx, Data)
    with _progress(to.name, data.get_artifact(digest).size) as progress:
        data.download_artifact(digest, to, progress=progress)
    say(f"{to} is there, verified.")


@app.command()
def delete_artifact(ctx: typer.Context, digest: Digest) -> None:
    """Let go of an artifact that nothing in the project refers to."""
    group(ctx, Data).delete_artifact(digest)
    say(f"{digest} is let go of. Its bytes are removed after the time of grace, if nothing else refers to them.")


@app.command()
@paged
def list_uploads(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the uploads in parts that are under way, and those just completed."""
    columns = ["id", "state", "size", "parts", "digest", "created_at"]
    empty = "There are no uploads. Large files are sent in parts: mops data upload-artifact FILE"
    show_page(group(ctx, Data).list_uploads(**page), columns, as_json=as_json, empty=empty)


@app.command()
def get_upload(ctx: typer.Context, upload: UploadArg, as_json: AsJson = False) -> None:
    """Show an upload, and which of its parts are there."""
    show(group(ctx, Data).get_upload(upload), as_json=as_json)


@app.command()
def delete_upload(ctx: typer.Context, upload: UploadArg) -> None:
    """Give an upload up, and remove its parts."""
    group(ctx, Data).delete_upload(upload)
    say(f"{upload} is given up.")


@app.command()
def collect_garbage(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove artifacts' bytes that nothing has referred to for the time of grace."""
    done = group(ctx, Data).collect_garbage(dry_run=dry_run)
    if as_json:
        show(done, as_json=True)
        return
    say(f"{done.examined} blobs ({_bytes(done.examined_size)}) are stored; nothing refers to {done.unheld} of them")
    say(f"({_bytes(done.unheld_size)}), of which {done.waiting} wait for the end of their time of grace.")
    say("Nothing was removed." if dry_run else f"{done.removed} were removed ({_bytes(done.removed_size)}).")


@app.command()
def rewrap_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Wrap the keys of encrypted artifacts with the first encryption key, so that older ones can be thrown away."""
    done = group(ctx, Data).rewrap_keys()
    if as_json:
        show(done, as_json=True)
        return
    say(f"{done.rewrapped} keys were wrapped with the first encryption key, {done.current} were before.")
    if done.failed:
        note(f"{len(done.failed)} could not be opened with the keys at hand, the first of them is {done.failed[0]}.")
        raise typer.Exit(1)


@app.command()
def create_dataset(
    ctx: typer.Context, name: DatasetArg, description: str = "", tag: Tag = None, as_json: AsJson = False
) -> None:
    """Make a dataset, still without versions."""
    dataset = group(ctx, Data).create_dataset(name, description=description, tags=pairs(tag, "a tag"))
    show(dataset, as_json=as_json)


@app.command()
@paged
def list_datasets(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's datasets."""
    columns = ["name", "latest_version", "description", "created_at"]
    empty = "There are no datasets yet. Make one: mops data create-dataset NAME"
    show_page(group(ctx, Data).list_datasets(**page), columns, as_json=as_json, empty=empty)


@app.command()
def get_dataset(ctx: typer.Context, dataset: DatasetArg, as_json: AsJson = False) -> None:
    """Show a dataset."""
    show(group(ctx, Data).get_dataset(dataset), as_json=as_json)


@app.command()
def update_dataset(
    ctx: typer.Context,
    dataset: DatasetArg,
    description: str | None = None,
    tag: Tag = None,
    as_json: AsJson = False,
) -> None:
    """Change a dataset's description, or all of its tags."""
    tags = pairs(tag, "a tag") if tag else None
    show(group(ctx, Data).update_dataset(dataset, description=description, tags=tags), as_json=as_json)


@app.command()
def create_dataset_version(
    ctx: typer.Context,
    dataset: DatasetArg,
    file: File,
    format: Format = None,  # noqa: A002 - the option's name
    parent: Annotated[list[str] | None, typer.Option(help="A version it was made from; repeat it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a version to a dataset from a CSV, Parquet or Arrow file."""
    with _progress(file.name, file.stat().st_size) as progress:
        version = group(ctx, Data).create_dataset_version(
            dataset, file, format=format, parents=parent or (), progress=progress
        )
    if as_json:
        show(version, as_json=True)
    else:
        say(
            f"{version.dataset}:{version.version} has {version.rows} rows and {len(version.columns)} columns ({version.id})."
        )


@app.command()
@paged
def list_dataset_versions(ctx: typer.Context, dataset: DatasetArg, page: Any, as_json: AsJson = False) -> None:
    """List a dataset's versions."""
    columns = ["version", "rows", "size", "format", "created_at", "id"]
    empty = f"It has no versions yet. Add one: mops data create-dataset-version {dataset} FILE"
    show_page(group(ctx, Data).list_dataset_versions(dataset, **page), columns, as_json=as_json, empty=empty)


@app.command()
def get_dataset_version(
    ctx: typer.Context, dataset: DatasetArg, version: Version = "latest", as_json: AsJson = False
) -> None:
    """Show a version's columns and what they hold."""
    found = group(ctx, Data).get_dataset_version(dataset, version)
    if as_json:
        show(found, as_json=True)
        return
    say(f"{found.dataset}:{found.version}, {found.rows} rows ({found.id})")
    types = {column.name: column.type for column in found.columns}
    rows = [{**column.model_dump(mode="json"), "type": types[column.name]} for column in found.profile]
    show_rows(
        rows, ["name", "type", "missing", "distinct", "mean", "std", "min", "max", "top"], as_json=False, empty=""
    )


@app.command()
def preview_dataset_version(
    ctx: typer.Context,
    dataset: DatasetArg,
    version: Version = "latest",
    rows: Annotated[int, typer.Option(min=0, max=1000)] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the first rows of a version."""
    preview = group(ctx, Data).preview_dataset_version(dataset, version, rows=rows)
    if as_json:
        show(preview, as_json=True)
        return
    show_rows(
        [dict(zip(preview.columns, row, strict=True)) for row in preview.rows], preview.columns, as_json=False, empty=""
    )


@app.command()
def download_dataset_version(
    ctx: typer.Context,
    dataset: DatasetArg,
    version: Version,
    to: Target,
    format: Format = None,  # noqa: A002 - the option's name
) -> None:
    """Download a version's table into a file, in a format or as it was uploaded."""
    with _progress(to.name, None) as progress:
        group(ctx, Data).download_dataset_version(dataset, version, to, format=format, progress=progress)
    say(f"{to} is there.")


def _bytes(size: int) -> str:
    amount, units = float(size), iter(["B", "KiB", "MiB", "GiB", "TiB"])
    unit = next(units)
    while amount >= 1024 and unit != "TiB":
        amount, unit = amount / 1024, next(units)
    return f"{amount:.4g} {unit}"


@contextmanager
def _progress(name: str, total: int | None) -> Iterator[Callable[[int], None] | None]:
    """Show a bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.update(task, completed=done)
