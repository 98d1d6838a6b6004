"""Monitoring: traffic and drift of deployments."""

from datetime import datetime
from typing import Annotated, Any

import typer

from modelops.contracts.terminal import AsJson, group, paged, say, show, show_page, show_rows
from modelops.domains.monitoring.client import Monitoring
from modelops.domains.monitoring.schemas import DriftReport

app = typer.Typer(help="Traffic and drift of deployments.", no_args_is_help=True)

DeploymentArg = Annotated[str, typer.Argument(help="A deployment, by name or id.")]
Moment = Annotated[datetime | None, typer.Option(help="By default, the last 24 hours (UTC).")]


@app.command()
def get_traffic(
    ctx: typer.Context, deployment: DeploymentArg, since: Moment = None, until: Moment = None, as_json: AsJson = False
) -> None:
    """Show what a deployment answered in a window."""
    show(group(ctx, Monitoring).get_traffic(deployment, since=since, until=until), as_json=as_json)


@app.command()
def detect_drift(
    ctx: typer.Context,
    deployment: DeploymentArg,
    since: Moment = None,
    until: Moment = None,
    false_alarm_rate: Annotated[float, typer.Option(min=1e-9, max=0.49, help="For the whole report.")] = 0.01,
    minimum_effect: Annotated[float, typer.Option(min=0, max=1, help="Smaller differences are no drift.")] = 0.1,
    as_json: AsJson = False,
) -> None:
    """Compare a deployment's traffic with its model's training data."""
    report = group(ctx, Monitoring).detect_drift(
        deployment, since=since, until=until, false_alarm_rate=false_alarm_rate, minimum_effect=minimum_effect
    )
    _show_report(report, as_json)


@app.command()
@paged
def list_drift_reports(ctx: typer.Context, page: Any, as_json: AsJson = False) -> None:
    """List drift reports, newest first."""
    columns = ["created_at", "deployment_id", "rows", "drifted", "drifted_columns", "id"]
    show_page(group(ctx, Monitoring).list_drift_reports(**page), columns, as_json=as_json)


@app.command()
def get_drift_report(
    ctx: typer.Context, report: Annotated[str, typer.Argument(help="drf_…")], as_json: AsJson = False
) -> None:
    """Show a drift report."""
    _show_report(group(ctx, Monitoring).get_drift_report(report), as_json)


def _show_report(report: DriftReport, as_json: bool) -> None:
    if as_json:
        show(report, as_json=True)
        return
    columns = ["drifted", "name", "role", "effect", "shift", "adjusted_p_value", "reference_mean", "current_mean"]
    show_rows(report.columns, columns, as_json=False, empty="")
    named = ", ".join(report.drifted_columns) or "no column"
    say(f"{report.rows} rows against {report.reference_rows} of training: {named} drifted ({report.id}).")
