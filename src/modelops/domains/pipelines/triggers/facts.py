"""What a trigger knows of what happened: whether its condition holds, and what its parameters are given."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.contracts.events import Event
from modelops.contracts.schemas import Json, jsonable
from modelops.domains.pipelines.conditions import NotComparable, compare
from modelops.kernel.listing import read_conditions

Facts = Mapping[str, Json]
"""`id`, `type`, `subject`, `actor`, `time` and `data`, as far as they are known."""

_MISSING = object()
_OPERATORS = {"=": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_DEEPEST = 100


def facts_of(event: Event) -> Facts:
    """Return what is known of an event."""
    whole = jsonable(event)
    return {name: whole[name] for name in ("id", "type", "subject", "actor", "time", "data")}


def check_condition(text: str | None) -> None:
    """Refuse a condition that cannot be read.

    Raises:
        InvalidInput: it is not of the grammar, or names no field of an event.
    """
    for field, _, _ in read_conditions(text) if text and text.strip() else ():
        head, _, key = field.partition(".")
        if head not in ("id", "type", "subject", "actor", "time", "data") or (head == "data") != bool(key):
            raise InvalidInput(
                f"An event has no field '{field[:100]}'.", hint="Such as `type`, `subject` or `data.version`."
            )


def fits(text: str | None, facts: Facts) -> bool:
    """Tell whether a condition holds. A field that is missing is null; what has no order is neither less nor more."""
    conditions = read_conditions(text) if text and text.strip() else []
    return all(_holds(reach(facts, field), operator, value) for field, operator, value in conditions)


def given_by(mapping: Mapping[str, str], facts: Facts) -> dict[str, Json]:
    """Return the parameters that a mapping gives; a field that is missing gives none."""
    found = {name: _look(facts, path) for name, path in mapping.items()}
    return {name: value for name, value in found.items() if value is not _MISSING}


def reach(facts: Facts, path: str) -> Json:
    """Return a field, or null where it is missing."""
    found: Json = _look(facts, path)
    return None if found is _MISSING else found


def check_content(value: Json, depth: int = 0) -> None:
    """Refuse a message that could not be kept: a number that is none, half a character, a NUL, or too deep a nesting.

    Raises:
        InvalidInput: it is such.
    """
    if depth > _DEEPEST:
        raise InvalidInput(f"The message is nested deeper than {_DEEPEST}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput("The message holds a number that is none.")
    if isinstance(value, str) and any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in value):
        raise InvalidInput("The message holds a text with a NUL, or half a character.")
    if isinstance(value, dict):
        for key, part in value.items():
            check_content(key, depth + 1)
            check_content(part, depth + 1)
    if isinstance(value, list):
        for part in value:
            check_content(part, depth + 1)


def _holds(left: Json, operator: str, right: Json) -> bool:
    if operator == "~":
        return isinstance(left, str) and str(right).casefold() in left.casefold()
    try:
        return compare(left, _OPERATORS[operator], right)
    except NotComparable:
        return False


def _look(facts: Facts, path: str) -> Any:
    value: Any = facts
    for part in path.replace("`", "").split("."):
        if isinstance(value, Mapping):
            value = value.get(part, _MISSING)
        elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdecimal() and len(part) < 7:
            value = value[int(part)] if int(part) < len(value) else _MISSING
        else:
            return _MISSING
    return value
