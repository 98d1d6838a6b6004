"""Reading runs: rows turned into what callers see, and what a listing of runs is filtered and ordered by."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import aliased

from modelops.domains.experiments.rules import join_value
from modelops.domains.experiments.schemas import Experiment, Run
from modelops.domains.experiments.tables import (
    ExperimentRow,
    LatestMetricRow,
    MetricKeyRow,
    ParameterRow,
    RunRow,
    RunTagRow,
)
from modelops.kernel.context import Context
from modelops.kernel.database import Raw, raw_of
from modelops.kernel.listing import Twofold

_RECORDED = frozenset({"parameters", "metrics", "tags", "experiment"})
"""What of a run is not in its own row."""

_AT_ONCE = 1_000


def as_experiment(row: ExperimentRow) -> Experiment:
    """Return an experiment as it reads."""
    return Experiment.model_validate(row, from_attributes=True)


def as_run(ctx: Context, row: RunRow) -> Run:
    """Return a run with what is recorded on it."""
    return as_runs(ctx, [row])[0]


def as_runs(ctx: Context, rows: list[RunRow]) -> list[Run]:
    """Return runs with what is recorded on them, in four queries however many they are."""
    numbers = [row.number for row in rows]
    recorded = read_recorded(raw_of(ctx.session), numbers)
    experiments = {row.experiment_id for row in rows}
    query = select(ExperimentRow.id, ExperimentRow.name).where(ExperimentRow.id.in_(experiments))
    names = dict(ctx.session.execute(query).all())
    own = [name for name in Run.model_fields if name not in _RECORDED]
    return [
        Run.model_validate(
            {
                **{name: getattr(row, name) for name in own},
                "experiment": names[row.experiment_id],
                "parameters": {key: json.loads(value) for key, value, _ in recorded.parameters[row.number]},
                "metrics": {key: join_value(value, nan) for key, value, nan, _, _ in recorded.metrics[row.number]},
                "tags": dict(recorded.tags[row.number]),
            }
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded on runs, by the number of the run.

    Attributes:
        metrics: (key, stored value, whether it is NaN, microseconds since 1970, step) of the latest points.
        parameters: (key, JSON, text).
        tags: (key, value).
    """

    metrics: dict[int, list[Any]]
    parameters: dict[int, list[Any]]
    tags: dict[int, list[Any]]


def read_recorded(raw: Raw, numbers: Sequence[int]) -> Recorded:
    """Read what is recorded on runs, in three queries however many they are."""
    return Recorded(
        metrics=_by_run(
            raw,
            numbers,
            "SELECT l.run_number, k.key, l.value, l.is_nan, l.time_us, l.step FROM latest_metrics l"
            " JOIN metric_keys k ON k.number = l.key_number WHERE l.run_number IN ({}) ORDER BY l.run_number, k.key",
        ),
        parameters=_by_run(
            raw,
            numbers,
            "SELECT run_number, key, value, text FROM run_parameters WHERE run_number IN ({}) ORDER BY run_number, key",
        ),
        tags=_by_run(
            raw,
            numbers,
            "SELECT run_number, key, value FROM run_tags WHERE run_number IN ({}) ORDER BY run_number, key",
        ),
    )


def _by_run(raw: Raw, numbers: Sequence[int], statement: str) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {number: [] for number in numbers}
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        for number, *rest in raw.execute(statement.format(", ".join("?" * len(some))), some):
            found[number].append(rest)
    return found


def _number_of(key: str) -> Any:
    return select(MetricKeyRow.number).where(MetricKeyRow.key == key).scalar_subquery()


def _metric(key: str) -> Any:
    latest = aliased(LatestMetricRow)
    query = select(latest.value).where(
        latest.run_number == RunRow.number, latest.key_number == _number_of(key), latest.is_nan.is_(False)
    )
    return query.correlate(RunRow).scalar_subquery()


def _parameter(key: str) -> Twofold:
    parameter = aliased(ParameterRow)
    here = (parameter.run_number == RunRow.number, parameter.key == key)
    text, number = (select(column).where(*here).correlate(RunRow) for column in (parameter.text, parameter.number))
    return Twofold(text.scalar_subquery(), number.scalar_subquery())


def _tag(key: str) -> Any:
    tag = aliased(RunTagRow)
    query = select(tag.value).where(tag.run_number == RunRow.number, tag.key == key)
    return query.correlate(RunRow).scalar_subquery()


RUN_FIELDS: dict[str, Any] = {
    "name": RunRow.name,
    "status": RunRow.status,
    "job_id": RunRow.job_id,
    "started_at": RunRow.started_at,
    "ended_at": RunRow.ended_at,
    "created_by": RunRow.created_by,
    "metrics": _metric,
    "parameters": _parameter,
    "tags": _tag,
}
"""What a listing of runs is filtered and ordered by: a metric by its latest value (NaN is none), a parameter
by its text, or compared with a number as a number."""
