"""A recipe's view of its job: the `JobContext` of the real thing."""

import errno
import shutil
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, MLOpsError, NotFound, StorageFull
from modelops.contracts.rest import Rest
from modelops.contracts.schemas import Schema
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.training.client import Training
from modelops.domains.training.recipe import Checkpoint
from modelops.domains.training.schemas import (
    ArtifactRole,
    Declared,
    InputKind,
    JobArtifact,
    JobArtifactCreate,
    JobInput,
    JobResult,
)
from modelops.domains.training.stopping import EarlyStopping
from modelops.sdk.active_run import ActiveRun
from modelops.sdk.client import Client
from modelops.sdk.tracking import ExperimentTracker

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from modelops.domains.models.schemas import ModelVersion

_FILE, _FOLDER, _PACKED = "checkpoint", "checkpoint.tar", "packed.tar"
_REPORT_EVERY_S = 1.0
_REPORT_AGAIN_S = 30.0
"""How long no report is tried after one that did not arrive."""


class Task(Schema):
    """What the job's file says."""

    job_id: str
    recipe: str
    parameters: dict[str, Any]
    dataset_version_id: str | None
    dataset: str | None
    inputs: dict[str, JobInput] = {}
    attempt: int = 1
    environment: str | None = None
    experiment: str
    processes: int = 1
    cpus: int | None = None
    memory_mb: int | None = None
    gpu_shares: int = 0


class SparkSource(Protocol):
    """What opens a session of Spark for a job."""

    def session(self) -> "SparkSession":
        """Return the session."""
        ...

    def table(self, name: str) -> "DataFrame":
        """Return an input that is a dataset."""
        ...


