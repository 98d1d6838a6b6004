"""Registering what lies at a source, as MLflow's clients do: as a package where it is one, and else as a mere word on it."""

from typing import Any

import msgspec
from fastapi.concurrency import run_in_threadpool

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.ports import BlobStore
from modelops.domains.experiments import service as experiments
from modelops.domains.mlflow.experiments import Pair
from modelops.domains.mlflow.names import ID, check_length, required
from modelops.domains.mlflow.protocol import api
from modelops.domains.mlflow.registry import PROMPT, find_registered_model, in_mlflows_words
from modelops.domains.mlflow.rules import check_source, checked
from modelops.domains.mlflow.sources import ELSEWHERE, Found, lies_elsewhere, look_at
from modelops.domains.mlflow.views import tags_of, version_view
from modelops.domains.models import service as models
from modelops.domains.models.flavours.mlmodel import FILE, MlModel, parse_mlmodel
from modelops.domains.models.references import Reference, ReferenceVersion
from modelops.domains.models.rules import MLFLOW, check_tag
from modelops.domains.models.scans import scan_ahead
from modelops.domains.models.schemas import ModelSignature, ModelVersion, PackageFile, VersionCreate
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_MOST_FILES = 1_000
_MOST_BYTES = 4 * 1024 * 1024
_LONGEST_RUN = 250
_PROMPT = "It is a prompt, not a model."
_NOT_A_MODEL = f"At its source lies no file {FILE}, so nothing tells how to load it."


class CreateVersion(msgspec.Struct):
    """A new version."""

    name: str = ""
    source: str = ""
    run_id: str = ""
    tags: list[Pair] = []
    run_link: str = ""
    description: str = ""
    model_id: str = ""


@api("POST", "2.0/mlflow/model-versions/create")
async def create_model_version(scope: Scope, body: CreateVersion) -> Any:
    """Register what lies at a source; what lies elsewhere exists too, and cannot be deployed."""
    tags = tags_of(body.tags)
    for key, value in tags.items():
        check_tag(key, value)
    check_length(body.run_id, _LONGEST_RUN, "run_id")
    check_length(body.model_id, ID, "model_id")
    required(body.name, "name")
    if tags.get(PROMPT, "").lower() == "true":
        made: Reference | ReferenceVersion | ModelVersion = _reference(body, Found([], _PROMPT), None, _PROMPT)
    else:
        check_source(required(body.source, "source"))
        if lies_elsewhere(body.source):
            made = _reference(body, Found([], ELSEWHERE), None, ELSEWHERE)
        else:
            made = await run_in_threadpool(_register, scope, body)
    if isinstance(made, Reference):
        with in_mlflows_words(body.name):
            made = await models.register_reference(scope, made)
    return {"model_version": version_view(made)}


def _register(scope: Scope, body: CreateVersion) -> ModelVersion | Reference:
    """Register the package at a source, or return the word on it that is to be registered."""
    with scope.work(write=False) as ctx:
        ctx.require("models.write")
        find_registered_model(ctx, body.name)
        found = look_at(ctx, body.source)
        blobs = ctx.port(BlobStore)
    model = None if found.version is not None else _described(blobs, found)
    package: VersionCreate | str = found.why or _NOT_A_MODEL
    if found.files:
        with scope.work(write=False) as ctx:
            package = _package(ctx, body, found, model)
    if isinstance(package, str):
        return _reference(body, found, model, package)
    scan_ahead(scope, package)
    with scope.work() as ctx:
        version = models.register_version(ctx, package)
        for key, value in tags_of(body.tags).items():
            models.tag_version(ctx, version.model_id, version.id, key, value)
        return models.get_version(ctx, version.model_id, version.id)


def _described(blobs: BlobStore, found: Found) -> MlModel | None:
    for file in found.files:
        if file.path == FILE and file.size > _MOST_BYTES:
            raise InvalidInput(f"The file {FILE} has more than {_MOST_BYTES:,} bytes.")
        if file.path == FILE:
            return parse_mlmodel(b"".join(blobs.read(file.digest)))
    return None


def _package(ctx: Context, body: CreateVersion, found: Found, model: MlModel | None) -> VersionCreate | str:
    """Return the files at the source as a package to be registered, or why they are none."""
    origin = found.version
    why = _NOT_A_MODEL if model is None and origin is None else _unpackable(found)
    if why is not None:
        return why
    return checked(
        VersionCreate,
        name=body.name,
        flavour=origin.flavour if origin else MLFLOW,
        files=[checked(PackageFile, path=file.path, digest=file.digest, size=file.size) for file in found.files],
        signature=_signature(origin, model),
        run_id=_known_run(ctx, _run_of(body, found, model)),
        requirements=origin.requirements if origin else [],
        runs_code=True,  # an object in memory that a client logged may bring its own functions, as natively
        description=body.description,
        source=_source(body, origin),
        run_link=body.run_link or None,
        logged_model_id=_logged_model_of(body, found),
    )


def _reference(body: CreateVersion, found: Found, model: MlModel | None, why: str) -> Reference:
    return Reference(
        body.name,
        source=_source(body, found.version),
        why=why,
        run=_run_of(body, found, model),
        run_link=body.run_link or None,
        logged_model_id=_logged_model_of(body, found),
        description=body.description,
        tags=tags_of(body.tags),
    )


def _run_of(body: CreateVersion, found: Found, model: MlModel | None) -> str | None:
    origin = found.version
    return body.run_id or (origin.run_id or origin.claimed_run if origin else None) or (model.run_id if model else None)


def _logged_model_of(body: CreateVersion, found: Found) -> str | None:
    return body.model_id or found.logged_model_id or (found.version.logged_model_id if found.version else None)


def _unpackable(found: Found) -> str | None:
    """Tell why files cannot be a package; None where they can."""
    if len(found.files) > _MOST_FILES:
        return f"It has more than {_MOST_FILES:,} files."
    for file in found.files:
        try:
            checked(PackageFile, path=file.path, digest=file.digest, size=file.size)
        except InvalidInput:
            return f"Its file '{file.path[:200]}' has a name that a package cannot hold."
    return None


def _source(body: CreateVersion, origin: ModelVersion | None) -> str:
    """Return the source to be kept; an alias that was copied from may move, so the version it named is."""
    return f"models:/{origin.name}/{origin.version}" if origin else body.source


def _signature(origin: ModelVersion | None, model: MlModel | None) -> ModelSignature:
    if origin is not None:
        return origin.signature
    return (model.signature if model else None) or ModelSignature(inputs=[])


def _known_run(ctx: Context, run: str | None) -> str | None:
    try:
        return experiments.find_run(ctx, run).id if run else None
    except NotFound:
        return None
