"""Ranges of parameters as Optuna writes them, and as the platform does."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from modelops.contracts.errors import InvalidInput
from modelops.domains.tuning.schemas import Choice, Dimension, FloatRange, IntRange


def distribution_of(dimension: Dimension) -> BaseDistribution:
    """Return a dimension as a distribution of Optuna's."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(list(dimension.choices))
    if isinstance(dimension, IntRange):
        high = dimension.low + (dimension.high - dimension.low) // dimension.step * dimension.step
        return IntDistribution(dimension.low, high, log=dimension.log, step=dimension.step)
    last = dimension.high if dimension.step is None else _last(dimension.low, dimension.high, dimension.step)
    return FloatDistribution(dimension.low, last, log=dimension.log, step=dimension.step)


def dimension_of(distribution: BaseDistribution) -> Dimension:
    """Reverse `distribution_of`.

    Raises:
        InvalidInput: it is of a kind that the platform does not know.
    """
    if isinstance(distribution, FloatDistribution):
        d = distribution
        return FloatRange(type="float", low=d.low, high=d.high, step=d.step, log=d.log)
    if isinstance(distribution, IntDistribution):
        return IntRange(
            type="int", low=distribution.low, high=distribution.high, step=distribution.step, log=distribution.log
        )
    if isinstance(distribution, CategoricalDistribution):
        return Choice(type="categorical", choices=list(distribution.choices))
    raise InvalidInput(f"A {type(distribution).__name__} is no range that the platform knows.")


def read_space(space: Mapping[str, Any]) -> dict[str, Any]:
    """Return a space as the platform takes it.

    A range is a tuple: `(low, high)`, `(low, high, "log")` or `(low, high, step)`, of whole numbers where all are whole; a
    list of choices; a distribution of Optuna's; or a dimension as the platform writes it.

    Raises:
        InvalidInput: one is none of these.
    """
    return {name: _read(name, one) for name, one in space.items()}


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without numpy's types."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}


def _read(name: str, given: Any) -> Any:
    if isinstance(given, FloatRange | IntRange | Choice | dict):
        return given
    if isinstance(given, BaseDistribution):
        return dimension_of(given)
    if isinstance(given, tuple) and len(given) in (2, 3) and all(_is_number(one) for one in given[:2]):
        low, high, *rest = given
        log = rest == ["log"]
        if not rest or log or _is_number(rest[0]):
            whole = all(isinstance(one, int) for one in (low, high, *([] if log else rest)))
            step = {"step": rest[0]} if rest and not log else {}
            return {"type": "int" if whole else "float", "low": low, "high": high, "log": log, **step}
    if isinstance(given, Sequence) and not isinstance(given, str | tuple):
        return {"type": "categorical", "choices": list(given)}
    raise InvalidInput(
        f"{given!r} is no range for '{name}'.",
        hint='Write (low, high), (low, high, "log"), (low, high, step) or a list of choices.',
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _last(low: float, high: float, step: float) -> float:
    """Return the last value of a range in steps, in decimals as Optuna counts them."""
    begin, width = Decimal(str(low)), Decimal(str(step))
    return float((Decimal(str(high)) - begin) // width * width + begin)
