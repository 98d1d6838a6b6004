"""Reports on runs: one HTML file that tells what was tried, what came out and what it rests on, and needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from modelops.domains.experiments.analysis_rules import better, split_tags
from modelops.domains.experiments.analysis_schemas import (
    Difference,
    Direction,
    MetricDifference,
    Objective,
    RunComparison,
)
from modelops.domains.experiments.report_parts import section, table
from modelops.domains.experiments.report_plots import (
    Curve,
    importance,
    metric_curves,
    ordered_parameters,
    parallel,
    scatters,
)
from modelops.domains.experiments.report_style import STYLE
from modelops.domains.experiments.scales import write_number
from modelops.domains.experiments.schemas import Run

BUCKETS = 150
_ROWS, _PARAMETERS, _SIDE_BY_SIDE, _TESTS = 25, 8, 8, 15


@dataclass(frozen=True)
class Subject:
    """What a report is about."""

    experiment: str | None
    view: str | None
    title: str | None
    made_at: datetime
    guessed: bool


def write_report(found: RunComparison, keys: Sequence[str], curve: Curve, about: Subject) -> str:
    """Write a report on a comparison.

    Args:
        found: The comparison, the runs in the order in which they are told.
        keys: The metrics drawn over their steps; by default those of the first runs that have a history.
        curve: Reads a metric's buckets.
    """
    heading = about.title or _heading(found, about)
    sections = [
        _summary(found, about),
        section("Best runs" if _best_first(found) else "Runs", _best(found)),
        section("How parameters and metrics go together", parallel(found)),
        section("One against another", scatters(found)),
        section("Curves", metric_curves(found, keys, curve)),
        section("What mattered", importance(found)),
        section("Pareto front", _pareto(found)),
        section("More than noise?", _significance(found)),
        section("What differs", _differences(found)),
        section("Provenance", _provenance(found, about)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="color-scheme" content="light dark"><title>{escape(heading)}</title><style>{STYLE}</style></head>'
        f"<body><main><h1>{escape(heading)}</h1>{''.join(sections)}</main></body></html>\n"
    )


def _heading(found: RunComparison, about: Subject) -> str:
    if about.experiment:
        names = {run.experiment for run in found.runs}
        return f"Experiment {names.pop() if len(names) == 1 else about.experiment}"
    return f"View {about.view}" if about.view else f"Comparison of {len(found.runs)} runs"


def _summary(found: RunComparison, about: Subject) -> str:
    ended = sum(run.status == "finished" for run in found.runs)
    tiles = [("runs", str(len(found.runs))), ("finished", str(ended))]
    for one in found.objectives:
        best = _best_run(found.runs, one)
        if best is not None:
            tiles.append(
                (f"{'highest' if one.direction is Direction.MAX else 'lowest'} {one.metric}", _number(best, one))
            )
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles)
    notes = []
    if len(found.runs) < found.total:
        notes.append(f"Of {found.total} runs, the first {len(found.runs)} are told here.")
    if about.guessed and found.objectives:
        one = found.objectives[0]
        way = "more" if one.direction is Direction.MAX else "less"
        notes.append(f"No objective was named; '{one.metric}' was taken, {way} being better.")
    return f'<dl class="tiles">{facts}</dl>' + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def _best(found: RunComparison) -> str:
    if not found.runs:
        return "<p>There are no runs.</p>"
    shown = [one.key for one in ordered_parameters(found)][:_PARAMETERS]
    metrics = [one.metric for one in found.objectives] or [one.key for one in found.metrics][:_PARAMETERS]
    front = set(found.pareto.front) if found.pareto else set()
    heads = ["run", "status", *metrics, *shown, "took"]
    rows = [
        [
            f"{run.name}{' ◆' if run.id in front else ''}",
            str(run.status),
            *(run.metrics.get(key) for key in metrics),
            *(run.parameters.get(key) for key in shown),
            _took(run),
        ]
        for run in found.runs[:_ROWS]
    ]
    note = "◆ is on the Pareto front. " if front else ""
    rest = len(found.runs) - len(rows)
    note += f"{rest} further runs are compared but not listed here." if rest else ""
    return table("Runs and what they reached", heads, rows) + (f'<p class="note">{note}</p>' if note else "")


def _pareto(found: RunComparison) -> str:
    if found.pareto is None:
        return ""
    named = {run.id: run for run in found.runs}
    metrics = [one.metric for one in found.pareto.objectives]
    rows = [[named[run].name, *(named[run].metrics.get(key) for key in metrics)] for run in found.pareto.front]
    ways = ", ".join(
        f"{'more' if o.direction is Direction.MAX else 'less'} {o.metric}" for o in found.pareto.objectives
    )
    words = f"Nothing beats these runs in all at once: {ways}. {len(found.pareto.dominated)} runs are beaten"
    words += f", {len(found.pareto.left_out)} lack a metric." if found.pareto.left_out else "."
    return f"<p>{escape(words)}</p>" + table("Runs on the front", ["run", *metrics], rows)


def _significance(found: RunComparison) -> str:
    if found.significance is None:
        return ""
    names = {run.id: run.name for run in found.runs}
    tested = [one for one in found.significance.tests if one.p_value is not None]
    heads = ["run", "folds", "difference", "95 % from", "to", "p-value", "adjusted", "signed ranks"]
    rows = [
        [names[t.run_id], t.folds, t.difference, t.lower, t.upper, t.p_value, t.adjusted, t.wilcoxon_p_value]
        for t in tested
    ]
    untold = [one for one in found.significance.tests if one.p_value is None]
    reasons = "".join(f"<li>{escape(names[one.run_id])}: {escape(one.message)}</li>" for one in untold)
    rest = f"<details><summary>{len(untold)} runs not tested</summary><ul>{reasons}</ul></details>" if untold else ""
    numbers = table("Differences from the baseline", heads, rows) if rows else ""
    if len(rows) > _TESTS:
        numbers = f"<details><summary>All {len(rows)} runs tested</summary>{numbers}</details>"
    return f"<p>{escape(found.significance.message)}</p>{numbers}{rest}"


def _differences(found: RunComparison) -> str:
    runs = found.runs[:_SIDE_BY_SIDE]
    if len(runs) < 2:
        return ""
    parts: list[tuple[str, Sequence[Difference | MetricDifference], int]] = [
        ("Parameters", found.parameters, found.alike.parameters),
        ("Metrics", found.metrics, found.alike.metrics),
        ("Tags", found.tags, found.alike.tags),
        ("Data", found.data, found.alike.data),
        ("Code", found.code, found.alike.code),
        ("Files", found.files, found.alike.files),
    ]
    heads = ["", *(run.name for run in runs)]
    told = []
    for name, differing, alike in parts:
        rows = [[one.key, *(one.values.get(run.id) for run in runs)] for one in differing]
        if rows or alike:
            words = f"<p>{len(rows)} differ, {alike} are the same in all {len(found.runs)} runs.</p>"
            told.append(f"<h3>{name}</h3>{words}" + (table(f"{name} that differ", heads, rows) if rows else ""))
    note = f"The first {len(runs)} of {len(found.runs)} runs are shown side by side."
    return "".join(told) + (f'<p class="note">{note}</p>' if len(found.runs) > len(runs) else "")


def _provenance(found: RunComparison, about: Subject) -> str:
    rows = [
        [run.name, run.id, run.experiment, _moment(run.started_at), _moment(run.ended_at), run.created_by, run.job_id]
        + [
            ", ".join(f"{key}: {text}" for key, text in sorted(part.items())) or None
            for part in split_tags(run.tags)[:2]
        ]
        for run in found.runs
    ]
    heads = ["run", "id", "experiment", "began", "ended", "by", "job", "data", "code"]
    numbers = table("Where each run is from", heads, rows)
    kept = f"<details><summary>All {len(rows)} runs</summary>{numbers}</details>" if len(rows) > _ROWS else numbers
    return f"<p>Made by ModelOps, {_moment(about.made_at)}. This file holds all it shows and asks no other.</p>{kept}"


def _best_first(found: RunComparison) -> bool:
    """Tell whether the runs stand in the order of the chief objective."""
    if not found.objectives:
        return False
    one = found.objectives[0]
    values = [run.metrics[one.metric] for run in found.runs if one.metric in run.metrics]
    return len(values) > 1 and values == sorted(values, reverse=one.direction is Direction.MAX)


def _best_run(runs: Sequence[Run], objective: Objective) -> Run | None:
    known = [
        run for run in runs if run.metrics.get(objective.metric, float("nan")) == run.metrics.get(objective.metric)
    ]
    return known[better(objective.direction)([run.metrics[objective.metric] for run in known])] if known else None


def _number(run: Run, objective: Objective) -> str:
    return write_number(run.metrics[objective.metric])


def _took(run: Run) -> str:
    if run.ended_at is None:
        return "–"
    seconds = (run.ended_at - run.started_at).total_seconds()
    return (
        f"{seconds:.1f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _moment(moment: datetime | None) -> str:
    return "–" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC")
