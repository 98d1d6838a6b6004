"""What is moved, and what a side must be able to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

ORIGIN, MOVED = "modelops.origin", "modelops.moved"
"""Tags of a copy: the run it is of, and that it was verified to be whole."""


class Point(NamedTuple):
    """A point of a metric; `time` in milliseconds since 1970."""

    key: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class ExperimentFacts:
    """An experiment."""

    id: str
    name: str
    tags: Mapping[str, str]
    deleted: bool = False


@dataclass(frozen=True)
class RunFacts:
    """A run. Times in milliseconds since 1970; `metrics` are the keys it has."""

    id: str
    name: str
    status: str
    started: int
    ended: int | None
    deleted: bool
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Sequence[str]


@dataclass(frozen=True)
class VersionFacts:
    """A version of a registered model."""

    number: int
    run: str
    source: str
    stage: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ModelFacts:
    """A registered model."""

    name: str
    description: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int] = field(default_factory=dict)


class Side(Protocol):
    """A store of experiments, runs and registered models. Safe for several threads."""

    def experiments(self) -> Iterable[ExperimentFacts]:
        """Return every experiment, deleted ones too."""
        ...

    def runs(self, experiment: str) -> Iterable[RunFacts]:
        """Return every run of an experiment, deleted ones too."""
        ...

    def run(self, run: str) -> RunFacts:
        """Return a run."""
        ...

    def history(self, run: str, key: str) -> Iterable[Point]:
        """Return the points of a metric."""
        ...

    def files(self, run: str) -> Iterable[tuple[str, int]]:
        """Return the path and size of every file of a run."""
        ...

    def fetch(self, run: str, path: str, folder: Path) -> Path:
        """Download a file of a run into a folder and return where it lies."""
        ...

    def make_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the id of the experiment of a name, made if there is none."""
        ...

    def begin(self, experiment: str, run: RunFacts, tags: Mapping[str, str]) -> str:
        """Begin a run, and return its id."""
        ...

    def log(self, run: str, points: Sequence[Point], parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Log on a run; at most 1,000 points and 100 of the others."""
        ...

    def store(self, run: str, path: str, file: Path) -> None:
        """Upload a file of a run."""
        ...

    def end(self, run: str, status: str, ended: int | None) -> None:
        """End a run."""
        ...

    def delete(self, run: str) -> None:
        """Delete a run."""
        ...

    def models(self) -> Iterable[ModelFacts]:
        """Return every registered model."""
        ...

    def versions(self, model: str) -> Iterable[VersionFacts]:
        """Return every version of a model, oldest first."""
        ...

    def fetch_version(self, model: str, version: VersionFacts, folder: Path) -> Path:
        """Download a version's files into a folder and return where they lie.

        Raises:
            Exception: it has none that can be had.
        """
        ...

    def make_model(self, model: ModelFacts) -> None:
        """Make a registered model of a name, if there is none."""
        ...

    def make_version(self, model: str, version: VersionFacts, source: str, run: str | None) -> int:
        """Register a version and return its number."""
        ...

    def place_version(self, model: str, number: int, stage: str) -> None:
        """Move a version to a stage of MLflow's."""
        ...

    def point_alias(self, model: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        ...
