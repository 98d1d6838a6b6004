"""Finding the project's experiments and runs."""

from typing import TypeVar

from sqlalchemy import Select

from modelops.contracts.errors import NotFound, PermissionDenied
from modelops.contracts.schemas import Page
from modelops.domains.experiments.reading import RUN_FIELDS, as_runs
from modelops.domains.experiments.schemas import Run
from modelops.domains.experiments.tables import ExperimentRow, RunRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

R = TypeVar("R", ExperimentRow, RunRow)


def find_experiment(ctx: Context, experiment: str, *, lock: bool = False) -> ExperimentRow:
    """Find an experiment by name or id."""
    query = ctx.query(ExperimentRow).where((ExperimentRow.name == experiment) | (ExperimentRow.id == experiment))
    query = query.order_by(ExperimentRow.name == experiment)  # an id stays an id, whatever others are named
    row = ctx.session.scalars(locked(query) if lock else query).first()
    if row is None:
        raise NotFound(
            f"There is no experiment '{experiment}' in this project.",
            hint=f"Make it: mops experiments create-experiment {experiment[:60]}",
        )
    return row


def find_run_row(ctx: Context, run: str, *, lock: bool = False) -> RunRow:
    """Find a run by id."""
    query = ctx.query(RunRow).where(RunRow.id == run)
    row = ctx.session.scalars(locked(query) if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"There is no run '{run}' in this project.")
    return row


def runs_of(ctx: Context, experiment: str | None, *, deleted: bool = False) -> Select[RunRow]:
    """Select the project's runs, or one experiment's; or the deleted ones."""
    query = ctx.query(RunRow).where(RunRow.deleted_at.is_not(None) == deleted)
    return query if experiment is None else query.where(RunRow.experiment_id == find_experiment(ctx, experiment).id)


def page_of_runs(ctx: Context, experiment: str | None, page: PageQuery, *, deleted: bool = False) -> Page[Run]:
    """Return a page of the project's runs, or of one experiment's, newest first."""
    found = list_rows(ctx, runs_of(ctx, experiment, deleted=deleted), RunRow.id, RUN_FIELDS, page, order="desc")
    return Page(items=as_runs(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def own_run(ctx: Context, run: str, *, lock: bool = False) -> RunRow:
    """Find a run to write on; a job, or a step of a pipeline's run, may write on its own alone."""
    row = find_run_row(ctx, run, lock=lock)
    if ctx.actor.kind == "grant" and ctx.actor.id not in (row.job_id, row.created_by):
        raise PermissionDenied(f"The run '{run}' is not this job's.")
    return row


def locked(query: Select[R]) -> Select[R]:
    """Keep everybody else from changing the rows until the unit of work ends, and see them as they are now."""
    return query.with_for_update().execution_options(populate_existing=True)
