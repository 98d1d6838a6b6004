"""Flavors: kinds of nodes that queues have quotas of."""

from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, pairs, say, show, show_page, with_short_names
from modelops.domains.compute.client import Compute
from modelops.domains.compute.reading import read_tolerations
from modelops.domains.compute.schemas import FlavorSpec

_SHORT = with_short_names(set="set_flavor", list="list_flavors", show="get_flavor", delete="delete_flavor")
app = typer.Typer(cls=_SHORT, help="Flavors: kinds of nodes that queues have quotas of.", no_args_is_help=True)

FlavorArg = Annotated[str, typer.Argument(help="A flavor's name; a pool offers one of its own name.")]


@app.command()
def set_flavor(
    ctx: typer.Context,
    flavor: FlavorArg,
    node_label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, a label of its nodes; repeat it.")] = None,
    toleration: Annotated[list[str] | None, typer.Option(help="KEY[=VALUE][:EFFECT]; repeat it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a flavor of nodes without a pool, or change the one of this name."""
    spec = FlavorSpec(node_labels=pairs(node_label, "a label"), tolerations=read_tolerations(toleration))
    show(group(ctx, Compute).set_flavor(flavor, spec), as_json=as_json)


@app.command()
@paged
def list_flavors(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the flavors that your queues have quotas of."""
    columns = ["name", "pool", "node_labels", "tolerations"]
    show_page(group(ctx, Compute).list_flavors(**page), columns, as_json=as_json)


@app.command()
def get_flavor(ctx: typer.Context, flavor: FlavorArg, as_json: AsJson = False) -> None:
    """Show a flavor."""
    show(group(ctx, Compute).get_flavor(flavor), as_json=as_json)


@app.command()
def delete_flavor(ctx: typer.Context, flavor: FlavorArg) -> None:
    """Remove a flavor that no queue has a quota of."""
    group(ctx, Compute).delete_flavor(flavor)
    say(f"The flavor {flavor} is gone.")
