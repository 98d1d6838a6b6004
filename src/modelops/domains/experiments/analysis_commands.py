"""Commands that compare, group and report runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from modelops.contracts.errors import InvalidInput
from modelops.contracts.terminal import AsJson, group, print_json, say, show
from modelops.domains.experiments.analysis_rules import read_direction, read_objectives
from modelops.domains.experiments.analysis_schemas import (
    Axis,
    Direction,
    MetricBuckets,
    ParameterImportance,
    RunComparison,
    RunGroup,
    Significance,
)
from modelops.domains.experiments.client import Experiments
from modelops.domains.experiments.terminal_tables import bar, line, show_differences, show_table

app = typer.Typer()

Runs = Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids of runs; or say which by options.")]
ExperimentOption = Annotated[str | None, typer.Option(help="Only of this experiment.")]
View = Annotated[str | None, typer.Option(help="The runs of this saved view.")]
Filter = Annotated[str | None, typer.Option(help="""Such as: status = "finished" and metrics.loss < 1""")]
Order = Annotated[str | None, typer.Option(help="Such as: metrics.accuracy desc")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many runs at most.")]
Objective = Annotated[
    list[str] | None, typer.Option("--objective", help="<metric>:max or <metric>:min, the chief one first; repeat it.")
]
Baseline = Annotated[str | None, typer.Option(help="The run that others are tested against; by default the best.")]
Curve = Annotated[list[str] | None, typer.Option("--curve", help="A metric drawn over its steps; repeat it.")]
_CURVES = 8


@app.command()
def compare(
    ctx: typer.Context,
    run: Runs = None,
    experiment: ExperimentOption = None,
    view: View = None,
    filter: Filter = None,  # noqa: A002 - as everywhere
    order_by: Order = None,
    limit: Limit = 5,
    objective: Objective = None,
    baseline: Baseline = None,
    curve: Curve = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: what differs alone; with objectives, which parameters mattered, the Pareto front and paired tests."""
    experiments = group(ctx, Experiments)
    selection = _selection(run, experiment, view, filter, order_by, limit)
    found = experiments.compare(*(run or []), objective=objective or [], baseline=baseline, **selection)
    curves = {
        key: {one.id: experiments.get_metric_buckets(one.id, key, buckets=120) for one in found.runs[:_CURVES]}
        for key in curve or []
    }
    if as_json:
        print_json({**found.model_dump(mode="json"), **({"curves": curves} if curves else {})})
        return
    _show_comparison(found, curves)


