"""Stand-ins for values that are not there yet: while a pipeline is written down, its steps give these."""

from collections.abc import Iterable
from typing import Any, NoReturn

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.document import (
    AllOf,
    AnyOf,
    Binding,
    Comparison,
    Condition,
    FromItem,
    FromValue,
    Not,
    Truth,
)


class Test:
    """A condition that is made out in the run. Join several with `&`, `|` and `~`."""

    __test__ = False

    def __init__(self, condition: Condition) -> None:
        self.condition = condition

    def __and__(self, other: Any) -> "Test":
        return Test(AllOf(all=[self.condition, as_condition(other)]))

    def __or__(self, other: Any) -> "Test":
        return Test(AnyOf(any=[self.condition, as_condition(other)]))

    def __invert__(self) -> "Test":
        return Test(Not(negated=self.condition))

    def __bool__(self) -> NoReturn:
        raise _not_yet(
            "A condition is made out in the run, not while the pipeline is written down.",
            "Write `with when(condition):` for `if`, and `&`, `|`, `~` for `and`, `or`, `not`; a comparison has one "
            "operator, and stands in brackets there.",
        )


class Value:
    """A value of the run: a parameter, an output, or an item. Comparisons of it are conditions.

    Args:
        binding: Where it comes from.
        said: What to call it in errors.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, binding: Binding, said: str) -> None:
        self._binding = binding
        self._said = said

    def __eq__(self, other: object) -> Test:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: object) -> Test:  # type: ignore[override]
        return self._compare("!=", other)

    def __lt__(self, other: Any) -> Test:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Test:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Test:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Test:
        return self._compare(">=", other)

    def is_in(self, choices: Any) -> Test:
        """Return the condition that it is one of a list, part of a text, or a member's name of an object."""
        return self._compare("in", choices)

    def contains(self, part: Any) -> Test:
        """Return the condition that it, a list, a text or an object, has a part."""
        return Test(Comparison(left=as_binding(part), operator="in", right=as_binding(self)))

    def __and__(self, other: Any) -> Test:
        return Test(as_condition(self)).__and__(other)

    def __or__(self, other: Any) -> Test:
        return Test(as_condition(self)).__or__(other)

    def __invert__(self) -> Test:
        return ~Test(as_condition(self))

    def __bool__(self) -> NoReturn:
        raise _not_yet(
            f"{self._said} is known in the run, not while the pipeline is written down.",
            "Write `with when(value):` for `if`, and `&`, `|`, `~` for `and`, `or`, `not`.",
        )

    def __iter__(self) -> NoReturn:
        raise _not_yet(
            f"{self._said} is known in the run, not while the pipeline is written down.",
            "Write `step.map(values)` for a loop over it.",
        )

    def __len__(self) -> NoReturn:
        raise _not_yet(f"How long {self._said} is, is known in the run.", "Let a step return its length.")

    def __contains__(self, part: Any) -> NoReturn:
        raise _not_yet(f"What is in {self._said} is known in the run.", "Write `value.contains(part)`.")

    def __getitem__(self, part: Any) -> NoReturn:
        raise _not_yet(
            f"{self._said} is known in the run; no part of it can be taken here.",
            "Take it apart in a step, or give the step an output for the part.",
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __repr__(self) -> str:
        return f"<{self._said}>"

    def _compare(self, operator: Any, other: object) -> Test:
        return Test(Comparison(left=as_binding(self), operator=operator, right=as_binding(other)))


item = Value(FromItem(item=True), "the item")
"""Stands for the member's own item among the arguments of `step.map`."""


def as_binding(value: Any) -> Binding:
    """Return where a value comes from: of a stand-in its own place, of anything else itself.

    Raises:
        InvalidInput: it is no JSON value, or holds a stand-in.
    """
    own = getattr(value, "_as_value", None)
    if own is not None and not isinstance(value, type | Value):
        value = own()
    if isinstance(value, Value):
        return value._binding
    return FromValue(value=_json(value))


def as_condition(value: Any) -> Condition:
    """Return the condition that a test, a stand-in or a constant is."""
    return value.condition if isinstance(value, Test) else Truth(true=as_binding(value))


def _json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_json(_constant(part)) for part in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _json(_constant(part)) for key, part in value.items()}
    if hasattr(value, "__fspath__"):
        return str(value)
    raise InvalidInput(
        f"A value of type '{type(value).__qualname__}' cannot stand in a pipeline's document.",
        hint="Pass JSON values, and let a step load or make everything else.",
    )


def _constant(part: Any) -> Any:
    if isinstance(part, Value | Test) or hasattr(part, "_as_value"):
        raise InvalidInput(
            "A list or an object of the document cannot hold what is known in the run only.",
            hint="Pass each as an argument of its own (a step may take `**parts`), or fan out with `step.map`.",
        )
    return part


def all_of(tests: Iterable[Condition]) -> Condition | None:
    """Return the condition that all hold; None of none."""
    found = list(tests)
    if len(found) <= 1:
        return found[0] if found else None
    return AllOf(all=found)


def _not_yet(detail: str, hint: str) -> InvalidInput:
    return InvalidInput(detail, hint=hint)
