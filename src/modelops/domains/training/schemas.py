"""Payloads of recipes and jobs."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Json, Key, Name, Schema, Tags, Text, UtcTime
from modelops.domains.data.schemas import DatasetRef
from modelops.domains.experiments.schemas import Parameter


class RecipeInfo(Schema):
    """A recipe that jobs can run. `parameters` is the JSON Schema of what it takes."""

    name: str
    description: str
    parameters: dict[str, Json]


class Resources(Schema):
    """What a job may use; null means no limit."""

    cpus: Annotated[int | None, Field(ge=1, le=4096, description="Threads of numeric libraries.")] = 1
    memory_mb: Annotated[int | None, Field(ge=64, le=2**24, description="Resident memory, in MiB.")] = None
    timeout_s: Annotated[float | None, Field(gt=0, le=30 * 86_400, description="Seconds it may run.")] = 3600.0


class JobCreate(Schema):
    """A new job."""

    recipe: Annotated[str, Field(min_length=1, max_length=100)]
    dataset: DatasetRef
    name: Name | None = None
    parameters: Annotated[dict[Key, Parameter], Field(max_length=500)] = {}
    resources: Resources = Resources()
    experiment: Annotated[Name | None, Field(description="Where its runs are tracked; by default, the job's name.")] = (
        None
    )
    tags: Tags = {}


class JobState(StrEnum):
    """`queued` -> `starting` -> `running` -> `succeeded`, `failed` or `canceled`; `canceling` on the way to the last."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """Tell whether a job in this state has ended for good."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)


class JobResult(Schema):
    """What a recipe reports: the best run and version, and a summary of its own."""

    run_id: Key | None = None
    model_version_id: Key | None = None
    metrics: dict[Key, float] = {}
    summary: dict[Key, Parameter] = {}


class JobReport(Schema):
    """What the trainer says before it ends: the recipe's result, or why it failed."""

    result: JobResult | None = None
    failure: Text | None = None


class Job(Schema):
    """A job. `reason` says why it waits, failed or was cancelled; sizes in bytes, times in seconds."""

    id: str
    project_id: str
    name: str
    recipe: str
    dataset_version_id: str
    dataset: str
    parameters: dict[str, Json]
    resources: Resources
    experiment: str
    tags: dict[str, str]
    state: JobState
    reason: str | None
    exit_code: int | None
    attempt: int
    result: JobResult | None
    peak_memory_bytes: int | None
    cpu_seconds: float | None
    created_at: UtcTime
    started_at: UtcTime | None
    ended_at: UtcTime | None
    created_by: str
    revision: int


class JobCancel(Schema):
    """Why a job is cancelled."""

    reason: Text = ""


class JobLog(Schema):
    """A piece of a job's output. Ask again from `next_offset`; `complete` when nothing will follow."""

    text: str
    next_offset: int
    complete: bool
