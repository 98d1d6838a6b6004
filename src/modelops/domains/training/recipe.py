"""What a recipe is: a plug-in of the group `modelops.recipes` that a job runs beside the data."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from modelops.contracts.schemas import Schema
from modelops.domains.models.schemas import ModelVersion
from modelops.domains.training.schemas import JobResult

if TYPE_CHECKING:
    import pyarrow as pa

RECIPES = "modelops.recipes"
"""The group of entry points that recipes enter by."""

P_co = TypeVar("P_co", bound=Schema, covariant=True)


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
        """Return the id of the data."""
        ...

    def table(self) -> "pa.Table":
        """Load the data."""
        ...

    def start_run(self, name: str, parameters: Mapping[str, Any]) -> AbstractContextManager[TrackedRun]:
        """Begin a run for a candidate; leaving its block ends it."""
        ...

    def register_model(self, name: str, model: Any, *, sample: Any, outputs: Any, **facts: Any) -> ModelVersion:
        """Register a model. Takes what `ModelRegistry.register_model` takes; the dataset version is filled in."""
        ...

    def log(self, text: str) -> None:
        """Write a line to the job's output."""
        ...


class Recipe(Protocol):
    """A way to train. Stateless; it may import what it needs inside `run`."""

    name: str
    description: str
    Parameters: type[Schema]

    def run(self, job: JobContext[Any]) -> JobResult:
        """Train, and return what came out. An exception fails the job with its message."""
        ...
