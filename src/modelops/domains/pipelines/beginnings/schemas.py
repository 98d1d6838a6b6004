"""Payloads of what begins by itself."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Json, Name, Schema, Tags, UtcTime
from modelops.domains.pipelines.document import FieldName
from modelops.domains.training.schemas import JobCreate


class PipelineTarget(Schema):
    """A run of a pipeline: of a version, or of the newest when it begins."""

    pipeline: Name
    version: Annotated[int | None, Field(ge=1)] = None
    parameters: Annotated[dict[FieldName, Json], Field(max_length=1_000)] = {}
    tags: Tags = {}


class JobTarget(Schema):
    """A training job."""

    job: JobCreate


Target = PipelineTarget | JobTarget
"""What begins."""


class Overlap(StrEnum):
    """What becomes of a moment or event while what began before it is under way.

    `skip`: nothing. `queue`: it waits for its turn, one at most. `cancel_running`: what runs is cancelled, and the newest
    begins when that has ended. `allow`: it begins.
    """

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_RUNNING = "cancel_running"
    ALLOW = "allow"


class BeginningState(StrEnum):
    """`waiting` for its time or turn -> `begun`, `skipped` or `failed`; `missed` says that nobody was there."""

    WAITING = "waiting"
    BEGUN = "begun"
    SKIPPED = "skipped"
    FAILED = "failed"
    MISSED = "missed"


class Beginning(Schema):
    """What a due moment, or an event, led to. `cause` is `schedule:<name>` or `trigger:<name>`, `moment` when it was due or
    happened. `missed` counts the moments that this one stands for; `depth` how many beginnings led to this one."""

    id: str
    project_id: str
    cause: str
    key: str
    moment: UtcTime
    begins_at: UtcTime
    state: BeginningState
    reason: str | None
    run_id: str | None
    job_id: str | None
    missed: int
    depth: int
    target: Target
    created_at: UtcTime
    settled_at: UtcTime | None
