"""Payloads of recipes and jobs."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from modelops.contracts.schemas import Digest, Json, Key, Name, Schema, Tags, Text, UtcTime
from modelops.domains.compute.schemas import MigProfile, Waiting
from modelops.domains.data.schemas import DatasetRef
from modelops.domains.experiments.schemas import Parameter


class InputKind(StrEnum):
    """What a job can be given, or make: a dataset's version, a model's version, or a file (an artifact)."""

    DATASET = "dataset"
    MODEL = "model"
    FILE = "file"


class Engine(StrEnum):
    """What runs a recipe: the job's one process, several that PyTorch's launcher starts, or a session of Spark."""

    LOCAL = "local"
    TORCH = "torch"
    SPARK = "spark"


class Declared(Schema):
    """An input that a recipe takes, or an output that it makes."""

    kind: InputKind
    description: str = ""
    required: bool = True


class RecipeInfo(Schema):
    """A recipe that jobs can run. `parameters` is the JSON Schema of what it takes.

    With `any_input`, a job may have further inputs, each given as `dataset:REF`, `model:REF` or `file:DIGEST`.
    """

    name: str
    description: str
    engine: Engine
    parameters: dict[str, Json]
    inputs: dict[str, Declared]
    outputs: dict[str, Declared]
    any_input: bool


class Resources(Schema):
    """What a job may use; null means no limit."""

    cpus: Annotated[int | None, Field(ge=1, le=4096, description="Threads of numeric libraries.")] = 1
    memory_mb: Annotated[int | None, Field(ge=64, le=2**24, description="Resident memory, in MiB.")] = None
    timeout_s: Annotated[float | None, Field(gt=0, le=30 * 86_400, description="Seconds it may run.")] = 3600.0
    processes: Annotated[
        int, Field(ge=1, le=1024, description="Of a recipe whose engine runs several; they share all the rest.")
    ] = 1
    gpu_shares: Annotated[
        int, Field(ge=0, le=10_000, description="Of a pool: GPUs, turns of time-sliced ones, or MIG instances.")
    ] = 0
    min_gpu_shares: Annotated[
        int | None,
        Field(
            ge=1, le=10_000, description="With how few of them it may begin where there are not all; null: with all."
        ),
    ] = None
    mig_profile: Annotated[
        MigProfile | None,
        Field(description="What each of the MIG instances is; with it, one where no number is given."),
    ] = None


class EndCause(StrEnum):
    """Why an attempt at a job ended.

    `failed`: the recipe raised, or the process ended with another exit code than 0. `killed`: a signal that nobody of the
    platform sent. `lost`: its machine, or what watches over it, is gone. `preempted`: it gave way to other work of its
    queue or cohort, and is back in the queue.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    LOST = "lost"
    NOT_STARTED = "not_started"
    CANCELED = "canceled"
    PREEMPTED = "preempted"


class RetryCause(StrEnum):
    """The ends after which a job may be tried again by itself. What took too much memory or time would do so again."""

    LOST = "lost"
    KILLED = "killed"
    FAILED = "failed"
    NOT_STARTED = "not_started"


class Retry(Schema):
    """When a job is tried again by itself: after which ends, how often, and how long it waits before (seconds, doubled
    each time up to ten minutes)."""

    max_attempts: Annotated[int, Field(ge=1, le=100, description="In all; 1 means never again.")] = 3
    causes: Annotated[list[RetryCause], Field(max_length=4)] = [RetryCause.LOST]
    delay_s: Annotated[float, Field(ge=0, le=600)] = 1.0


InputRef = Annotated[
    str,
    Field(
        min_length=1,
        max_length=300,
        description="A dataset version (`name`, `name:3`), a model version (`name:3`, `name@alias`) or an artifact's digest, "
        "as the recipe declares it; of an input that it does not declare, with `dataset:`, `model:` or `file:` before it.",
    ),
]


class JobCreate(Schema):
    """A new job. `dataset` is short for the input of that name."""

    recipe: Annotated[str, Field(min_length=1, max_length=100)]
    dataset: DatasetRef | None = None
    inputs: Annotated[dict[Name, InputRef], Field(max_length=100)] = {}
    name: Name | None = None
    parameters: Annotated[dict[Key, Parameter], Field(max_length=500)] = {}
    resources: Resources = Resources()
    retry: Retry = Retry()
    environment: Annotated[
        Digest | None,
        Field(
            description="An artifact: the lock of requirements, with hashes, that the job's own environment is made of."
        ),
    ] = None
    keep_checkpoints: Annotated[int, Field(ge=1, le=100, description="Checkpoints that are kept, the last ones.")] = 3
    experiment: Annotated[Name | None, Field(description="Where its runs are tracked; by default, the job's name.")] = (
        None
    )
    tags: Tags = {}
    queue: Annotated[
        Name | None,
        Field(description="A queue of the project; by default the one that gives what is asked for, if anything is."),
    ] = None
    pool: Annotated[
        Name | None, Field(description="The pool whose devices it wants; by default, any of the queue.")
    ] = None
    priority: Annotated[Name | None, Field(description="A priority class, for its place in the queue.")] = None


