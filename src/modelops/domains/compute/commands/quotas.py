"""Quotas: what a tenant, over all its projects, or one of its projects holds at most at a time."""

from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, say, show, show_rows, with_short_names
from modelops.domains.compute.client import Compute
from modelops.domains.compute.drawing import quota_lines
from modelops.domains.compute.reading import checked, read_quota_limits
from modelops.domains.compute.schemas import QuotaLimits, QuotaScope

_SHORT = with_short_names(set="set_quota", list="list_quotas", show="get_quota", delete="delete_quota")
app = typer.Typer(
    cls=_SHORT, help="Quotas: what a tenant or one of its projects holds at most at a time.", no_args_is_help=True
)

ScopeArg = Annotated[QuotaScope, typer.Argument(help="Whether it is a tenant's or a project's.")]
HolderArg = Annotated[str, typer.Argument(help="The tenant's or project's name.")]
_COLUMNS = ["scope", "holder", "used"]


@app.command()
def set_quota(
    ctx: typer.Context,
    scope: ScopeArg,
    holder: HolderArg,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="[FLAVOR:]RESOURCE=AMOUNT of jobs, cpus, memory_mb or gpu_shares; repeat it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Limit what a tenant, over all its projects, or one project holds at a time; what is not named is not limited."""
    limits = checked(QuotaLimits, {"limits": read_quota_limits(limit)})
    show(group(ctx, Compute).set_quota(scope, holder, limits), as_json=as_json)


@app.command()
@paged
def list_quotas(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List the quotas of your tenant and project, with bars of what is used."""
    found = group(ctx, Compute).list_quotas(**page)
    if as_json:
        show(found, as_json=True)
        return
    empty = "There are no quotas. Set one: mops quotas set project NAME --limit jobs=10"
    show_rows(quota_lines(found.items), _COLUMNS, as_json=False, empty=empty, more=found.next_cursor)


@app.command()
def get_quota(ctx: typer.Context, scope: ScopeArg, holder: HolderArg, as_json: AsJson = False) -> None:
    """Show the quota of a tenant or project, with bars of what is used."""
    found = group(ctx, Compute).get_quota(scope, holder)
    if as_json:
        show(found, as_json=True)
        return
    show_rows(quota_lines([found]), _COLUMNS, as_json=False, empty="")


@app.command()
def delete_quota(ctx: typer.Context, scope: ScopeArg, holder: HolderArg) -> None:
    """Limit a tenant or project no more."""
    group(ctx, Compute).delete_quota(scope, holder)
    say(f"The {scope} {holder} is not limited any more.")