class Job:
    """A recipe's view of its job. For one thread; files that it downloads and packs lie in `folder`."""

    def __init__(self, task: Task, parameters: Schema, client: Client, folder: Path) -> None:
        self.task = task
        self.parameters = parameters
        self._client = client
        self.folder = folder
        self._tracker = ExperimentTracker(client, experiment=task.experiment, offline=False, spool=folder / "runs")
        self._runs: list[ActiveRun] = []
        self._report_at = 0.0
        self.sessions: SparkSource | None = None

    @property
    def dataset_version_id(self) -> str:
        """Return the id of the data; empty where the job has none."""
        return self.task.dataset_version_id or ""

    @property
    def id(self) -> str:
        """Return the job's id."""
        return self.task.job_id

    @property
    def inputs(self) -> Mapping[str, JobInput]:
        """Return what the job was given, by name."""
        return self.task.inputs

    @property
    def attempt(self) -> int:
        """Return which attempt at the job this is, from 1 on."""
        return self.task.attempt

    @property
    def rank(self) -> int:
        """Return 0: there is one process."""
        return 0

    @property
    def world_size(self) -> int:
        """Return 1: there is one process."""
        return 1

    @property
    def gpu_shares(self) -> int:
        """Return how many GPUs, turns of time-sliced ones or MIG instances this attempt has."""
        return self.task.gpu_shares

    def table(self, name: str = "dataset") -> "pa.Table":
        """Load an input that is a dataset."""
        return self._client.data.load_table(self.dataset_id(name))

    def dataset_id(self, name: str) -> str:
        """Return the id of an input that is a dataset."""
        if name == "dataset" and self.task.dataset_version_id is not None:
            return self.task.dataset_version_id
        return self._input(name, InputKind.DATASET).id

    def barrier(self) -> None:
        """Return at once: there is one process."""

    @property
    def spark(self) -> "SparkSession":
        """Return the job's session of Spark."""
        return self._spark().session()

    def spark_table(self, name: str = "dataset") -> "DataFrame":
        """Return an input that is a dataset as Spark's DataFrame."""
        self._input(name, InputKind.DATASET)
        return self._spark().table(name)

    def file(self, name: str) -> Path:
        """Download an input: a file as it is, a dataset as a Parquet file, a model's package as a folder."""
        from modelops.sdk.registry import ModelRegistry

        given = self._input(name)
        place = self.folder / "inputs" / name
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            if given.kind is InputKind.FILE:
                self._client.data.download_artifact(given.id, place)
            elif given.kind is InputKind.DATASET:
                self._client.data.download_dataset_version("-", given.id, place, format="parquet")
            else:
                place.mkdir()
                ModelRegistry(self._client).download_model(given.id, place)
        return place

    def model(self, name: str) -> Any:
        """Load an input that is a model, its signature verified."""
        from modelops.sdk.registry import ModelRegistry

        return ModelRegistry(self._client).load_model(self._input(name, InputKind.MODEL).id)

    def start_run(self, name: str, parameters: Mapping[str, Any]) -> ActiveRun:
        """Begin a run for a candidate."""
        data = {"data.name": self.task.dataset, "data.version_id": self.task.dataset_version_id}
        tags = {key: value for key, value in data.items() if value is not None}
        run = self._tracker.start_experiment(run_name=name, parameters=parameters, tags=tags)
        self._runs.append(run)
        return run

    def register_model(
        self, name: str, model: Any, *, sample: Any, outputs: Any = None, **facts: Any
    ) -> "ModelVersion":
        """Register a model that was trained on the job's data."""
        from modelops.sdk.registry import ModelRegistry

        if self.task.dataset_version_id is not None:
            facts.setdefault("dataset_version_id", self.task.dataset_version_id)
        return ModelRegistry(self._client).register_model(name, model, sample=sample, outputs=outputs, **facts)

    def log(self, text: str) -> None:
        """Write a line to the job's output."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def save_artifact(self, source: Path | str | bytes, name: str | None = None) -> JobArtifact:
        """Keep a file or bytes as an output of the job."""
        if name is None:
            if isinstance(source, bytes):
                raise InvalidInput("Bytes have no name.", hint="Give one: `job.save_artifact(content, 'report.json')`.")
            name = Path(source).name
        return self._keep(ArtifactRole.OUTPUT, source, name)

    def checkpoint(self, source: Path | str | bytes, step: int) -> bool:
        """Keep a file, a folder or bytes that training can go on from."""
        packed = self.folder / _PACKED
        try:
            if not isinstance(source, bytes) and Path(source).is_dir():
                with tarfile.open(packed, "w") as archive:
                    archive.add(source, arcname=".")
                self._keep(ArtifactRole.CHECKPOINT, packed, _FOLDER, step)
            else:
                self._keep(ArtifactRole.CHECKPOINT, source, _FILE, step)
        except (StorageFull, OSError) as full:
            if isinstance(full, OSError) and full.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.log(f"[modelops] there was no room for the checkpoint of step {step}; the ones before stay: {full}")
            return False
        finally:
            packed.unlink(missing_ok=True)
        return True

    def restore(self) -> Checkpoint | None:
        """Return the last checkpoint that was left whole."""
        found = self._client.training.list_job_artifacts(self.task.job_id, role=ArtifactRole.CHECKPOINT)
        for one in found.items:
            place = self.folder / "checkpoints" / one.digest.partition(":")[2][:16]
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            try:
                file = self._client.data.download_artifact(one.digest, place / one.name)
            except (ArtifactCorrupted, NotFound) as damaged:
                self.log(
                    f"[modelops] the checkpoint of step {one.step} cannot be read, the one before is taken: {damaged}"
                )
                continue
            if one.name == _FOLDER:
                with tarfile.open(file) as archive:
                    archive.extractall(place / "folder", filter="data")
                file.unlink()
                file = place / "folder"
            return Checkpoint(one.step or 0, file)
        return None

    def progress(self, done: float, of: float, message: str = "") -> None:
        """Tell how far the job is. The last of it (`done` is `of`) is always sent."""
        now = time.monotonic()
        if now < self._report_at and (done < of or self._report_at - now > _REPORT_EVERY_S):
            return
        self._report_at = now + _REPORT_EVERY_S
        at_once = Training(Rest(self._client.rest.http, retry_for_s=0.0))
        try:
            at_once.report_job_progress(self.task.job_id, done, of, message)
        except MLOpsError as failed:
            if failed.status < 500:
                raise
            self._report_at = now + _REPORT_AGAIN_S

    def early_stopping(self, *, patience: int, direction: str = "min", min_delta: float = 0.0) -> EarlyStopping:
        """Return what tells when a metric no longer becomes better."""
        return EarlyStopping(patience=patience, direction=direction, min_delta=min_delta)

    def end_runs(self, status: RunStatus, reason: str | None = None) -> None:
        """End the runs that the recipe left open, and wait until all of every run is delivered: they end with the job."""
        for run in self._runs:
            run.end(status, reason, within_s=self._client.rest.retry_for_s)

    def check_outputs(self, declared: Mapping[str, Declared], result: JobResult) -> None:
        """Refuse a result without the outputs that the recipe declared.

        Raises:
            InvalidInput: one is missing.
        """
        needed = {name: one.kind for name, one in declared.items() if one.required}
        made: set[str] = set()
        if InputKind.FILE in needed.values():
            outputs = self._client.training.list_job_artifacts(self.task.job_id, role=ArtifactRole.OUTPUT)
            made = {one.name for one in outputs.items}
        for name, kind in needed.items():
            there = name in made if kind is InputKind.FILE else name in result.summary or _is_model(kind, result)
            if not there:
                raise InvalidInput(
                    f"The recipe '{self.task.recipe}' declares the output '{name}' and did not make it.",
                    hint=f"Call `job.save_artifact(…, '{name}')`."
                    if kind is InputKind.FILE
                    else f"Return its id: `model_version_id`, or `summary['{name}']`.",
                )

    def _keep(self, role: Any, source: Path | str | bytes, name: str, step: int | None = None) -> JobArtifact:
        artifact = self._client.data.upload_artifact(source)
        body = JobArtifactCreate(role=role, name=name, digest=artifact.digest, step=step)
        return self._client.training.save_job_artifact(self.task.job_id, body)

    def _spark(self) -> SparkSource:
        if self.sessions is None:
            raise InvalidInput(
                f"The recipe '{self.task.recipe}' has no session of Spark.",
                hint="Take `spark-function`, or let the recipe say `engine = Engine.SPARK`.",
            )
        return self.sessions

    def _input(self, name: str, kind: InputKind | None = None) -> JobInput:
        found = self.task.inputs.get(name)
        if found is None:
            known = ", ".join(self.task.inputs) or "none"
            raise InvalidInput(f"The job was given no input '{name}'.", hint=f"It has: {known}.")
        if kind is not None and found.kind is not kind:
            raise InvalidInput(f"The input '{name}' is a {found.kind}, not a {kind}.")
        return found


def _is_model(kind: InputKind, result: JobResult) -> bool:
    return kind is InputKind.MODEL and result.model_version_id is not None
