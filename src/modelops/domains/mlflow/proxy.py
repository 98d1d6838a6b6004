"""MLflow's artifact proxy: files up, down, listed and taken away, streamed and by the platform's permissions."""

import re
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import BlobInfo
from modelops.domains.data import service as data
from modelops.domains.data.answers import FileAnswer
from modelops.domains.data.uploads import file_chunks, store_body
from modelops.domains.experiments.artifacts import run_to_read
from modelops.domains.mlflow.files import (
    Place,
    StoredFile,
    check_writing,
    delete_files,
    find_file,
    list_folder,
    model_place,
    place_of,
    put_file,
    run_place,
)
from modelops.domains.mlflow.names import required
from modelops.domains.mlflow.protocol import NotSupported, api, door
from modelops.domains.mlflow.rules import clean_path
from modelops.domains.mlflow.sources import place_in
from modelops.domains.mlflow.versions import find_model_version
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_ROOT = "2.0/mlflow-artifacts"
_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_UNSUPPORTED = {
    "mpu/create": "Multipart upload is not supported for the current artifact repository",
    "mpu/complete": "Multipart upload is not supported for the current artifact repository",
    "mpu/abort": "Multipart upload is not supported for the current artifact repository",
    "presigned": "Presigned downloads are not supported for the current artifact repository",
}


class Folder(msgspec.Struct):
    """A folder of the tree."""

    path: str = ""


class RunFolder(msgspec.Struct):
    """A folder of a run, or a file."""

    run_id: str = ""
    run_uuid: str = ""
    path: str = ""


class VersionFile(msgspec.Struct):
    """A file of a model version."""

    name: str = ""
    version: str = ""
    path: str = ""


class ModelFolder(msgspec.Struct):
    """A folder of a logged model."""

    artifact_directory_path: str = ""


class ModelFile(msgspec.Struct):
    """A file of a logged model."""

    artifact_file_path: str = ""


@api("GET", f"{_ROOT}/artifacts", f"{_ROOT}/artifacts/")
def list_artifacts(ctx: Context, query: Folder) -> Any:
    """List a folder of the tree."""
    return {"files": _listed(ctx, place_of(clean_path(query.path)), "")}


@api("GET", f"{_ROOT}/artifacts/{{path:path}}")
def download_artifact(scope: Scope, path: str) -> Response:
    """Send a file, verified before its first byte leaves."""
    return _sent(scope, place_of(clean_path(path)))


@api("PUT", f"{_ROOT}/artifacts/{{path:path}}")
async def upload_artifact(scope: Scope, path: str) -> None:
    """Take a file."""
    await _receive(scope, place_of(clean_path(path)))


@api("DELETE", f"{_ROOT}/artifacts/{{path:path}}")
def delete_artifact(ctx: Context, path: str) -> None:
    """Take a file or a folder away."""
    delete_files(ctx, place_of(clean_path(path)))


@api("GET", "2.0/mlflow/artifacts/list")
def list_run_artifacts(ctx: Context, query: RunFolder) -> Any:
    """List a folder of a run."""
    run, experiment = run_to_read(ctx, required(query.run_id or query.run_uuid, "run_id"))
    path = clean_path(query.path)
    return {"files": _listed(ctx, run_place(run, path), path), "root_uri": run_root(experiment, run)}


@door.route("GET", "/get-artifact", "/ajax-api/2.0/mlflow/get-artifact")
def get_run_artifact(scope: Scope, query: RunFolder) -> Response:
    """Send a file of a run."""
    return _sent(scope, run_place(required(query.run_id or query.run_uuid, "run_id"), _file_path(query.path)))


@door.route("POST", "/ajax-api/2.0/mlflow/upload-artifact")
async def upload_run_artifact(scope: Scope) -> None:
    """Take a file of a run; which, stands in the query."""
    query = scope.request.query_params
    run, path = query.get("run_uuid") or query.get("run_id"), query.get("path")
    if not run or not path:
        raise InvalidInput(f"Request must specify {'path' if run else 'run_uuid'}.")
    await _receive(scope, run_place(run, _file_path(path)), empty=False)


