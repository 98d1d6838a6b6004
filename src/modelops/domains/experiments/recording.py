"""Recording on a run: metrics, parameters and tags of a batch, written with a handful of statements."""

import base64
import binascii
import json
import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.rules import check_parameters, split_value, to_microseconds
from modelops.domains.experiments.schemas import LogBatch, Logged, MetricPoint
from modelops.domains.experiments.tables import LatestMetricRow, MetricRow, ParameterRow, RunRow, RunTagRow

_CHUNK = 1_000
_TEXT = 250


def record(session: Session, run: RunRow, batch: LogBatch, now: datetime) -> Logged:
    """Write a batch on a run.

    Raises:
        ParameterChanged: a parameter is there with another value; nothing of the batch is kept.
    """
    run.heard_at = now
    _write_parameters(session, run.id, batch.parameters)
    _upsert(session, RunTagRow, [{"run_id": run.id, "key": k, "value": v} for k, v in batch.tags.items()], ["value"])
    points = [_row(run.id, point, now) for point in batch.metrics]
    for chunk in _chunks(list({tuple(point.values()): point for point in points}.values())):
        _insert_new(session, chunk)
    _raise_latest(session, run.id, points)
    return Logged(metrics=len(batch.metrics), parameters=len(batch.parameters), tags=len(batch.tags))


def count_points(session: Session, run_id: str, key: str) -> int:
    """Count the points of a metric."""
    return session.scalar(select(func.count()).where(MetricRow.run_id == run_id, MetricRow.key == key)) or 0


def after(query: Select[MetricRow], cursor: list[Any] | None) -> Select[MetricRow]:
    """Order a metric's points, and start behind a cursor."""
    order = (MetricRow.step, MetricRow.time_us, MetricRow.value, MetricRow.is_nan)
    if cursor is not None:
        query = query.where(tuple_(*order) > tuple_(*cursor))
    return query.order_by(*order)


def write_cursor(row: MetricRow) -> str:
    """Return the cursor that stands behind a point."""
    return base64.urlsafe_b64encode(json.dumps([row.step, row.time_us, row.value, row.is_nan]).encode()).decode()


def read_cursor(cursor: str | None) -> list[Any] | None:
    """Reverse `write_cursor`."""
    if cursor is None:
        return None
    try:
        step, time_us, value, is_nan = json.loads(base64.urlsafe_b64decode(cursor))
        place = [int(step), int(time_us), float(value), bool(is_nan)]
        if math.isnan(place[2]) or not all(-(2**63) <= number < 2**63 for number in place[:2]):
            raise ValueError("out of range")
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        raise InvalidInput(
            "The cursor is not one of ours.", hint="Send `next_cursor` of the page before, unchanged."
        ) from None
    return place


def _write_parameters(session: Session, run_id: str, parameters: dict[str, Any]) -> None:
    if not parameters:
        return
    query = select(ParameterRow).where(ParameterRow.run_id == run_id, ParameterRow.key.in_(parameters))
    present = {row.key: row.value for row in session.scalars(query)}
    check_parameters(present, parameters)
    for key, value in parameters.items():
        if key not in present:
            session.add(ParameterRow(run_id=run_id, key=key, value=value, text=_as_text(value)))
    session.flush()


def _as_text(value: Any) -> str:
    """Return a parameter as filters see it: a text as it is, everything else in JSON."""
    return (value if isinstance(value, str) else json.dumps(value, sort_keys=True))[:_TEXT]


def _row(run_id: str, point: MetricPoint, now: datetime) -> dict[str, Any]:
    value, is_nan = split_value(point.value)
    return {
        "run_id": run_id,
        "key": point.key,
        "step": point.step,
        "time_us": to_microseconds(point.timestamp or now),
        "value": value,
        "is_nan": is_nan,
    }


def _raise_latest(session: Session, run_id: str, points: list[dict[str, Any]]) -> None:
    newest: dict[str, dict[str, Any]] = {}
    for point in points:
        known = newest.get(point["key"])
        if known is None or _order(point) > _order(known):
            newest[point["key"]] = point
    query = select(LatestMetricRow).where(LatestMetricRow.run_id == run_id, LatestMetricRow.key.in_(newest))
    for row in session.scalars(query):
        if _order(newest[row.key]) <= (row.step, row.time_us, row.value, row.is_nan):
            del newest[row.key]
    _upsert(session, LatestMetricRow, list(newest.values()), ["step", "time_us", "value", "is_nan"])


def _order(point: dict[str, Any]) -> tuple[int, int, float, bool]:
    """Return a point's place in the history; `after` orders by the same."""
    return point["step"], point["time_us"], point["value"], point["is_nan"]


def _insert_new(session: Session, rows: list[dict[str, Any]]) -> None:
    """Insert points; one that is there already stays as it is."""
    session.execute(_insert(session, MetricRow).on_conflict_do_nothing(), rows)


def _upsert(session: Session, row: Any, rows: list[dict[str, Any]], changed: list[str]) -> None:
    for chunk in _chunks(rows):
        insert = _insert(session, row)
        updates = {name: getattr(insert.excluded, name) for name in changed}
        session.execute(insert.on_conflict_do_update(index_elements=["run_id", "key"], set_=updates), chunk)


def _insert(session: Session, row: Any) -> Any:
    on_postgres = session.get_bind().dialect.name == "postgresql"
    return postgresql.insert(row) if on_postgres else sqlite.insert(row)


def _chunks(rows: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    return (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
