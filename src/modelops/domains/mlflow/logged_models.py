"""MLflow's logged models: a model folder beside a run, with parameters, tags and metrics of its own."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.ids import new_id
from modelops.domains.mlflow.experiments import DEFAULT_ID, Pair, default_id, find_experiment, location_of, resolve
from modelops.domains.mlflow.files import MODELS
from modelops.domains.mlflow.logged_search import Dataset, OrderBy, logged_model_query
from modelops.domains.mlflow.model_metrics import metric_view, metrics_of, missing_model
from modelops.domains.mlflow.names import check_length, required
from modelops.domains.mlflow.paging import cut, page_size, read_token
from modelops.domains.mlflow.protocol import api, milliseconds, pairs
from modelops.domains.mlflow.tables import LoggedModelMetricRow, LoggedModelRow
from modelops.domains.mlflow.views import tags_of
from modelops.domains.models import service as models
from modelops.domains.models.rules import check_tag
from modelops.domains.models.schemas import ModelVersion
from modelops.domains.models.searching import Wanted
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_ROOT = "2.0/mlflow/logged-models"
_MOST = 1_000
_MOST_VERSIONS = 1_000
_AS_MADE = [("created_at", False), ("version", False)]
_LONGEST_PARAM = 6_000
_NOT_IN_NAMES = frozenset("/:.%\"'")
_STATUSES = {0: "UNSPECIFIED", 1: "PENDING", 2: "READY", 3: "FAILED"}
_WIRE = {
    "UNSPECIFIED": "LOGGED_MODEL_STATUS_UNSPECIFIED",
    "PENDING": "LOGGED_MODEL_PENDING",
    "READY": "LOGGED_MODEL_READY",
    "FAILED": "LOGGED_MODEL_UPLOAD_FAILED",
}


class CreateLoggedModel(msgspec.Struct):
    """A new logged model."""

    experiment_id: str = ""
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[Pair] = []
    tags: list[Pair] = []


class Finalize(msgspec.Struct):
    """How its upload ended: a number of MLflow's, or the name of one."""

    status: int | str = 0


class Params(msgspec.Struct):
    """Parameters."""

    params: list[Pair] = []


class ModelTags(msgspec.Struct):
    """Tags."""

    tags: list[Pair] = []


class Shown(msgspec.Struct):
    """Whether a deleted one is shown."""

    allow_deleted: bool = False


class SearchLoggedModels(msgspec.Struct):
    """A search."""

    experiment_ids: list[str] = []
    filter: str = ""
    datasets: list[Dataset] = []
    max_results: int = 100
    order_by: list[OrderBy] = []
    page_token: str = ""


@api("POST", _ROOT)
def create_logged_model(scope: Scope, body: CreateLoggedModel) -> Any:
    """Begin a logged model; its files come next."""
    if body.experiment_id == DEFAULT_ID:
        scope.actor.require("runs.write")
        default_id(scope)
    with scope.work() as ctx:
        return _create(ctx, body)


@api("GET", f"{_ROOT}/{{model_id}}")
def get_logged_model(ctx: Context, query: Shown, model_id: str) -> Any:
    """Return a logged model."""
    ctx.require("experiments.read")
    return {"model": _views(ctx, [_find(ctx, model_id, deleted=query.allow_deleted)])[0]}


@api("PATCH", f"{_ROOT}/{{model_id}}")
def finalize_logged_model(ctx: Context, body: Finalize, model_id: str) -> Any:
    """Say how a logged model's upload ended."""
    row = _to_write(ctx, model_id)
    row.status = _status(body.status)
    return {"model": _views(ctx, [row])[0]}


@api("DELETE", f"{_ROOT}/{{model_id}}")
def delete_logged_model(ctx: Context, model_id: str) -> None:
    """Delete a logged model; versions that were registered from it keep their files."""
    _to_write(ctx, model_id).deleted_at = ctx.clock.now()


@api("POST", f"{_ROOT}/{{model_id}}/params")
def log_logged_model_params(ctx: Context, body: Params, model_id: str) -> None:
    """Record parameters of a logged model; one that is there already stays as it is."""
    row = _to_write(ctx, model_id)
    row.params = _checked_params(row.params, body.params)


@api("PATCH", f"{_ROOT}/{{model_id}}/tags")
def set_logged_model_tags(ctx: Context, body: ModelTags, model_id: str) -> Any:
    """Set tags of a logged model."""
    row = _to_write(ctx, model_id)
    row.tags = {**row.tags, **_checked_tags(body.tags)}
    return {"model": _views(ctx, [row])[0]}


@api("DELETE", f"{_ROOT}/{{model_id}}/tags/{{key:path}}")
def delete_logged_model_tag(ctx: Context, model_id: str, key: str) -> None:
    """Take a tag of a logged model away."""
    row = _to_write(ctx, model_id)
    if key not in row.tags:
        raise NotFound(f"No tag with key {key!r} found for model with ID {model_id!r}.")
    row.tags = {name: said for name, said in row.tags.items() if name != key}


