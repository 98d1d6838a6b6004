"""MLflow's registered models: the platform's own, under MLflow's paths."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from modelops.contracts.errors import AlreadyExists, InvalidInput, NotFound
from modelops.domains.mlflow.experiments import Pair
from modelops.domains.mlflow.filters import Comparison, Field, Grammar
from modelops.domains.mlflow.names import required
from modelops.domains.mlflow.paging import cut, page_size, read_token
from modelops.domains.mlflow.protocol import api, moment_of
from modelops.domains.mlflow.rules import canonical_stage, check_alias_name, checked
from modelops.domains.mlflow.views import model_view, newest_by_name, tags_of, version_view
from modelops.domains.models import service as models
from modelops.domains.models.rules import check_tag
from modelops.domains.models.schemas import AliasSet, Model, ModelCreate, ModelRename, ModelUpdate
from modelops.domains.models.searching import Wanted
from modelops.kernel.context import Context

_ROOT = "2.0/mlflow/registered-models"
_MOST = 1_000
TIMES = frozenset({"creation_timestamp", "last_updated_timestamp"})
KINDS = {"attribute": "attribute", "attributes": "attribute", "tag": "tag", "tags": "tag"}
_FIELDS = {"name": "name", "creation_timestamp": "created_at", "last_updated_timestamp": "updated_at"}
_GRAMMAR = Grammar(
    {
        "attribute": Field(numbers=TIMES, keys=frozenset(_FIELDS), lists=frozenset({"name"})),
        "tag": Field(ordered=frozenset()),
    },
    KINDS,
    {"timestamp": "last_updated_timestamp"},
)
PROMPT = "mlflow.prompt.is_prompt"
"""The tag by which MLflow tells prompts from models; a model without it is none."""


class Named(msgspec.Struct):
    """A registered model by name."""

    name: str = ""


class CreateModel(msgspec.Struct):
    """A new registered model."""

    name: str = ""
    tags: list[Pair] = []
    description: str = ""


class RenameModel(msgspec.Struct):
    """Another name."""

    name: str = ""
    new_name: str = ""


class UpdateModel(msgspec.Struct):
    """Another description."""

    name: str = ""
    description: str | None = None


class SearchModels(msgspec.Struct):
    """A search."""

    filter: str = ""
    max_results: int = 100
    order_by: list[str] = []
    page_token: str = ""


class LatestVersions(msgspec.Struct):
    """The newest version of some stages."""

    name: str = ""
    stages: list[str] = []


class ModelTag(msgspec.Struct):
    """A tag of a registered model."""

    name: str = ""
    key: str = ""
    value: str = ""


class ModelAlias(msgspec.Struct):
    """An alias of a registered model."""

    name: str = ""
    alias: str = ""
    version: str = ""


@api("POST", f"{_ROOT}/create")
def create_registered_model(ctx: Context, body: CreateModel) -> Any:
    """Make a registered model."""
    ctx.require("models.write")
    name, tags = required(body.name, "name"), tags_of(body.tags)
    for key, value in tags.items():
        check_tag(key, value)
    try:
        made = models.create_model(ctx, checked(ModelCreate, name=name, description=body.description))
    except AlreadyExists as taken:
        raise AlreadyExists(f"Registered Model (name={name}) already exists.") from taken
    for key, value in tags.items():
        models.tag_model(ctx, made.id, key, value)
    return _answer(ctx, models.get_model(ctx, made.id))


@api("GET", f"{_ROOT}/get")
def get_registered_model(ctx: Context, query: Named) -> Any:
    """Return a registered model."""
    return _answer(ctx, find_registered_model(ctx, query.name))


@api("POST", f"{_ROOT}/rename")
def rename_registered_model(ctx: Context, body: RenameModel) -> Any:
    """Give a registered model another name."""
    model, name = find_registered_model(ctx, body.name), required(body.new_name, "new_name")
    try:
        return _answer(ctx, models.rename_model(ctx, model.id, checked(ModelRename, name=name)))
    except AlreadyExists as taken:
        raise AlreadyExists(f"Registered Model (name={name}) already exists.") from taken


@api("PATCH", f"{_ROOT}/update")
def update_registered_model(ctx: Context, body: UpdateModel) -> Any:
    """Describe a registered model."""
    model = find_registered_model(ctx, body.name)
    return _answer(ctx, models.update_model(ctx, model.id, checked(ModelUpdate, description=body.description)))


@api("DELETE", f"{_ROOT}/delete")
def delete_registered_model(ctx: Context, body: Named) -> None:
    """Delete a registered model."""
    models.delete_model(ctx, find_registered_model(ctx, body.name).id)


@api("GET", f"{_ROOT}/search")
def search_registered_models(ctx: Context, query: SearchModels) -> Any:
    """Search registered models."""
    limit = page_size(query.max_results, _MOST)
    offset = read_token(query.page_token)
    wanted = wanted_of(_GRAMMAR.read_filter(query.filter), _FIELDS)
    order = [(_FIELDS[key], descending) for _, key, descending in _GRAMMAR.read_orders(query.order_by)]
    rows = models.search_models(ctx, wanted, order, offset=offset, limit=limit + 1)
    found, token = cut(rows, offset, limit)
    newest = models.newest_by_stage(ctx, [model.id for model in found])
    return {"registered_models": [model_view(model, newest) for model in found], "next_page_token": token}


@api("POST", f"{_ROOT}/get-latest-versions", reads=True)
@api("GET", f"{_ROOT}/get-latest-versions")
def get_latest_versions(ctx: Context, query: LatestVersions) -> Any:
    """Return the newest version of each stage, or of some."""
    model = find_registered_model(ctx, query.name)
    stages = {canonical_stage(stage) for stage in query.stages}
    newest = newest_by_name(models.newest_by_stage(ctx, [model.id]))
    return {"model_versions": [version_view(v) for stage, v in newest.items() if not stages or stage in stages]}


@api("POST", f"{_ROOT}/set-tag")
def set_registered_model_tag(ctx: Context, body: ModelTag) -> None:
    """Set a tag of a registered model."""
    model = find_registered_model(ctx, body.name)
    models.tag_model(ctx, model.id, required(body.key, "key"), body.value)


@api("DELETE", f"{_ROOT}/delete-tag")
def delete_registered_model_tag(ctx: Context, body: ModelTag) -> None:
    """Take a tag of a registered model away."""
    models.tag_model(ctx, find_registered_model(ctx, body.name).id, required(body.key, "key"), None)


@api("POST", f"{_ROOT}/alias")
def set_registered_model_alias(ctx: Context, body: ModelAlias) -> None:
    """Point an alias at a version."""
    check_alias_name(body.alias)
    model = find_registered_model(ctx, body.name)
    models.set_alias(ctx, model.id, body.alias, AliasSet(version=number_of(required(body.version, "version"))))


@api("DELETE", f"{_ROOT}/alias")
def delete_registered_model_alias(ctx: Context, body: ModelAlias) -> None:
    """Take an alias away; one that is not there is no error."""
    check_alias_name(body.alias)
    model = find_registered_model(ctx, body.name)
    ctx.require("models.promote")
    if body.alias in model.aliases:
        models.delete_alias(ctx, model.id, body.alias)


@api("GET", f"{_ROOT}/alias")
def get_model_version_by_alias(ctx: Context, query: ModelAlias) -> Any:
    """Return the version that an alias points at; `latest` is the newest."""
    model = find_registered_model(ctx, query.name)
    if required(query.alias, "alias").lower() == "latest":
        return {"model_version": version_view(models.get_version(ctx, model.id, "latest"))}
    if query.alias not in model.aliases:
        raise InvalidInput(f"Registered model alias {query.alias[:100]} not found.")
    return {"model_version": version_view(models.get_version(ctx, model.id, str(model.aliases[query.alias])))}


def find_registered_model(ctx: Context, name: str) -> Model:
    """Return a model by its name alone.

    Raises:
        NotFound: there is none of that name; an id is none.
    """
    with in_mlflows_words(name):
        found = models.get_model(ctx, required(name, "name"))
        if found.name != name:
            raise NotFound(f"'{name}' is an id.")
    return found


@contextmanager
def in_mlflows_words(name: str) -> Iterator[None]:
    """Say that there is no such model as MLflow does."""
    try:
        yield
    except NotFound as missing:
        raise NotFound(f"Registered Model with name={name[:250]} not found.") from missing


def number_of(version: str) -> int:
    """Return a version's number.

    Raises:
        InvalidInput: it is none.
    """
    number = int(version) if version.isascii() and version.isdigit() and len(version) <= 9 else 0
    if number < 1:
        raise InvalidInput(f"Parameter 'version' must be an integer, got '{version[:100]}'.")
    return number


def wanted_of(comparisons: Iterable[Comparison], fields: Mapping[str, str]) -> list[Wanted]:
    """Return comparisons in the platform's fields; what lacks the tag of prompts is none."""
    found = []
    for one in comparisons:
        value = moment_of(int(one.value), one.key) if one.key in TIMES and one.kind == "attribute" else one.value
        if one.kind == "tag":
            absent = one.key == PROMPT and (one.operator, value) in (("=", "false"), ("!=", "true"))
            found.append(Wanted("tags", one.operator, value, one.key, absent=absent))
        else:
            found.append(Wanted(fields[one.key], one.operator, value))
    return found


def _answer(ctx: Context, model: Model) -> Any:
    return {"registered_model": model_view(model, models.newest_by_stage(ctx, [model.id]))}
