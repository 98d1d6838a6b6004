"""Pools of GPUs: how they are shared, and who holds what of them."""

import time
from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, pairs, say, show, show_page, show_rows, with_short_names
from modelops.domains.compute.allocator.model import PoolMode
from modelops.domains.compute.client import Compute
from modelops.domains.compute.drawing import device_lines, pool_lines
from modelops.domains.compute.reading import checked, read_tolerations
from modelops.domains.compute.schemas import PoolSpec

_SHORT = with_short_names(
    set="set_pool", list="list_pools", show="get_pool", allocations="list_pool_allocations", delete="delete_pool"
)
app = typer.Typer(
    cls=_SHORT, help="Pools of GPUs: how they are shared, and who holds what of them.", no_args_is_help=True
)

PoolArg = Annotated[str, typer.Argument(help="A pool's name.")]
_LOOK_S = 1.0
_COLUMNS = ["name", "mode", "gpus", "shares", "pending", "cordoned"]


@app.command()
def set_pool(
    ctx: typer.Context,
    pool: PoolArg,
    mode: Annotated[PoolMode, typer.Option(help="Whole GPUs, slices of them, or turns on them (best-effort).")],
    gpus: Annotated[int, typer.Option(min=1, help="How many GPUs.")],
    gpu_model: Annotated[str, typer.Option(help="Such as A100-80GB; MIG needs it.")] = "",
    timeslice_replicas: Annotated[int, typer.Option(min=1, help="How many share one GPU in turns.")] = 1,
    gpu_resource_name: Annotated[str | None, typer.Option(help="What a cluster calls it.")] = None,
    node_selector: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, a label of its nodes; repeat it.")] = None,
    toleration: Annotated[list[str] | None, typer.Option(help="KEY[=VALUE][:EFFECT]; repeat it.")] = None,
    cordon: Annotated[list[int] | None, typer.Option(help="A GPU, from 0, that gets nothing new; repeat it.")] = None,
    device_name: Annotated[
        list[str] | None,
        typer.Option(help="DEVICE=NAME, what a GPU (0) or slice (0/1g.10gb/4) is called here; repeat it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a pool, or change the one of this name; it offers a flavor of the same name."""
    spec = checked(
        PoolSpec,
        {
            "mode": mode,
            "gpu_count": gpus,
            "gpu_model": gpu_model,
            "timeslice_replicas": timeslice_replicas,
            "gpu_resource_name": gpu_resource_name,
            "node_selector": pairs(node_selector, "a label"),
            "tolerations": read_tolerations(toleration),
            "cordoned": cordon or [],
            "device_names": pairs(device_name, "a device's name"),
        },
    )
    show(group(ctx, Compute).set_pool(pool, spec), as_json=as_json)


@app.command()
@paged
def list_pools(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the pools that your queues have quotas of, with bars of what is allocated."""
    found = group(ctx, Compute).list_pools(**page)
    if as_json:
        show(found, as_json=True)
        return
    empty = (
        "There are no pools: jobs run on this machine as they come. Make one: mops pools set NAME --mode WHOLE --gpus N"
    )
    show_rows(pool_lines(found.items), _COLUMNS, as_json=False, empty=empty, more=found.next_cursor)


@app.command()
def watch(
    ctx: typer.Context,
    times: Annotated[int, typer.Option(min=0, help="How often; 0 means until it is interrupted.")] = 0,
) -> None:
    """Show the pools again and again, as they change."""
    compute, shown = group(ctx, Compute), 0
    while True:
        if shown:
            say("")
        show_rows(pool_lines(compute.list_pools().items), _COLUMNS, as_json=False, empty="There are no pools.")
        shown += 1
        if shown == times:
            return
        time.sleep(_LOOK_S)


@app.command()
def get_pool(ctx: typer.Context, pool: PoolArg, as_json: AsJson = False) -> None:
    """Show a pool: what is in use and who waits, and which job holds what of which GPU."""
    compute = group(ctx, Compute)
    found = compute.get_pool(pool)
    if as_json:
        show(found, as_json=True)
        return
    show_rows(pool_lines([found]), _COLUMNS, as_json=False, empty="")
    held = compute.list_pool_allocations(pool, limit=1_000, order_by="device").items
    show_rows(device_lines(found, held), ["gpu", "shares", "jobs"], as_json=False, empty="")


@app.command()
@paged
def list_pool_allocations(ctx: typer.Context, pool: PoolArg, page: Any, as_json: AsJson = False) -> None:
    """List which jobs hold which devices of a pool."""
    columns = ["device", "position", "profile", "shares", "job_id", "tenant_id", "project_id", "since"]
    found = group(ctx, Compute).list_pool_allocations(pool, **page)
    show_page(found, columns, as_json=as_json, empty="Nobody holds any of it.")


@app.command()
def delete_pool(ctx: typer.Context, pool: PoolArg) -> None:
    """Remove a pool that no queue has a quota of."""
    group(ctx, Compute).delete_pool(pool)
    say(f"The pool {pool} is gone.")
