"""Workloads: jobs in queues, what they ask for and what they hold."""

from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, show, show_page, with_short_names
from modelops.domains.compute.client import Compute

_SHORT = with_short_names(list="list_workloads", show="get_workload")
app = typer.Typer(
    cls=_SHORT, help="Workloads: jobs in queues, what they ask for and what they hold.", no_args_is_help=True
)


@app.command()
@paged
def list_workloads(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's jobs in queues, newest first."""
    columns = [
        "job_id",
        "queue",
        "priority",
        "requests",
        "mig_profile",
        "state",
        "flavors",
        "preemptions",
        "created_at",
    ]
    empty = "No job is in a queue. Submit one there: mops jobs submit RECIPE DATASET --queue NAME"
    show_page(group(ctx, Compute).list_workloads(**page), columns, as_json=as_json, empty=empty)


@app.command()
def get_workload(
    ctx: typer.Context,
    workload: Annotated[str, typer.Argument(help="A workload's id, or its job's.")],
    as_json: AsJson = False,
) -> None:
    """Show a job in a queue."""
    show(group(ctx, Compute).get_workload(workload), as_json=as_json)
