"""What runs took and made, as MLflow tells it: data sets and logged models in, logged models out."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ids import new_id
from modelops.domains.experiments import service as experiments
from modelops.domains.experiments.artifacts import run_to_write
from modelops.domains.experiments.ingest import Batch, log
from modelops.domains.mlflow.experiments import Pair, resolve
from modelops.domains.mlflow.names import DATASET_DIGEST, DATASET_NAME, ID, check_length, in_mlflows_words, required
from modelops.domains.mlflow.protocol import api, pairs
from modelops.domains.mlflow.tables import DatasetInputRow, DatasetRow, RunModelRow
from modelops.domains.mlflow.views import tags_of
from modelops.kernel.context import Context
from modelops.kernel.database import Raw
from modelops.kernel.scope import Scope

_INPUT, _OUTPUT = "input", "output"
_CONTEXT = "mlflow.data.context"
_HISTORY = "mlflow.log-model.history"
_MOST_EXPERIMENTS = 20
_MOST_SUMMARIES = 1_000
_LONGEST = {
    "name": DATASET_NAME,
    "digest": DATASET_DIGEST,
    "source_type": 100,
    "source": 65_535,
    "schema": 1_048_575,
    "profile": 16_777_215,
}
_LONGEST_TAG = {"key": 255, "value": 500}


_DATASETS = (
    "SELECT i.run_id, i.tags, d.name, d.digest, d.source_type, d.source, d.schema, d.profile FROM mlflow_dataset_inputs i"
    " JOIN mlflow_datasets d ON d.id = i.dataset_id WHERE i.run_id IN ({}) ORDER BY d.id"
)
_MODELS = (
    "SELECT run_id, kind, model_id, step FROM mlflow_run_models WHERE run_id IN ({}) ORDER BY run_id, step, model_id"
)
_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a run took and made, as MLflow writes it."""

    inputs: dict[str, list[Any]] = field(default_factory=lambda: {"dataset_inputs": [], "model_inputs": []})
    outputs: dict[str, list[Any]] = field(default_factory=lambda: {"model_outputs": []})


class DatasetSaid(msgspec.Struct):
    """A data set as a client names it."""

    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetInput(msgspec.Struct):
    """A data set that a run took, with words on how."""

    dataset: DatasetSaid
    tags: list[Pair] = []


class RunModel(msgspec.Struct):
    """A logged model that a run took or made, and at which step."""

    model_id: str = ""
    step: int = 0


class LogInputs(msgspec.Struct):
    """What a run took."""

    run_id: str = ""
    datasets: list[DatasetInput] = []
    models: list[RunModel] = []


class LogOutputs(msgspec.Struct):
    """What a run made."""

    run_id: str = ""
    models: list[RunModel] = []


class LogModel(msgspec.Struct):
    """A model that a run made, as MLflow told it before it had logged models."""

    run_id: str = ""
    model_json: str = ""


class SearchDatasets(msgspec.Struct):
    """Whose data sets."""

    experiment_ids: list[str] = []


@api("POST", "2.0/mlflow/runs/log-inputs")
def log_inputs(ctx: Context, body: LogInputs) -> None:
    """Record what a run took; what is sent again changes nothing."""
    run, experiment = _run_to_write(ctx, body.run_id)
    for said in body.datasets:
        _check_dataset(said)
        dataset = _dataset(ctx, experiment, said.dataset)
        row = {"run_id": run, "dataset_id": dataset, "tags": tags_of(said.tags)}
        ctx.session.execute(_insert(ctx, DatasetInputRow).values(row).on_conflict_do_nothing())
    _link_models(ctx, run, _INPUT, body.models)


@api("POST", "2.0/mlflow/runs/outputs")
def log_outputs(ctx: Context, body: LogOutputs) -> None:
    """Record what a run made; what is sent again changes nothing."""
    run, _ = _run_to_write(ctx, body.run_id)
    if not body.models:
        raise InvalidInput("Missing value for required parameter 'models'.")
    _link_models(ctx, run, _OUTPUT, body.models)


@api("POST", "2.0/mlflow/runs/log-model")
async def log_model(scope: Scope, body: LogModel) -> None:
    """Add a model to the history that MLflow keeps in a tag of the run; one that is there already stays once."""
    run = required(body.run_id, "run_id")
    model = _model_info(run, required(body.model_json, "model_json"))
    history = await run_in_threadpool(_history_of, scope, run)
    if model not in history:
        text = json.dumps([*history, model], ensure_ascii=False)
        with in_mlflows_words(run):
            await log(scope, run, Batch(tags=[(_HISTORY, text)]), ended_too=True)


