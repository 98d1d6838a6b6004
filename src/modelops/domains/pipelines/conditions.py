"""Whether a condition holds, of JSON values. Numbers are compared as numbers, `true` is not `1`, and texts have an order."""

from collections.abc import Callable
from typing import Any

from modelops.contracts.schemas import Json
from modelops.domains.pipelines.document import AllOf, AnyOf, Binding, Comparison, Condition, Not

Look = Callable[[Binding], Json]
"""Tells what a binding stands for."""


class NotComparable(ValueError):
    """Two values have no order, or the right one holds nothing."""


def holds(condition: Condition, look: Look) -> bool:
    """Tell whether a condition is true.

    Raises:
        NotComparable: `<` and its like of anything but two numbers or two texts; `in` of what is no list, text or object.
    """
    if isinstance(condition, Comparison):
        return compare(look(condition.left), condition.operator, look(condition.right))
    if isinstance(condition, AllOf):
        return all(holds(part, look) for part in condition.all)
    if isinstance(condition, AnyOf):
        return any(holds(part, look) for part in condition.any)
    if isinstance(condition, Not):
        return not holds(condition.negated, look)
    return bool(look(condition.true))


def compare(left: Json, operator: str, right: Json) -> bool:
    """Tell whether `left operator right`. Raises as `holds`."""
    if operator in ("==", "!="):
        return same(left, right) == (operator == "==")
    if operator in ("in", "not in"):
        return _contains(right, left) == (operator == "in")
    if not (_number(left) and _number(right)) and not (isinstance(left, str) and isinstance(right, str)):
        raise NotComparable(f"{_named(left)} and {_named(right)} have no order.")
    one: Any = left
    two: Any = right
    if operator == "<":
        return bool(one < two)
    if operator == "<=":
        return bool(one <= two)
    return bool(one > two) if operator == ">" else bool(one >= two)


def same(left: Json, right: Json) -> bool:
    """Tell whether two JSON values are equal."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return left == right


def _contains(whole: Json, part: Json) -> bool:
    if isinstance(whole, list):
        return any(same(item, part) for item in whole)
    if isinstance(whole, str | dict) and isinstance(part, str):
        return part in whole
    raise NotComparable(f"{_named(whole)} cannot be searched for {_named(part)}.")


def _number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(value: Json) -> str:
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    return {str: "a text", list: "a list", dict: "an object"}[type(value)]
