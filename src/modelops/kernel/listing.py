"""Listings: one grammar of filters and orders for every domain, and keyset paging over it.

    filter   = condition { "and" condition }
    condition= field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" ) value        `~`: contains, ignoring case
    value    = "text" | number | true | false | null
    order_by = field [ "asc" | "desc" ]

A field may have a key after a dot (`tags.team`, `metrics.accuracy`); a key of other than letters, digits, `_`, `.` and `-`
is written in backquotes (metrics.`val loss`).
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true

from modelops.contracts.errors import InvalidInput
from modelops.kernel.context import Context

Column = Any
Fields = Mapping[str, Column | Callable[[str], "Column | Twofold"]]
"""What a listing can be filtered and ordered by: a column, or for `field.key` a function of the key."""


@dataclass(frozen=True)
class Twofold:
    """A field that is a text, and perhaps reads as a number: compared with a number as one, else and in orders as a text."""

    text: Column
    number: Column


_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))"""
    r"""|(?P<op>!=|<=|>=|=|<|>|~)|(?P<field>[A-Za-z_][\w-]*(?:\.(?:`[^`]+`|[\w.-]+))?))"""
)
_OPERATORS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column.is_(None) if value is None else column == value,
    "!=": lambda column, value: column.is_not(None) if value is None else column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "~": lambda column, value: column.icontains(str(value), autoescape=True),
}
_WORDS = {"true": True, "false": False, "null": None}


