"""What is made of runs: comparisons, reports, groups, the best, and curves. Reads, and never writes."""

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.experiments import comparing, curves, grouping, reporting
from modelops.domains.experiments.analysis_rules import (
    both,
    constraint_filter,
    guess_objective,
    metric_field,
    read_objectives,
)
from modelops.domains.experiments.analysis_schemas import (
    BestQuery,
    BestRun,
    BucketsQuery,
    ComparisonQuery,
    Direction,
    GroupQuery,
    MetricBuckets,
    ReportQuery,
    RunComparison,
    RunGroups,
    RunSelection,
)
from modelops.domains.experiments.finding import find_run_row, page_of_runs, runs_of
from modelops.domains.experiments.reading import RUN_FIELDS, as_runs
from modelops.domains.experiments.schemas import Run, RunStatus
from modelops.domains.experiments.tables import RunRow
from modelops.domains.experiments.views import apply_view
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, parse_filter


def get_metric_buckets(ctx: Context, run: str, key: str, query: BucketsQuery) -> MetricBuckets:
    """Return a metric's history in equal stretches, each with its least, greatest and last value."""
    ctx.require("experiments.read")
    row = find_run_row(ctx, run)
    axis, total, buckets = curves.metric_buckets(ctx.session, row, key, query.buckets, query.axis)
    return MetricBuckets(run_id=row.id, key=key, axis=axis, total=total, buckets=buckets)


def compare(ctx: Context, query: ComparisonQuery) -> RunComparison:
    """Compare runs: what differs; and for the objectives, importance, Pareto front and significance."""
    ctx.require("experiments.read")
    runs, total = _select(ctx, query, query.objective)
    return comparing.compare_runs(
        ctx.session, runs, total, query, lambda run, key: curves.last_by_step(ctx.session, find_run_row(ctx, run), key)
    )


def report(ctx: Context, query: ReportQuery) -> str:
    """Return a report on runs: one HTML file that needs nothing else. Without objectives it takes one that fits."""
    comparison = compare(ctx, query)
    guess = None if query.objective else guess_objective([run.metrics for run in comparison.runs])
    if guess is not None:
        named = query.model_copy(update={"objective": [f"{guess.metric}:{guess.direction}"]})
        comparison = compare(ctx, named)

    def curve(run: str, key: str) -> MetricBuckets:
        return get_metric_buckets(ctx, run, key, BucketsQuery(buckets=reporting.BUCKETS))

    about = reporting.Subject(query.experiment, query.view, query.title, ctx.clock.now(), guess is not None)
    return reporting.write_report(comparison, query.curve, curve, about)


def group_runs(ctx: Context, query: GroupQuery) -> RunGroups:
    """Group runs by a parameter or tag, with a summary of metrics for each group."""
    ctx.require("experiments.read")
    chosen, view = apply_view(ctx, query)
    by, metrics = (query.by or view.group_by, query.metric or view.metrics) if view else (query.by, query.metric)
    runs = runs_of(ctx, chosen.experiment).where(parse_filter(chosen.filter, RUN_FIELDS))
    if chosen.run:
        runs = runs.where(RunRow.id.in_([find_run_row(ctx, run).id for run in chosen.run]))
    return grouping.group_runs(ctx.session, runs, by, read_objectives(metrics), query.limit)


def get_best_run(ctx: Context, query: BestQuery) -> BestRun:
    """Return the run with the best value of a metric among those that keep the constraints.

    Raises:
        NotFound: none does.
        InvalidInput: a constraint cannot be read.
    """
    field = metric_field(query.metric)
    finished = None if query.any_status else f'status = "{RunStatus.FINISHED}"'
    wanted = both(f"{field} != null", finished, query.filter, *(constraint_filter(text) for text in query.constraint))
    order = f"{field} {'desc' if query.direction is Direction.MAX else 'asc'}"
    found = page_of_runs(ctx, query.experiment, PageQuery(limit=1, filter=wanted, order_by=order))
    if not found.items:
        raise NotFound(
            f"No run has '{query.metric}' and keeps what is asked for.",
            hint="Loosen the constraints, or ask for runs of any status.",
        )
    run = found.items[0]
    value = run.metrics[query.metric]
    return BestRun(run=run, metric=query.metric, direction=query.direction, value=value, candidates=found.total or 0)


def _select(ctx: Context, selection: RunSelection, objectives: list[str]) -> tuple[list[Run], int]:
    """Return the runs that are meant, and how many there are; without an order of their own, the best come first."""
    if selection.run:
        if selection.experiment or selection.view or selection.filter or selection.order_by:
            raise InvalidInput("Name runs, or say which by experiment, view, filter and order; not both.")
        runs = as_runs(ctx, [find_run_row(ctx, run) for run in dict.fromkeys(selection.run)])
        return runs, len(runs)
    chosen, _ = apply_view(ctx, selection)
    order = chosen.order_by
    if order is None and (found := read_objectives(objectives)):
        order = f"{metric_field(found[0].metric)} {'desc' if found[0].direction is Direction.MAX else 'asc'}"
    page = page_of_runs(ctx, chosen.experiment, PageQuery(limit=chosen.limit, filter=chosen.filter, order_by=order))
    return page.items, page.total or len(page.items)
