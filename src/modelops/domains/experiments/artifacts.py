"""Files of runs as a tree (for the domains above): what lies in a folder, and taking it away."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select, true

from modelops.contracts.errors import InvalidInput, NotFound, PermissionDenied
from modelops.domains.experiments.ports import ArtifactRelease
from modelops.domains.experiments.rules import RunDeleted
from modelops.domains.experiments.schemas import RunArtifact
from modelops.domains.experiments.tables import RunArtifactRow, RunRow
from modelops.kernel.context import Context

Column = Any


def run_to_read(ctx: Context, run: str) -> tuple[str, str]:
    """Return the ids of a run and of its experiment."""
    ctx.require("experiments.read")
    row = _row(ctx, run)
    return row.id, row.experiment_id


def run_to_write(ctx: Context, run: str) -> tuple[str, str]:
    """Return the ids of a run that the caller may write on, and of its experiment; a job may write on its own alone."""
    ctx.require("runs.write")
    row = _row(ctx, run)
    if ctx.actor.kind == "grant" and ctx.actor.id not in (row.job_id, row.created_by):
        raise PermissionDenied(f"The run '{run}' is not this job's.")
    if row.deleted_at is not None:
        raise RunDeleted(f"The run '{run}' is deleted.", hint="Restore it first.")
    return row.id, row.experiment_id


def run_artifacts_under(ctx: Context, run: str, folder: str) -> list[RunArtifact]:
    """Return the files of a run in a folder and below it, or the one file of that path; all for no folder."""
    run_id, _ = run_to_read(ctx, run)
    query = select(RunArtifactRow).where(RunArtifactRow.run_id == run_id, within(RunArtifactRow.path, folder))
    rows = ctx.session.scalars(query.order_by(RunArtifactRow.path))
    return [RunArtifact.model_validate(row, from_attributes=True) for row in rows]


def check_run_path(ctx: Context, run: str, path: str) -> None:
    """Refuse a path that uses a file of the run as a folder, or a folder as a file. Raises as `check_paths`."""
    run_id, _ = run_to_write(ctx, run)
    check_paths(
        ctx.session.scalars(
            select(RunArtifactRow.path)
            .where(RunArtifactRow.run_id == run_id, beside(RunArtifactRow.path, path))
            .limit(1)
        ),
        path,
    )


def unlink_run_artifacts(ctx: Context, run: str, path: str) -> int:
    """Take a file, or a folder with all below it, from a run, and return how many files that were.

    Contents that nothing refers to any more go with them.
    """
    run_id, _ = run_to_write(ctx, run)
    gone = delete(RunArtifactRow).where(RunArtifactRow.run_id == run_id, within(RunArtifactRow.path, path))
    digests = list(ctx.session.scalars(gone.returning(RunArtifactRow.digest)))
    ctx.port(ArtifactRelease)(ctx, ctx.project_id, sorted(set(digests)))
    return len(digests)


def within(column: Column, folder: str) -> ColumnElement[bool]:
    """Return the condition that a path is a folder's, or is that path itself; any for no folder."""
    if not folder:
        return true()
    return or_(column == folder, func.substr(column, 1, len(folder) + 1) == f"{folder}/")


def beside(column: Column, path: str) -> ColumnElement[bool]:
    """Return the condition that another path uses this one as a folder, or that this one uses it so."""
    above = [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."]
    return or_(column.in_(above), func.substr(column, 1, len(path) + 1) == f"{path}/")


def check_paths(found: Iterable[str], path: str) -> None:
    """Refuse a path that `beside` found another for.

    Raises:
        InvalidInput: it did.
    """
    for other in found:
        raise InvalidInput(f"'{path}' and '{other}' cannot be both: one uses the other as a folder.")


def _row(ctx: Context, run: str) -> RunRow:
    row = ctx.session.scalars(ctx.query(RunRow).where(RunRow.id == run)).one_or_none()
    if row is None:
        raise NotFound(f"There is no run '{run[:100]}' in this project.")
    return row
