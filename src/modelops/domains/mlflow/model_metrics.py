"""Metrics of logged models: points that runs log on a model, and the data set they are of."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from modelops.contracts.errors import NotFound
from modelops.domains.experiments.artifacts import run_to_write
from modelops.domains.experiments.rules import from_microseconds, join_value, split_value
from modelops.domains.mlflow.protocol import milliseconds, number
from modelops.domains.mlflow.tables import LoggedModelMetricRow, LoggedModelRow
from modelops.kernel.context import Context


class ModelMetric(msgspec.Struct, frozen=True):
    """A point of a metric of a logged model: `time_us` since the epoch, `value` also NaN and infinite."""

    model_id: str
    key: str
    value: float
    time_us: int
    step: int
    dataset_name: str = ""
    dataset_digest: str = ""


def record_model_metrics(ctx: Context, run_id: str, points: Sequence[ModelMetric]) -> None:
    """Record points of logged models' metrics that a run logged; one that is sent again is the same.

    Raises:
        NotFound: a logged model or the run is not of this project.
    """
    run_to_write(ctx, run_id)
    wanted = {point.model_id for point in points}
    query = select(LoggedModelRow.id).where(LoggedModelRow.project_id == ctx.project_id, LoggedModelRow.id.in_(wanted))
    if missing := wanted - set(ctx.session.scalars(query)):
        raise missing_model(sorted(missing)[0])
    if points:
        insert = postgresql.insert if ctx.session.get_bind().dialect.name == "postgresql" else sqlite.insert
        ctx.session.execute(
            insert(LoggedModelMetricRow).on_conflict_do_nothing(), [_metric_row(run_id, point) for point in points]
        )


def metrics_of(ctx: Context, model_ids: Sequence[str]) -> dict[str, list[LoggedModelMetricRow]]:
    """Return the points of models by model, by key and time."""
    query = select(LoggedModelMetricRow).where(LoggedModelMetricRow.model_id.in_(model_ids))
    found: dict[str, list[LoggedModelMetricRow]] = {}
    for metric in ctx.session.scalars(query.order_by(LoggedModelMetricRow.key, LoggedModelMetricRow.time_us)):
        found.setdefault(metric.model_id, []).append(metric)
    return found


def metric_view(row: LoggedModelMetricRow) -> dict[str, Any]:
    """Return a point as MLflow writes it."""
    return {
        "key": row.key,
        "value": number(join_value(row.value, row.is_nan)),
        "timestamp": milliseconds(from_microseconds(row.time_us)),
        "step": row.step,
        "dataset_name": row.dataset_name,
        "dataset_digest": row.dataset_digest,
        "model_id": row.model_id,
        "run_id": row.run_id,
    }


def missing_model(model_id: str) -> NotFound:
    """Return what says that a logged model is not there."""
    return NotFound(f"Logged model with ID '{model_id[:100]}' not found.")


def _metric_row(run_id: str, point: ModelMetric) -> dict[str, Any]:
    value, is_nan = split_value(point.value)
    return {"run_id": run_id, **msgspec.structs.asdict(point), "value": value, "is_nan": is_nan}
