"""The trainer: the process that a job runs in. It knows its task, a token of its own, and the platform's address.

It keeps trying while the platform is away, so that a restart of the platform costs the job nothing.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import ValidationError

from modelops.contracts import plugins
from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.contracts.rest import Rest
from modelops.contracts.schemas import Schema
from modelops.domains.models.schemas import ModelVersion
from modelops.domains.training.recipe import Recipe
from modelops.domains.training.schemas import JobReport
from modelops.sdk.client import Client
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.tracking import ActiveRun, ExperimentTracker

if TYPE_CHECKING:
    import pyarrow as pa

RETRY_FOR_S = 600.0
_TIMEOUT_S = 60.0


class Task(Schema):
    """What the job's file says."""

    job_id: str
    recipe: str
    parameters: dict[str, Any]
    dataset_version_id: str
    dataset: str
    experiment: str


class Job:
    """A recipe's view of its job: the `JobContext` of the real thing."""

    def __init__(self, task: Task, parameters: Schema, client: Client) -> None:
        self.task = task
        self.parameters = parameters
        self._client = client
        self._tracker = ExperimentTracker(client, experiment=task.experiment)

    @property
    def dataset_version_id(self) -> str:
        """Return the id of the data."""
        return self.task.dataset_version_id

    def table(self) -> "pa.Table":
        """Load the data."""
        return self._client.data.load_table(self.task.dataset)

    def start_run(self, name: str, parameters: Mapping[str, Any]) -> ActiveRun:
        """Begin a run for a candidate."""
        return self._tracker.start_experiment(run_name=name, parameters=parameters)

    def register_model(self, name: str, model: Any, *, sample: Any, outputs: Any, **facts: Any) -> ModelVersion:
        """Register a model that was trained on the job's data."""
        facts.setdefault("dataset_version_id", self.dataset_version_id)
        return ModelRegistry(self._client).register_model(name, model, sample=sample, outputs=outputs, **facts)

    def log(self, text: str) -> None:
        """Write a line to the job's output."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def main() -> int:
    """Run the job whose files lie in `MODELOPS_WORKDIR`, and return the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    folder = Path(os.environ["MODELOPS_WORKDIR"])
    task = Task.model_validate(json.loads((folder / "job.json").read_text(encoding="utf-8")))
    token = (folder / "token").read_text(encoding="utf-8")
    http = httpx.Client(
        base_url=os.environ["MODELOPS_URL"], headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S
    )
    client = Client.over(Rest(http, retry_for_s=RETRY_FOR_S))
    try:
        return _run(task, client)
    finally:
        client.close()


def _run(task: Task, client: Client) -> int:
    try:
        recipe: Recipe = plugins.load("modelops.recipes", task.recipe)
        result = recipe.run(Job(task, _parameters(recipe, task), client))
    except Exception as failure:
        traceback.print_exc()
        client.training.finish_job(task.job_id, JobReport(failure=_sentence(failure)))
        return 1
    client.training.finish_job(task.job_id, JobReport(result=result))
    return 0


def _parameters(recipe: Recipe, task: Task) -> Schema:
    try:
        return recipe.Parameters.model_validate(task.parameters)
    except ValidationError as wrong:
        raise InvalidInput(f"The recipe '{task.recipe}' no longer takes these parameters: {wrong}.") from wrong


def _sentence(failure: Exception) -> str:
    """Say in a line why the recipe failed."""
    text = str(failure) if isinstance(failure, MLOpsError) else f"{type(failure).__name__}: {failure}"
    return text.replace("\0", "")[:4_000]


def _stop(_number: int, _frame: FrameType | None) -> None:
    """End as a cancelled job: runs under way end as cancelled on the way out."""
    raise SystemExit(128 + signal.SIGTERM)
