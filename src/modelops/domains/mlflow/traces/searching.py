"""Searching traces: the conditions of `filters` as SQL."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, case, cast, exists, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import aliased

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.experiments import resolve
from modelops.domains.mlflow.traces.filters import (
    SESSION,
    SOURCE_RUN,
    Clause,
    Order,
    parse_filter,
    parse_order,
    read_token,
    write_token,
)
from modelops.domains.mlflow.traces.tables import AssessmentRow, LabelRow, LinkRow, SpanRow, TraceRow
from modelops.kernel.context import Context

MOST = 500
_LOOKED_AT = 1_000
"""How many characters of a text a regular expression is held against."""
_NOTHING = "\x01"
"""What escapes a sign of a pattern: nothing that is ever written, so that a backslash is one."""
_COLUMNS: dict[str, Any] = {
    "timestamp_ms": TraceRow.started_ms,
    "execution_time_ms": TraceRow.duration_ms,
    "end_time_ms": TraceRow.started_ms + func.coalesce(TraceRow.duration_ms, 0),
    "request_id": TraceRow.id,
    "status": TraceRow.state,
    "client_request_id": TraceRow.client_request_id,
    "experiment_id": TraceRow.experiment_id,
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "IN": lambda column, value: column.in_(value),
    "NOT IN": lambda column, value: column.not_in(value),
    "ILIKE": lambda column, value: func.lower(column).like(func.lower(literal(value)), escape=_NOTHING),
    "RLIKE": lambda column, value: func.substr(column, 1, _LOOKED_AT).regexp_match(value),
}


def search(
    ctx: Context,
    experiment_ids: list[str],
    filter_string: str | None,
    order_by: list[str],
    max_results: int,
    page_token: str | None,
) -> tuple[list[TraceRow], str | None]:
    """Return a page of the traces of these experiments that fit, newest first unless ordered, and the next page's token.

    Raises:
        InvalidInput: the filter, an order, the size or the token cannot be understood.
    """
    if not 1 <= max_results <= MOST:
        raise InvalidInput(f"Invalid value {max_results} for parameter 'max_results' supplied: it is 1 to {MOST}.")
    query = matching(ctx, experiment_ids, filter_string)
    orders = parse_order(order_by)
    for order in orders:
        value = _order_value(order)
        query = query.order_by(case((value.is_(None), 1), else_=0), value.asc() if order.ascending else value.desc())
    offset = read_token(page_token)
    query = query.order_by(TraceRow.started_ms.desc(), TraceRow.id).offset(offset).limit(max_results + 1)
    try:
        rows = list(ctx.session.scalars(query))
    except (DataError, OperationalError) as wrong:
        if "regular expression" in str(wrong.orig) or "user-defined function" in str(wrong.orig):
            raise InvalidInput("The database does not take that regular expression.") from wrong
        raise
    more = len(rows) > max_results
    return rows[:max_results], write_token(offset + max_results) if more else None


def matching(ctx: Context, experiment_ids: list[str], filter_string: str | None) -> Select[TraceRow]:
    """Select the traces of these experiments of this project that fit a filter."""
    clauses = parse_filter(filter_string)
    on_sqlite = ctx.session.get_bind().dialect.name == "sqlite"
    query = ctx.query(TraceRow).where(TraceRow.experiment_id.in_(resolve(ctx, experiment_ids)))
    spans = [_span_condition(clause, on_sqlite) for clause in clauses if clause.kind == "span"]
    if spans:  # all of them are of one span
        query = query.where(_of_this(SpanRow, *spans))
    return query.where(*(_condition(clause, on_sqlite) for clause in clauses if clause.kind != "span"))


def _condition(clause: Clause, on_sqlite: bool) -> ColumnElement[bool]:
    if clause.kind == "attribute":
        return _compare(_COLUMNS[clause.key], clause, on_sqlite)
    if clause.kind in ("tag", "metadata"):
        return _label_condition(clause.kind, clause.key, clause, on_sqlite)
    if clause.kind == "run":
        return _run_condition(clause, on_sqlite)
    if clause.kind == "prompt":
        return _of_this(LinkRow, LinkRow.kind == "prompt", LinkRow.target == clause.value)
    if clause.kind == "issue":
        return _of_this(AssessmentRow, AssessmentRow.kind == "issue", AssessmentRow.name == clause.value)
    return _assessment_condition(clause, on_sqlite)


def _compare(column: Any, clause: Clause, on_sqlite: bool) -> ColumnElement[bool]:
    if clause.operator != "LIKE":
        return _COMPARE[clause.operator](column, clause.value)  # type: ignore[no-any-return]
    if on_sqlite:  # whose LIKE takes capitals for small letters
        return column.op("GLOB")(_as_glob(str(clause.value)))  # type: ignore[no-any-return]
    return column.like(clause.value, escape=_NOTHING)  # type: ignore[no-any-return]


def _as_glob(pattern: str) -> str:
    special = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(special.get(letter, letter) for letter in pattern)


def _of_this(row: Any, *conditions: Any) -> ColumnElement[bool]:
    """Tell whether the trace has such a row."""
    return exists().where(row.project_id == TraceRow.project_id, row.trace_id == TraceRow.id, *conditions)


def _label_condition(kind: str, key: str, clause: Clause, on_sqlite: bool) -> ColumnElement[bool]:
    of_key = (LabelRow.kind == kind, LabelRow.key == key)
    if clause.operator == "IS NULL":
        return ~_of_this(LabelRow, *of_key)
    if clause.operator == "IS NOT NULL":
        return _of_this(LabelRow, *of_key)
    return _of_this(LabelRow, *of_key, _compare(LabelRow.value, clause, on_sqlite))


def _run_condition(clause: Clause, on_sqlite: bool) -> ColumnElement[bool]:
    """A trace belongs to the run that made it, and to those it was linked with."""
    made = _label_condition("metadata", SOURCE_RUN, clause, on_sqlite)
    if clause.operator == "=":
        return or_(made, _of_this(LinkRow, LinkRow.kind == "run", _compare(LinkRow.target, clause, on_sqlite)))
    return made


def _span_condition(clause: Clause, on_sqlite: bool) -> ColumnElement[bool]:
    if clause.key.startswith("attributes."):
        return _compare(_attribute(clause.key.removeprefix("attributes."), on_sqlite), clause, on_sqlite)
    return _compare(getattr(SpanRow, clause.key), clause, on_sqlite)


def _attribute(key: str, on_sqlite: bool) -> Any:
    """Return a span's attribute as text: a text as it is, anything else as its JSON."""
    if not on_sqlite:
        return cast(SpanRow.content, JSONB)["attributes"][key].astext
    path = f'$.attributes."{key}"'
    kind = func.json_type(SpanRow.content, path)
    value = cast(func.json_extract(SpanRow.content, path), Text)
    return case((kind.in_(["true", "false"]), kind), else_=value)


