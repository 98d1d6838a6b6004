"""MLflow's runs: the platform's own, as MLflow writes them."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi.concurrency import run_in_threadpool

from modelops.contracts.errors import Conflict, InvalidInput, NotFound
from modelops.domains.experiments import service
from modelops.domains.experiments.ingest import Batch, log
from modelops.domains.experiments.lifecycle import Change, NewRun, begin_run, change_run
from modelops.domains.experiments.reading import Recorded, read_recorded
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.experiments.searching import FoundRun, find_runs
from modelops.domains.mlflow.experiments import DEFAULT_ID, Pair, default_id
from modelops.domains.mlflow.lineage import Lineage, lineage_of
from modelops.domains.mlflow.names import TAG, check_key, check_length, in_mlflows_words, quoted, required
from modelops.domains.mlflow.protocol import api, milliseconds, moment_of, number
from modelops.kernel.context import Context
from modelops.kernel.database import Raw, raw_of
from modelops.kernel.door import Answer
from modelops.kernel.scope import Scope

RUN_NAME = "mlflow.runName"
USER = "mlflow.user"
_NOBODY = ("", "unknown")
RUN_NAME_LENGTH, USER_LENGTH = 250, 256

_NO_LINEAGE = Lineage()

STATUSES = {
    "RUNNING": RunStatus.RUNNING,
    "SCHEDULED": RunStatus.SCHEDULED,
    "FINISHED": RunStatus.FINISHED,
    "FAILED": RunStatus.FAILED,
    "KILLED": RunStatus.CANCELED,
}
_NAMES = {status: name for name, status in STATUSES.items()}
_NUMBERS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


class CreateRun(msgspec.Struct):
    """The body of `runs/create`."""

    experiment_id: str = DEFAULT_ID
    user_id: str = ""
    run_name: str = ""
    start_time: int | None = None
    tags: list[Pair] = []


class RunById(msgspec.Struct):
    """A run by id; `run_uuid` is its older name."""

    run_id: str = ""
    run_uuid: str = ""

    @property
    def run(self) -> str:
        """Return the run's id.

        Raises:
            InvalidInput: none is given.
        """
        return required(self.run_id or self.run_uuid, "run_id")


class UpdateRun(RunById):
    """The body of `runs/update`."""

    status: str | int | None = None
    end_time: int | None = None
    run_name: str | None = None


@api("POST", "2.0/mlflow/runs/create")
async def create_run(scope: Scope, body: CreateRun) -> Answer:
    """Begin a run."""
    tags = {tag.key: tag.value for tag in body.tags}
    for index, tag in enumerate(body.tags):
        check_tag(tag.key, tag.value, f"tags[{index}].")
    named = tags.get(RUN_NAME)
    if body.run_name and named and body.run_name != named:
        raise InvalidInput(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{body.run_name}', mlflow.runName='{named}')."
        )
    name = body.run_name or named or f"run {secrets.token_hex(3)}"
    check_length(name, RUN_NAME_LENGTH, "run_name")
    tags[RUN_NAME] = name
    check_length(body.user_id, USER_LENGTH, "user_id")
    if body.user_id not in _NOBODY:
        tags.setdefault(USER, body.user_id)
    started = scope.place.clock.now() if body.start_time is None else moment_of(body.start_time, "start_time")
    experiment = body.experiment_id
    if experiment == DEFAULT_ID:
        experiment = await run_in_threadpool(default_id, scope)
    labels = list(tags.items())
    try:
        made = await begin_run(scope, NewRun(experiment, started, name, labels))
    except NotFound as absent:
        raise NotFound(f"No Experiment with id={experiment} exists") from absent
    except Conflict as deleted:
        raise InvalidInput(f"The experiment {experiment} must be in the 'active' state. {deleted}") from deleted
    none = Recorded({made.number: []}, {made.number: []}, {made.number: labels})
    return {"run": as_json(made, none)}


@api("GET", "2.0/mlflow/runs/get")
def get_run(ctx: Context, query: RunById) -> Answer:
    """Return a run."""
    ctx.require("experiments.read")
    raw = raw_of(ctx.session)
    found = find_run(raw, ctx.project_id, query.run)
    return {"run": render(ctx, [found])[0]}


@api("POST", "2.0/mlflow/runs/update")
async def update_run(scope: Scope, body: UpdateRun) -> Answer:
    """Rename a run, or set how and when it ended; it may run again after it ended."""
    run = body.run
    status = None if body.status is None else status_of(body.status)
    ended = None if body.end_time is None else moment_of(body.end_time, "end_time")
    name = body.run_name or None
    if name is not None:
        check_length(name, RUN_NAME_LENGTH, "run_name")
    with in_mlflows_words(run):
        if name is not None:
            await log(scope, run, Batch(tags=[(RUN_NAME, name)]), ended_too=True)
        found = await change_run(scope, run, Change(status, ended, name))
    return {"run_info": _info(found, None)}


@api("POST", "2.0/mlflow/runs/delete")
def delete_run(ctx: Context, body: RunById) -> Answer:
    """Delete a run."""
    run = body.run
    with in_mlflows_words(run):
        service.delete_run(ctx, run)


@api("POST", "2.0/mlflow/runs/restore")
def restore_run(ctx: Context, body: RunById) -> Answer:
    """Restore a run."""
    run = body.run
    with in_mlflows_words(run):
        service.restore_run(ctx, run)


def check_tag(key: str, value: str, path: str = "") -> None:
    """Refuse what is no tag of a run."""
    check_key(key, f"{path}key")
    check_length(value, TAG, f"{path}value")


def status_of(written: str | int) -> RunStatus:
    """Return a status that MLflow writes by name or number.

    Raises:
        InvalidInput: there is none of that name.
    """
    name = _NUMBERS.get(str(written), str(written))
    if name not in STATUSES:
        raise InvalidInput(f"Invalid value {quoted(name)} for parameter 'status' supplied: one of {list(STATUSES)}.")
    return STATUSES[name]


def find_run(raw: Raw, project_id: str, run: str) -> FoundRun:
    """Return a run of the project, deleted or not.

    Raises:
        NotFound: there is none.
    """
    found = find_runs(raw, project_id, [run])
    if not found:
        raise NotFound(f"Run with id={run} not found")
    return found[0]


def render(ctx: Context, runs: Sequence[FoundRun]) -> list[dict[str, Any]]:
    """Return runs as MLflow writes them, with what is recorded on them."""
    raw = raw_of(ctx.session)
    recorded = read_recorded(raw, [run.number for run in runs])
    lineage = lineage_of(raw, [run.id for run in runs])
    return [as_json(run, recorded, lineage.get(run.id)) for run in runs]


def as_json(run: FoundRun, recorded: Recorded, lineage: Lineage | None = None) -> dict[str, Any]:
    """Return a run as MLflow writes it."""
    lineage = lineage or _NO_LINEAGE
    tags = dict(recorded.tags[run.number])
    return {
        "info": _info(run, tags.get(USER)),
        "data": {
            "metrics": [
                {"key": key, "value": number(value, is_nan), "timestamp": time_us // 1_000, "step": step}
                for key, value, is_nan, time_us, step in recorded.metrics[run.number]
            ],
            "params": [{"key": key, "value": text} for key, _, text in recorded.parameters[run.number]],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        },
        "inputs": lineage.inputs,
        "outputs": lineage.outputs,
    }


def _info(run: FoundRun, user: str | None) -> dict[str, Any]:
    location = run.artifact_location or f"mlflow-artifacts:/{run.experiment_id}"
    ended = {} if run.ended_at is None else {"end_time": milliseconds(run.ended_at)}
    return {
        "run_id": run.id,
        "run_uuid": run.id,
        "run_name": run.name,
        "experiment_id": run.experiment_id,
        "user_id": user or run.created_by,
        "status": _NAMES[RunStatus(run.status)],
        "start_time": milliseconds(run.started_at),
        **ended,
        "artifact_uri": f"{location}/{run.id}/artifacts",
        "lifecycle_stage": "active" if run.deleted_at is None else "deleted",
    }
