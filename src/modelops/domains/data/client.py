"""The client of data."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import httpx

from modelops.contracts.errors import ArtifactCorrupted, Unavailable
from modelops.contracts.rest import Group
from modelops.contracts.schemas import Page
from modelops.domains.data import parts
from modelops.domains.data.rules import ANY_DATASET, is_version_id, parse_ref
from modelops.domains.data.schemas import (
    Artifact,
    DataFormat,
    Dataset,
    DatasetCreate,
    DatasetUpdate,
    DatasetVersion,
    GarbageCollection,
    KeyRotation,
    Preview,
    Upload,
    UploadCreate,
    UploadPart,
)
from modelops.domains.data.transfer import Progress, Sending, fetch, save, table_source

if TYPE_CHECKING:
    import pyarrow as pa

_PATIENT = httpx.Timeout(3600.0, connect=10.0)
"""For what may take long: the platform reads a whole file before it answers."""


_PATIENCE = 30
"""How much longer than a single request a transfer in parts tries again."""


class Data(Group):
    """Artifacts and datasets. Listings take `limit`, `cursor`, `filter` and `order_by`.

    `progress` is called with the bytes sent or received so far. Files are streamed, and may be larger than memory.
    """

    _direct = True
    """Whether links into the artifact store are followed."""

    def upload_artifact(
        self,
        source: Path | str | bytes | BinaryIO,
        *,
        media_type: str = "application/octet-stream",
        digest: str | None = None,
        progress: Progress | None = None,
    ) -> Artifact:
        """Store the content of a file, or bytes, as an artifact; with `digest`, only if it has that one.

        A large file is sent in parts. When that is interrupted, call it again: what has arrived is not sent again.

        Raises:
            InvalidInput: the content does not have the digest.
            ArtifactCorrupted: it was changed on its way; upload it again.
        """
        if isinstance(source, str | Path) and _size(Path(source)) >= parts.IN_PARTS_FROM:
            patience_s = self._rest.retry_for_s * _PATIENCE
            return parts.send_in_parts(
                self, Path(source), media_type=media_type, digest=digest, progress=progress, patience_s=patience_s
            )
        params = {"media_type": media_type, "digest": digest}
        with Sending(source, progress) as body:
            artifact = self._post(Artifact, "/artifacts", content=body.content, params=params, timeout=_PATIENT)
            if body.digest() != artifact.digest:
                raise ArtifactCorrupted(f"'{artifact.digest}' arrived, not '{body.digest()}'.", hint="Upload it again.")
        return artifact

    def get_artifact(self, digest: str) -> Artifact:
        """Return what is known of an artifact."""
        return self._get(Artifact, f"/artifacts/{digest}/info")

    def list_artifacts(self, **page: Any) -> Page[Artifact]:
        """List the project's artifacts."""
        return self._list(Artifact, "/artifacts", **page)

    @overload
    def download_artifact(self, digest: str, to: None = None, *, progress: Progress | None = None) -> bytes: ...

    @overload
    def download_artifact(self, digest: str, to: Path | str, *, progress: Progress | None = None) -> Path: ...

    def download_artifact(
        self, digest: str, to: Path | str | None = None, *, progress: Progress | None = None
    ) -> bytes | Path:
        """Download an artifact: into a file, which is there only if every byte was right, or into memory.

        Raises:
            ArtifactCorrupted: the stored bytes, or those that arrived, do not have the digest.
        """

        def open_at(position: int) -> AbstractContextManager[httpx.Response]:
            return self._open_artifact(digest, position)

        patience_s = self._rest.retry_for_s
        if to is None:
            return fetch(open_at, digest, patience_s)
        return save(open_at, Path(to), digest, progress, patience_s)

    def delete_artifact(self, digest: str) -> None:
        """Let go of an artifact that nothing in the project refers to; its bytes are collected later.

        Raises:
            Conflict: something refers to it.
        """
        self._delete(f"/artifacts/{digest}")

    def create_upload(self, digest: str, size: int, *, media_type: str = "application/octet-stream") -> Upload:
        """Begin to send a file in parts, or go on with an open upload of the same content."""
        return self._post(Upload, "/uploads", UploadCreate(digest=digest, size=size, media_type=media_type))

    def list_uploads(self, **page: Any) -> Page[Upload]:
        """List the uploads that are under way, and those just completed."""
        return self._list(Upload, "/uploads", **page)

    def get_upload(self, upload: str) -> Upload:
        """Return an upload, with the parts that are there."""
        return self._get(Upload, f"/uploads/{upload}")

    def put_upload_part(self, upload: str, number: int, content: bytes) -> UploadPart:
        """Send a part of an upload; it is there when this returns."""
        path, params = f"/uploads/{upload}/parts/{number}", {"digest": parts.part_digest(content)}
        return self._put(UploadPart, path, content=content, params=params, timeout=_PATIENT)

    def complete_upload(self, upload: str) -> Artifact:
        """Put the parts of an upload together; a second time, the artifact is returned again.

        Raises:
            Conflict: parts are missing.
            InvalidInput: together they are not the content that was announced.
        """
        return self._post(Artifact, f"/uploads/{upload}/complete", timeout=_PATIENT)

    def delete_upload(self, upload: str) -> None:
        """Give an upload up, and remove its parts."""
        self._delete(f"/uploads/{upload}")

    def collect_garbage(self, *, dry_run: bool = False) -> GarbageCollection:
        """Look for bytes that nothing refers to, and remove those whose time of grace is over; platform admins only."""
        path, params = "/artifact-store/collect-garbage", {"dry_run": dry_run}
        return self._post(GarbageCollection, path, params=params, timeout=_PATIENT)

    def rewrap_keys(self) -> KeyRotation:
        """Wrap the keys of encrypted artifacts with the first encryption key; platform admins only.

        Raises:
            Conflict: nothing is encrypted here.
        """
        return self._post(KeyRotation, "/artifact-store/rewrap-keys", timeout=_PATIENT)

    def create_dataset(self, name: str, *, description: str = "", tags: Mapping[str, str] | None = None) -> Dataset:
        """Make a dataset, still without versions."""
        return self._post(
            Dataset, "/datasets", DatasetCreate(name=name, description=description, tags=dict(tags or {}))
        )

    def list_datasets(self, **page: Any) -> Page[Dataset]:
        """List the project's datasets."""
        return self._list(Dataset, "/datasets", **page)

    def get_dataset(self, dataset: str) -> Dataset:
        """Return a dataset, by name or id."""
        return self._get(Dataset, f"/datasets/{dataset}")

    def update_dataset(
        self,
        dataset: str,
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        revision: int | None = None,
    ) -> Dataset:
        """Change a dataset; with `revision`, only while it is still at that one."""
        body = DatasetUpdate(description=description, tags=None if tags is None else dict(tags))
        return self._patch(Dataset, f"/datasets/{dataset}", body, revision)

    def create_dataset_version(
        self,
        dataset: str,
        source: "Path | str | bytes | BinaryIO | pa.Table | Any",
        *,
        format: DataFormat | str | None = None,  # noqa: A002 - the parameter's name
        parents: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> DatasetVersion:
        """Add a version from a file, bytes, an Arrow table, or a pandas or Polars frame.

        Args:
            dataset: Its name or id.
            source: The table.
            format: What a file or bytes are; by default told from the file's name.
            parents: Dataset versions that this one was made from.
            progress: Called with the bytes sent so far.

        Raises:
            InvalidInput: it is no table; the error names the place.
        """
        content, kind = table_source(source, format)
        params = {"format": kind, "parents": list(parents)}
        path = f"/datasets/{dataset}/versions"
        with Sending(content, progress) as body:
            return self._post(DatasetVersion, path, content=body.content, params=params, timeout=_PATIENT)

    def list_dataset_versions(self, dataset: str, **page: Any) -> Page[DatasetVersion]:
        """List a dataset's versions."""
        return self._list(DatasetVersion, f"/datasets/{dataset}/versions", **page)

    def get_dataset_version(self, dataset: str, version: int | str = "latest") -> DatasetVersion:
        """Return a version with its schema and profile: by number, `latest`, or id."""
        return self._get(DatasetVersion, f"/datasets/{dataset}/versions/{version}")

    def preview_dataset_version(self, dataset: str, version: int | str = "latest", *, rows: int = 20) -> Preview:
        """Return the first rows of a version."""
        return self._get(Preview, f"/datasets/{dataset}/versions/{version}/preview", rows=rows)

    def download_dataset_version(
        self,
        dataset: str,
        version: int | str,
        to: Path | str,
        *,
        format: DataFormat | str | None = None,  # noqa: A002 - the parameter's name
        progress: Progress | None = None,
    ) -> Path:
        """Download a version's table into a file, in a format or as it was uploaded.

        Raises:
            ArtifactCorrupted: the stored bytes, or those that arrived, do not have their digest.
            InvalidInput: the table has a column that the format cannot hold.
        """
        params = {} if format is None else {"format": DataFormat(format).value}
        path = f"/datasets/{dataset}/versions/{version}/content"
        # Its digest is known from the answer, where the file is sent as it is stored.
        return save(lambda _: self._open(path, params), Path(to), None, progress)

    def load_table(self, ref: str) -> "pa.Table":
        """Load a version (`name`, `name:3`, `dsv_…`) as an Arrow table."""
        import pyarrow.parquet as pq

        name, version = (ANY_DATASET, ref) if is_version_id(ref) else parse_ref(ref)
        with tempfile.TemporaryDirectory() as folder:
            file = self.download_dataset_version(name, version or "latest", Path(folder) / "table", format="parquet")
            return pq.read_table(file, memory_map=False, partitioning=None)

    @contextmanager
    def _open_artifact(self, digest: str, position: int) -> Iterator[httpx.Response]:
        """Open an artifact from a position on: at the artifact store itself, where the platform links to it."""
        path, headers = f"/artifacts/{digest}", {"Range": f"bytes={position}-"} if position else {}
        if self._direct:
            with self._rest.stream("GET", path, params={"redirect": True}, headers=headers, timeout=10.0) as answer:
                if not answer.has_redirect_location:
                    yield answer
                    return
                link = answer.headers["location"]
            with ExitStack() as stack:
                direct = _follow(stack, link, headers)
                if direct is not None:
                    yield direct
                    return
            self._direct = False  # the store cannot be reached from here
        with self._rest.stream("GET", path, headers=headers, timeout=10.0) as answer:
            yield answer

    def _open(self, path: str, params: dict[str, str]) -> AbstractContextManager[httpx.Response]:
        return self._rest.stream("GET", path, params=params, timeout=10.0)  # to connect; the answer may take its time


def _follow(stack: ExitStack, link: str, headers: Mapping[str, str]) -> httpx.Response | None:
    """Open a link into the artifact store, or return None where nothing good comes from there."""
    timeout = httpx.Timeout(60.0, connect=5.0)
    try:
        answer = stack.enter_context(
            _broken_as_unavailable(httpx.stream("GET", link, headers=headers, timeout=timeout))
        )
    except Unavailable:
        return None
    return answer if answer.is_success else None


@contextmanager
def _broken_as_unavailable(opening: AbstractContextManager[httpx.Response]) -> Iterator[httpx.Response]:
    try:
        with opening as answer:
            yield answer
    except httpx.TransportError as broken:
        raise Unavailable(f"The artifact store broke off: {broken}.") from broken


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # told when it is opened
        return 0
