"""What data does. Context first, one verb a function; the edge commits."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from modelops.contracts.errors import AlreadyExists, ArtifactCorrupted, Conflict, NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.ports import BlobInfo, BlobStore
from modelops.contracts.schemas import Page
from modelops.domains.data.collecting import check_collection, collect_garbage, rewrap_keys
from modelops.domains.data.holding import uses_of
from modelops.domains.data.rules import ANY_DATASET, check_name, is_version_id, parse_ref, parse_version
from modelops.domains.data.schemas import (
    Artifact,
    ColumnProfile,
    DataFormat,
    Dataset,
    DatasetCreate,
    DatasetUpdate,
    DatasetVersion,
)
from modelops.domains.data.tables import ArtifactRow, DatasetRow, DatasetVersionRow
from modelops.domains.data.tabular import Conversion
from modelops.domains.data.uploading import (
    check_part,
    complete_upload,
    create_upload,
    delete_upload,
    get_upload,
    list_uploads,
    parts_of,
    put_upload_part,
)
from modelops.kernel.context import Context
from modelops.kernel.holding import Holders
from modelops.kernel.listing import PageQuery, list_rows

__all__ = [
    "check_collection",
    "check_part",
    "collect_garbage",
    "complete_upload",
    "create_upload",
    "delete_upload",
    "get_upload",
    "list_uploads",
    "parts_of",
    "put_upload_part",
    "rewrap_keys",
]

Opener = Callable[[], BinaryIO]
"""Opens a blob, verified. Raises ArtifactCorrupted where its bytes are damaged or gone. The caller closes the file."""

MEDIA_TYPES = {
    DataFormat.CSV: "text/csv",
    DataFormat.PARQUET: "application/vnd.apache.parquet",
    DataFormat.ARROW: "application/vnd.apache.arrow.stream",
}
_AT_ONCE = 1_000
_PROFILE = TypeAdapter(list[ColumnProfile])  # its JSON has texts for what databases' JSON does not know: Infinity


def check_new_artifact(ctx: Context) -> None:
    """Refuse, before anything is uploaded, what would be refused after."""
    ctx.require("artifacts.write")
    _ = ctx.project_id


def upload_artifact(ctx: Context, blob: BlobInfo, media_type: str) -> Artifact:
    """Record that the project holds a blob which was stored before."""
    ctx.require("artifacts.write")
    return add_artifact(ctx, blob.digest, blob.size, media_type)


def add_artifact(ctx: Context, digest: str, size: int, media_type: str) -> Artifact:
    """Record that the project holds a stored blob; a second time changes nothing (for the domains above)."""
    row = ctx.session.get(ArtifactRow, (ctx.project_id, digest))
    if row is None:
        row = ArtifactRow(
            project_id=ctx.project_id,
            digest=digest,
            size=size,
            media_type=media_type,
            created_at=ctx.clock.now(),
            created_by=ctx.actor.id,
        )
        try:
            with ctx.session.begin_nested():
                ctx.session.add(row)
        except IntegrityError:  # another request stored the same content at the same moment
            row = ctx.session.get_one(ArtifactRow, (ctx.project_id, digest))
        else:
            ctx.emit("modelops.data.artifact_added", digest, size=size, media_type=media_type)
    return _artifact(row)


def add_artifacts(ctx: Context, sizes: Mapping[str, int], media_type: str) -> dict[str, Artifact]:
    """Record that the project holds stored blobs, given as sizes in bytes by digest: `add_artifact` of many at once."""
    return {digest: add_artifact(ctx, digest, sizes[digest], media_type) for digest in sorted(sizes)}


def get_artifact(ctx: Context, digest: str) -> Artifact:
    """Return what is known of an artifact."""
    ctx.require("artifacts.read")
    return require_artifacts(ctx, [digest])[digest]


def require_artifacts(ctx: Context, digests: Iterable[str], *, lock: bool = False) -> dict[str, Artifact]:
    """Return artifacts of the project by digest (for the domains above).

    Raises:
        NotFound: the project does not hold all of them; the error names the missing.
    """
    wanted = list(dict.fromkeys(digests))
    found = find_artifacts(ctx, wanted, lock=lock)
    missing = [digest for digest in wanted if digest not in found]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise NotFound(
            f"The project holds no artifact '{missing[0]}'{more}.",
            hint="Upload it first: `mops data upload-artifact FILE`, or POST /v1/artifacts.",
            extra={"missing": missing[:100]},
        )
    return {digest: found[digest] for digest in wanted}


def find_artifacts(ctx: Context, digests: Iterable[str], *, lock: bool = False) -> dict[str, Artifact]:
    """Return those artifacts, by digest, that the project holds (for the domains above).

    Args:
        lock: Whether rows will refer to them: until these are committed, no deletion comes between.
    """
    wanted = list(dict.fromkeys(digests))
    found: dict[str, Artifact] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        query = select(ArtifactRow).where(ArtifactRow.project_id == ctx.project_id, ArtifactRow.digest.in_(part))
        if lock:
            query = query.with_for_update(read=True, key_share=True)
        found |= {row.digest: _artifact(row) for row in ctx.session.scalars(query)}
    return found


def hold_artifacts(ctx: Context, digests: Iterable[str]) -> dict[str, Artifact]:
    """Return artifacts as `require_artifacts`, for rows that will refer to them: until those rows are committed, no
    deletion comes between (for the domains above)."""
    return require_artifacts(ctx, digests, lock=True)


def list_artifacts(ctx: Context, page: PageQuery) -> Page[Artifact]:
    """List the project's artifacts."""
    ctx.require("artifacts.read")
    query = select(ArtifactRow).where(ArtifactRow.project_id == ctx.project_id)
    fields = {"size": ArtifactRow.size, "media_type": ArtifactRow.media_type, "created_at": ArtifactRow.created_at}
    found = list_rows(ctx, query, ArtifactRow.digest, fields, page)
    return Page(items=[_artifact(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def download_artifact(ctx: Context, digest: str) -> tuple[Artifact, Opener]:
    """Return an artifact and what opens its verified bytes, to be called after the unit of work has ended."""
    return get_artifact(ctx, digest), _opener(ctx, digest)


def delete_artifact(ctx: Context, digest: str) -> None:
    """Let go of an artifact that nothing in the project refers to; its bytes stay until they are collected.

    Raises:
        Conflict: something refers to it; the error tells what.
    """
    ctx.require("artifacts.delete")
    require_artifacts(ctx, [digest])
    row = ctx.session.get(ArtifactRow, (ctx.project_id, digest), with_for_update=True)
    if row is None:
        return  # another request was as fast
    users = sorted(_users(ctx, ctx.project_id, [digest])[digest])
    if users:
        raise Conflict(
            f"The artifact is referred to by: {', '.join(users)}.",
            hint="What refers to it would be broken; delete that first.",
            extra={"held_by": users},
        )
    ctx.session.delete(row)
    ctx.emit("modelops.data.artifact_deleted", digest, size=row.size)


def release_artifacts(ctx: Context, project_id: str, digests: Sequence[str]) -> None:
    """Let go of those of a project's artifacts that nothing refers to any more (for domains whose rows are removed)."""
    for start in range(0, len(digests), _AT_ONCE):
        part = digests[start : start + _AT_ONCE]
        query = select(ArtifactRow).where(ArtifactRow.project_id == project_id, ArtifactRow.digest.in_(part))
        rows = ctx.session.scalars(query.order_by(ArtifactRow.digest).with_for_update()).all()
        users = _users(ctx, project_id, part)
        for row in rows:
            if not users[row.digest]:
                ctx.session.delete(row)


def create_dataset(ctx: Context, body: DatasetCreate) -> Dataset:
    """Make a dataset, still without versions."""
    ctx.require("datasets.write")
    check_name(body.name)
    if ctx.session.scalars(ctx.query(DatasetRow).where(DatasetRow.name == body.name)).first():
        raise AlreadyExists(f"There is a dataset '{body.name}' already.")
    row = DatasetRow(
        id=new_id("dst"),
        project_id=ctx.project_id,
        name=body.name,
        description=body.description,
        tags=body.tags,
        latest_version=None,
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.data.dataset_created", row.id, name=row.name)
    return _dataset(row)


def list_datasets(ctx: Context, page: PageQuery) -> Page[Dataset]:
    """List the project's datasets."""
    ctx.require("datasets.read")
    fields = {"name": DatasetRow.name, "created_at": DatasetRow.created_at, "created_by": DatasetRow.created_by}
    found = list_rows(ctx, ctx.query(DatasetRow), DatasetRow.id, fields, page)
    return Page(items=[_dataset(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_dataset(ctx: Context, dataset: str) -> Dataset:
    """Return a dataset, by name or id."""
    ctx.require("datasets.read")
    return _dataset(_find(ctx, dataset))


def update_dataset(ctx: Context, dataset: str, body: DatasetUpdate) -> Dataset:
    """Change a dataset's description or tags."""
    ctx.require("datasets.write")
    row = _find(ctx, dataset)
    ctx.check_revision(row)
    if body.description is not None:
        row.description = body.description
    if body.tags is not None:
        row.tags = body.tags
    ctx.emit("modelops.data.dataset_updated", row.id, name=row.name)
    return _dataset(row)


def check_new_version(ctx: Context, dataset: str, parents: list[str]) -> None:
    """Refuse, before anything is uploaded, what would be refused after."""
    ctx.require("datasets.write")
    _find(ctx, dataset)
    _parents(ctx, parents)


def create_dataset_version(
    ctx: Context,
    dataset: str,
    *,
    kind: DataFormat,
    original: BlobInfo,
    table: BlobInfo,
    content: Conversion,
    parents: list[str],
) -> DatasetVersion:
    """Add a version to a dataset from blobs that were stored and read before."""
    ctx.require("datasets.write")
    row = _find(ctx, dataset, lock=True)
    row.latest_version = (row.latest_version or 0) + 1
    row.touch()
    add_artifact(ctx, table.digest, table.size, MEDIA_TYPES[DataFormat.PARQUET])
    add_artifact(ctx, original.digest, original.size, MEDIA_TYPES[kind])
    version = DatasetVersionRow(
        id=new_id("dsv"),
        project_id=ctx.project_id,
        dataset_id=row.id,
        version=row.latest_version,
        format=kind,
        digest=original.digest,
        table_digest=table.digest,
        rows=content.rows,
        size=original.size,
        columns=[column.model_dump() for column in content.columns],
        profile=json.loads(_PROFILE.dump_json(content.profile)),
        parents=_parents(ctx, parents),
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(version)
    ctx.session.flush()
    ctx.emit("modelops.data.dataset_version_created", row.id, dataset=row.name, version=version.version, id=version.id)
    return _version(version, row.name)


def list_dataset_versions(ctx: Context, dataset: str, page: PageQuery) -> Page[DatasetVersion]:
    """List a dataset's versions, oldest first."""
    ctx.require("datasets.read")
    row = _find(ctx, dataset)
    query = ctx.query(DatasetVersionRow).where(DatasetVersionRow.dataset_id == row.id)
    fields = {
        "version": DatasetVersionRow.version,
        "rows": DatasetVersionRow.rows,
        "size": DatasetVersionRow.size,
        "format": DatasetVersionRow.format,
        "created_at": DatasetVersionRow.created_at,
    }
    found = list_rows(ctx, query, DatasetVersionRow.id, fields, page)
    items = [_version(version, row.name) for version in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def get_dataset_version(ctx: Context, dataset: str, version: str) -> DatasetVersion:
    """Return a version of a dataset: by number, `latest`, or its id (then `-` may stand for the dataset)."""
    ctx.require("datasets.read")
    if not is_version_id(version):
        return _version_of(ctx, _find(ctx, dataset), parse_version(version))
    found = resolve_dataset_version(ctx, version)
    if dataset not in (ANY_DATASET, found.dataset, found.dataset_id):
        raise NotFound(f"The dataset '{dataset}' has no version '{version}'.")
    return found


def preview_dataset_version(ctx: Context, dataset: str, version: str) -> Opener:
    """Return what opens the table of a version, to be called after the unit of work has ended."""
    return _opener(ctx, get_dataset_version(ctx, dataset, version).table_digest)


def download_dataset_version(
    ctx: Context, dataset: str, version: str, kind: DataFormat | None
) -> tuple[DatasetVersion, str, Opener]:
    """Return a version, the digest of the file that serves a format, and what opens it.

    The file is the one that was uploaded where no format is asked for, and the table in Parquet elsewhere.
    """
    found = get_dataset_version(ctx, dataset, version)
    digest = found.digest if kind is None else found.table_digest
    return found, digest, _opener(ctx, digest)


def resolve_dataset_version(ctx: Context, ref: str) -> DatasetVersion:
    """Return what `name`, `name:3` or `dsv_…` means (for the domains above)."""
    if is_version_id(ref):
        row = ctx.one(DatasetVersionRow, f"dataset version '{ref}'", DatasetVersionRow.id == ref)
        return _version(row, ctx.one(DatasetRow, "dataset", DatasetRow.id == row.dataset_id).name)
    name, version = parse_ref(ref)
    return _version_of(ctx, _find(ctx, name), version)


def _users(ctx: Context, project_id: str, digests: Sequence[str]) -> dict[str, set[str]]:
    """Return, for each artifact of a project, the domains that refer to it; that it is an artifact does not count."""
    used = uses_of(ctx, digests)
    users = ctx.port(Holders).of(ctx, project_id, digests)
    return {digest: names if (project_id, digest) in used else names - {"data"} for digest, names in users.items()}


@contextmanager
def lost_as_damage(digest: str) -> Iterator[None]:
    """Raise ArtifactCorrupted where the bytes of an artifact that the project holds are gone from the store."""
    try:
        yield
    except NotFound as gone:
        raise ArtifactCorrupted(f"The bytes of the artifact '{digest}' are gone from the store.") from gone


def _opener(ctx: Context, digest: str) -> Opener:
    store = ctx.port(BlobStore)

    def open_blob() -> BinaryIO:
        with lost_as_damage(digest):
            return store.open(digest)

    return open_blob


def _find(ctx: Context, dataset: str, *, lock: bool = False) -> DatasetRow:
    query = ctx.query(DatasetRow).where((DatasetRow.name == dataset) | (DatasetRow.id == dataset))
    if lock:  # what this unit of work read before the lock may be old by now
        query = query.with_for_update().execution_options(populate_existing=True)
    row = ctx.session.scalars(query).first()
    if row is None:
        raise NotFound(
            f"There is no dataset '{dataset[:250]}' in this project.",
            hint=f"Make it: mops data create-dataset {dataset[:60]}",
        )
    return row


def _version_of(ctx: Context, row: DatasetRow, version: int | None) -> DatasetVersion:
    number = version or row.latest_version
    if number is None:
        raise NotFound(f"The dataset '{row.name}' has no versions yet.", hint="Upload one first.")
    query = ctx.query(DatasetVersionRow).where(
        DatasetVersionRow.dataset_id == row.id, DatasetVersionRow.version == number
    )
    found = ctx.session.scalars(query).one_or_none()
    if found is None:
        raise NotFound(f"The dataset '{row.name}' has no version {number}; its latest is {row.latest_version}.")
    return _version(found, row.name)


def _parents(ctx: Context, refs: list[str]) -> list[str]:
    return list(dict.fromkeys(resolve_dataset_version(ctx, ref).id for ref in refs))


def _artifact(row: ArtifactRow) -> Artifact:
    return Artifact.model_validate(row, from_attributes=True)


def _dataset(row: DatasetRow) -> Dataset:
    return Dataset.model_validate(row, from_attributes=True)


def _version(row: DatasetVersionRow, dataset: str) -> DatasetVersion:
    return DatasetVersion.model_validate(
        {**{name: getattr(row, name) for name in DatasetVersion.model_fields if name != "dataset"}, "dataset": dataset}
    )
