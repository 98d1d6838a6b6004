"""Payloads of schedules."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from modelops.contracts.schemas import Name, Schema, Text, UtcTime
from modelops.domains.pipelines.beginnings.schemas import Overlap, Target
from modelops.domains.pipelines.document import FieldName
from modelops.domains.pipelines.schedules.cron import LAST_YEAR


def _within_reach(moment: datetime) -> datetime:
    if not 1970 <= moment.year <= LAST_YEAR:
        raise ValueError(f"the time does not lie within the years 1970 to {LAST_YEAR}")
    return moment


Instant = Annotated[UtcTime, AfterValidator(_within_reach)]
WhenText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=250,
        pattern=r"^[^\x00]+$",
        description="`30 2 * * 1-5`, `@daily`, `every 15m`, or `at 2026-01-31T12:00`.",
    ),
]
Zone = Annotated[str, Field(min_length=1, max_length=100, description="An IANA time zone, such as `Europe/Berlin`.")]
Catching = Annotated[int, Field(ge=1, le=1_000, description="How many missed moments `all` makes up for, at most.")]
Grace = Annotated[float, Field(ge=0, le=86_400, description="With `none`: seconds after which a moment is missed.")]
Jitter = Annotated[float, Field(ge=0, le=86_400, description="It begins within so many seconds after its moment.")]
Given = Annotated[
    FieldName | None, Field(description="This parameter is given the moment, in RFC 3339 with the zone's offset.")
]


class CatchUp(StrEnum):
    """What becomes of moments that nobody was there for: `none`, the `latest` or `all` of them begin late."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class ScheduleCreate(Schema):
    """Begin something by the clock. `starts_at` is also what an interval is counted from."""

    name: Name
    when: WhenText
    target: Target
    zone: Zone = "UTC"
    description: Text = ""
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    paused: bool = False
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_most: Catching = 100
    grace_s: Grace = 60.0
    overlap: Overlap = Overlap.SKIP
    jitter_s: Jitter = 0.0
    moment_parameter: Given = None


class ScheduleUpdate(Schema):
    """What may change on a schedule; a field left out stays. What is due before the change is not made up for."""

    when: WhenText | None = None
    target: Target | None = None
    zone: Zone | None = None
    description: Text | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    paused: bool | None = None
    catch_up: CatchUp | None = None
    catch_up_most: Catching | None = None
    grace_s: Grace | None = None
    overlap: Overlap | None = None
    jitter_s: Jitter | None = None
    moment_parameter: Given = None


class ScheduleState(StrEnum):
    """`ended`: no moment is to come."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"


class Schedule(Schema):
    """A schedule. `next_at` is the next moment that is due."""

    id: str
    project_id: str
    name: str
    when: str
    zone: str
    target: Target
    description: str
    starts_at: UtcTime | None
    ends_at: UtcTime | None
    catch_up: CatchUp
    catch_up_most: int
    grace_s: float
    overlap: Overlap
    jitter_s: float
    moment_parameter: str | None
    state: ScheduleState
    next_at: UtcTime | None
    created_at: UtcTime
    created_by: str
    revision: int


class DueTime(Schema):
    """A moment that will be due, in UTC and as the wall clock of the zone shows it."""

    at: UtcTime
    local: str


class DueTimes(Schema):
    """The next moments that are due. Fewer than asked for: no more are to come."""

    when: str
    zone: str
    times: list[DueTime]
