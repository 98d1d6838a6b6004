"""Payloads of pipelines, their runs and steps, and of the workers that carry steps out."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Digest, Json, Key, Name, Schema, Tags, Text, UtcTime
from modelops.domains.pipelines.document import Code, FieldName, PipelineDocument, StepResources, ValueType

MOST_CONTENT_BYTES = 16 * 1024
"""The size of a JSON value that travels with the messages of workers; larger ones are sent and fetched by themselves."""


class PipelineCreate(Schema):
    """A pipeline's document; the same document twice is the same version, a changed one is the next version."""

    document: PipelineDocument


class PipelineVersion(Schema):
    """A version of a pipeline. `digest` is of the document."""

    id: str
    project_id: str
    pipeline: str
    version: int
    digest: str
    document: PipelineDocument
    created_at: UtcTime
    created_by: str


class Pipeline(Schema):
    """A pipeline, and its newest version's number."""

    id: str
    project_id: str
    name: str
    description: str
    latest_version: int
    created_at: UtcTime
    updated_at: UtcTime
    created_by: str


class RunState(StrEnum):
    """`queued` -> `running` (and `paused`) -> `succeeded`, `failed` or `canceled`.

    `canceling` while nothing begins any more and what is under way is ended: on the way to `canceled`, or to `failed` where
    the run took longer than it may.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """Tell whether a run in this state has ended for good."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED)


class StepState(StrEnum):
    """`waiting` for those before it -> `ready` -> `running` (or `awaiting` a person) -> an end; `retrying` between attempts.

    `cached`: its outputs are those of an equal step before. `skipped`: its condition was false, or it needs a step that
    did not succeed.
    """

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    AWAITING = "awaiting"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    CACHED = "cached"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """Tell whether a step in this state has ended for good."""
        return self in (
            StepState.SUCCEEDED,
            StepState.CACHED,
            StepState.FAILED,
            StepState.SKIPPED,
            StepState.CANCELED,
        )


class ValueRef(Schema):
    """Where a value lies: an artifact, or for a model the id of its version."""

    type: ValueType
    digest: Digest | None = None
    model_version_id: Key | None = None
    size: int = 0
    filename: Text = Field("", description="Of a file: what it is to be called.")


class RunCreate(Schema):
    """A run of a pipeline, as of a version (by default the newest)."""

    version: int | None = None
    parameters: Annotated[dict[FieldName, Json], Field(max_length=1_000)] = {}
    name: Name | None = None
    tags: Tags = {}
    use_cache: bool = True


class RunCancel(Schema):
    """Why a run is cancelled."""

    reason: Text = ""


class RunRerun(Schema):
    """Run again as of the same version: whole, from a step on (what does not lie behind it keeps its outputs), or only what
    did not succeed. `parameters` go over those of the run."""

    from_step: FieldName | None = None
    only_failed: bool = False
    parameters: Annotated[dict[FieldName, Json], Field(max_length=1_000)] = {}
    use_cache: bool = True


class PipelineRun(Schema):
    """A run. `cause`: who or what began it (`api`, `schedule:<name>`, `trigger:<name>`, `rerun:<run>`)."""

    id: str
    project_id: str
    pipeline: str
    version: int
    name: str
    parameters: dict[str, Json]
    tags: dict[str, str]
    cause: str
    state: RunState
    reason: str | None
    steps: dict[str, int] = Field(description="How many steps are in each state; members of a fan-out count each.")
    created_at: UtcTime
    started_at: UtcTime | None
    ended_at: UtcTime | None
    created_by: str
    revision: int


class StepRun(Schema):
    """A step of a run. `key` is its name, or `name[3]` for a member of a fan-out; `cached_from` is the run it came from."""

    id: str
    run_id: str
    key: str
    step: str
    index: int | None
    state: StepState
    attempt: int
    reason: str | None
    outputs: dict[str, ValueRef]
    cached_from: str | None
    worker: str | None
    job_id: str | None
    started_at: UtcTime | None
    ended_at: UtcTime | None
    cpu_seconds: float | None
    peak_memory_bytes: int | None


class WorkerTask(Schema):
    """What a worker's process is told at its start, in the file `steps.json`; `token` lies beside it.

    `worker` is its name in everything that it says.
    """

    run_id: str
    worker: Key
    code: Code | None = None


class StepClaim(Schema):
    """A worker asks for work: up to `most` steps, waiting up to `wait_s` for the first."""

    worker: Key
    most: Annotated[int, Field(ge=1, le=64)] = 1
    wait_s: Annotated[float, Field(ge=0, le=30)] = 10.0


class StepTask(Schema):
    """A step that a worker carries out. `idempotency_key` is the same for every attempt at it, in this run.

    An input is a value from the document (`inputs`) or lies in the store (`references`; a list for a fan-out's outputs).
    The worker says within `lease_s` that it is at it still, or another may be given it.
    """

    id: str
    key: str
    attempt: int
    function: str
    inputs: dict[str, Json]
    references: dict[str, ValueRef | list[ValueRef]]
    outputs: dict[str, ValueType]
    timeout_s: float | None
    resources: StepResources
    idempotency_key: str
    lease_s: float


class StepWork(Schema):
    """What a worker is given. `over`: the run wants no worker any more, and it may end.

    `contents` holds small JSON values that the tasks refer to, by digest; the worker need not fetch these.
    """

    tasks: list[StepTask]
    over: bool
    contents: dict[str, str] = {}


class StepOutput(Schema):
    """What an attempt wrote: `text` stands `offset` characters after its beginning; said twice, it is kept once."""

    step: str
    attempt: int
    offset: Annotated[int, Field(ge=0)]
    text: Annotated[str, Field(max_length=65_536)]


class StepBeat(Schema):
    """A worker tells which attempts it is at; with what they wrote since."""

    worker: Key
    attempts: list[tuple[str, int]] = Field(description="Step ids and attempts.")
    wrote: Annotated[list[StepOutput], Field(max_length=256)] = []
    returned: list[tuple[str, int]] = Field([], description="Claimed, and not begun: others may have them at once.")


class StepOrders(Schema):
    """Which of them must stop: cancelled, timed out, or given to another worker; and what was asked for with reports."""

    stop: list[str]
    work: StepWork = StepWork(tasks=[], over=False)


class StepReport(Schema):
    """How an attempt ended: what it gave, or a `failure` and whether trying again is in vain, or `lost`: no fault of the step.

    What it gave lies in the store (`outputs`), or is a small JSON value that comes along as text (`contents`) and is put there.
    """

    step: str
    attempt: int
    outputs: dict[str, ValueRef] = {}
    contents: dict[str, Annotated[str, Field(max_length=MOST_CONTENT_BYTES)]] = {}
    failure: Text | None = None
    hopeless: bool = False
    lost: bool = False
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None


class StepReports(Schema):
    """How attempts ended; those that were given to another worker meanwhile are passed over. The answer is `StepOrders`.

    With them, up to `most` more steps may be asked for: those that are there at once.
    """

    worker: Key
    reports: Annotated[list[StepReport], Field(min_length=1, max_length=64)]
    most: Annotated[int, Field(ge=0, le=64)] = 0
    wrote: Annotated[list[StepOutput], Field(max_length=256)] = []


class StepLog(Schema):
    """A piece of what a step wrote. Ask again from `next_offset`; `complete` when nothing will follow."""

    text: str
    next_offset: int
    complete: bool


class CacheCleared(Schema):
    """How many results were forgotten."""

    removed: int


class Decision(Schema):
    """A person's answer to an approval."""

    approved: bool
    comment: Text = ""
