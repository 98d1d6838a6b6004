"""Reading runs: rows turned into what callers see, and what a listing of runs is filtered and ordered by."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import aliased

from modelops.domains.experiments.rules import from_microseconds, join_value
from modelops.domains.experiments.schemas import Experiment, MetricPoint, Run
from modelops.domains.experiments.tables import (
    ExperimentRow,
    LatestMetricRow,
    MetricRow,
    ParameterRow,
    RunRow,
    RunTagRow,
)
from modelops.kernel.context import Context

_RECORDED = frozenset({"parameters", "metrics", "tags", "experiment"})
"""What of a run is not in its own row."""


def as_experiment(row: ExperimentRow) -> Experiment:
    """Return an experiment as it reads."""
    return Experiment.model_validate(row, from_attributes=True)


def as_point(row: MetricRow) -> MetricPoint:
    """Return a point as it was sent."""
    value, moment = join_value(row.value, row.is_nan), from_microseconds(row.time_us)
    return MetricPoint(key=row.key, value=value, step=row.step, timestamp=moment)


def as_run(ctx: Context, row: RunRow) -> Run:
    """Return a run with what is recorded on it."""
    return as_runs(ctx, [row])[0]


def as_runs(ctx: Context, rows: list[RunRow]) -> list[Run]:
    """Return runs with what is recorded on them, in four queries however many they are."""
    ids = [row.id for row in rows]
    session = ctx.session
    session.flush()
    found: dict[str, dict[str, dict[str, Any]]] = {run: {"parameters": {}, "metrics": {}, "tags": {}} for run in ids}
    for parameter in session.scalars(select(ParameterRow).where(ParameterRow.run_id.in_(ids))):
        found[parameter.run_id]["parameters"][parameter.key] = parameter.value
    for metric in session.scalars(select(LatestMetricRow).where(LatestMetricRow.run_id.in_(ids))):
        found[metric.run_id]["metrics"][metric.key] = join_value(metric.value, metric.is_nan)
    for tag in session.scalars(select(RunTagRow).where(RunTagRow.run_id.in_(ids))):
        found[tag.run_id]["tags"][tag.key] = tag.value
    experiments = {row.experiment_id for row in rows}
    query = select(ExperimentRow.id, ExperimentRow.name).where(ExperimentRow.id.in_(experiments))
    names = dict(session.execute(query).all())
    own = [name for name in Run.model_fields if name not in _RECORDED]
    return [
        Run.model_validate(
            {**{name: getattr(row, name) for name in own}, **found[row.id], "experiment": names[row.experiment_id]}
        )
        for row in rows
    ]


def _metric(key: str) -> Any:
    latest = aliased(LatestMetricRow)
    query = select(latest.value).where(latest.run_id == RunRow.id, latest.key == key, latest.is_nan.is_(False))
    return query.correlate(RunRow).scalar_subquery()


def _parameter(key: str) -> Any:
    parameter = aliased(ParameterRow)
    query = select(parameter.text).where(parameter.run_id == RunRow.id, parameter.key == key)
    return query.correlate(RunRow).scalar_subquery()


def _tag(key: str) -> Any:
    tag = aliased(RunTagRow)
    return select(tag.value).where(tag.run_id == RunRow.id, tag.key == key).correlate(RunRow).scalar_subquery()


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
"""What a listing of runs is filtered and ordered by: a metric by its latest value (NaN is none), a parameter by its text."""
