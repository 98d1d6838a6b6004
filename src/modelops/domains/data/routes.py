"""Routes of data."""

import os
from typing import Annotated, Any, BinaryIO

from fastapi import Path, Query, Response
from fastapi.concurrency import run_in_threadpool

from modelops.contracts.schemas import Digest, Page
from modelops.domains.data import service
from modelops.domains.data.answers import FileAnswer, check_key, create_once
from modelops.domains.data.rules import MEDIA_TYPE
from modelops.domains.data.schemas import (
    Artifact,
    DataFormat,
    Dataset,
    DatasetCreate,
    DatasetRef,
    DatasetUpdate,
    DatasetVersion,
    Preview,
)
from modelops.domains.data.tabular import preview, stream_as
from modelops.domains.data.uploads import file_chunks, store_body, store_table
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router
from modelops.kernel.problems import documented
from modelops.kernel.scope import Scope

router = Router("data")

DigestInPath = Annotated[Digest, Path(description="`sha256:<64 hex digits>`")]
VersionInPath = Annotated[
    str,
    Path(max_length=40, description="A version's number, `latest`, or its id (then `-` may stand for the dataset)."),
]
MediaType = Annotated[str, Query(max_length=200, pattern=MEDIA_TYPE)]
Parents = Annotated[list[DatasetRef], Query(max_length=50, description="Dataset versions that this one was made from.")]

BYTES: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
BODY = {"requestBody": {"required": True, **BYTES}}
DOWNLOAD: dict[int | str, dict[str, Any]] = {200: {"description": "The bytes", **BYTES}, **documented(500)}


@router.post("/artifacts", status_code=201, response_model=Artifact, openapi_extra=BODY, responses=documented(500))
async def upload_artifact(
    scope: Scope,
    media_type: MediaType = "application/octet-stream",
    digest: Annotated[Digest | None, Query(description="Refuse a body that has another one.")] = None,
) -> Response:
    """Store a body as an artifact; the same content a second time is kept once."""
    await run_in_threadpool(_check_upload, scope)
    blob = await store_body(scope, digest)
    return await run_in_threadpool(
        create_once, scope, blob.digest, lambda ctx: service.upload_artifact(ctx, blob, media_type)
    )


@router.get("/artifacts")
def list_artifacts(ctx: Context, page: Listing) -> Page[Artifact]:
    """List the project's artifacts."""
    return service.list_artifacts(ctx, page)


@router.get("/artifacts/{digest}/info")
def get_artifact(ctx: Context, digest: DigestInPath) -> Artifact:
    """Return what is known of an artifact."""
    return service.get_artifact(ctx, digest)


@router.get("/artifacts/{digest}", responses=DOWNLOAD, response_class=Response)
def download_artifact(scope: Scope, digest: DigestInPath) -> Response:
    """Download an artifact; its bytes are verified before the first is sent."""
    with scope.work(write=False) as ctx:
        artifact, open_blob = service.download_artifact(ctx, digest)
    file = open_blob()
    name = digest.partition(":")[2]
    return FileAnswer(
        file, file_chunks(file), media_type=artifact.media_type, filename=name, digest=digest, size=artifact.size
    )


@router.post("/datasets", status_code=201)
def create_dataset(ctx: Context, body: DatasetCreate) -> Dataset:
    """Make a dataset, still without versions."""
    return service.create_dataset(ctx, body)


@router.get("/datasets")
def list_datasets(ctx: Context, page: Listing) -> Page[Dataset]:
    """List the project's datasets."""
    return service.list_datasets(ctx, page)


@router.get("/datasets/{dataset}")
def get_dataset(ctx: Context, dataset: Ref) -> Dataset:
    """Return a dataset."""
    return service.get_dataset(ctx, dataset)


@router.patch("/datasets/{dataset}")
def update_dataset(ctx: Context, dataset: Ref, body: DatasetUpdate) -> Dataset:
    """Change a dataset's description or tags."""
    return service.update_dataset(ctx, dataset, body)


@router.post(
    "/datasets/{dataset}/versions",
    status_code=201,
    response_model=DatasetVersion,
    openapi_extra=BODY,
    responses=documented(500),
)
async def create_dataset_version(
    scope: Scope,
    dataset: Ref,
    format: Annotated[DataFormat, Query(description="What the body is.")],  # noqa: A002 - the parameter's name
    parents: Parents = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Add a version from a file; it is read, profiled and kept as a whole, or not at all."""
    await run_in_threadpool(_check_new_version, scope, dataset, parents)
    original = await store_body(scope)
    table, content = await store_table(scope, original, format)

    def create(ctx: Context) -> DatasetVersion:
        return service.create_dataset_version(
            ctx, dataset, kind=format, original=original, table=table, content=content, parents=parents
        )

    return await run_in_threadpool(create_once, scope, original.digest, create)


@router.get("/datasets/{dataset}/versions")
def list_dataset_versions(ctx: Context, dataset: Ref, page: Listing) -> Page[DatasetVersion]:
    """List a dataset's versions."""
    return service.list_dataset_versions(ctx, dataset, page)


@router.get("/datasets/{dataset}/versions/{version}")
def get_dataset_version(ctx: Context, dataset: Ref, version: VersionInPath) -> DatasetVersion:
    """Return a version with its schema and profile."""
    return service.get_dataset_version(ctx, dataset, version)


@router.get("/datasets/{dataset}/versions/{version}/preview", responses=documented(500))
def preview_dataset_version(
    scope: Scope, dataset: Ref, version: VersionInPath, rows: Annotated[int, Query(ge=0, le=1_000)] = 20
) -> Preview:
    """Return the first rows of a version."""
    with scope.work(write=False) as ctx:
        open_table = service.preview_dataset_version(ctx, dataset, version)
    with open_table() as file:
        return preview(file, rows)


@router.get("/datasets/{dataset}/versions/{version}/content", responses=DOWNLOAD, response_class=Response)
def download_dataset_version(
    scope: Scope,
    dataset: Ref,
    version: VersionInPath,
    format: Annotated[DataFormat | None, Query(description="By default, as it was uploaded.")] = None,  # noqa: A002
) -> Response:
    """Download a version's table; its bytes are verified before the first is sent."""
    with scope.work(write=False) as ctx:
        found, digest, open_file = service.download_dataset_version(ctx, dataset, version, format)
    file, kind = open_file(), format or found.format
    about: dict[str, Any] = {
        "media_type": service.MEDIA_TYPES[kind],
        "filename": f"{found.dataset}-{found.version}.{kind.value}",
    }
    if format in (None, DataFormat.PARQUET):
        return FileAnswer(file, file_chunks(file), **about, digest=digest, size=_size(file))
    try:
        return FileAnswer(file, stream_as(file, kind), **about)
    except BaseException:
        file.close()
        raise


def _check_upload(scope: Scope) -> None:
    check_key(scope)
    with scope.work(write=False) as ctx:
        service.check_new_artifact(ctx)


def _check_new_version(scope: Scope, dataset: str, parents: list[str]) -> None:
    check_key(scope)
    with scope.work(write=False) as ctx:
        service.check_new_version(ctx, dataset, parents)


def _size(file: BinaryIO) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
