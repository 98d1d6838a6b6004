"""Searching runs by their own fields and what is recorded on them, with keyset paging; and experiments, which are few.

Runs without a value come last whichever way they are ordered, those whose metric is NaN just before. Ties are broken by the time
they started, newest first, then by id.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.keys import find_numbers
from modelops.domains.experiments.tables import ExperimentRow
from modelops.kernel.context import Context
from modelops.kernel.database import Raw, read_moment

Kind = Literal["attribute", "metric", "parameter", "tag"]

ATTRIBUTES = ("id", "name", "status", "started_at", "ended_at", "created_by", "experiment_id")
_MOMENTS = ("started_at", "ended_at")
_COMPARISONS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass(frozen=True, slots=True)
class Condition:
    """What a run must fulfil.

    Attributes:
        operator: `=`, `!=`, `<`, `<=`, `>`, `>=`, `LIKE`, `ILIKE`, `IN`, `NOT IN`, `IS NULL` or `IS NOT NULL`.
        value: A number for metrics, a datetime for times, a list for `IN`, otherwise a text.
    """

    kind: Kind
    key: str
    operator: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Order:
    """What runs are ordered by."""

    kind: Kind
    key: str
    descending: bool = False


class FoundRun(NamedTuple):
    """A run's own fields."""

    number: int
    id: str
    experiment_id: str
    name: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    deleted_at: datetime | None
    created_by: str
    artifact_location: str | None
    """Where its experiment keeps files, if that is not on the platform."""


_FIELDS = (
    "r.number, r.id, r.experiment_id, r.name, r.status, r.started_at, r.ended_at, r.deleted_at, r.created_by,"
    " e.artifact_location"
)
_FROM = "FROM runs r JOIN experiments e ON e.id = r.experiment_id"
DEFAULT = (Order("attribute", "started_at", True), Order("attribute", "id"))


class _Term(NamedTuple):
    """A part of an order: an expression, the parameters in it, its direction, and whether it is a time."""

    expression: str
    descending: bool
    moment: bool = False


