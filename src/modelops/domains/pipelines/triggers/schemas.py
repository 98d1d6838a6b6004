"""Payloads of triggers."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from modelops.contracts.events import Patterns
from modelops.contracts.schemas import Key, Name, Schema, Text, UtcTime
from modelops.domains.pipelines.beginnings.schemas import Overlap, Target

Path = Annotated[
    str,
    Field(
        min_length=1,
        max_length=300,
        pattern=r"^(id|type|subject|actor|time|data(\.[^\x00.]+)*)$",
        description="A field of the event or message: `subject`, `data.version`, `data.commits.0.id`.",
    ),
]
Mapping = Annotated[dict[Key, Path], Field(max_length=200, description="Parameter -> the field that it is given.")]
Condition = Annotated[
    str | None,
    Field(
        max_length=4_000,
        pattern=r"^[^\x00]*$",
        description='Such as `data.to_stage = "Production" and data.model ~ "fraud"`.',
    ),
]
Debounce = Annotated[
    float, Field(ge=0, le=86_400, description="It begins once nothing has happened for so many seconds.")
]


class RateLimit(Schema):
    """So many beginnings in so many seconds, at most; what is more is skipped."""

    most: Annotated[int, Field(ge=1, le=10_000)]
    per_s: Annotated[float, Field(ge=1, le=30 * 86_400)]


class TriggerCreate(Schema):
    """Begin something because something happened: `events` of the project, or a message to a `hook` of its own."""

    name: Name
    target: Target
    events: Patterns | None = None
    hook: bool = False
    condition: Condition = None
    mapping: Mapping = {}
    description: Text = ""
    paused: bool = False
    debounce_s: Debounce = 0.0
    limit: RateLimit | None = None
    overlap: Overlap = Overlap.ALLOW

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.events is None) == (not self.hook):
            raise ValueError("a trigger has either `events` or a `hook`")
        return self


class TriggerUpdate(Schema):
    """What may change on a trigger; a field left out stays. One that was paused hears what happens from then on."""

    target: Target | None = None
    events: Patterns | None = None
    condition: Condition = None
    mapping: Mapping | None = None
    description: Text | None = None
    paused: bool | None = None
    debounce_s: Debounce | None = None
    limit: RateLimit | None = None
    overlap: Overlap | None = None


class Trigger(Schema):
    """A trigger. `refused_at` and `refused_reason` are of the last message to its hook that was turned away."""

    id: str
    project_id: str
    name: str
    target: Target
    events: list[str] | None
    hook: bool
    condition: str | None
    mapping: dict[str, str]
    description: str
    paused: bool
    debounce_s: float
    limit: RateLimit | None
    overlap: Overlap
    refused_at: UtcTime | None
    refused_reason: str | None
    created_at: UtcTime
    created_by: str
    revision: int


class TriggerCreated(Trigger):
    """A trigger; of one with a hook, the path below the platform's address and the secret, which are shown this once."""

    hook_path: str | None
    secret: str | None
