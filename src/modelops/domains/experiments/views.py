"""Saved views of runs: kept, found again, and applied to a selection."""

from typing import Any

from sqlalchemy import ColumnElement, false, or_

from modelops.contracts.errors import AlreadyExists, InvalidInput, NotFound, PermissionDenied
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.experiments.analysis_rules import both, read_grouping, read_objectives
from modelops.domains.experiments.analysis_schemas import RunSelection
from modelops.domains.experiments.finding import find_experiment, page_of_runs
from modelops.domains.experiments.reading import RUN_FIELDS
from modelops.domains.experiments.schemas import Run
from modelops.domains.experiments.tables import RunRow, ViewRow
from modelops.domains.experiments.view_schemas import View, ViewCreate, ViewUpdate
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_FIELDS = {
    "name": ViewRow.name,
    "shared": ViewRow.shared,
    "created_at": ViewRow.created_at,
    "created_by": ViewRow.created_by,
}
_CLEARED = ("filter", "order_by", "group_by")


def create_view(ctx: Context, body: ViewCreate) -> View:
    """Save a view of runs, for oneself or shared.

    Raises:
        AlreadyExists: the caller has one of that name, or a shared one has it.
        InvalidInput: its filter, order, columns or grouping is not of the grammar.
    """
    ctx.require("experiments.write")
    row = ViewRow(
        id=new_id("view"),
        project_id=ctx.project_id,
        experiment_id=None if body.experiment is None else find_experiment(ctx, body.experiment).id,
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
        **body.model_dump(exclude={"experiment"}),
    )
    _check(ctx, row)
    ctx.session.add(row)
    ctx.session.flush()
    return _as_view(row)


def list_views(ctx: Context, page: PageQuery) -> Page[View]:
    """List the views that the caller may see: his own and those that are shared."""
    ctx.require("experiments.read")
    found = list_rows(ctx, ctx.query(ViewRow).where(_visible(ctx)), ViewRow.id, _FIELDS, page)
    return Page(items=[_as_view(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_view(ctx: Context, view: str) -> View:
    """Return a view, by id or name; of one name, the caller's own before a shared one."""
    ctx.require("experiments.read")
    return _as_view(_find(ctx, view))


def update_view(ctx: Context, view: str, body: ViewUpdate) -> View:
    """Change a view: one's own, or a shared one with the permission for it."""
    ctx.require("experiments.write")
    row = _find_own(ctx, view)
    ctx.check_revision(row)
    for name, value in body.model_dump(exclude_none=True).items():
        setattr(row, name, None if name in _CLEARED and not value else value)
    _check(ctx, row)
    ctx.session.flush()
    return _as_view(row)


def delete_view(ctx: Context, view: str) -> None:
    """Forget a view: one's own, or a shared one with the permission for it. The runs stay."""
    ctx.require("experiments.write")
    ctx.session.delete(_find_own(ctx, view))


def apply_view(ctx: Context, selection: RunSelection) -> tuple[RunSelection, View | None]:
    """Return a selection with what its view adds: the view's experiment and order where it names none, and its filter, too."""
    if selection.view is None:
        return selection, None
    view = get_view(ctx, selection.view)
    changes: dict[str, Any] = {
        "experiment": selection.experiment or view.experiment_id,
        "filter": both(view.filter, selection.filter),
        "order_by": selection.order_by or view.order_by,
    }
    return selection.model_copy(update=changes), view


def list_view_runs(ctx: Context, view: str, limit: int, cursor: str | None) -> Page[Run]:
    """List the runs that a view shows, in its order."""
    ctx.require("experiments.read")
    chosen, _ = apply_view(ctx, RunSelection(view=view))
    page = PageQuery(limit=limit, cursor=cursor, filter=chosen.filter, order_by=chosen.order_by)
    return page_of_runs(ctx, chosen.experiment, page)


def _check(ctx: Context, row: ViewRow) -> None:
    """Refuse a view that could never be opened, and a name that is taken."""
    read_objectives(row.metrics)
    if row.group_by is not None:
        read_grouping(row.group_by)
    trial = PageQuery(limit=1, filter=row.filter, order_by=row.order_by)
    list_rows(ctx, ctx.query(RunRow).where(false()), RunRow.id, RUN_FIELDS, trial)
    for column in row.columns:
        head, _, key = column.partition(".")
        keyed = head in ("metrics", "parameters", "tags")
        if keyed != bool(key) or not (keyed or head in RUN_FIELDS or head in ("id", "experiment")):
            raise InvalidInput(
                f"Runs have no column '{column[:60]}'.", hint="Such as `name`, `parameters.lr`, `metrics.loss`."
            )
    taken = ctx.query(ViewRow).where(ViewRow.name == row.name, ViewRow.id != row.id)
    rival = ViewRow.created_by == row.created_by
    if ctx.session.scalars(taken.where(or_(rival, ViewRow.shared.is_(True)) if row.shared else rival)).first():
        raise AlreadyExists(f"There is a view '{row.name}' already.")


def _find_own(ctx: Context, view: str) -> ViewRow:
    row = _find(ctx, view)
    if row.created_by != ctx.actor.id and not ctx.can("views.manage"):
        raise PermissionDenied(f"The view '{row.name}' is another's.", hint="Save one of your own under that name.")
    return row


def _find(ctx: Context, view: str) -> ViewRow:
    query = ctx.query(ViewRow).where(_visible(ctx), or_(ViewRow.id == view, ViewRow.name == view))
    row = ctx.session.scalars(query.order_by(ViewRow.id != view, ViewRow.created_by != ctx.actor.id)).first()
    if row is None:
        raise NotFound(f"There is no view '{view}' of yours or shared in this project.")
    return row


def _visible(ctx: Context) -> ColumnElement[bool]:
    return or_(ViewRow.created_by == ctx.actor.id, ViewRow.shared.is_(True))


def _as_view(row: ViewRow) -> View:
    return View.model_validate(row, from_attributes=True)