class _Statement:
    """A search as it grows: joins, conditions and orders, each with its parameters in the order of their holes."""

    def __init__(self, raw: Raw, keys: dict[str, int]) -> None:
        self.raw = raw
        self.keys = keys
        self.joins: list[str] = []
        self.join_values: list[Any] = []
        self.where: list[str] = []
        self.where_values: list[Any] = []
        self.terms: list[_Term] = []

    def require(self, condition: str, *values: Any) -> None:
        self.where.append(condition)
        self.where_values += values

    def add_condition(self, condition: Condition) -> None:
        if condition.kind == "attribute":
            if condition.key in _MOMENTS and condition.value is not None:
                condition = Condition("attribute", condition.key, condition.operator, self.raw.moment(condition.value))
            compared, values = self._compare(f"r.{condition.key}", condition)
            self.require(compared, *values)
            return
        table, key_column, value_column, key = self._place_of(condition.kind, condition.key)
        inner = f"SELECT 1 FROM {table} t WHERE t.run_number = r.number AND t.{key_column} = ?"  # noqa: S608
        if condition.operator in ("IS NULL", "IS NOT NULL"):
            self.require(f"{'NOT ' if condition.operator == 'IS NULL' else ''}EXISTS ({inner})", key)
            return
        compared, values = self._compare(f"t.{value_column}", condition)
        number = " AND NOT t.is_nan" if condition.kind == "metric" else ""
        self.require(f"EXISTS ({inner}{number} AND {compared})", key, *values)

    def add_order(self, order: Order) -> None:
        if order.kind == "attribute":
            column, moment = f"r.{order.key}", order.key in _MOMENTS
            if order.key == "ended_at":
                self.terms.append(_Term(f"CASE WHEN {column} IS NULL THEN 1 ELSE 0 END", False))
            self.terms.append(_Term(column, order.descending, moment))
            return
        table, key_column, value_column, key = self._place_of(order.kind, order.key)
        alias = f"o{len(self.joins)}"
        self.joins.append(f"LEFT JOIN {table} {alias} ON {alias}.run_number = r.number AND {alias}.{key_column} = ?")
        self.join_values.append(key)
        column = f"{alias}.{value_column}"
        nan = f"WHEN {alias}.is_nan THEN 1 " if order.kind == "metric" else ""
        self.terms.append(_Term(f"CASE {nan}WHEN {column} IS NULL THEN 2 ELSE 0 END", False))
        self.terms.append(_Term(column, order.descending))

    def start_behind(self, place: Sequence[Any]) -> None:
        """Keep what comes behind a place: equal up to some term, and beyond in that one."""
        same = "{} IS ?" if self.raw.on_sqlite else "{} IS NOT DISTINCT FROM ?"
        ways: list[str] = []
        values: list[Any] = []
        for index, term in enumerate(self.terms):
            equal = [same.format(earlier.expression) for earlier in self.terms[:index]]
            ways.append(" AND ".join([*equal, f"{term.expression} {'<' if term.descending else '>'} ?"]))
            values += place[: index + 1]
        self.require(f"({' OR '.join(f'({way})' for way in ways)})", *values)

    def run(self, limit: int) -> list[Any]:
        orders = ", ".join(f"{term.expression} {'DESC' if term.descending else 'ASC'}" for term in self.terms)
        terms = ", ".join(term.expression for term in self.terms)
        statement = (
            f"SELECT {_FIELDS}, {terms} {_FROM} {' '.join(self.joins)}"
            f" WHERE {' AND '.join(self.where)} ORDER BY {orders} LIMIT ?"
        )
        found: list[Any] = self.raw.execute(statement, (*self.join_values, *self.where_values, limit)).fetchall()
        return found

    def _place_of(self, kind: Kind, key: str) -> tuple[str, str, str, Any]:
        if kind == "metric":
            return "latest_metrics", "key_number", "value", self.keys.get(key, -1)
        return ("run_parameters", "key", "text", key) if kind == "parameter" else ("run_tags", "key", "value", key)

    def _compare(self, column: str, condition: Condition) -> tuple[str, list[Any]]:
        operator, value = condition.operator, condition.value
        if operator in _COMPARISONS:
            return f"{column} {_COMPARISONS[operator]} ?", [value]
        if operator in ("IN", "NOT IN"):
            return f"{column} {operator} ({', '.join('?' * len(value))})", list(value)
        if operator == "LIKE":
            return (
                (f"{column} GLOB ?", [_as_glob(value)])
                if self.raw.on_sqlite
                else (f"{column} LIKE ? ESCAPE ''", [value])
            )
        if operator == "ILIKE":
            return (f"{column} LIKE ?", [value]) if self.raw.on_sqlite else (f"{column} ILIKE ? ESCAPE ''", [value])
        raise ValueError(f"There is no operator {operator}.")


def search_runs(
    raw: Raw,
    project_id: str,
    *,
    experiments: Sequence[str] | None = None,
    conditions: Sequence[Condition] = (),
    orders: Sequence[Order] = (),
    deleted: bool | None = False,
    limit: int = 100,
    cursor: str | None = None,
) -> tuple[list[FoundRun], str | None]:
    """Find runs of a project.

    Args:
        experiments: Ids of the experiments to look in; None for all.
        deleted: Only those that are deleted, or are not; None for both.
        cursor: What an earlier page of the same search returned.

    Returns:
        The runs, and the cursor behind them if there are more.

    Raises:
        InvalidInput: the cursor is not one of this search.
    """
    named = [(part.kind, part.key) for part in conditions] + [(part.kind, part.key) for part in orders]
    wanted = {key for kind, key in named if kind == "metric"}
    statement = _Statement(raw, find_numbers(raw, sorted(wanted)))
    statement.require("r.project_id = ?", project_id)
    if experiments is not None:
        if not experiments:
            return [], None
        statement.require(f"r.experiment_id IN ({', '.join('?' * len(experiments))})", *experiments)
    if deleted is not None:
        statement.require(f"r.deleted_at IS {'NOT ' if deleted else ''}NULL")
    for condition in conditions:
        statement.add_condition(condition)
    ordered = {(order.kind, order.key) for order in orders}
    for order in (*orders, *(order for order in DEFAULT if (order.kind, order.key) not in ordered)):
        statement.add_order(order)
    if cursor is not None:
        statement.start_behind(_read_place(raw, cursor, statement.terms))
    found = statement.run(limit + 1)
    width = len(FoundRun._fields)
    further = _write_place(found[limit - 1][width:]) if len(found) > limit else None
    return [_as_found(row[:width]) for row in found[:limit]], further