@door.route("GET", "/model-versions/get-artifact", "/ajax-api/2.0/mlflow/model-versions/get-artifact")
def get_version_artifact(scope: Scope, query: VersionFile) -> Response:
    """Send a file of a registered version, or of the source of one that has none of its own."""
    path = _file_path(query.path)
    with scope.work(write=False) as ctx:
        place = place_in(ctx, find_model_version(ctx, query.name, query.version), path)
    return _sent(scope, place)


@api("GET", "2.0/mlflow/logged-models/{model_id}/artifacts/directories")
def list_logged_model_artifacts(ctx: Context, query: ModelFolder, model_id: str) -> Any:
    """List a folder of a logged model."""
    path = clean_path(query.artifact_directory_path)
    return {"files": _listed(ctx, model_place(model_id, path), path)}


@api("GET", "2.0/mlflow/logged-models/{model_id}/artifacts/files")
def get_logged_model_artifact(scope: Scope, query: ModelFile, model_id: str) -> Response:
    """Send a file of a logged model."""
    return _sent(scope, model_place(model_id, _file_path(query.artifact_file_path, "artifact_file_path")))


def run_root(experiment: str, run: str) -> str:
    """Return the URI of a run's artifacts."""
    return f"mlflow-artifacts:/{experiment}/{run}/artifacts"


def _refuse_each(operation: str, why: str) -> None:
    async def refuse_operation(scope: Scope, path: str) -> None:
        raise NotSupported(f"{why}: send the file as one body, however large.")

    for method in ("GET", "POST"):
        api(method, f"{_ROOT}/{operation}/{{path:path}}", reads=True)(refuse_operation)


for _operation, _why in _UNSUPPORTED.items():
    _refuse_each(_operation, _why)


def _file_path(path: str, name: str = "path") -> str:
    return required(clean_path(path), name)


def _listed(ctx: Context, place: Place, above: str) -> list[dict[str, Any]]:
    """Return a folder's content; paths stand below `above`."""
    return [
        {"path": f"{above}/{entry.name}" if above else entry.name, "is_dir": entry.size is None}
        | ({} if entry.size is None else {"file_size": entry.size})
        for entry in list_folder(ctx, place)
    ]


async def _receive(scope: Scope, place: Place, *, empty: bool = True) -> None:
    """Take a request's body as a file; `empty` tells whether it may have no bytes."""
    await run_in_threadpool(_check, scope, place)
    blob = await store_body(scope)
    if not blob.size and not empty:
        raise InvalidInput("Request must specify data.", hint="An empty file is sent to the artifact proxy.")
    await run_in_threadpool(_keep, scope, place, blob)


def _check(scope: Scope, place: Place) -> None:
    with scope.work(write=False) as ctx:
        check_writing(ctx, place)


def _keep(scope: Scope, place: Place, blob: BlobInfo) -> None:
    with scope.work() as ctx:
        put_file(ctx, place, blob)


def _sent(scope: Scope, place: Place) -> Response:
    with scope.work(write=False) as ctx:
        file = find_file(ctx, place)
        open_blob = data.download_artifact(ctx, file.digest)[1] if file.content is None else None
    if open_blob is None:
        answer = Response(file.content, media_type=file.media_type)
    else:
        opened = open_blob()
        answer = FileAnswer(
            opened,
            file_chunks(opened),
            media_type=file.media_type,
            filename="file",
            digest=file.digest,
            size=file.size,
        )
    answer.headers["Content-Type"] = file.media_type
    answer.headers["Content-Disposition"] = _disposition(file)
    return answer


def _disposition(file: StoredFile) -> str:
    """Return the header that names a download: as a token where it can be, and by RFC 6266 elsewhere."""
    name = file.path.rpartition("/")[2]
    return f"attachment; filename={name}" if _TOKEN.fullmatch(name) else f"attachment; filename*=UTF-8''{quote(name)}"
