"""Routes of data."""

import os
from typing import Annotated, Any, BinaryIO

from fastapi import Header, Path, Query, Response
from fastapi.concurrency import run_in_threadpool

from modelops.contracts.errors import NotFound
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Digest, Page
from modelops.domains.data import service
from modelops.domains.data.answers import FileAnswer, PartAnswer, check_key, create_once
from modelops.domains.data.rules import parse_range
from modelops.domains.data.schemas import (
    MEDIA_TYPE,
    Artifact,
    DataFormat,
    Dataset,
    DatasetCreate,
    DatasetRef,
    DatasetUpdate,
    DatasetVersion,
    GarbageCollection,
    KeyRotation,
    Preview,
    Upload,
    UploadCreate,
    UploadPart,
    UploadState,
)
from modelops.domains.data.tabular import preview, stream_as
from modelops.domains.data.uploads import file_chunks, in_lane, join_parts, store_body, store_part, store_table
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

PARTIAL_DOWNLOAD: dict[int | str, dict[str, Any]] = {
    **DOWNLOAD,
    206: {"description": "A part of the bytes", **BYTES},
    307: {"description": "`Location` is a link to the bytes that needs no credentials and is valid for a while."},
    416: {"description": "The range lies behind the end."},
}


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


@router.get("/artifacts/{digest}", responses=PARTIAL_DOWNLOAD, response_class=Response)
def download_artifact(
    scope: Scope,
    digest: DigestInPath,
    redirect: Annotated[
        bool,
        Query(description="Answer 307 with a link into the artifact store, where the store can be asked directly."),
    ] = False,
    part: Annotated[str | None, Header(alias="Range", max_length=100, description="`bytes=FIRST-LAST`")] = None,
) -> Response:
    """Download an artifact; its bytes are verified before the first is sent, those of a part as far as the store can."""
    with scope.work(write=False) as ctx:
        artifact, open_blob = service.download_artifact(ctx, digest)
    store: BlobStore = scope.place.ports[BlobStore]
    name, seconds = digest.partition(":")[2], scope.place.settings.s3_link_s
    if redirect and seconds:
        with service.lost_as_damage(digest):
            url = store.link(digest, seconds=seconds, filename=name, media_type=artifact.media_type)
        if url is not None:
            return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})
    about: dict[str, Any] = {"media_type": artifact.media_type, "filename": name, "digest": digest}
    try:
        span = parse_range(part, artifact.size)
    except IndexError:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{artifact.size}"})
    if span is not None:
        with service.lost_as_damage(digest):
            return PartAnswer(store.read_range(digest, *span), span, artifact.size, **about)
    file = open_blob()
    return FileAnswer(file, file_chunks(file), **about, size=artifact.size)


@router.delete("/artifacts/{digest}", status_code=204)
def delete_artifact(ctx: Context, digest: DigestInPath) -> None:
    """Let go of an artifact that nothing in the project refers to; its bytes stay until they are collected."""
    service.delete_artifact(ctx, digest)


@router.post("/uploads", status_code=201)
def create_upload(ctx: Context, body: UploadCreate) -> Upload:
    """Begin to send a file in parts, or go on with the caller's open upload of the same content."""
    return service.create_upload(ctx, body)


@router.get("/uploads")
def list_uploads(ctx: Context, page: Listing) -> Page[Upload]:
    """List the uploads that are under way, and those just completed."""
    return service.list_uploads(ctx, page)


@router.get("/uploads/{upload}")
def get_upload(ctx: Context, upload: Ref) -> Upload:
    """Return an upload, with the parts that are there."""
    return service.get_upload(ctx, upload)


@router.put(
    "/uploads/{upload}/parts/{number}", response_model=UploadPart, openapi_extra=BODY, responses=documented(500)
)
async def put_upload_part(
    scope: Scope,
    upload: Ref,
    number: Annotated[int, Path(ge=1, le=10_000)],
    digest: Annotated[Digest | None, Query(description="Refuse a body that has another one.")] = None,
) -> UploadPart:
    """Send a part of an upload; it is there when this is answered, and replaces one of the same number."""
    size = await run_in_threadpool(_check_part, scope, upload, number)
    blob, part = await store_part(scope, number, size, digest)

    def record() -> None:
        with scope.work() as ctx:
            replaced = service.put_upload_part(ctx, upload, part, blob)
        if replaced is not None:
            scope.place.ports[BlobStore].delete(replaced)

    await run_in_threadpool(record)
    return part


@router.post("/uploads/{upload}/complete", status_code=201, response_model=Artifact, responses=documented(500))
async def complete_upload(scope: Scope, upload: Ref) -> Response:
    """Put the parts of an upload together; a second time, the artifact is answered again."""
    artifact = await in_lane(lambda: _complete(scope, upload))
    return Response(artifact.model_dump_json(), 201, media_type="application/json")


@router.delete("/uploads/{upload}", status_code=204)
def delete_upload(scope: Scope, upload: Ref) -> None:
    """Give an upload up, and remove its parts."""
    with scope.work() as ctx:
        blobs = service.delete_upload(ctx, upload)
    _remove_parts(scope, blobs)


@router.post("/artifact-store/collect-garbage")
def collect_garbage(
    scope: Scope, dry_run: Annotated[bool, Query(description="Only tell what would be done.")] = False
) -> GarbageCollection:
    """Look for artifacts' bytes that nothing refers to, and remove those whose time of grace is over."""
    with scope.work(write=not dry_run) as ctx:
        service.check_collection(ctx)
    return service.collect_garbage(scope.place, dry_run=dry_run)


@router.post("/artifact-store/rewrap-keys")
def rewrap_keys(scope: Scope) -> KeyRotation:
    """Wrap the keys of encrypted artifacts with the first encryption key; the artifacts themselves are not written."""
    with scope.work() as ctx:
        service.check_collection(ctx)
    return service.rewrap_keys(scope.place)


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


def _check_part(scope: Scope, upload: str, number: int) -> int:
    with scope.work(write=False) as ctx:
        return service.check_part(ctx, upload, number)


def _complete(scope: Scope, upload: str) -> Artifact:
    with scope.work(write=False) as ctx:
        found, blobs = service.parts_of(ctx, upload)
        if found.state is UploadState.COMPLETED:
            return service.get_artifact(ctx, found.digest)
    try:
        blob = join_parts(scope.place.ports[BlobStore], blobs, found)
    except NotFound:  # the same request, sent twice, has completed it and removed the parts
        with scope.work(write=False) as ctx:
            return service.get_artifact(ctx, found.digest)
    with scope.work() as ctx:
        artifact = service.upload_artifact(ctx, blob, found.media_type)
        done = service.complete_upload(ctx, upload, artifact)
    _remove_parts(scope, done)
    return artifact


def _remove_parts(scope: Scope, blobs: list[str]) -> None:
    for blob in blobs:
        scope.place.ports[BlobStore].delete(blob)


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
