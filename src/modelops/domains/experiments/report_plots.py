"""The plots of a report, of what a comparison found."""

from collections.abc import Callable, Sequence
from html import escape

from modelops.domains.experiments import plots
from modelops.domains.experiments.analysis_rules import FOLD_PREFIX
from modelops.domains.experiments.analysis_schemas import Difference, Direction, MetricBuckets, RunComparison
from modelops.domains.experiments.report_parts import figure, table
from modelops.domains.experiments.scales import Scale, scale_of
from modelops.domains.experiments.schemas import Run

_AXES, _CURVES, _SCATTERS, _POINTS, _SEARCHED = 8, 4, 2, 5, 15

Curve = Callable[[str, str], MetricBuckets]
"""A run's metric in buckets, by the run's id and the key."""


def parallel(found: RunComparison) -> str:
    """Draw the parameters that differ and the chief metrics beside each other."""
    chief = [one.metric for one in found.objectives]
    metrics = (chief or [one.key for one in found.metrics if not one.key.startswith(FOLD_PREFIX)])[:3]
    named = [("parameters", one.key) for one in ordered_parameters(found)] + [("metrics", key) for key in metrics]
    kept: list[tuple[str, str, Scale]] = []
    for head, key in named:
        scale = scale_of([getattr(run, head).get(key) for run in found.runs])
        if scale is not None and (
            head == "metrics" or sum(h == "parameters" for h, _, _ in kept) < _AXES - len(metrics)
        ):
            kept.append((head, key, scale))
    if len(kept) < 2 or len(found.runs) < 2:
        return ""
    marked = _marked(found)
    items = [
        plots.Item(run.name, [getattr(run, head).get(key) for head, key, _ in kept], run.id in marked)
        for run in found.runs
    ]
    few = len(items) <= plots.LINES
    about = "A line is a run." + (" The best tenth is in colour." if marked and not few else "")
    drawn = plots.parallel_coordinates([plots.Axis(key, scale) for _, key, scale in kept], items, about)
    return figure(drawn + (plots.legend([item.name for item in items]) if few else ""), about)


def scatters(found: RunComparison) -> str:
    """Draw the objectives against each other, and the chief one against the parameters that matter."""
    if not found.objectives or len(found.runs) < 2:
        return ""
    chief = found.objectives[0].metric
    parts = []
    if found.pareto and len(found.pareto.front) + len(found.pareto.dominated) > 1:
        other, front = found.objectives[1].metric, set(found.pareto.front)
        simple = len(found.objectives) == 2
        about = "◆ is on the Pareto front." + (
            "" if simple else " The front is of all objectives, of which two are drawn."
        )
        parts.append(_scatter(found, ("metrics", other), chief, front, about, joined=simple))
    drawn = 0
    for one in ordered_parameters(found):
        if drawn < _SCATTERS and (
            plot := _scatter(found, ("parameters", one.key), chief, _marked(found), "◆: the best tenth.")
        ):
            parts.append(plot)
            drawn += 1
    return "".join(parts)


def _scatter(
    found: RunComparison, across: tuple[str, str], metric: str, marked: set[str], about: str, *, joined: bool = False
) -> str:
    head, key = across
    pairs = [(run, getattr(run, head).get(key), run.metrics.get(metric)) for run in found.runs]
    pairs = [(run, x, y) for run, x, y in pairs if x is not None and y is not None]
    below, beside = scale_of([x for _, x, _ in pairs]), scale_of([y for _, _, y in pairs])
    if below is None or beside is None or len(pairs) < _POINTS:
        return ""
    items = [plots.Item(run.name, (x, y), run.id in marked) for run, x, y in pairs]
    return figure(plots.scatter(plots.Axis(key, below), plots.Axis(metric, beside), items, about, front=joined), about)


def metric_curves(found: RunComparison, keys: Sequence[str], curve: Curve) -> str:
    """Draw metrics over their steps: those named, or those of the first runs that have a history."""
    told = found.runs[:_SEARCHED]
    common = dict.fromkeys(key for run in told for key in sorted(run.metrics) if not key.startswith(FOLD_PREFIX))
    parts: list[str] = []
    for key in keys or list(common)[:_SEARCHED]:
        drawn = _drawn(told, key, curve, 1 if keys else 2)
        if plot := plots.curves(key, drawn, f"{len(drawn)} runs.") if drawn else "":
            parts.append(
                f"<figure>{plot}{plots.legend([name for name, _ in drawn])}{_curve_table(key, drawn)}</figure>"
            )
        if len(parts) == _CURVES and not keys:
            break
    note = '<p class="note">The band is from the least to the greatest value of each stretch; the line is its last.</p>'
    return "".join(parts) + (note if parts else "")


def _drawn(runs: Sequence[Run], key: str, curve: Curve, least: int) -> list[tuple[str, MetricBuckets]]:
    """Read the curves of the first runs that have `least` points, on the axis of the first of them."""
    drawn: list[tuple[str, MetricBuckets]] = []
    for run in runs:
        if key in run.metrics and len(drawn) < plots.LINES:
            one = curve(run.id, key)
            if one.total >= least and (not drawn or one.axis == drawn[0][1].axis):
                drawn.append((run.name, one))
    return drawn


def _curve_table(key: str, drawn: Sequence[tuple[str, MetricBuckets]]) -> str:
    rows = []
    for name, one in drawn:
        lows = [bucket.minimum for bucket in one.buckets if bucket.minimum is not None]
        highs = [bucket.maximum for bucket in one.buckets if bucket.maximum is not None]
        gaps = sum(bucket.nan_count for bucket in one.buckets)
        rows.append([name, one.total, min(lows, default=None), max(highs, default=None), one.buckets[-1].last, gaps])
    numbers = table(f"{key} in numbers", ["run", "points", "least", "greatest", "last", "NaN"], rows)
    return f"<details><summary>{escape(key)} in numbers</summary>{numbers}</details>"


def importance(found: RunComparison) -> str:
    """Tell which parameters matter, drawn and in numbers, or why nobody can say."""
    if found.importance is None:
        return ""
    told = found.importance
    method = f" Method: {told.method}." if told.method else ""
    words = f"<p>{escape(told.message)}{escape(method)}</p>"
    if not told.parameters:
        return words
    shown = told.parameters[:12]
    rows = [[one.parameter, one.importance, one.lower, one.upper, one.p_value] for one in told.parameters]
    heads = ["parameter", "importance", "95 % from", "to", "p-value"]
    numbers = table(f"Importance for {told.metric}", heads, rows)
    drawn = plots.bars(shown, f"For {told.metric}, with 95 % intervals.")
    return f"{words}<figure>{drawn}<details><summary>In numbers</summary>{numbers}</details></figure>"


def ordered_parameters(found: RunComparison) -> list[Difference]:
    """Return the parameters that differ, those that matter first."""
    rank = {one.parameter: n for n, one in enumerate(found.importance.parameters)} if found.importance else {}
    return sorted(found.parameters, key=lambda one: (rank.get(one.key, len(rank)), one.key))


def _marked(found: RunComparison) -> set[str]:
    """Return the best tenth of the runs by the chief objective, three at least."""
    if not found.objectives:
        return set()
    one = found.objectives[0]
    known = [run for run in found.runs if run.metrics.get(one.metric, float("nan")) == run.metrics.get(one.metric)]
    known.sort(key=lambda run: run.metrics[one.metric], reverse=one.direction is Direction.MAX)
    return {run.id for run in known[: max(3, len(known) // 10)]} if len(known) > 3 else set()
