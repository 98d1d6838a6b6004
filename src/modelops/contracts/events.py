"""Events: facts that happened, as CloudEvents 1.0 (https://cloudevents.io)."""

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