class JobState(StrEnum):
    """`queued` -> `starting` -> `running` -> `succeeded`, `failed` or `canceled`; `canceling` on the way to the last;
    `preempting` while it gives way to other work, on its way back to `queued`."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    CANCELING = "canceling"
    PREEMPTING = "preempting"
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
    out_of_memory: bool = False


class JobInput(Schema):
    """An input as it was found at the submission: what was asked for, and the id or digest of what it is."""

    kind: InputKind
    ref: str
    id: str


class ProgressReport(Schema):
    """How far a job is: so much done of so much, in a unit of its own, such as epochs."""

    done: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    of: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    message: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""


class JobProgress(Schema):
    """How far a job is. `eta_s` is how many seconds are left if it goes on as it did since this attempt began."""

    done: float
    of: float
    message: str
    at: UtcTime
    eta_s: float | None


class Job(Schema):
    """A job. `reason` says why it waits, failed or was cancelled, and `cause` of what kind its last end was; sizes in
    bytes, times in seconds."""

    id: str
    project_id: str
    name: str
    recipe: str
    dataset_version_id: str | None
    dataset: str | None
    inputs: dict[str, JobInput]
    parameters: dict[str, Json]
    resources: Resources
    retry: Retry
    environment: str | None
    keep_checkpoints: int
    experiment: str
    tags: dict[str, str]
    queue: str | None
    pool: str | None
    priority: str | None
    state: JobState
    reason: str | None
    cause: EndCause | None
    exit_code: int | None
    attempt: int
    progress: JobProgress | None
    result: JobResult | None
    peak_memory_bytes: int | None
    cpu_seconds: float | None
    created_at: UtcTime
    started_at: UtcTime | None
    ended_at: UtcTime | None
    created_by: str
    revision: int


class JobWhy(Schema):
    """Why a job waits, in sentences, and what would let it run. `waiting` is what its queue knows; null for a job in none, or
    one that does not wait there."""

    job_id: str
    state: JobState
    waits: bool
    reasons: list[str]
    remedies: list[str]
    waiting: Waiting | None


class JobCancel(Schema):
    """Why a job is cancelled."""

    reason: Text = ""


class JobLog(Schema):
    """A piece of the output of an attempt at a job. Ask again from `next_offset`; `complete` when nothing will follow in
    this attempt; then `next_attempt` is the one that goes on, if there is one."""

    text: str
    next_offset: int
    complete: bool
    attempt: int
    next_attempt: int | None


class JobAttempt(Schema):
    """One attempt at a job: when, and how it ended. It has no `ended_at` while it is under way."""

    number: int
    admitted_at: UtcTime
    started_at: UtcTime | None
    ended_at: UtcTime | None
    cause: EndCause | None
    reason: str | None
    exit_code: int | None
    peak_memory_bytes: int | None
    cpu_seconds: float | None


class JobUsage(Schema):
    """What an attempt used, as curves: each value is of the time up to its place in `seconds` (since the start) from the
    place before. `cpus` are cores in use; bytes read and written are of storage, a second; GPUs are all that it could see
    together: percent of time in use (up to 100 for each) and bytes of memory in use, null where there are none.
    """

    attempt: int
    seconds: list[float]
    cpus: list[float]
    memory_bytes: list[int]
    read_bytes_per_s: list[float]
    written_bytes_per_s: list[float]
    gpu_percent: list[float] | None
    gpu_memory_bytes: list[int] | None
    peak_memory_bytes: int | None
    cpu_seconds: float | None


class ArtifactRole(StrEnum):
    """What an artifact is to a job."""

    INPUT = "input"
    ENVIRONMENT = "environment"
    OUTPUT = "output"
    CHECKPOINT = "checkpoint"


class JobArtifactCreate(Schema):
    """A file that a job made: an output by name, or a checkpoint by step. The artifact was uploaded before."""

    role: Literal[ArtifactRole.OUTPUT, ArtifactRole.CHECKPOINT] = ArtifactRole.OUTPUT
    name: Name
    digest: Digest
    step: Annotated[int | None, Field(ge=0, lt=2**62)] = None


class JobArtifact(Schema):
    """An artifact of a job, and the attempt that made it. `size` is in bytes."""

    role: ArtifactRole
    name: str
    digest: str
    size: int
    step: int | None
    attempt: int
    created_at: UtcTime


Confidence = Annotated[float, Field(ge=0.5, le=0.99, description="How sure the intervals are to be.")]


class Predicted(Schema):
    """A prediction: what is likely, and between what the truth lies with the confidence asked for."""

    likely: float
    low: float
    high: float


class TrainingRequirements(Schema):
    """What a training will take, from what `jobs` of its recipe took. Where too few were measured, `known` is false, and
    `reason` says so; where it is true, `reason` says what to mind. `cpus` and `memory_mb` are what to ask for: the memory
    is the interval's upper end. `depends_on` is what was found to matter."""

    recipe: str
    rows: int | None
    columns: int | None
    known: bool
    reason: str | None
    jobs: int
    jobs_needed: int
    confidence: float
    seconds: Predicted | None = None
    cpu_seconds: Predicted | None = None
    memory_bytes: Predicted | None = None
    cpus: int | None = None
    memory_mb: int | None = None
    depends_on: list[str] = []
    method: str | None = None
    source: str | None = None


class CostRequest(Schema):
    """A training whose cost is asked for: its recipe, and its data or their size."""

    recipe: Annotated[str, Field(min_length=1, max_length=100)]
    dataset: DatasetRef | None = None
    rows: Annotated[int | None, Field(ge=1, le=2**53)] = None
    columns: Annotated[int | None, Field(ge=1, le=2**31)] = None
    parameters: Annotated[dict[Key, Parameter], Field(max_length=500)] = {}
    resources: Resources = Resources()
    confidence: Confidence = 0.9


class CostEstimate(Schema):
    """What a training will cost, in `currency`. Without a cost, `reason` says why there is none."""

    requirements: TrainingRequirements
    cost: Predicted | None
    currency: str
    price_per_cpu_hour: float | None
    price_per_gib_hour: float | None
    reason: str | None
