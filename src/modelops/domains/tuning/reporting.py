"""Reports on studies: one HTML file that tells what was tried, what came out and what mattered, and needs nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from modelops.domains.experiments import plots
from modelops.domains.experiments.analysis_schemas import Direction, Objective, ParameterImportance
from modelops.domains.experiments.report_parts import figure, section, table
from modelops.domains.experiments.report_style import STYLE
from modelops.domains.experiments.scales import scale_of, write_number
from modelops.domains.tuning import drawings
from modelops.domains.tuning.rules import is_better
from modelops.domains.tuning.schemas import Study, Trial, TrialState

_ROWS, _AXES, _SLICES, _COURSES, _CONTOURS = 25, 8, 6, 200, 3


@dataclass(frozen=True)
class Found:
    """What a report is made of: a study, its trials by number, the numbers of those on the Pareto front, and what mattered."""

    study: Study
    trials: Sequence[Trial]
    front: set[int]
    importance: Sequence[ParameterImportance]
    made_at: datetime

    @property
    def chief(self) -> Objective:
        """Return the first objective."""
        return self.study.objectives[0]

    @property
    def complete(self) -> list[tuple[Trial, list[float]]]:
        """Return the completed trials with their values."""
        return [
            (trial, trial.values)
            for trial in self.trials
            if trial.state is TrialState.COMPLETE and trial.values is not None
        ]

    @property
    def best(self) -> list[tuple[Trial, list[float]]]:
        """Return the completed trials, the best by the first objective before."""
        lower = self.chief.direction is Direction.MIN
        return sorted(self.complete, key=lambda one: (one[1][0] if lower else -one[1][0], one[0].number))

    @property
    def marked(self) -> set[int]:
        """Return the numbers of those to look at: the front, or the best tenth."""
        best = self.best
        return self.front or (
            {trial.number for trial, _ in best[: max(3, len(best) // 10)]} if len(best) > 3 else set()
        )

    @property
    def parameters(self) -> list[str]:
        """Return the parameters, those that mattered first."""
        ranked = [one.parameter for told in self.importance for one in told.parameters]
        named = [name for trial in self.trials for name in trial.parameters]
        return list(dict.fromkeys([*ranked, *named]))


def write_report(found: Found) -> str:
    """Write a report on a study."""
    heading = f"Study {found.study.name}"
    sections = [
        _summary(found),
        section("Pareto front" if found.front else "Best trials", _best(found)),
        section("History", _history(found)),
        section("One objective against another", _front(found)),
        section("What mattered", _importance(found)),
        section("How parameters and values go together", _parallel(found)),
        section("Parameter by parameter", _slices(found)),
        section("Two parameters at once", _contours(found)),
        section("The course of trials", _courses(found)),
        section("What failed", _failures(found)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="color-scheme" content="light dark"><title>{escape(heading)}</title>'
        f"<style>{STYLE}{drawings.STYLE}</style></head>"
        f"<body><main><h1>{escape(heading)}</h1>{''.join(sections)}"
        f'<p class="note">Made by ModelOps, {found.made_at:%Y-%m-%d %H:%M:%S} UTC. This file holds all it shows.</p>'
        "</main></body></html>\n"
    )


def _summary(found: Found) -> str:
    study = found.study
    counts = study.trials
    tiles = [("state", str(study.state)), ("trials", str(counts.total)), ("complete", str(counts.complete))]
    tiles += [("pruned", str(counts.pruned))] if counts.pruned else []
    tiles += [("failed", str(counts.failed))] if counts.failed else []
    tiles += [("on the front", str(len(found.front)))] if found.front else []
    if study.best_value is not None:
        way = "highest" if found.chief.direction is Direction.MAX else "lowest"
        tiles.append((f"{way} {found.chief.metric}", write_number(study.best_value)))
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles)
    notes = [study.description, f"Sampler {study.sampler.name}, seed {study.sampler.seed}; pruner {study.pruner.name}."]
    notes += [study.reason] if study.reason else []
    if len(found.trials) < counts.total:
        notes.append(f"Of {counts.total} trials, the latest {len(found.trials)} are told here.")
    return f'<dl class="tiles">{facts}</dl>' + "".join(f'<p class="note">{escape(one)}</p>' for one in notes if one)


def _best(found: Found) -> str:
    shown = found.parameters[:_AXES]
    chosen = [one for one in found.best if not found.front or one[0].number in found.front][:_ROWS]
    if not chosen:
        return "<p>No trial is complete yet.</p>"
    heads = ["trial", *(one.metric for one in found.study.objectives), *shown, "took", "run"]
    rows = [
        [trial.number, *values, *(trial.parameters.get(name) for name in shown), _took(trial), trial.run_id]
        for trial, values in chosen
    ]
    return table("Trials and what they reached", heads, rows)


def _history(found: Found) -> str:
    if len(found.study.objectives) > 1:
        return "".join(
            figure(
                drawings.history(one.metric, _finite([(t.number, v[n]) for t, v in found.complete]), [], []), one.metric
            )
            for n, one in enumerate(found.study.objectives)
        )
    points = _finite([(trial.number, values[0]) for trial, values in found.complete])
    best: list[drawings.Point] = []
    for number, value in points:
        if is_better(value, best[-1][1] if best else None, found.chief.direction):
            best.append((number, value))
    if best and points:
        best.append((points[-1][0], best[-1][1]))
    pruned = [(t.number, t.intermediate[max(t.intermediate)]) for t in _pruned(found) if t.intermediate]
    drawn = drawings.history(found.chief.metric, points, best, _finite(pruned))
    return figure(drawn, "A point is a trial; the line is the best so far; a cross is where a trial was pruned.")


def _front(found: Found) -> str:
    objectives = found.study.objectives
    if len(objectives) < 2:
        return ""
    parts = []
    for n, other in enumerate(objectives[1:], start=1):
        items = [plots.Item(f"trial {t.number}", (v[n], v[0]), t.number in found.front) for t, v in found.complete]
        across, upward = scale_of([item.values[0] for item in items]), scale_of([item.values[1] for item in items])
        if across is not None and upward is not None:
            about = "◆ is on the Pareto front." + ("" if len(objectives) == 2 else " The front is of all objectives.")
            axes = plots.Axis(other.metric, across), plots.Axis(found.chief.metric, upward)
            parts.append(figure(plots.scatter(*axes, items, about, front=len(objectives) == 2), about))
    return "".join(parts)


def _importance(found: Found) -> str:
    parts = []
    for told in found.importance:
        method = f" Method: {told.method}." if told.method else ""
        words = f"<p>{escape(told.message)}{escape(method)}</p>"
        if told.parameters:
            rows = [[one.parameter, one.importance, one.lower, one.upper, one.p_value] for one in told.parameters]
            numbers = table(
                f"Importance for {told.metric}", ["parameter", "importance", "95 % from", "to", "p-value"], rows
            )
            drawn = plots.bars(told.parameters[:12], f"For {told.metric}, with 95 % intervals.")
            words += f"<figure>{drawn}<details><summary>In numbers</summary>{numbers}</details></figure>"
        parts.append(words)
    return "".join(parts)


def _parallel(found: Found) -> str:
    named: list[tuple[plots.Axis, Any]] = []
    for name in found.parameters[: _AXES - len(found.study.objectives)]:
        scale = scale_of([trial.parameters.get(name) for trial, _ in found.complete])
        if scale is not None:
            named.append((plots.Axis(name, scale), lambda one, name=name: one[0].parameters.get(name)))
    for n, objective in enumerate(found.study.objectives):
        scale = scale_of([values[n] for _, values in found.complete])
        if scale is not None:
            named.append((plots.Axis(objective.metric, scale), lambda one, n=n: one[1][n]))
    if len(named) < 2 or len(found.complete) < 2:
        return ""
    items = [
        plots.Item(f"trial {one[0].number}", [read(one) for _, read in named], one[0].number in found.marked)
        for one in found.complete
    ]
    about = "A line is a trial." + (" The best are in colour." if len(items) > plots.LINES else "")
    drawn = plots.parallel_coordinates([axis for axis, _ in named], items, about)
    return figure(drawn + (plots.legend([item.name for item in items]) if len(items) <= plots.LINES else ""), about)


def _slices(found: Found) -> str:
    parts = []
    upward = scale_of([values[0] for _, values in found.complete])
    for name in found.parameters[:_SLICES]:
        chosen = [(trial, values) for trial, values in found.complete if name in trial.parameters]
        across = scale_of([trial.parameters[name] for trial, _ in chosen])
        if across is None or upward is None or len(chosen) < 2:
            continue
        items = [
            plots.Item(f"trial {trial.number}", (trial.parameters[name], values[0]), trial.number in found.marked)
            for trial, values in chosen
        ]
        about = f"{found.chief.metric} over {name}. ◆: the best."
        axes = plots.Axis(name, across), plots.Axis(found.chief.metric, upward)
        parts.append(figure(plots.scatter(*axes, items, about), about))
    return "".join(parts)


def _contours(found: Found) -> str:
    names = found.parameters[:_CONTOURS]
    lower = found.chief.direction is Direction.MIN
    parts = []
    for n, upward in enumerate(names):
        for across in names[:n]:
            points = [
                (trial.parameters[across], trial.parameters[upward], values[0])
                for trial, values in found.complete
                if across in trial.parameters and upward in trial.parameters and math.isfinite(values[0])
            ]
            drawn = drawings.contour(across, upward, found.chief.metric, points, lower_is_better=lower)
            parts.append(
                figure(drawn, f"The stronger a cell, the better its best {found.chief.metric}; empty: not tried.")
            )
    return "".join(parts)


def _courses(found: Found) -> str:
    told = [trial for trial in found.trials if len(trial.intermediate) > 1][-_COURSES:]
    lines = [(trial.number, trial.intermediate, trial.number in found.marked) for trial in told]
    return (
        figure(drawings.courses(found.chief.metric, lines), "A line is a trial; the best are in colour.")
        if told
        else ""
    )


def _failures(found: Found) -> str:
    failed = [trial for trial in found.trials if trial.state is TrialState.FAILED]
    rows = [[trial.number, trial.reason, trial.attempt, trial.run_id] for trial in failed[-_ROWS:]]
    return table("Trials that failed, and why", ["trial", "reason", "attempts", "run"], rows) if rows else ""


def _pruned(found: Found) -> list[Trial]:
    return [trial for trial in found.trials if trial.state is TrialState.PRUNED]


def _finite(points: Sequence[drawings.Point]) -> list[drawings.Point]:
    return [(number, value) for number, value in points if math.isfinite(value)]


def _took(trial: Trial) -> str | None:
    if trial.started_at is None or trial.ended_at is None:
        return None
    seconds = (trial.ended_at - trial.started_at).total_seconds()
    return f"{seconds:.2f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
