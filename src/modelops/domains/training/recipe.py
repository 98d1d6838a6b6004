"""What a recipe is: a plug-in of the group `modelops.recipes` that a job runs beside the data."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from modelops.contracts import plugins
from modelops.contracts.errors import MLOpsError, TrainingError
from modelops.contracts.schemas import Schema
from modelops.domains.training.schemas import Declared, Engine, InputKind, JobArtifact, JobInput, JobResult
from modelops.domains.training.stopping import EarlyStopping

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from modelops.domains.models.schemas import ModelVersion

RECIPES = "modelops.recipes"
"""The group of entry points that recipes enter by."""

P_co = TypeVar("P_co", bound=Schema, covariant=True)


@dataclass(frozen=True)
class Checkpoint:
    """What training goes on from: the step, and the file or folder that was given."""

    step: int
    path: Path

    def read(self) -> bytes:
        """Return the content of a file."""
        return self.path.read_bytes()


class TrackedRun(Protocol):
    """A run that a recipe records a candidate on."""

    @property
    def id(self) -> str:
        """Return its id."""
        ...

    def log_metrics(self, metrics: Mapping[str, Any], *, step: int = 0) -> None:
        """Record values of metrics at a step."""
        ...

    def log_params(self, parameters: Mapping[str, Any]) -> None:
        """Record parameters."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set labels."""
        ...


class JobContext(Protocol, Generic[P_co]):
    """What a recipe is given: its parameters, its data, and where its results go. For one thread."""

    @property
    def parameters(self) -> P_co:
        """Return the parameters, checked against the recipe's."""
        ...

    @property
    def dataset_version_id(self) -> str:
        """Return the id of the data; empty where the job has none."""
        ...

    @property
    def id(self) -> str:
        """Return the job's id."""
        ...

    @property
    def inputs(self) -> Mapping[str, JobInput]:
        """Return what the job was given, by name."""
        ...

    @property
    def folder(self) -> Path:
        """Return the attempt's own folder: what is written there is gone some time after its end."""
        ...

    @property
    def attempt(self) -> int:
        """Return which attempt at the job this is, from 1 on."""
        ...

    @property
    def rank(self) -> int:
        """Return which of the job's processes this is, from 0 on: 0 is the one that records and returns the result."""
        ...

    @property
    def world_size(self) -> int:
        """Return how many processes the job runs in."""
        ...

    def barrier(self) -> None:
        """Wait until every process of the job is here; each of them has to come."""
        ...

    @property
    def gpu_shares(self) -> int:
        """Return how many GPUs, turns of time-sliced ones or MIG instances this attempt has: fewer than were asked for where it
        may do with fewer, and perhaps others at the next attempt."""
        ...

    def table(self, name: str = "dataset") -> "pa.Table":
        """Load an input that is a dataset.

        Raises:
            InvalidInput: the job has no such input.
        """
        ...

    @property
    def spark(self) -> "SparkSession":
        """Return the job's session of Spark; it is opened when it is first asked for, and stopped with the job.

        Raises:
            InvalidInput: the recipe does not run on Spark.
            MissingExtra: PySpark or Java is not installed.
            TrainingError: the master does not answer.
        """
        ...

    def spark_table(self, name: str = "dataset") -> "DataFrame":
        """Return an input that is a dataset as Spark's DataFrame. Raises as `spark`, and as `table`."""
        ...

    def file(self, name: str) -> Path:
        """Download an input: a file as it is, a dataset as a Parquet file, a model's package as a folder. Raises as
        `table`."""
        ...

    def model(self, name: str) -> Any:
        """Load an input that is a model, its signature verified. Raises as `table`."""
        ...

    def save_artifact(self, source: Path | str | bytes, name: str | None = None) -> JobArtifact:
        """Keep a file or bytes as an output of the job, by default under the file's name; the last one of a name counts."""
        ...

    def checkpoint(self, source: Path | str | bytes, step: int) -> bool:
        """Keep a file, a folder or bytes that training can go on from at this step.

        Returns:
            Whether there was room for it: a full disk is told in the output, and does not end the training.
        """
        ...

    def restore(self) -> Checkpoint | None:
        """Return the last checkpoint that an earlier attempt, or this one, left whole; None where there is none. Where the
        job has several processes, each of them calls it, and all get the same."""
        ...

    def progress(self, done: float, of: float, message: str = "") -> None:
        """Tell how far the job is, as often as you like: at most one report a second is sent, and none is waited for long."""
        ...

    def early_stopping(self, *, patience: int, direction: str = "min", min_delta: float = 0.0) -> EarlyStopping:
        """Return what tells when a metric no longer becomes better."""
        ...

    def start_run(self, name: str, parameters: Mapping[str, Any]) -> AbstractContextManager[TrackedRun]:
        """Begin a run for a candidate; leaving its block ends it."""
        ...

    def register_model(self, name: str, model: Any, *, sample: Any, outputs: Any, **facts: Any) -> "ModelVersion":
        """Register a model. Takes what `ModelRegistry.register_model` takes; the dataset version is filled in."""
        ...

    def log(self, text: str) -> None:
        """Write a line to the job's output."""
        ...


class Recipe(Protocol):
    """A way to train. Stateless; it may import what it needs inside `run`.

    It may have further attributes: `engine`, what runs it (`Engine`); `inputs` and `outputs`, mappings of names to
    `Declared`; `any_input`, which is true where a job may have inputs that are not declared; and `alike`, the names of
    parameters that make it quite another training, so that only jobs with equal ones are measurements for estimates.
    Without `inputs`, it takes one dataset.
    """

    name: str
    description: str
    Parameters: type[Schema]

    def run(self, job: JobContext[Any]) -> JobResult:
        """Train, and return what came out. An exception fails the job with its message."""
        ...


_ONE_DATASET: Mapping[str, Declared] = {"dataset": Declared(kind=InputKind.DATASET, description="The data.")}


def inputs_of(recipe: Recipe) -> Mapping[str, Declared]:
    """Return the inputs that a recipe declares."""
    declared: Mapping[str, Declared] = getattr(recipe, "inputs", _ONE_DATASET)
    return declared


def outputs_of(recipe: Recipe) -> Mapping[str, Declared]:
    """Return the outputs that a recipe declares."""
    declared: Mapping[str, Declared] = getattr(recipe, "outputs", {})
    return declared


def engine_of(recipe: Recipe) -> Engine:
    """Return what runs a recipe: the job's one process, where it does not say."""
    return Engine(getattr(recipe, "engine", Engine.LOCAL))


def takes_any_input(recipe: Recipe) -> bool:
    """Tell whether a job of a recipe may have inputs that it does not declare."""
    return bool(getattr(recipe, "any_input", False))


def load_recipe(name: str) -> Recipe:
    """Load a recipe. What a stranger's package raises while it is imported is no defect of the platform.

    Raises:
        NotFound: no recipe of that name is installed.
        MissingExtra: something that it imports is not installed.
        TrainingError: it cannot be loaded.
    """
    try:
        recipe: Recipe = plugins.load(RECIPES, name)
    except MLOpsError:
        raise
    except Exception as broken:
        raise TrainingError(
            f"The recipe '{name}' cannot be loaded: {type(broken).__name__}: {broken}.",
            hint="Correct or remove the package that brings it.",
        ) from broken
    return recipe
