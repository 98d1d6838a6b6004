"""Payloads of experiments and runs."""

import math
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from modelops.contracts.schemas import Digest, Json, Key, Name, Schema, Tags, Text, UtcTime


def check_storable(value: Any, depth: int = 100) -> Any:
    """Return a JSON value as it is.

    Raises:
        ValueError: JSON lacks it, it is nested deeper than `depth`, or one of the databases cannot hold it.
    """
    if depth == 0:
        raise ValueError("lists and objects are nested too deep")
    if isinstance(value, str) and ("\x00" in value or any("\ud800" <= sign <= "\udfff" for sign in value)):
        raise ValueError("a text with a NUL character or half of a surrogate pair cannot be stored")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("JSON has no NaN and no infinities; write them as text")
    for item in (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_storable(item, depth - 1)
    return value


Parameter = Annotated[Json, AfterValidator(lambda value: check_storable(value))]
"""The value of a parameter: any JSON."""

MetricKey = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""The key of a metric. It stands in a path, so it has no control characters."""


class ExperimentCreate(Schema):
    """A new experiment."""

    name: Name
    description: Text = ""
    tags: Tags = {}


class ExperimentUpdate(Schema):
    """What may change on an experiment; a field left out stays."""

    description: Text | None = None
    tags: Tags | None = None


class Experiment(Schema):
    """A named collection of runs. `artifact_location` is set where they keep their files elsewhere than on the platform."""

    id: str
    project_id: str
    name: str
    description: str
    tags: dict[str, str]
    artifact_location: str | None
    created_at: UtcTime
    created_by: str
    changed_at: UtcTime
    deleted_at: UtcTime | None
    revision: int


class RunStatus(StrEnum):
    """`running` until it ends as one of the others; `scheduled` before, if its maker says so."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


class RunCreate(Schema):
    """A new run, begun now."""

    experiment: Annotated[str, Field(max_length=250, description="The experiment, by name or id.")]
    name: Name | None = None
    parameters: Annotated[dict[Key, Parameter], Field(max_length=2_000)] = {}
    tags: Tags = {}


class RunUpdate(Schema):
    """What may change on a run; a field left out stays. Setting a final status ends it, and `reason` says why."""

    name: Name | None = None
    status: RunStatus | None = None
    reason: Text | None = None


class MetricPoint(Schema):
    """One value of a metric. `NaN`, `Infinity` and `-Infinity` are written as these strings. A point without a timestamp
    gets the time at which it arrives, so only one with a timestamp is known again when it is sent twice."""

    key: MetricKey
    value: float
    step: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    timestamp: UtcTime | None = None


class LogBatch(Schema):
    """Things to record on a run at once: all of it is kept, or nothing. A point sent twice is kept once."""

    metrics: Annotated[list[MetricPoint], Field(max_length=10_000)] = []
    parameters: Annotated[dict[Key, Parameter], Field(max_length=2_000)] = {}
    tags: Tags = {}


class Logged(Schema):
    """How much of a batch was recorded."""

    metrics: int
    parameters: int
    tags: int


class Run(Schema):
    """A run. `metrics` holds the value at the highest step of each; `reason` says why it failed or was cancelled."""

    id: str
    project_id: str
    experiment_id: str
    experiment: str
    name: str
    status: RunStatus
    reason: str | None
    parameters: dict[str, Json]
    metrics: dict[str, float]
    tags: dict[str, str]
    job_id: str | None
    started_at: UtcTime
    ended_at: UtcTime | None
    deleted_at: UtcTime | None
    created_by: str
    revision: int


class RunArtifactCreate(Schema):
    """Gives an artifact that was uploaded before a path in the run."""

    path: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^/\x00][^\x00]*$")]
    digest: Digest


class RunArtifact(Schema):
    """A file of a run."""

    path: str
    digest: Digest
    size: int
    media_type: str
