"""The DAG document: what a pipeline is, written in Python or in YAML.

A document is plain data. Steps name what they take by bindings, and every edge of the graph is a binding, a condition's, or
an explicit `after`.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from modelops.contracts.schemas import Digest, Json, Key, Name, Schema, Text
from modelops.domains.training.schemas import Resources

StepName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
"""A step's name: as a Python name, at most 100 characters."""

FieldName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
"""The name of a parameter, an input or an output."""


class ParameterType(StrEnum):
    """What a parameter may be."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LIST = "list"
    OBJECT = "object"


class ValueType(StrEnum):
    """How a value lies in the artifact store: JSON, an Arrow table (IPC file), a registered model's version, or a file."""

    JSON = "json"
    ARROW = "arrow"
    MODEL = "model"
    FILE = "file"


class ParameterSpec(Schema):
    """A parameter of the pipeline; without a default it must be given."""

    type: ParameterType
    default: Json = None
    required: bool = False
    description: Text = ""
    choices: list[Json] | None = None


class FromValue(Schema):
    """A constant."""

    value: Json


class FromParameter(Schema):
    """A parameter of the run."""

    parameter: FieldName


class FromOutput(Schema):
    """An output of another step. Of a fanned-out step it is the list of its members' outputs, in the order of the items."""

    step: StepName
    output: FieldName = "result"


class FromItem(Schema):
    """The member's own item, in a step that fans out."""

    item: Literal[True]


Binding = FromValue | FromParameter | FromOutput | FromItem
"""Where a value comes from."""


class Comparison(Schema):
    """`left operator right`, of JSON values."""

    left: Binding
    operator: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
    right: Binding


class AllOf(Schema):
    """True if all are."""

    all: Annotated[list["Condition"], Field(min_length=1)]


class AnyOf(Schema):
    """True if one is."""

    any: Annotated[list["Condition"], Field(min_length=1)]


class Not(Schema):
    """True if the other is not."""

    negated: "Condition"


class Truth(Schema):
    """True if the value is true in JSON's sense: not null, false, zero, or empty."""

    true: Binding


Condition = Comparison | AllOf | AnyOf | Not | Truth


class Retries(Schema):
    """How often a failed attempt is made again, and after how long: `wait_s`, times `factor` each time, at most `most_s`."""

    attempts: Annotated[int, Field(ge=0, le=100, description="Further attempts after the first.")] = 0
    wait_s: Annotated[float, Field(ge=0, le=86_400)] = 1.0
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    most_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0


class StepResources(Schema):
    """What a step may use; null means no limit."""

    cpus: Annotated[int | None, Field(ge=1, le=4096)] = 1
    memory_mb: Annotated[int | None, Field(ge=64, le=2**24, description="Resident memory, in MiB.")] = None
    pool: Annotated[str, Field(max_length=63, description="Where it runs; empty for the default.")] = ""


class FunctionWork(Schema):
    """A Python function of the pipeline's code: `module:function`."""

    function: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$", max_length=500)]


class JobWork(Schema):
    """A training job: a recipe on a dataset version; the step's inputs `parameters` and `dataset` go over these. `resources` say
    what it may use, but for its time, which `timeout_s` is; `queue`, `pool` and `priority` where it waits.

    Its outputs are `run_id`, `model_version_id`, `metrics` and `summary`, and `model`, the version as a model.
    """

    recipe: Key
    dataset: str | None = None
    parameters: dict[Key, Json] = {}
    timeout_s: float | None = 3600.0
    resources: Resources | None = None
    queue: Name | None = None
    pool: Name | None = None
    priority: Name | None = None


class ApprovalWork(Schema):
    """A person with the permission `pipelines.approve` must agree. Its outputs: `approved_by`, `comment`."""

    message: Text = ""
    timeout_s: Annotated[float | None, Field(gt=0, description="After so long without an answer the step fails.")] = (
        None
    )


class NotifyWork(Schema):
    """Tell the world: an event `modelops.pipelines.notified`, which webhooks can carry. The inputs are its data."""

    message: Text


JOB_OUTPUTS = {
    "run_id": ValueType.JSON,
    "model_version_id": ValueType.JSON,
    "model": ValueType.MODEL,
    "metrics": ValueType.JSON,
    "summary": ValueType.JSON,
}
APPROVAL_OUTPUTS = {"approved_by": ValueType.JSON, "comment": ValueType.JSON}


class StepSpec(Schema):
    """A step: exactly one of `run`, `job`, `approval`, `notify`."""

    run: FunctionWork | None = None
    job: JobWork | None = None
    approval: ApprovalWork | None = None
    notify: NotifyWork | None = None
    inputs: dict[FieldName, Binding] = {}
    outputs: dict[FieldName, ValueType] = {"result": ValueType.JSON}
    after: list[StepName] = []
    when: Condition | None = Field(None, description="Skipped unless true; so are steps that need a skipped one.")
    foreach: Binding | None = Field(None, description="A list: the step runs once for each item.")
    most_at_once: Annotated[int | None, Field(ge=1, description="Members of a fan-out under way at once.")] = None
    even_if: Literal["succeeded", "not_failed", "ended"] = Field(
        "succeeded",
        description="What of those before it: `not_failed` runs after skipped ones, `ended` also after failures.",
    )
    retries: Retries = Retries()
    timeout_s: Annotated[float | None, Field(gt=0, le=30 * 86_400)] = 3600.0
    resources: StepResources = StepResources()
    cache: bool = Field(False, description="Take the outputs of an equal step that succeeded before.")
    description: Text = ""

    @property
    def results(self) -> dict[str, ValueType]:
        """Return what other steps can take from it, by its kind."""
        if self.run is not None:
            return self.outputs
        if self.job is not None:
            return JOB_OUTPUTS
        return APPROVAL_OUTPUTS if self.approval is not None else {}


class Code(Schema):
    """The code of function steps: an archive (tar, zstd) of modules that is put on the path of the workers.

    `digest` names the artifact; `digests` tells for each function of the document what its results depend on, for the cache;
    `requirements` is a lock file's artifact where the steps need an environment of their own.
    """

    digest: Digest
    digests: dict[str, str]
    requirements: Digest | None = None


class PipelineDocument(Schema):
    """A pipeline."""

    name: Name
    description: Text = ""
    parameters: dict[FieldName, ParameterSpec] = {}
    steps: Annotated[dict[StepName, StepSpec], Field(min_length=1, max_length=20_000)]
    code: Code | None = None
    workers: Annotated[int, Field(ge=1, le=1_000, description="Processes for function steps of a run, at most.")] = 2
    timeout_s: Annotated[float | None, Field(gt=0, description="Seconds that a run may take.")] = None
    notify: list[Literal["succeeded", "failed", "canceled"]] = []


for _schema in (AllOf, AnyOf, Not, StepSpec, PipelineDocument):
    _schema.model_rebuild()
