"""Scales of plots: where a value lies between 0 and 1, and which values are written beside the axis."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from modelops.domains.experiments.analysis_rules import as_number

_LOG_FROM = 100.0
"""Positive values whose greatest is this many times the least are drawn by their logarithm."""


class Scale(Protocol):
    """Where values lie."""

    def place(self, value: Any) -> float | None:
        """Return where a value lies, 0 to 1; None if it has no place."""
        ...

    def ticks(self) -> list[tuple[float, str]]:
        """Return where something is written, and what."""
        ...


class Numbers:
    """A scale of numbers, by their logarithm where they span orders of magnitude."""

    def __init__(self, values: Sequence[float], *, zoom: bool = True) -> None:
        low, high = min(values), max(values)
        self.log = zoom and low > 0 and high / low >= _LOG_FROM
        greatest = max(abs(low), abs(high))
        # Everything is counted in a power of ten near the values, so that no width overflows or vanishes.
        self.unit = 1.0 if self.log or not greatest else 10.0 ** max(-300, math.floor(math.log10(greatest)))
        low, high = (math.log10(low), math.log10(high)) if self.log else (low / self.unit, high / self.unit)
        margin = 0.1 if high - low < 1e-12 else 0.0  # a constant lies in the middle
        self.low, self.high = low - margin, high + margin

    def place(self, value: Any) -> float | None:
        """Return where a number lies."""
        number = as_number(value)
        if number is None or (self.log and number <= 0):
            return None
        return ((math.log10(number) if self.log else number / self.unit) - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round numbers within the scale."""
        if self.log:
            whole = range(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9) + 1)
            every = max(1, math.ceil(len(whole) / 5))
            found = [((n - self.low) / (self.high - self.low), write_number(10.0**n)) for n in list(whole)[::every]]
            if len(found) > 1:
                return found
            return [(0.0, write_number(10.0**self.low)), (1.0, write_number(10.0**self.high))]
        step = _round_step((self.high - self.low) / 5)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [
            ((n * step - self.low) / (self.high - self.low), write_number(n * step * self.unit))
            for n in range(first, last + 1)
        ]


class Categories:
    """A scale of texts, side by side in their order."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = sorted(set(texts))

    def place(self, value: Any) -> float | None:
        """Return where a text lies."""
        text = write_value(value)
        return (self.texts.index(text) + 0.5) / len(self.texts) if text in self.texts else None

    def ticks(self) -> list[tuple[float, str]]:
        """Return each text."""
        return [((n + 0.5) / len(self.texts), text) for n, text in enumerate(self.texts)]


def scale_of(values: Sequence[Any]) -> Scale | None:
    """Return a scale for values: of numbers where all are, else of categories; None where there are none, or too many."""
    known = [value for value in values if value is not None]
    numbers = [number for value in known if (number := as_number(value)) is not None]
    if known and len(numbers) == len(known):
        return Numbers(numbers)
    texts = {write_value(value) for value in known}
    return Categories(sorted(texts)) if 0 < len(texts) <= 12 else None


def write_number(value: float) -> str:
    """Return a number as people read it."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", "−")


def write_value(value: Any) -> str:
    """Return a parameter, metric or tag as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return write_number(value)
    return str(value)


def _round_step(rough: float) -> float:
    """Return the least of 1, 2, 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