@app.command()
def report(
    ctx: typer.Context,
    experiment: Annotated[str | None, typer.Argument(help="The experiment; or say which runs by options.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file that is written.")] = Path("report.html"),
    run: Annotated[list[str] | None, typer.Option("--run", help="A run's id; repeat it.")] = None,
    view: View = None,
    filter: Filter = None,  # noqa: A002 - as everywhere
    order_by: Order = None,
    limit: Limit = 100,
    objective: Objective = None,
    baseline: Baseline = None,
    curve: Curve = None,
    title: Annotated[str | None, typer.Option(help="The report's heading.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a report with plots: one HTML file that needs no network and nothing beside it."""
    selection = _selection(run, experiment, view, filter, order_by, limit)
    options = {"objective": objective or [], "baseline": baseline, "curve": curve or [], "title": title}
    page = group(ctx, Experiments).report(*(run or []), **options, **selection)
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as refused:
        raise InvalidInput(f"The report cannot be written to '{output}': {refused.strerror}.") from refused
    if as_json:
        print_json({"path": str(output), "bytes": output.stat().st_size})
    else:
        say(f"Written: {output}")


@app.command()
def group_runs(
    ctx: typer.Context,
    by: Annotated[
        str | None, typer.Argument(help="parameters.<key> or tags.<key>; or what the view groups by.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="<key>:max or <key>:min; repeat it.")] = None,
    experiment: ExperimentOption = None,
    view: View = None,
    filter: Filter = None,  # noqa: A002 - as everywhere
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Group runs by a parameter or tag, with the count, mean, spread and best of metrics for each group."""
    selection = _selection(None, experiment, view, filter, None, limit)
    found = group(ctx, Experiments).group_runs(by, metric=metric or [], **selection)
    if as_json:
        show(found, as_json=True)
        return
    rows = [row for one in found.items for row in _group_rows(found.by, one)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    show_table(rows, columns, empty="There are no runs to group.")
    if len(found.items) < found.groups:
        say(f"{found.groups - len(found.items)} further groups are not shown: add --limit")


@app.command()
def get_best_run(
    ctx: typer.Context,
    metric: Annotated[str, typer.Argument(help="What is compared.")],
    direction: Annotated[str, typer.Option(help="max or min.")] = Direction.MAX.value,
    constraint: Annotated[list[str] | None, typer.Option("--constraint", help="Such as 'latency_ms <= 20'.")] = None,
    experiment: ExperimentOption = None,
    filter: Filter = None,  # noqa: A002 - as everywhere
    any_status: Annotated[bool, typer.Option("--any-status", help="Runs that go on or failed, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the run with the best value of a metric that keeps constraints."""
    best = group(ctx, Experiments).get_best_run(
        metric,
        direction=read_direction(direction),
        constraint=constraint or [],
        experiment=experiment,
        filter=filter,
        any_status=any_status,
    )
    if as_json:
        show(best, as_json=True)
        return
    say(f"'{best.run.name}' has the {best.direction} of '{metric}', {best.value:.6g}, of {best.candidates} runs.")
    show(best.run, as_json=False)


@app.command()
def get_metric_buckets(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="A run's id, run_….")],
    key: Annotated[str, typer.Argument(help="The metric.")],
    buckets: Annotated[int, typer.Option(min=4, max=2000, help="How many at most.")] = 60,
    axis: Annotated[Axis | None, typer.Option(help="By default the steps.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a metric's history: each stretch shows its extreme, so that a spike of one step is seen."""
    found = group(ctx, Experiments).get_metric_buckets(run, key, buckets=buckets, axis=axis)
    if as_json:
        show(found, as_json=True)
        return
    if not found.buckets:
        say(f"The run has no metric '{key}'.")
        return
    low, high = _scale([found])
    say(f"{key}: {low:.6g} to {high:.6g} over {found.total} points, last {found.buckets[-1].last:.6g}")
    say(line(found, low, high))


def _selection(
    run: list[str] | None,
    experiment: str | None,
    view: str | None,
    filter: str | None,  # noqa: A002
    order_by: str | None,
    limit: int,
) -> dict[str, Any]:
    told = {"experiment": experiment, "view": view, "filter": filter, "order_by": order_by}
    chosen: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    return chosen if run else {**chosen, "limit": limit}


def _show_comparison(found: RunComparison, curves: dict[str, dict[str, MetricBuckets]]) -> None:
    if not found.runs:
        say("There are no such runs.")
        return
    front = set(found.pareto.front) if found.pareto else set()
    chosen = read_objectives(f"{one.metric}:{one.direction}" for one in found.objectives)
    rows = [
        {
            "name": run.name,
            "experiment": run.experiment,
            "status": run.status,
            **{f"metrics.{one.metric}": run.metrics.get(one.metric) for one in chosen},
            **({"Pareto": "front" if run.id in front else ""} if found.pareto else {}),
            "id": run.id,
        }
        for run in found.runs
    ]
    show_table(rows, list(rows[0]), empty="")
    if len(found.runs) < found.total:
        say(f"{found.total - len(found.runs)} further runs are not compared: add --limit")
    show_differences("Parameters", found.parameters, found.runs, found.alike.parameters)
    show_differences("Metrics", found.metrics, found.runs, found.alike.metrics)
    show_differences("Tags", found.tags, found.runs, found.alike.tags)
    show_differences("Data", found.data, found.runs, found.alike.data)
    show_differences("Code", found.code, found.runs, found.alike.code)
    show_differences("Files", found.files, found.runs, found.alike.files)
    if found.importance:
        _show_importance(found.importance)
    if found.significance:
        _show_significance(found.significance, {run.id: run.name for run in found.runs})
    for key, by_run in curves.items():
        _show_curves(key, by_run, {run.id: run.name for run in found.runs})


def _show_importance(found: ParameterImportance) -> None:
    say(f"Importance for '{found.metric}'{f', by {found.method}' if found.method else ''}: {found.message}")
    rows = [
        {
            "parameter": one.parameter,
            " ": bar(one.importance),
            "importance": one.importance,
            "95 % interval": f"{one.lower:.3f} to {one.upper:.3f}",
            "p-value": one.p_value,
        }
        for one in found.parameters
    ]
    if rows:
        show_table(rows, list(rows[0]), empty="")


def _show_significance(found: Significance, names: dict[str, str]) -> None:
    say(f"Significance: {found.message}")
    rows = [
        {
            "run": names[one.run_id],
            "folds": one.folds,
            "difference": one.difference,
            "95 % interval": "-" if one.lower is None or one.upper is None else f"{one.lower:.4g} to {one.upper:.4g}",
            "p-value": one.p_value,
            "adjusted": one.adjusted,
            "signed ranks": one.wilcoxon_p_value,
            "remark": one.message,
        }
        for one in found.tests
    ]
    if rows:
        show_table(rows, list(rows[0]), empty="")


def _show_curves(key: str, by_run: dict[str, MetricBuckets], names: dict[str, str]) -> None:
    drawn = {run: curve for run, curve in by_run.items() if curve.buckets}
    if not drawn:
        say(f"None of the runs has '{key}'.")
        return
    low, high = _scale(list(drawn.values()))
    say(f"{key}: {low:.6g} to {high:.6g}")
    rows = [
        {"run": names[run], " ": line(curve, low, high), "last": curve.buckets[-1].last} for run, curve in drawn.items()
    ]
    show_table(rows, ["run", " ", "last"], empty="")


def _scale(curves: list[MetricBuckets]) -> tuple[float, float]:
    ends = [
        value
        for curve in curves
        for bucket in curve.buckets
        for value in (bucket.minimum, bucket.maximum)
        if value is not None and abs(value) != float("inf")
    ]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _group_rows(by: str, found: RunGroup) -> list[dict[str, Any]]:
    value = "(none)" if found.value is None else found.value
    if not found.metrics:
        return [{by: value, "runs": found.runs}]
    return [
        {
            by: value,
            "runs": found.runs,
            "metric": one.metric,
            "mean": one.mean,
            "std": one.deviation,
            "min": one.minimum,
            "max": one.maximum,
            "best run": one.best_run,
        }
        for one in found.metrics
    ]