@api("POST", "2.0/mlflow/experiments/search-datasets", reads=True)
def search_datasets(ctx: Context, body: SearchDatasets) -> Any:
    """List the data sets that runs of some experiments took, and for what."""
    ctx.require("experiments.read")
    if not body.experiment_ids:
        raise InvalidInput("SearchDatasets request must specify at least one experiment_id.")
    if len(body.experiment_ids) > _MOST_EXPERIMENTS:
        raise InvalidInput(
            f"SearchDatasets request cannot specify more than {_MOST_EXPERIMENTS} experiment_ids. "
            f"Received {len(body.experiment_ids)} experiment_ids."
        )
    query = (
        select(DatasetRow.experiment_id, DatasetRow.name, DatasetRow.digest, DatasetInputRow.tags)
        .join(DatasetInputRow, DatasetInputRow.dataset_id == DatasetRow.id)
        .where(DatasetRow.project_id == ctx.project_id, DatasetRow.experiment_id.in_(resolve(ctx, body.experiment_ids)))
        .order_by(DatasetRow.experiment_id, DatasetRow.name, DatasetRow.digest)
    )
    found: dict[tuple[str, ...], None] = {}
    for experiment, name, digest, tags in ctx.session.execute(query):
        found[experiment, name, digest, tags.get(_CONTEXT, "")] = None
        if len(found) == _MOST_SUMMARIES:
            break
    fields = ("experiment_id", "name", "digest", "context")
    return {"dataset_summaries": [dict(zip(fields, summary, strict=True)) for summary in found]}


def lineage_of(raw: Raw, runs: Sequence[str]) -> dict[str, Lineage]:
    """Return what runs took and made, by run, in two queries for each thousand; a run without either is left out."""
    found: dict[str, Lineage] = {}
    for start in range(0, len(runs), _AT_ONCE):
        part = runs[start : start + _AT_ONCE]
        holes = ", ".join("?" * len(part))
        for run, tags, *dataset in raw.execute(_DATASETS.format(holes), part).fetchall():
            labels = json.loads(tags) if isinstance(tags, str) else tags
            known = {name: value for name, value in zip(_LONGEST, dataset, strict=True) if value is not None}
            view = {"tags": pairs(labels), "dataset": known}
            found.setdefault(run, Lineage()).inputs["dataset_inputs"].append(view)
        for run, kind, model, step in raw.execute(_MODELS.format(holes), part).fetchall():
            lineage = found.setdefault(run, Lineage())
            if kind == _INPUT:
                lineage.inputs["model_inputs"].append({"model_id": model})
            else:
                lineage.outputs["model_outputs"].append({"model_id": model, "step": step})
    return found


def _run_to_write(ctx: Context, run: str) -> tuple[str, str]:
    with in_mlflows_words(required(run, "run_id")):
        return run_to_write(ctx, run)


def _model_info(run: str, text: str) -> dict[str, Any]:
    try:
        model = json.loads(text)
    except (ValueError, RecursionError) as wrong:
        raise InvalidInput("Malformed model info: model_json is no JSON.") from wrong
    missing = {"artifact_path", "flavors", "utc_time_created", "run_id"} - set(model if isinstance(model, dict) else ())
    if missing:
        raise InvalidInput(f"Model json is missing mandatory fields: {', '.join(sorted(missing))}.")
    if model["run_id"] != run:
        raise InvalidInput(f"The model's run_id '{str(model['run_id'])[:100]}' is not the run's, '{run}'.")
    return dict(model)


def _history_of(scope: Scope, run: str) -> list[Any]:
    with scope.work(write=False) as ctx:
        _run_to_write(ctx, run)
        found = json.loads(experiments.find_run(ctx, run).tags.get(_HISTORY, "[]"))
        return found if isinstance(found, list) else []


def _dataset(ctx: Context, experiment: str, said: DatasetSaid) -> str:
    """Return the id of an experiment's data set; the first words on it stay."""
    there = (DatasetRow.experiment_id == experiment, DatasetRow.name == said.name, DatasetRow.digest == said.digest)
    query = select(DatasetRow.id).where(*there)
    known = ctx.session.scalar(query)
    if known is not None:
        return known
    row = {
        "id": new_id("mds"),
        "project_id": ctx.project_id,
        "experiment_id": experiment,
        **msgspec.structs.asdict(said),
    }
    ctx.session.execute(_insert(ctx, DatasetRow).values(row).on_conflict_do_nothing())
    return ctx.session.scalars(query).one()


def _link_models(ctx: Context, run: str, kind: str, models: Iterable[RunModel]) -> None:
    rows: list[dict[str, Any]] = [
        {"run_id": run, "kind": kind, "model_id": required(model.model_id, "model_id"), "step": model.step}
        for model in models
    ]
    for row in rows:
        check_length(row["model_id"], ID, "model_id")
    if rows:
        ctx.session.execute(_insert(ctx, RunModelRow).on_conflict_do_nothing(), rows)


def _insert(ctx: Context, row: Any) -> Any:
    return (postgresql.insert if ctx.session.get_bind().dialect.name == "postgresql" else sqlite.insert)(row)


def _check_dataset(said: DatasetInput) -> None:
    for name, longest in _LONGEST.items():
        value = getattr(said.dataset, name)
        if name in ("name", "digest"):
            required(value, name)
        check_length(value or "", longest, name)
    for tag in said.tags:
        for name, longest in _LONGEST_TAG.items():
            check_length(getattr(tag, name), longest, name)
