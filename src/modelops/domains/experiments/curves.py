"""A metric's history in a few hundred buckets, each with its least, its greatest and its last value, by SQL.

Averages would hide what people look for: a spike of one step among a million is the maximum of its bucket.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, select
from sqlalchemy.orm import Session

from modelops.domains.experiments.analysis_rules import bucket_width
from modelops.domains.experiments.analysis_schemas import Axis, MetricBucket
from modelops.domains.experiments.rules import from_microseconds, join_value
from modelops.domains.experiments.tables import MetricKeyRow, MetricRow, RunRow

_MOST_FOLDS = 1_000


def metric_buckets(
    session: Session, run: RunRow, key: str, buckets: int, axis: Axis | None
) -> tuple[Axis, int, list[MetricBucket]]:
    """Return the axis, how many points there are, and the buckets that hold some, in order.

    Args:
        buckets: How many at most; the axis is cut at multiples of one width.
        axis: None for the steps, or the time where all points are at one step.
    """
    points = _points(run, key)
    extent = select(
        func.count(),
        func.min(MetricRow.step),
        func.max(MetricRow.step),
        func.min(MetricRow.time_us),
        func.max(MetricRow.time_us),
    )
    total, first_step, last_step, first_us, last_us = session.execute(extent.where(points)).one()
    chosen = axis or (Axis.TIME if first_step == last_step else Axis.STEP)
    if not total:
        return chosen, 0, []
    over = MetricRow.step if chosen is Axis.STEP else MetricRow.time_us
    low, high = (first_step, last_step) if chosen is Axis.STEP else (first_us, last_us)
    place = _floor(over, bucket_width(low, high, buckets)).label("place")
    found = session.execute(_extremes(place, points)).all()
    ends = [row.last_step if chosen is Axis.STEP else row.last_us for row in found]
    lasts = {row.at: join_value(row.value, row.is_nan) for row in session.execute(_last(ends, points, chosen))}
    return chosen, total, [_bucket(row, lasts[end]) for row, end in zip(found, ends, strict=True)]


def last_by_step(session: Session, run: RunRow, key: str) -> dict[int, float]:
    """Return the last value at each of a metric's steps, of the first thousand points."""
    query = select(MetricRow.step, MetricRow.value, MetricRow.is_nan).where(_points(run, key))
    order = (MetricRow.step, MetricRow.time_us, MetricRow.value, MetricRow.is_nan)
    found = session.execute(query.order_by(*order).limit(_MOST_FOLDS))
    return {step: join_value(value, is_nan) for step, value, is_nan in found}


def _points(run: RunRow, key: str) -> ColumnElement[bool]:
    number = select(MetricKeyRow.number).where(MetricKeyRow.key == key).scalar_subquery()
    return and_(MetricRow.run_number == run.number, MetricRow.key_number == number)


def _extremes(place: Any, points: ColumnElement[bool]) -> Select[Any]:
    number = case((MetricRow.is_nan.is_(False), MetricRow.value))
    return (
        select(
            place,
            func.count().label("count"),
            func.count(number).label("numbers"),
            func.min(number).label("minimum"),
            func.max(number).label("maximum"),
            func.min(MetricRow.step).label("first_step"),
            func.max(MetricRow.step).label("last_step"),
            func.min(MetricRow.time_us).label("first_us"),
            func.max(MetricRow.time_us).label("last_us"),
        )
        .where(points)
        .group_by(place)
        .order_by(place)
    )


def _last(ends: list[int], points: ColumnElement[bool], axis: Axis) -> Select[Any]:
    """Select the last point at each of some places of the axis: along the other axis, then by value, never by chance."""
    at, then = (MetricRow.step, MetricRow.time_us) if axis is Axis.STEP else (MetricRow.time_us, MetricRow.step)
    order = (then.desc(), MetricRow.value.desc(), MetricRow.is_nan.desc())
    rank = func.row_number().over(partition_by=at, order_by=order).label("rank")
    ranked = select(at.label("at"), MetricRow.value, MetricRow.is_nan, rank).where(points, at.in_(ends)).subquery()
    return select(ranked.c.at, ranked.c.value, ranked.c.is_nan).where(ranked.c.rank == 1)


def _floor(column: Any, width: int) -> Any:
    """Divide downwards; both databases divide integers towards zero. No intermediate leaves 64 bits."""
    return case((column >= 0, column.op("/")(width)), else_=-((-(column + 1)).op("/")(width)) - 1)


def _bucket(row: Any, last: float) -> MetricBucket:
    return MetricBucket(
        first_step=row.first_step,
        last_step=row.last_step,
        first_time=from_microseconds(row.first_us),
        last_time=from_microseconds(row.last_us),
        count=row.count,
        nan_count=row.count - row.numbers,
        minimum=row.minimum,
        maximum=row.maximum,
        last=last,
    )
