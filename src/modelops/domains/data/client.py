"""The client of data."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import httpx

from modelops.contracts.errors import ArtifactCorrupted
from modelops.contracts.rest import Group
from modelops.contracts.schemas import Page
from modelops.domains.data.rules import ANY_DATASET, is_version_id, parse_ref
from modelops.domains.data.schemas import (
    Artifact,
    DataFormat,
    Dataset,
    DatasetCreate,
    DatasetUpdate,
    DatasetVersion,
    Preview,
)
from modelops.domains.data.transfer import Progress, Sending, fetch, save, table_source

if TYPE_CHECKING:
    import pyarrow as pa

_PATIENT = httpx.Timeout(3600.0, connect=10.0)
"""For what may take long: the platform reads a whole file before it answers."""


class Data(Group):
    """Artifacts and datasets. Listings take `limit`, `cursor`, `filter` and `order_by`.

    `progress` is called with the bytes sent or received so far. Files are streamed, and may be larger than memory.
    """

    def upload_artifact(
        self,
        source: Path | str | bytes | BinaryIO,
        *,
        media_type: str = "application/octet-stream",
        digest: str | None = None,
        progress: Progress | None = None,
    ) -> Artifact:
        """Store the content of a file, or bytes, as an artifact; with `digest`, only if it has that one.

        Raises:
            InvalidInput: the content does not have the digest.
            ArtifactCorrupted: it was changed on its way; upload it again.
        """
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
        with self._open(f"/artifacts/{digest}", {}) as answer:
            return fetch(answer, digest) if to is None else save(answer, Path(to), digest, progress)

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
        with self._open(f"/datasets/{dataset}/versions/{version}/content", params) as answer:
            digest = answer.headers.get("etag", "").strip('"')  # known where the file is sent as it is stored
            return save(answer, Path(to), digest or None, progress)

    def load_table(self, ref: str) -> "pa.Table":
        """Load a version (`name`, `name:3`, `dsv_…`) as an Arrow table."""
        import pyarrow.parquet as pq

        name, version = (ANY_DATASET, ref) if is_version_id(ref) else parse_ref(ref)
        with tempfile.TemporaryDirectory() as folder:
            file = self.download_dataset_version(name, version or "latest", Path(folder) / "table", format="parquet")
            return pq.read_table(file, memory_map=False, partitioning=None)

    def _open(self, path: str, params: dict[str, str]) -> AbstractContextManager[httpx.Response]:
        return self._rest.stream("GET", path, params=params, timeout=10.0)  # to connect; the answer may take its time
