"""Queues: whose turn it is, and how much each may have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, say, show, show_page, show_rows, with_short_names
from modelops.domains.compute.allocator.model import PreemptionPolicy, QueueingStrategy, StopPolicy
from modelops.domains.compute.client import Compute
from modelops.domains.compute.commands.cohorts import QuotaOption
from modelops.domains.compute.drawing import cluster_queue_lines, queue_lines
from modelops.domains.compute.reading import checked, read_file, read_limits, read_quotas
from modelops.domains.compute.schemas import ClusterQueueSpec, PriorityClassSpec, QueueSpec

_SHORT = with_short_names(
    set="set_queue", list="list_queues", show="get_queue", delete="delete_queue", priorities="list_priority_classes"
)
app = typer.Typer(cls=_SHORT, help="Queues: whose turn it is, and how much each may have.", no_args_is_help=True)

QueueArg = Annotated[str, typer.Argument(help="A queue of the project, by name.")]
ClusterQueueArg = Annotated[str, typer.Argument(help="A cluster queue's name.")]
ClassArg = Annotated[str, typer.Argument(help="A priority class's name.")]
StopOption = Annotated[StopPolicy, typer.Option(help="Hold admits nothing more; HoldAndDrain ends what runs, too.")]
PolicyOption = Annotated[PreemptionPolicy, typer.Option(help="Whom its work may preempt there.")]


@app.command()
def set_queue(
    ctx: typer.Context,
    queue: QueueArg,
    cluster_queue: Annotated[str, typer.Option(help="The cluster queue that it leads to.")],
    limit: Annotated[
        list[str] | None, typer.Option(help="RESOURCE=AMOUNT, the most that the project holds at a time; repeat it.")
    ] = None,
    stop: StopOption = StopPolicy.NONE,
    as_json: AsJson = False,
) -> None:
    """Make a queue of the project, or change the one of this name."""
    spec = checked(QueueSpec, {"cluster_queue": cluster_queue, "limits": read_limits(limit), "stop_policy": stop})
    show(group(ctx, Compute).set_queue(queue, spec), as_json=as_json)


@app.command()
@paged
def list_queues(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the project's queues, with bars of what its jobs hold."""
    found = group(ctx, Compute).list_queues(**page)
    if as_json:
        show(found, as_json=True)
        return
    columns = ["name", "cluster_queue", "used", "pending", "admitted", "stopped"]
    empty = "This project has no queue: its jobs run on this machine as they come."
    show_rows(queue_lines(found.items), columns, as_json=False, empty=empty, more=found.next_cursor)


@app.command()
def get_queue(ctx: typer.Context, queue: QueueArg, as_json: AsJson = False) -> None:
    """Show a queue of the project."""
    show(group(ctx, Compute).get_queue(queue), as_json=as_json)


@app.command()
def delete_queue(ctx: typer.Context, queue: QueueArg) -> None:
    """Remove a queue that nothing waits or runs in."""
    group(ctx, Compute).delete_queue(queue)
    say(f"The queue {queue} is gone.")


@app.command()
def set_cluster_queue(
    ctx: typer.Context,
    cluster_queue: ClusterQueueArg,
    quota: QuotaOption = None,
    cohort: Annotated[str | None, typer.Option(help="The cohort that it lends to and borrows from.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant whose alone it is.")] = None,
    within: PolicyOption = PreemptionPolicy.NEVER,
    reclaim: PolicyOption = PreemptionPolicy.NEVER,
    borrowing: PolicyOption = PreemptionPolicy.NEVER,
    strategy: Annotated[QueueingStrategy, typer.Option(help="Whether what fits overtakes what does not.")] = (
        QueueingStrategy.BEST_EFFORT_FIFO
    ),
    weight: Annotated[float, typer.Option(min=0, help="Its part where shares are fair.")] = 1.0,
    stop: StopOption = StopPolicy.NONE,
    file: Annotated[Path | None, typer.Option(help="All of it from a JSON file instead.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a cluster queue, or change the one of this name."""
    preemption = {"within_cluster_queue": within, "reclaim_within_cohort": reclaim, "borrow_within_cohort": borrowing}
    said = {
        "groups": read_quotas(quota),
        "cohort": cohort,
        "tenant": tenant,
        "preemption": preemption,
        "strategy": strategy,
        "fair_weight": weight,
        "stop_policy": stop,
    }
    spec = checked(ClusterQueueSpec, said) if file is None else read_file(ClusterQueueSpec, file)
    show(group(ctx, Compute).set_cluster_queue(cluster_queue, spec), as_json=as_json)


@app.command()
@paged
def list_cluster_queues(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the cluster queues of your tenant and of all, with bars of what is used of their quotas."""
    found = group(ctx, Compute).list_cluster_queues(**page)
    if as_json:
        show(found, as_json=True)
        return
    columns = ["name", "cohort", "usage", "pending", "admitted", "stopped"]
    empty = "There are none. Make one: mops queues set-cluster-queue NAME --quota POOL:gpu_shares=N"
    show_rows(cluster_queue_lines(found.items), columns, as_json=False, empty=empty, more=found.next_cursor)


@app.command()
def get_cluster_queue(ctx: typer.Context, cluster_queue: ClusterQueueArg, as_json: AsJson = False) -> None:
    """Show a cluster queue: its quotas, and how much of them is used."""
    show(group(ctx, Compute).get_cluster_queue(cluster_queue), as_json=as_json)


@app.command()
def delete_cluster_queue(ctx: typer.Context, cluster_queue: ClusterQueueArg) -> None:
    """Remove a cluster queue that no project's queue leads to."""
    group(ctx, Compute).delete_cluster_queue(cluster_queue)
    say(f"The cluster queue {cluster_queue} is gone.")


@app.command(context_settings={"ignore_unknown_options": True})  # a priority may be below zero
def set_priority_class(
    ctx: typer.Context,
    priority_class: ClassArg,
    value: Annotated[int, typer.Argument(help="Higher goes first; without a class it is 0.")],
    description: str = "",
    as_json: AsJson = False,
) -> None:
    """Name a priority, or change what the name means from now on."""
    spec = checked(PriorityClassSpec, {"value": value, "description": description})
    show(group(ctx, Compute).set_priority_class(priority_class, spec), as_json=as_json)


@app.command()
@paged
def list_priority_classes(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the priorities that have a name."""
    columns = ["name", "value", "description"]
    show_page(group(ctx, Compute).list_priority_classes(**page), columns, as_json=as_json)


@app.command()
def delete_priority_class(ctx: typer.Context, priority_class: ClassArg) -> None:
    """Remove a name of a priority; jobs keep what they were submitted with."""
    group(ctx, Compute).delete_priority_class(priority_class)
    say(f"The priority class {priority_class} is gone.")
