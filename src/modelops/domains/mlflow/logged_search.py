"""The search of logged models: MLflow's filters and orders over attributes, tags, parameters and metrics."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, exists, or_, select

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.filters import Comparison, Field, Grammar
from modelops.domains.mlflow.protocol import moment_of
from modelops.domains.mlflow.tables import LoggedModelMetricRow as Metric
from modelops.domains.mlflow.tables import LoggedModelRow
from modelops.kernel.comparing import compare, json_member
from modelops.kernel.context import Context

_TEXTS: dict[str, Any] = {
    "name": LoggedModelRow.name,
    "model_id": LoggedModelRow.id,
    "model_type": LoggedModelRow.model_type,
    "status": LoggedModelRow.status,
    "source_run_id": LoggedModelRow.source_run_id,
    "experiment_id": LoggedModelRow.experiment_id,
}
_TIMES: dict[str, Any] = {
    "creation_time": LoggedModelRow.created_at,
    "creation_timestamp": LoggedModelRow.created_at,
    "creation_timestamp_ms": LoggedModelRow.created_at,
    "last_updated_timestamp": LoggedModelRow.updated_at,
    "last_updated_timestamp_ms": LoggedModelRow.updated_at,
}
_GRAMMAR = Grammar(
    {
        "attribute": Field(
            numbers=frozenset(_TIMES),
            keys=frozenset(_TEXTS) | frozenset(_TIMES),
            lists=frozenset(_TEXTS),
        ),
        "tag": Field(),
        "param": Field(),
        "metric": Field(numbers=True),
    },
    {
        "attribute": "attribute",
        "attributes": "attribute",
        "tag": "tag",
        "tags": "tag",
        "param": "param",
        "params": "param",
        "metric": "metric",
        "metrics": "metric",
    },
)


class Dataset(msgspec.Struct):
    """A data set that metrics belong to; any digest where none is named."""

    dataset_name: str = ""
    dataset_digest: str = ""


class OrderBy(msgspec.Struct):
    """One order; of a metric, the latest value on the data set counts."""

    field_name: str = ""
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


def logged_model_query(
    ctx: Context, experiment_ids: Sequence[str], text: str, datasets: Sequence[Dataset], order: Sequence[OrderBy]
) -> Select[LoggedModelRow]:
    """Select the project's logged models that fit, ordered, the newest first.

    Raises:
        InvalidInput: the filter or an order is not of the grammar.
    """
    query = ctx.query(LoggedModelRow).where(
        LoggedModelRow.deleted_at.is_(None), LoggedModelRow.experiment_id.in_(experiment_ids)
    )
    comparisons = _GRAMMAR.read_filter(text)
    on_datasets = [_on_dataset(dataset) for dataset in datasets]
    for comparison in comparisons:
        query = query.where(_condition(ctx, comparison, on_datasets))
    if on_datasets and not any(comparison.kind == "metric" for comparison in comparisons):
        query = query.where(exists().where(Metric.model_id == LoggedModelRow.id, or_(*on_datasets)))
    for one in order:
        column = _order_column(one)
        query = query.order_by(column.is_(None), column.asc() if one.ascending else column.desc())
    return query.order_by(LoggedModelRow.created_at.desc(), LoggedModelRow.id.desc())


def _condition(ctx: Context, comparison: Comparison, on_datasets: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    if comparison.kind == "metric":
        value = and_(
            compare(ctx.session, Metric.value, comparison.operator, comparison.value), Metric.is_nan.is_(False)
        )
        there = [Metric.model_id == LoggedModelRow.id, Metric.key == comparison.key, value]
        return exists().where(*there, *([or_(*on_datasets)] if on_datasets else []))
    if comparison.kind in ("tag", "param"):
        column = LoggedModelRow.tags if comparison.kind == "tag" else LoggedModelRow.params
        return compare(ctx.session, json_member(column, comparison.key), comparison.operator, comparison.value)
    if comparison.key in _TIMES:
        return compare(
            ctx.session, _TIMES[comparison.key], comparison.operator, moment_of(int(comparison.value), comparison.key)
        )
    return compare(ctx.session, _TEXTS[comparison.key], comparison.operator, comparison.value)


def _on_dataset(dataset: Dataset) -> ColumnElement[bool]:
    named = Metric.dataset_name == dataset.dataset_name
    return and_(named, Metric.dataset_digest == dataset.dataset_digest) if dataset.dataset_digest else named


def _order_column(order: OrderBy) -> Any:
    kind, _, key = order.field_name.partition(".")
    if kind in ("metrics", "metric") and key:
        return _latest(key.strip("`"), order)
    name = key if kind in ("attributes", "attribute") and key else order.field_name
    column = _TEXTS.get(name, _TIMES.get(name))
    if column is None:
        valid = ", ".join([*_TEXTS, *_TIMES, "metrics.<key>"])
        raise InvalidInput(f"Invalid order by field name: '{order.field_name[:100]}'.", hint=f"Valid ones are {valid}.")
    if order.dataset_name or order.dataset_digest:
        raise InvalidInput("A data set belongs to the order by a metric alone.")
    return column


def _latest(key: str, order: OrderBy) -> Any:
    """Return the latest value of a metric as a column; null where there is none, or where it is NaN."""
    query = select(Metric.value).where(
        Metric.model_id == LoggedModelRow.id, Metric.key == key, Metric.is_nan.is_(False)
    )
    if order.dataset_name:
        query = query.where(_on_dataset(Dataset(order.dataset_name, order.dataset_digest)))
    newest = query.order_by(Metric.time_us.desc(), Metric.step.desc(), Metric.run_id).limit(1)
    return newest.correlate(LoggedModelRow).scalar_subquery()