def _assessment_condition(clause: Clause, on_sqlite: bool) -> ColumnElement[bool]:
    conditions: list[Any] = [
        AssessmentRow.kind == clause.kind,
        AssessmentRow.name == clause.key,
        AssessmentRow.valid,
    ]
    if clause.operator in ("<", "<=", ">", ">="):
        conditions.append(_compare(AssessmentRow.number, clause, on_sqlite))
    elif clause.operator not in ("IS NULL", "IS NOT NULL"):
        conditions.append(_compare(AssessmentRow.text, clause, on_sqlite))
    found = or_(_of_this(AssessmentRow, *conditions), _of_its_session(conditions))
    return ~found if clause.operator == "IS NULL" else found


def _of_its_session(conditions: list[Any]) -> ColumnElement[bool]:
    """Tell whether such an assessment is about the whole session that the trace belongs to."""
    other = aliased(TraceRow)
    return exists().where(
        AssessmentRow.project_id == TraceRow.project_id,
        AssessmentRow.session.is_not(None),
        and_(*conditions),
        LabelRow.project_id == TraceRow.project_id,
        LabelRow.trace_id == TraceRow.id,
        LabelRow.kind == "metadata",
        LabelRow.key == SESSION,
        LabelRow.value == AssessmentRow.session,
        other.project_id == AssessmentRow.project_id,
        other.id == AssessmentRow.trace_id,
        other.experiment_id == TraceRow.experiment_id,
    )


def _order_value(order: Order) -> Any:
    if order.kind == "attribute":
        return _COLUMNS[order.key]
    kind, key = ("metadata", SOURCE_RUN) if order.kind == "run" else (order.kind, order.key)
    return (
        select(LabelRow.value)
        .where(
            LabelRow.project_id == TraceRow.project_id,
            LabelRow.trace_id == TraceRow.id,
            LabelRow.kind == kind,
            LabelRow.key == key,
        )
        .scalar_subquery()
    )