def find_runs(raw: Raw, project_id: str, ids: Sequence[str]) -> list[FoundRun]:
    """Return those runs of a project that there are, deleted ones too."""
    if not ids:
        return []
    holes = ", ".join("?" * len(ids))
    statement = f"SELECT {_FIELDS} {_FROM} WHERE r.project_id = ? AND r.id IN ({holes})"
    return [_as_found(row) for row in raw.execute(statement, (project_id, *ids)).fetchall()]


def find_origin(raw: Raw, project_id: str, run: str) -> tuple[str, str | None] | None:
    """Return the ids of a run of a project and of the job that made it; None where there is no such run."""
    statement = "SELECT id, job_id FROM runs WHERE id = ? AND project_id = ?"
    found: tuple[str, str | None] | None = raw.execute(statement, (run, project_id)).fetchone()
    return found


def _as_found(row: Sequence[Any]) -> FoundRun:
    number, run, experiment, name, status, started, ended, deleted, made_by, location = row
    return FoundRun(
        number,
        run,
        experiment,
        name,
        status,
        read_moment(started),
        None if ended is None else read_moment(ended),
        None if deleted is None else read_moment(deleted),
        made_by,
        location,
    )


def _as_glob(pattern: str) -> str:
    """Return an SQL pattern as SQLite's GLOB, which tells large letters from small ones."""
    wild = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(wild.get(sign, sign) for sign in pattern)


def _write_place(values: Sequence[Any]) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode()


def _read_place(raw: Raw, cursor: str, terms: Sequence[_Term]) -> list[Any]:
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor))
        if not isinstance(place, list) or len(place) != len(terms):
            raise ValueError("of another search")
        if any(not isinstance(value, str | int | float | None) for value in place):
            raise ValueError("of another kind")
        return [
            datetime.fromisoformat(value) if term.moment and value is not None and not raw.on_sqlite else value
            for term, value in zip(terms, place, strict=True)
        ]
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise InvalidInput(
            "The page token is not one of this search.", hint="Send the token of the page before, unchanged."
        ) from None


def search_experiments(
    ctx: Context,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    deleted: bool | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[ExperimentRow], str | None]:
    """Find experiments of the context's project; arguments and result as `search_runs`."""
    query = ctx.query(ExperimentRow)
    if deleted is not None:
        query = query.where(ExperimentRow.deleted_at.is_not(None) == deleted)
    on_sqlite = ctx.session.get_bind().dialect.name == "sqlite"
    for condition in conditions:
        query = query.where(_fulfils(condition, on_sqlite))
    for order in orders or (Order("attribute", "created_at", True),):
        column = getattr(ExperimentRow, order.key)
        query = query.order_by(column.desc() if order.descending else column)
    start = _read_start(cursor)
    rows = list(ctx.session.scalars(query.order_by(ExperimentRow.id).offset(start).limit(limit + 1)))
    further = base64.urlsafe_b64encode(str(start + limit).encode()).decode() if len(rows) > limit else None
    return rows[:limit], further


def _fulfils(condition: Condition, on_sqlite: bool) -> ColumnElement[bool]:
    tag = condition.kind == "tag"
    column: Any = ExperimentRow.tags[condition.key].as_string() if tag else getattr(ExperimentRow, condition.key)
    value = condition.value
    match condition.operator:
        case "IS NULL":
            found = column.is_(None)
        case "IS NOT NULL":
            found = column.is_not(None)
        case "IN":
            found = column.in_(value)
        case "NOT IN":
            found = column.not_in(value)
        case "LIKE":
            found = column.op("GLOB")(_as_glob(value)) if on_sqlite else column.like(value)
        case "ILIKE":
            found = column.ilike(value)
        case compared:
            found = column.op(_COMPARISONS[compared])(value)
    return found  # type: ignore[no-any-return]


def _read_start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        return max(0, int(base64.urlsafe_b64decode(cursor)))
    except (ValueError, binascii.Error):
        raise InvalidInput(
            "The page token is not one of this search.", hint="Send the token of the page before, unchanged."
        ) from None