class PageQuery(BaseModel):
    """What a listing takes."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=1_000, description="How many at most.")] = 100
    cursor: Annotated[str | None, Field(max_length=2_000, description="`next_cursor` of the page before.")] = None
    filter: Annotated[
        str | None, Field(max_length=4_000, description='Such as `status = "running" and name ~ "lr"`.')
    ] = None
    order_by: Annotated[str | None, Field(max_length=300, description="A field, then `asc` or `desc`.")] = None


@dataclass(frozen=True)
class Listed:
    """A page of rows, still to be turned into schemas."""

    rows: list[Any]
    next_cursor: str | None
    total: int | None


def list_rows(
    ctx: Context, statement: Select[Any], key: Column, fields: Fields, page: PageQuery, *, order: str = "asc"
) -> Listed:
    """Run a listing: filter, order, and cut one page after the cursor.

    Args:
        statement: Selects one entity.
        key: Its unique, time-ordered id column, which breaks ties.
        fields: What may be filtered and ordered by.
        order: The direction of `key` where the caller names no order.

    Raises:
        InvalidInput: the filter, order or cursor is not of the grammar.
    """
    statement = statement.where(parse_filter(page.filter, fields))
    total = ctx.session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    column, descending = _parse_order(page.order_by, fields) if page.order_by else (key, order == "desc")
    if page.cursor:
        statement = statement.where(_after(page.cursor, column, key, descending))
    by_key = key.desc() if descending else key.asc()
    ordering = [by_key] if column is key else [column.is_(None), column.desc() if descending else column.asc(), by_key]
    rows = ctx.session.execute(
        statement.add_columns(column.label("_order"), key.label("_key")).order_by(*ordering).limit(page.limit + 1)
    ).all()
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    cursor = _encode_cursor(rows[-1][-2], rows[-1][-1]) if more else None
    return Listed([row[0] for row in rows], cursor, total)


def parse_filter(text: str | None, fields: Fields) -> ColumnElement[bool]:
    """Return the condition that a filter writes; no filter is always true."""
    if text is None or not text.strip():
        return true()
    conditions = read_conditions(text)
    return and_(
        *(_compare(_column(name, fields, value), operator, value, text) for name, operator, value in conditions)
    )


def read_conditions(text: str) -> list[tuple[str, str, Any]]:
    """Return the conditions that a filter joins, each as field, operator and value.

    Raises:
        InvalidInput: it is not of the grammar.
    """
    tokens = _tokens(text)
    conditions, position = [], 0
    while True:
        if len(tokens) < position + 3 or tokens[position][0] != "field" or tokens[position + 1][0] != "op":
            raise _bad_filter(text, "a condition is `field operator value`")
        conditions.append((tokens[position][1], tokens[position + 1][1], _value(tokens[position + 2], text)))
        position += 3
        if position == len(tokens):
            return conditions
        if tokens[position] != ("field", "and"):
            raise _bad_filter(text, "conditions are joined by `and`")
        position += 1


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    text = text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _bad_filter(text, f"it cannot be read from character {position + 1} on")
        tokens.append((match.lastgroup, match.group(match.lastgroup)))
        position = match.end()
    return tokens


def _column(name: str, fields: Fields, value: Any = None) -> Column:
    head, _, key = name.partition(".")
    found = fields.get(head)
    takes_key = callable(found) and not hasattr(found, "is_")
    if found is None or takes_key != bool(key):
        names = ", ".join(f"{field}.<key>" if _keyed(fields[field]) else field for field in sorted(fields))
        raise InvalidInput(f"There is no field '{name}' to filter or order by.", hint=f"The fields are: {names}.")
    column = found(key.strip("`")) if takes_key else found
    if isinstance(column, Twofold):
        return column.number if isinstance(value, int | float) and not isinstance(value, bool) else column.text
    return column


def _keyed(column: Any) -> bool:
    return callable(column) and not hasattr(column, "is_")


def _value(token: tuple[str, str], text: str) -> Any:
    kind, written = token
    if kind == "text":
        return re.sub(r"\\(.)", r"\1", written[1:-1])
    if kind == "number":
        return float(written) if re.search(r"[.eE]", written) else int(written)
    if kind == "field" and written in _WORDS:
        return _WORDS[written]
    raise _bad_filter(text, f"'{written}' is no value: texts are written in quotes")


def _compare(column: Column, operator: str, value: Any, text: str) -> ColumnElement[bool]:
    expected = getattr(column.type, "python_type", object)
    if operator == "~" and expected is not str:
        raise _bad_filter(text, "`~` looks into texts, and the field is none")
    if expected is datetime and value is not None:
        value = _moment(value, text)
    elif operator != "~" and value is not None and expected in (int, float, bool, str):
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        fits = {int: numeric, float: numeric, bool: isinstance(value, bool), str: isinstance(value, str)}[expected]
        if not fits or (isinstance(value, int) and abs(value) >= 2**63):
            raise _bad_filter(text, f"'{value}' does not fit a field of type {expected.__name__}")
    return _OPERATORS[operator](column, value)


def _moment(value: Any, text: str) -> datetime:
    try:
        return datetime.fromisoformat(str(value)).astimezone()
    except (ValueError, OverflowError):
        raise _bad_filter(text, f"'{value}' is no time; write it as 2026-01-31T12:00:00Z") from None


def _parse_order(text: str, fields: Fields) -> tuple[Column, bool]:
    match = re.fullmatch(r"\s*([A-Za-z_][\w-]*(?:\.(?:`[^`]+`|[\w.-]+))?)(?:\s+(asc|desc))?\s*", text, re.IGNORECASE)
    if match is None:
        raise InvalidInput(f"'{text}' is not an order.", hint="Write a field, then `asc` or `desc`.")
    return _column(match.group(1), fields), (match.group(2) or "asc").lower() == "desc"


def _after(cursor: str, column: Column, key: Column, descending: bool) -> ColumnElement[bool]:
    value, last = _decode_cursor(cursor)
    last = _as_column(key, last)
    beyond_key: ColumnElement[bool] = key < last if descending else key > last
    if column is key:
        return beyond_key
    if value is None:
        return and_(column.is_(None), beyond_key)
    value = _as_column(column, value)
    beyond = column < value if descending else column > value
    return or_(beyond, and_(column == value, beyond_key), column.is_(None))


def _encode_cursor(value: Any, key: Any) -> str:
    if isinstance(value, datetime):
        value = value.isoformat()
    return base64.urlsafe_b64encode(json.dumps([value, key]).encode()).decode()


def _decode_cursor(cursor: str) -> tuple[Any, Any]:
    try:
        value, key = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise _bad_cursor() from None
    return value, key


def _as_column(column: Column, value: Any) -> Any:
    """Return a cursor's value as the column holds it; one of another type is no cursor of this listing."""
    expected = getattr(column.type, "python_type", object)
    if expected is datetime:
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            raise _bad_cursor() from None
    allowed = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}.get(expected, (str, int, float, bool))
    fits = isinstance(value, allowed) and (expected is bool or not isinstance(value, bool))
    too_large = isinstance(value, int) and abs(value) >= 2**63
    no_text = isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value)
    if not fits or too_large or no_text:
        raise _bad_cursor()
    return value


def _bad_cursor() -> InvalidInput:
    return InvalidInput("The cursor is not one of ours.", hint="Send `next_cursor` of the page before, unchanged.")


def _bad_filter(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"The filter '{text[:200]}' cannot be read: {why}.",
        hint='Write it such as `status = "running" and created_at > "2026-01-01"`.',
    )
