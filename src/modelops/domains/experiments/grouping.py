"""Runs grouped by a parameter or tag, with a summary of metrics for each group, and the best run."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Select
from sqlalchemy.orm import Session

from modelops.domains.experiments.analysis_rules import better, read_grouping
from modelops.domains.experiments.analysis_schemas import Direction, MetricSummary, Objective, RunGroup, RunGroups
from modelops.domains.experiments.reading import RUN_FIELDS
from modelops.domains.experiments.tables import RunRow
from modelops.kernel.listing import Twofold

_AT_ONCE = 5_000


def group_runs(
    session: Session, runs: Select[RunRow], by: str | None, objectives: list[Objective], limit: int
) -> RunGroups:
    """Group the runs that a statement selects, however many they are; values alone leave the database.

    Raises:
        InvalidInput: `by` is neither a parameter nor a tag.
    """
    head, key = read_grouping(by)
    grouped = RUN_FIELDS[head](key)
    value = grouped.text if isinstance(grouped, Twofold) else grouped
    columns = [value, *(RUN_FIELDS["metrics"](one.metric) for one in objectives)]
    statement = runs.with_only_columns(RunRow.id, *columns).order_by(RunRow.id)
    return summarise(f"{head}.{key}", session.execute(statement).yield_per(_AT_ONCE), objectives, limit)


def summarise(by: str, rows: Iterable[Sequence[Any]], objectives: list[Objective], limit: int) -> RunGroups:
    """Summarise runs by group.

    Args:
        rows: (run, the group's value, a value for each objective) of each run; None, NaN and infinities count as no number.
        limit: How many groups are told.
    """
    members: dict[str | None, list[Sequence[Any]]] = defaultdict(list)
    for row in rows:
        members[row[1]].append(row)
    groups = [
        RunGroup(
            value=value,
            runs=len(found),
            metrics=[_summary(one, [(row[0], row[place]) for row in found]) for place, one in enumerate(objectives, 2)],
        )
        for value, found in members.items()
    ]
    groups.sort(key=_rank)
    return RunGroups(
        by=by, runs=sum(len(found) for found in members.values()), groups=len(members), items=groups[:limit]
    )


def _summary(objective: Objective, values: list[tuple[str, float | None]]) -> MetricSummary:
    known = [(run, value) for run, value in values if value is not None and math.isfinite(value)]
    numbers = np.array([value for _, value in known])
    best = better(objective.direction)(numbers.tolist()) if known else None
    return MetricSummary(
        metric=objective.metric,
        direction=objective.direction,
        count=len(known),
        mean=float(numbers.mean()) if known else None,
        deviation=float(numbers.std(ddof=1)) if len(known) > 1 else None,
        minimum=float(numbers.min()) if known else None,
        maximum=float(numbers.max()) if known else None,
        best_run=None if best is None else known[best][0],
    )


def _rank(group: RunGroup) -> tuple[bool, float, int, str]:
    """Put the group with the best of the first metric first, and those without it, or where none was asked for, by size."""
    chief = group.metrics[0] if group.metrics else None
    lowest = chief is not None and chief.direction is Direction.MIN
    best = None if chief is None else chief.minimum if lowest else chief.maximum
    place = 0.0 if best is None else best if lowest else -best
    return best is None, place, -group.runs, group.value or ""
