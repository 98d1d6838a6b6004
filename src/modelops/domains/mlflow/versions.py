"""MLflow's model versions: the platform's own, under MLflow's paths."""

from typing import Any

import msgspec

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.mlflow.filters import Field, Grammar
from modelops.domains.mlflow.names import required
from modelops.domains.mlflow.paging import cut, page_size, read_token
from modelops.domains.mlflow.protocol import api
from modelops.domains.mlflow.registry import (
    KINDS,
    TIMES,
    find_registered_model,
    number_of,
    wanted_of,
)
from modelops.domains.mlflow.rules import ACTIVE, canonical_stage, checked, stage_name, way_to
from modelops.domains.mlflow.sources import origin_of
from modelops.domains.mlflow.views import VERSION_ROOT, version_view
from modelops.domains.models import service as models
from modelops.domains.models.schemas import (
    ModelVersion,
    Stage,
    StageChange,
    VersionUpdate,
)
from modelops.domains.models.searching import Wanted
from modelops.kernel.context import Context

_ROOT = "2.0/mlflow/model-versions"
_MOST = 200_000
_FIELDS = {
    "name": "name",
    "version_number": "version",
    "run_id": "run",
    "source_path": "source",
    "creation_timestamp": "created_at",
    "last_updated_timestamp": "updated_at",
}
_GRAMMAR = Grammar(
    {
        "attribute": Field(
            numbers=TIMES | {"version_number"},
            keys=frozenset(_FIELDS),
            lists=frozenset({"name", "run_id"}),
            ordered=TIMES | {"name", "version_number"},
        ),
        "tag": Field(ordered=frozenset()),
    },
    KINDS,
)


class Version(msgspec.Struct):
    """A version by name and number."""

    name: str = ""
    version: str = ""


class UpdateVersion(msgspec.Struct):
    """Another description."""

    name: str = ""
    version: str = ""
    description: str | None = None


class Transition(msgspec.Struct):
    """A move to another stage."""

    name: str = ""
    version: str = ""
    stage: str = ""
    archive_existing_versions: bool = False


class SearchVersions(msgspec.Struct):
    """A search."""

    filter: str = ""
    max_results: int = 10_000
    order_by: list[str] = []
    page_token: str = ""


class VersionTag(msgspec.Struct):
    """A tag of a version."""

    name: str = ""
    version: str = ""
    key: str = ""
    value: str = ""


@api("GET", f"{_ROOT}/get")
def get_model_version(ctx: Context, query: Version) -> Any:
    """Return a version."""
    return {"model_version": version_view(find_model_version(ctx, query.name, query.version))}


@api("PATCH", f"{_ROOT}/update")
def update_model_version(ctx: Context, body: UpdateVersion) -> Any:
    """Describe a version."""
    version = find_model_version(ctx, body.name, body.version)
    change = checked(VersionUpdate, description=body.description)
    return {"model_version": version_view(models.update_version(ctx, version.model_id, version.id, change))}


@api("DELETE", f"{_ROOT}/delete")
def delete_model_version(ctx: Context, body: Version) -> None:
    """Delete a version."""
    version = find_model_version(ctx, body.name, body.version)
    models.delete_version(ctx, version.model_id, version.id)


@api("POST", f"{_ROOT}/transition-stage")
def transition_model_version_stage(ctx: Context, body: Transition) -> Any:
    """Move a version by the platform's own rules; in one unit of work, so that it arrives or stays."""
    version = find_model_version(ctx, body.name, body.version)
    wanted = canonical_stage(required(body.stage, "stage"))
    if body.archive_existing_versions and wanted not in ACTIVE:
        raise InvalidInput(
            f"Model version transition cannot archive existing model versions because '{wanted}' is not an Active stage."
        )
    for stage in way_to(version.stage, wanted):
        version = _move(ctx, version, stage)
    if body.archive_existing_versions:
        _archive_others(ctx, version)
    return {"model_version": version_view(version)}


@api("GET", f"{_ROOT}/get-download-uri")
def get_model_version_download_uri(ctx: Context, query: Version) -> Any:
    """Return where a version's files are loaded from: its own where it has some, and its source elsewhere."""
    version = origin_of(ctx, find_model_version(ctx, query.name, query.version))
    return {"artifact_uri": f"{VERSION_ROOT}{version.id}" if version.files else version.source}


@api("GET", f"{_ROOT}/search")
def search_model_versions(ctx: Context, query: SearchVersions) -> Any:
    """Search versions."""
    limit = page_size(query.max_results, _MOST)
    offset = read_token(query.page_token)
    wanted = wanted_of(_GRAMMAR.read_filter(query.filter), _FIELDS)
    order = [(_FIELDS[key], descending) for _, key, descending in _GRAMMAR.read_orders(query.order_by)]
    order = order or [("updated_at", True)]
    rows = models.search_versions(ctx, wanted, order, offset=offset, limit=limit + 1)
    found, token = cut(rows, offset, limit)
    return {"model_versions": [version_view(version) for version in found], "next_page_token": token}


@api("POST", f"{_ROOT}/set-tag")
def set_model_version_tag(ctx: Context, body: VersionTag) -> None:
    """Set a tag of a version."""
    version = find_model_version(ctx, body.name, body.version)
    models.tag_version(ctx, version.model_id, version.id, required(body.key, "key"), body.value)


@api("DELETE", f"{_ROOT}/delete-tag")
def delete_model_version_tag(ctx: Context, body: VersionTag) -> None:
    """Take a tag of a version away."""
    version = find_model_version(ctx, body.name, body.version)
    models.tag_version(ctx, version.model_id, version.id, required(body.key, "key"), None)


def find_model_version(ctx: Context, name: str, version: str) -> ModelVersion:
    """Return a version by the name of its model and its number.

    Raises:
        InvalidInput: what should be a number is none.
        NotFound: there is no such version.
    """
    number = number_of(required(version, "version"))
    try:
        return models.get_version(ctx, find_registered_model(ctx, name).id, str(number))
    except NotFound as missing:
        raise NotFound(f"Model Version (name={name[:250]}, version={number}) not found.") from missing


def _move(ctx: Context, version: ModelVersion, stage: Stage) -> ModelVersion:
    return models.set_stage(
        ctx, version.model_id, StageChange(stage=stage, version=version.version, comment="Through MLflow.")
    )


def _archive_others(ctx: Context, moved: ModelVersion) -> None:
    name = [Wanted("name", "=", moved.name), Wanted("stage", "=", moved.stage)]
    for other in models.search_versions(ctx, name, [], offset=0, limit=_MOST):
        if other.id != moved.id and stage_name(other.stage) == stage_name(moved.stage):
            _move(ctx, other, Stage.RETIREMENT)
