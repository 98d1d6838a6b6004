"""What a recipe sees of its job in one of several processes."""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from modelops.contracts.errors import InvalidInput
from modelops.contracts.schemas import Schema
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.training.recipe import Checkpoint
from modelops.runtime.job import Job, Task
from modelops.sdk.client import Client

if TYPE_CHECKING:
    import pyarrow as pa

    from modelops.domains.models.schemas import ModelVersion


class RankJob(Job):
    """The job in a process of a group. Inputs are downloaded once, by the process that asks first."""

    def __init__(self, task: Task, parameters: Schema, client: Client, folder: Path, rank: int) -> None:
        super().__init__(task, parameters, client, folder)
        self._rank = rank

    @property
    def rank(self) -> int:
        """Return which of the job's processes this is."""
        return self._rank

    @property
    def world_size(self) -> int:
        """Return how many there are."""
        return self.task.processes

    def barrier(self) -> None:
        """Wait for the others."""
        import torch.distributed as group

        group.barrier()

    def file(self, name: str) -> Path:
        """Download an input, unless another process has done so."""
        with self._alone("inputs"):
            return super().file(name)

    def table(self, name: str = "dataset") -> "pa.Table":
        """Load an input that is a dataset, from a file that one of the processes downloaded."""
        import pyarrow.parquet as pq

        version = self.dataset_id(name)
        place = self.folder / "ranks" / f"{version}.parquet"
        with self._alone("tables"):
            if not place.exists():
                self._client.data.download_dataset_version("-", version, place, format="parquet")
        return pq.read_table(place, memory_map=False, partitioning=None)

    def restore(self) -> Checkpoint | None:
        """Return the last checkpoint, the same in every process: all of them call this."""
        import torch.distributed as group

        found = [super().restore() if self.rank == 0 else None]
        group.broadcast_object_list(found, src=0)
        return found[0]

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """Be the only process of the job in this block."""
        with (self.folder / "ranks" / f"{what}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class PeerJob(RankJob):
    """The job in another process than the first: what it records goes nowhere, so that a recipe is the same in each."""

    def start_run(self, name: str, parameters: Mapping[str, Any]) -> Any:
        """Return a run that records nothing: the first process has the real one."""
        return SilentRun()

    def register_model(self, name: str, model: Any, **facts: Any) -> "ModelVersion":
        """Refuse: there would be a version for every process."""
        raise InvalidInput(
            f"Process {self.rank} of {self.world_size} was about to register the model '{name}'; the first process does.",
            hint="Register it where `job.rank == 0`.",
        )

    def checkpoint(self, source: Path | str | bytes, step: int) -> bool:
        """Do nothing: the first process keeps it."""
        return True

    def progress(self, done: float, of: float, message: str = "") -> None:
        """Do nothing: the first process tells."""

    def end_runs(self, status: RunStatus, reason: str | None = None) -> None:
        """Do nothing: there are none."""


class SilentRun:
    """A run that records nothing."""

    id = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def log_metrics(self, metrics: Mapping[str, Any], *, step: int = 0, **_: Any) -> None:
        """Do nothing."""

    def log_metric(self, key: str, value: Any, *, step: int = 0, **_: Any) -> None:
        """Do nothing."""

    def log_params(self, parameters: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_param(self, key: str, value: Any) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def log_artifact(self, content: Any, path: str | None = None) -> str:
        """Do nothing, and name no digest."""
        return ""
