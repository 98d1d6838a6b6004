"""Comparisons of columns with values, the same on both databases: LIKE minds case, and ILIKE does not."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, String, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

Column = Any

_PLAIN: dict[str, Callable[[Column, Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "IN": lambda column, value: column.in_(value),
    "NOT IN": lambda column, value: column.not_in(value),
    "ILIKE": lambda column, value: column.ilike(value),
}


def compare(
    session: Session, column: Column, operator: str, value: str | float | datetime | Sequence[str]
) -> ColumnElement[bool]:
    """Return the condition that a comparison writes.

    Args:
        operator: `=`, `!=`, `<`, `<=`, `>`, `>=`, `LIKE`, `ILIKE`, `IN` or `NOT IN`.
        value: A list for IN and NOT IN; a pattern with `%` and `_` for LIKE and ILIKE.
    """
    if operator != "LIKE":
        return _PLAIN[operator](column, value)
    if session.get_bind().dialect.name == "sqlite":  # whose LIKE does not mind case
        return column.op("GLOB")(as_glob(str(value)))  # type: ignore[no-any-return]
    return column.like(value)  # type: ignore[no-any-return]


def as_glob(pattern: str) -> str:
    """Return a LIKE pattern as a GLOB pattern that fits the same texts."""
    return re.sub(r"[*?\[]", r"[\g<0>]", pattern).replace("%", "*").replace("_", "?")


def json_member(column: Column, key: str) -> Column:
    """Return a member of a JSON object as text, whatever characters its key has; null where there is none."""
    return _Member(column, literal(key, String()))


class _Member(FunctionElement[str]):
    """A member of a JSON object as text, whatever characters its key has."""

    type = String()
    inherit_cache = True
    name = "json_member"


@compiles(_Member, "sqlite")
def _in_sqlite(element: _Member, compiler: SQLCompiler, **options: Any) -> str:
    # A path, as `json_extract` takes it, cannot say every key; this compares the key itself.
    column, key = (compiler.process(part, **options) for part in element.clauses)
    return f"(SELECT json_each.value FROM json_each({column}) WHERE json_each.key = {key})"  # noqa: S608 - both compiled


@compiles(_Member, "postgresql")
def _in_postgres(element: _Member, compiler: SQLCompiler, **options: Any) -> str:
    column, key = (compiler.process(part, **options) for part in element.clauses)
    return f"({column} ->> {key})"
