"""Commands for saved views of runs."""

from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, say, show, show_page
from modelops.domains.experiments.client import Experiments
from modelops.domains.experiments.terminal_tables import show_runs

app = typer.Typer()

ViewArg = Annotated[str, typer.Argument(help="A view of runs, by name or id.")]
Filter = Annotated[str | None, typer.Option(help="""Such as: metrics.accuracy > 0.9 and tags.team = "a" """)]
Order = Annotated[str | None, typer.Option(help="Such as: metrics.accuracy desc")]
Column = Annotated[list[str] | None, typer.Option("--column", help="Such as parameters.lr; repeat it.")]
GroupBy = Annotated[str | None, typer.Option(help="parameters.<key> or tags.<key>.")]
Metric = Annotated[list[str] | None, typer.Option("--metric", help="<key>:max or <key>:min; repeat it.")]
_COLUMNS = ["name", "experiment", "status", "started_at", "id"]


@app.command()
def create_view(
    ctx: typer.Context,
    name: ViewArg,
    experiment: Annotated[str | None, typer.Option(help="Only of this experiment.")] = None,
    filter: Filter = None,  # noqa: A002 - as everywhere
    order_by: Order = None,
    column: Column = None,
    group_by: GroupBy = None,
    metric: Metric = None,
    shared: Annotated[bool, typer.Option("--shared", help="Everybody in the project sees it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Save a view of runs."""
    made = group(ctx, Experiments).create_view(
        name,
        experiment=experiment,
        filter=filter,
        order_by=order_by,
        columns=column or [],
        group_by=group_by,
        metrics=metric or [],
        shared=shared,
    )
    show(made, as_json=as_json)


@app.command()
@paged
def list_views(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List your views of runs and those that are shared."""
    columns = ["name", "shared", "filter", "order_by", "group_by", "id"]
    empty = "There are no views yet. Save one: mops experiments create-view NAME --filter …"
    show_page(group(ctx, Experiments).list_views(**page), columns, as_json=as_json, empty=empty)


@app.command()
def get_view(ctx: typer.Context, view: ViewArg, as_json: AsJson = False) -> None:
    """Show what a view is of."""
    show(group(ctx, Experiments).get_view(view), as_json=as_json)


@app.command()
def update_view(
    ctx: typer.Context,
    view: ViewArg,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    filter: Filter = None,  # noqa: A002 - as everywhere
    order_by: Order = None,
    column: Column = None,
    group_by: GroupBy = None,
    metric: Metric = None,
    shared: Annotated[bool | None, typer.Option("--shared/--own", help="Whether everybody sees it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a view; an empty text takes a filter, order or grouping away."""
    fields: dict[str, Any] = {
        "name": name,
        "filter": filter,
        "order_by": order_by,
        "columns": column or None,
        "group_by": group_by,
        "metrics": metric or None,
        "shared": shared,
    }
    changed = {field: value for field, value in fields.items() if value is not None}
    show(group(ctx, Experiments).update_view(view, **changed), as_json=as_json)


@app.command()
def delete_view(ctx: typer.Context, view: ViewArg) -> None:
    """Forget a view. The runs stay."""
    group(ctx, Experiments).delete_view(view)
    say(f"The view '{view}' is gone.")


@app.command()
def list_view_runs(
    ctx: typer.Context,
    view: ViewArg,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a view, in its order and with its columns."""
    experiments = group(ctx, Experiments)
    found = experiments.list_view_runs(view, limit=limit, cursor=cursor)
    if as_json:
        show(found, as_json=True)
        return
    columns = experiments.get_view(view).columns or _COLUMNS
    show_runs(found, columns, empty=f"No run is in the view '{view}'.")