@api("POST", f"{_ROOT}/search", reads=True)
def search_logged_models(ctx: Context, body: SearchLoggedModels) -> Any:
    """Search the logged models of some experiments."""
    ctx.require("experiments.read")
    if not body.experiment_ids:
        raise InvalidInput("Missing value for required parameter 'experiment_ids'.")
    limit, offset = page_size(body.max_results, _MOST), read_token(body.page_token)
    query = logged_model_query(ctx, resolve(ctx, body.experiment_ids), body.filter, body.datasets, body.order_by)
    rows, token = cut(list(ctx.session.scalars(query.offset(offset).limit(limit + 1))), offset, limit)
    return {"models": _views(ctx, rows), "next_page_token": token}


def _create(ctx: Context, body: CreateLoggedModel) -> dict[str, Any]:
    ctx.require("runs.write")
    experiment = find_experiment(ctx, required(body.experiment_id, "experiment_id"))
    now, model_id = ctx.clock.now(), new_id("m").replace("_", "-")
    if set(body.name) & _NOT_IN_NAMES or len(body.name) > 250:
        raise InvalidInput(
            f"Invalid model name ('{body.name[:100]}') provided.",
            hint=f"It has up to 250 characters, and none of {' '.join(sorted(_NOT_IN_NAMES))}.",
        )
    check_length(body.model_type, 250, "model_type")
    check_length(body.source_run_id, 250, "source_run_id")
    row = LoggedModelRow(
        id=model_id,
        project_id=ctx.project_id,
        experiment_id=experiment.id,
        location=location_of(experiment),
        name=body.name or f"model {model_id[-6:]}",
        model_type=body.model_type,
        source_run_id=body.source_run_id,
        status="PENDING",
        tags=_checked_tags(body.tags),
        params=_checked_params({}, body.params),
        created_at=now,
        created_by=ctx.actor.id,
        updated_at=now,
    )
    ctx.session.add(row)
    ctx.session.flush()
    return {"model": _views(ctx, [row])[0]}


def _find(ctx: Context, model_id: str, *, deleted: bool = False, lock: bool = False) -> LoggedModelRow:
    query = ctx.query(LoggedModelRow).where(LoggedModelRow.id == model_id)
    if lock:
        query = query.with_for_update()
    row = ctx.session.scalars(query).one_or_none()
    if row is None or (row.deleted_at is not None and not deleted):
        raise missing_model(model_id)
    return row


def _to_write(ctx: Context, model_id: str) -> LoggedModelRow:
    ctx.require("runs.write")
    row = _find(ctx, model_id, lock=True)
    row.updated_at = ctx.clock.now()
    return row


def _status(said: int | str) -> str:
    by_wire = {wire: name for name, wire in _WIRE.items()}
    found = _STATUSES.get(said) if isinstance(said, int) else by_wire.get(said)
    if found is None:
        raise InvalidInput(f"Unknown model status: {str(said)[:50]}.")
    return found


def _checked_tags(entries: Iterable[Pair]) -> dict[str, str]:
    tags = tags_of(entries)
    for key, value in tags.items():
        check_tag(key, value)
    return tags


def _checked_params(present: dict[str, str], entries: Iterable[Pair]) -> dict[str, str]:
    found = dict(present)
    for entry in entries:
        check_tag(entry.key, entry.value)
        if len(entry.value) > _LONGEST_PARAM:
            raise InvalidInput(f"The parameter '{entry.key}' has more than {_LONGEST_PARAM:,} characters.")
        if found.setdefault(entry.key, entry.value) != entry.value:
            raise InvalidInput(f"The parameter '{entry.key}' is there already, with another value.")
    return found


def _views(ctx: Context, rows: Sequence[LoggedModelRow]) -> list[Any]:
    metrics = metrics_of(ctx, [row.id for row in rows])
    versions = _versions_of(ctx, [row.id for row in rows])
    return [_view(row, metrics.get(row.id, []), versions.get(row.id, [])) for row in rows]


def _versions_of(ctx: Context, model_ids: list[str]) -> dict[str, list[ModelVersion]]:
    found: dict[str, list[ModelVersion]] = {}
    if not model_ids or not ctx.can("models.read"):
        return found
    wanted = [Wanted("logged_model_id", "IN", model_ids)]
    for version in models.search_versions(ctx, wanted, _AS_MADE, offset=0, limit=_MOST_VERSIONS):
        found.setdefault(version.logged_model_id or "", []).append(version)
    return found


def _view(row: LoggedModelRow, metrics: list[LoggedModelMetricRow], versions: list[ModelVersion]) -> Any:
    numbered = [{"name": version.name, "version": version.version} for version in versions]
    known = {"mlflow.modelVersions": json.dumps(numbered, ensure_ascii=False)} if numbered else {}
    return {
        "info": {
            "model_id": row.id,
            "experiment_id": row.experiment_id,
            "name": row.name,
            "creation_timestamp_ms": milliseconds(row.created_at),
            "last_updated_timestamp_ms": milliseconds(row.updated_at),
            "artifact_uri": f"{row.location}/{MODELS}/{row.id}/artifacts",
            "status": _WIRE[row.status],
            "model_type": row.model_type,
            "source_run_id": row.source_run_id,
            "tags": pairs({**row.tags, **known}),
            "registrations": [{**one, "version": str(one["version"])} for one in numbered],
        },
        "data": {"params": pairs(row.params), "metrics": [metric_view(metric) for metric in metrics]},
    }
