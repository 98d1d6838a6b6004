"""Cohorts: queues that lend each other what they leave."""

from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, say, show, show_page, with_short_names
from modelops.domains.compute.client import Compute
from modelops.domains.compute.reading import checked, read_quotas
from modelops.domains.compute.schemas import CohortSpec

_SHORT = with_short_names(set="set_cohort", list="list_cohorts", show="get_cohort", delete="delete_cohort")
app = typer.Typer(cls=_SHORT, help="Cohorts: queues that lend each other what they leave.", no_args_is_help=True)

CohortArg = Annotated[str, typer.Argument(help="A cohort's name.")]
QuotaOption = Annotated[
    list[str] | None,
    typer.Option("--quota", help="FLAVOR:RESOURCE=AMOUNT of its own, then ,borrow=AMOUNT and ,lend=AMOUNT; repeat it."),
]


@app.command()
def set_cohort(
    ctx: typer.Context,
    cohort: CohortArg,
    parent: Annotated[str | None, typer.Option(help="The cohort above it.")] = None,
    quota: QuotaOption = None,
    weight: Annotated[float, typer.Option(min=0, help="Its part where shares are fair.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Make a cohort of queues, or change the one of this name."""
    spec = checked(CohortSpec, {"parent": parent, "groups": read_quotas(quota), "fair_weight": weight})
    show(group(ctx, Compute).set_cohort(cohort, spec), as_json=as_json)


@app.command()
@paged
def list_cohorts(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the cohorts that your cluster queues are in."""
    columns = ["name", "parent", "cluster_queues", "fair_weight"]
    show_page(group(ctx, Compute).list_cohorts(**page), columns, as_json=as_json)


@app.command()
def get_cohort(ctx: typer.Context, cohort: CohortArg, as_json: AsJson = False) -> None:
    """Show a cohort."""
    show(group(ctx, Compute).get_cohort(cohort), as_json=as_json)


@app.command()
def delete_cohort(ctx: typer.Context, cohort: CohortArg) -> None:
    """Remove a cohort's own quotas and its place in the tree; queues that name it go on sharing."""
    group(ctx, Compute).delete_cohort(cohort)
    say(f"The cohort {cohort} has no quotas of its own any more.")
