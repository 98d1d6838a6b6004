"""A span, as it is kept: the values of its attributes as JSON has them, so that a search can look into them.

JSON has no NaN and no infinities; such a number is kept as `{"$float": "NaN"}`.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

INPUTS = "mlflow.spanInputs"
OUTPUTS = "mlflow.spanOutputs"
KIND = "mlflow.spanType"
USAGE = "mlflow.chat.tokenUsage"
COST = "mlflow.llm.cost"
REQUEST_ID = "mlflow.traceRequestId"
_FLOAT = "$float"


class Happening(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event within a span."""

    name: str
    time_ns: int
    attributes: dict[str, Any] = {}


class Link(msgspec.Struct, frozen=True, omit_defaults=True):
    """A link to another span; ids in hex."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any] = {}


class Span(msgspec.Struct, frozen=True, omit_defaults=True):
    """One span.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_id: The parent's, or None for a root.
        started_ns: Nanoseconds since 1970.
        ended_ns: The same; None while it runs.
        status: `UNSET`, `OK` or `ERROR`.
    """

    trace_id: str
    span_id: str
    name: str
    started_ns: int
    ended_ns: int | None = None
    parent_id: str | None = None
    kind: int = 0
    status: str = "UNSET"
    message: str = ""
    attributes: dict[str, Any] = {}
    events: tuple[Happening, ...] = ()
    links: tuple[Link, ...] = ()
    resource: dict[str, Any] = {}

    def text(self, key: str) -> str:
        """Return an attribute's text; empty if it is none."""
        value = self.attributes.get(key)
        return value if isinstance(value, str) else ""


class BadSpan(ValueError):
    """A span breaks OpenTelemetry's rules."""


class Batch:
    """What an export held: spans that can be kept, and what is wrong with each of the others."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.refused: list[str] = []

    def keep(self, read: Callable[[], Span]) -> None:
        """Read one span, and keep it if it has what OpenTelemetry requires."""
        try:
            self.spans.append(check(read()))
        except BadSpan as wrong:
            self.refused.append(str(wrong))


def keep_number(value: float) -> float | dict[str, str]:
    """Return a number as JSON can hold it."""
    if math.isfinite(value):
        return value
    return {_FLOAT: "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}


def kept_number(value: Any) -> str | None:
    """Return the name of a number that JSON lacks, or None if the value is none."""
    return value[_FLOAT] if isinstance(value, dict) and value.keys() == {_FLOAT} else None


def plain(value: Any) -> Any:
    """Return a kept value with its NaNs and infinities as Python has them."""
    if (name := kept_number(value)) is not None:
        return float(name)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def clean(text: str) -> str:
    """Return a text without NUL, which PostgreSQL cannot keep."""
    return text.replace("\x00", "\ufffd")


def check(span: Span) -> Span:
    """Return the span if it has what OpenTelemetry requires.

    Raises:
        BadSpan: an id has the wrong length or is all zeros, or a time does not fit.
    """
    for name, value, digits in (("trace id", span.trace_id, 32), ("span id", span.span_id, 16)):
        if len(value) != digits or not value.strip("0"):
            raise BadSpan(f"The {name} '{value}' is not {digits // 2} bytes with a bit set.")
    if not 0 <= span.started_ns < 2**63 or not 0 <= (span.ended_ns or 0) < 2**63:
        raise BadSpan(f"A time of the span {span.span_id} lies outside of the years 1970 to 2262.")
    if not all(0 <= one.time_ns < 2**63 for one in span.events):
        raise BadSpan(f"A time of an event of the span {span.span_id} lies outside of the years 1970 to 2262.")
    return span


def walk(totals: dict[str, tuple[str | None, dict[str, float] | None]]) -> Iterator[dict[str, float]]:
    """Yield the numbers of those spans none of whose ancestors has numbers: a parent's already hold its children's.

    Args:
        totals: Span id -> (parent id, its numbers or None). A parent that is not there ends the way up.
    """
    above: dict[str, bool] = {}
    for start in totals:
        way: list[str] = []
        at: str | None = start
        while at is not None and at in totals and at not in above and at not in way[-1:]:
            way.append(at)
            above[at] = False  # ends a circle of parents
            at = totals[at][0]
        covered = at is not None and at in totals and (above[at] or totals[at][1] is not None)
        for span in reversed(way):
            above[span] = covered
            covered = covered or totals[span][1] is not None
    for span, (_, numbers) in totals.items():
        if numbers is not None and not above[span]:
            yield numbers


def add_up(totals: dict[str, tuple[str | None, dict[str, float] | None]]) -> dict[str, float]:
    """Return the sum of a trace's numbers by name, each counted once; empty if no span has any."""
    found: dict[str, float] = {}
    for numbers in walk(totals):
        for name, value in numbers.items():
            found[name] = found.get(name, 0) + value
    return found
