"""Files on their way between this machine and a platform: whole, verified, and as large as they like."""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import httpx

from modelops.contracts.errors import ArtifactCorrupted, InvalidInput
from modelops.domains.data.rules import format_of
from modelops.domains.data.schemas import DataFormat

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[int], None]
_CHUNK = 1024 * 1024


class Sending:
    """A body to be sent: bytes, which may be sent again when a connection breaks, or a file, read and hashed as it goes."""

    def __init__(self, source: Path | str | bytes | BinaryIO, progress: Progress | None) -> None:
        self._hasher = hashlib.sha256()
        self._progress = progress
        self._own: BinaryIO | None = None
        if isinstance(source, bytes):
            self.content: bytes | Iterator[bytes] = source
            self._hasher.update(source)
            return
        if isinstance(source, str | Path):
            source = self._own = _opened(Path(source))
        self.content = self._chunks(source)

    def digest(self) -> str:
        """Return the digest of what was sent."""
        return f"sha256:{self._hasher.hexdigest()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None:
            self._own.close()

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        sent = 0
        while chunk := file.read(_CHUNK):
            self._hasher.update(chunk)
            yield chunk
            sent += len(chunk)
            if self._progress is not None:
                self._progress(sent)


def fetch(answer: httpx.Response, digest: str) -> bytes:
    """Return the content of an answer, verified."""
    content = b"".join(answer.iter_bytes(_CHUNK))
    _verify(hashlib.sha256(content).hexdigest(), digest)
    return content


def save(answer: httpx.Response, to: Path, digest: str | None, progress: Progress | None) -> Path:
    """Write the content of an answer into a file, which appears whole or not at all; one that was there is replaced.

    Raises:
        ArtifactCorrupted: it does not have the digest.
        InvalidInput: there can be no such file.
    """
    fresh = to.with_name(f".{to.name}.{secrets.token_hex(4)}.part")
    try:
        found = _write(answer, fresh, progress)
        if digest is not None:
            _verify(found, digest)
        fresh.replace(to)
    except OSError as wrong:
        raise InvalidInput(f"'{to}' cannot be written: {wrong.strerror}.", hint="Name another file.") from wrong
    finally:
        fresh.unlink(missing_ok=True)
    return to


def table_source(source: Any, given: DataFormat | str | None) -> tuple[Path | bytes | BinaryIO, str]:
    """Return a table as what can be sent, and its format.

    Raises:
        InvalidInput: it is no table, or its format cannot be told.
    """
    if isinstance(source, str | Path):
        source = Path(source)
        given = given or format_of(source.name)
    elif not isinstance(source, bytes) and not hasattr(source, "read"):
        return _parquet_bytes(source), DataFormat.PARQUET
    if given is None:
        raise InvalidInput("It cannot be told which format the table is in.", hint="Name it: csv, parquet or arrow.")
    if given not in list(DataFormat):
        raise InvalidInput(f"'{given}' is no format of a table.", hint="The formats are csv, parquet and arrow.")
    return source, DataFormat(given)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as wrong:
        raise InvalidInput(f"'{path}' cannot be read: {wrong.strerror}.", hint="Check its name.") from wrong


def _write(answer: httpx.Response, path: Path, progress: Progress | None) -> str:
    hasher, received = hashlib.sha256(), 0
    with path.open("xb") as file:
        for chunk in answer.iter_bytes(_CHUNK):
            file.write(chunk)
            hasher.update(chunk)
            received += len(chunk)
            if progress is not None:
                progress(received)
    return hasher.hexdigest()


def _verify(found: str, digest: str) -> None:
    if f"sha256:{found}" != digest:
        raise ArtifactCorrupted(
            f"What arrived is not '{digest}'.", hint="It was changed on its way; download it again."
        )


def _parquet_bytes(table: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    try:
        pq.write_table(_arrow_table(table), sink)
    except (pa.ArrowException, ValueError, TypeError) as wrong:
        raise InvalidInput(f"The table cannot be written as Parquet: {wrong}.") from wrong
    return bytes(sink.getvalue().to_pybytes())


def _arrow_table(table: Any) -> "pa.Table":
    import pyarrow as pa

    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if type(table).__module__.startswith("pandas.") and hasattr(table, "columns"):
        return pa.Table.from_pandas(table, preserve_index=False)
    if hasattr(table, "__arrow_c_stream__") and hasattr(table, "columns"):
        return pa.table(table)
    raise InvalidInput(
        f"A {type(table).__name__} is no table.", hint="Give a file, an Arrow table, or a pandas or Polars frame."
    )
