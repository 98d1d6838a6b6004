"""Deleting experiments and runs: hidden at once, restorable for a while, then gone with all that was logged on them."""

from datetime import timedelta

from sqlalchemy import delete, func, select, update

from modelops.domains.experiments.ports import ArtifactRelease
from modelops.domains.experiments.tables import (
    ExperimentRow,
    LatestMetricRow,
    MetricRow,
    ParameterRow,
    RunArtifactRow,
    RunRow,
    RunTagRow,
)
from modelops.kernel.context import Context

_AT_ONCE = 50
"""How many runs one unit of work removes: other writers wait meanwhile."""


def delete_experiment(ctx: Context, row: ExperimentRow) -> None:
    """Hide an experiment and its runs. Runs that were deleted before keep their own time."""
    if row.deleted_at is not None:
        return
    row.deleted_at = row.changed_at = ctx.clock.now()
    row.touch()
    runs = update(RunRow).where(RunRow.experiment_id == row.id, RunRow.deleted_at.is_(None))
    ctx.session.execute(runs.values(deleted_at=row.deleted_at, revision=RunRow.revision + 1))
    ctx.emit("modelops.experiments.experiment_deleted", row.id, name=row.name)


def restore_experiment(ctx: Context, row: ExperimentRow) -> None:
    """Bring an experiment back, and the runs that were deleted with it."""
    if row.deleted_at is None:
        return
    runs = update(RunRow).where(RunRow.experiment_id == row.id, RunRow.deleted_at == row.deleted_at)
    ctx.session.execute(runs.values(deleted_at=None, revision=RunRow.revision + 1))
    row.deleted_at, row.changed_at = None, ctx.clock.now()
    row.touch()
    ctx.emit("modelops.experiments.experiment_restored", row.id, name=row.name)


def delete_run(ctx: Context, row: RunRow) -> None:
    """Hide a run."""
    if row.deleted_at is None:
        row.deleted_at = ctx.clock.now()
        row.touch()
        ctx.emit("modelops.experiments.run_deleted", row.id, name=row.name)


def restore_run(ctx: Context, row: RunRow) -> None:
    """Bring a run back."""
    if row.deleted_at is not None:
        row.deleted_at = None
        row.touch()
        ctx.emit("modelops.experiments.run_restored", row.id, name=row.name)


def expired(ctx: Context) -> list[str]:
    """Return some runs and experiments that were deleted longer ago than they can be restored."""
    limit = ctx.clock.now() - timedelta(seconds=ctx.settings.restore_within_s)
    runs = select(RunRow.id).where(RunRow.deleted_at < limit).order_by(RunRow.number).limit(_AT_ONCE)
    emptied = select(ExperimentRow.id).where(
        ExperimentRow.deleted_at < limit, ~select(RunRow.id).where(RunRow.experiment_id == ExperimentRow.id).exists()
    )
    return list(ctx.session.scalars(runs)) or list(ctx.session.scalars(emptied.limit(_AT_ONCE)))


def remove(ctx: Context, key: str) -> None:
    """Remove a run or an experiment for good, if it still is deleted and too old to be restored."""
    limit = ctx.clock.now() - timedelta(seconds=ctx.settings.restore_within_s)
    query = select(RunRow.number, RunRow.project_id).where(RunRow.id == key, RunRow.deleted_at < limit)
    found = ctx.session.execute(query.with_for_update()).one_or_none()
    if found is not None:
        number, project_id = found
        for table in (MetricRow, LatestMetricRow, ParameterRow, RunTagRow):
            ctx.session.execute(delete(table).where(table.run_number == number))
        files = delete(RunArtifactRow).where(RunArtifactRow.run_id == key).returning(RunArtifactRow.digest)
        digests = set(ctx.session.scalars(files))
        ctx.session.execute(delete(RunRow).where(RunRow.number == number))
        ctx.port(ArtifactRelease)(ctx, project_id, sorted(digests))
        return
    left = ctx.session.scalar(select(func.count()).where(RunRow.experiment_id == key))
    if not left:
        gone = delete(ExperimentRow).where(ExperimentRow.id == key, ExperimentRow.deleted_at < limit)
        removed_from = ctx.session.scalar(gone.returning(ExperimentRow.project_id))
        if removed_from is not None:
            ctx.within(removed_from).emit("modelops.experiments.experiment_removed", key)
