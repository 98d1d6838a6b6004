"""Events: facts that happened, as CloudEvents 1.0 (https://cloudevents.io)."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Json, Schema, UtcTime


class Event(Schema):
    """A CloudEvent in structured JSON form. `subject` is the id of what it is about; events of one subject are delivered
    in order. `sequence` is its place in the project's stream, `actor` the id of who caused it: a person, a service account,
    a job, a run, or `system`."""

    specversion: str
    id: str
    source: str
    type: Annotated[str, Field(description="`modelops.<domain>.<fact in the past tense>`")]
    subject: str
    time: UtcTime
    project: str | None
    sequence: int | None
    actor: str | None
    data: dict[str, Json]


Pattern = Annotated[
    str,
    Field(
        min_length=1,
        max_length=120,
        pattern=r"^[a-z0-9_.*]+$",
        description="An event type; `*` stands for any characters: `modelops.models.*`.",
    ),
]
Patterns = Annotated[list[Pattern], Field(min_length=1, max_length=50)]


def matches(patterns: Iterable[str], event_type: str) -> bool:
    """Tell whether an event type is one of those asked for; `*` in a pattern stands for any characters, or none."""
    return any(_matches(one, event_type) for one in patterns)


def _matches(pattern: str, text: str) -> bool:
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    *inner, last = others
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    place, end = len(first), len(text) - len(last)
    for part in inner:  # the leftmost place is as good as any: no pattern makes this slow
        place = text.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return True
