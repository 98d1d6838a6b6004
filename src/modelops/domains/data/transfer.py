"""Files on their way between this machine and a platform: whole, verified, and as large as they like."""

import hashlib
import io
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import httpx

from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, Unavailable
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


OpenAt = Callable[[int], AbstractContextManager[httpx.Response]]
"""Opens a content as an answer that begins at a position."""


def fetch(open_at: OpenAt, digest: str, patience_s: float) -> bytes:
    """Return a content, verified. A broken connection is taken up where it broke, as `save` does."""
    content = io.BytesIO()
    _verify(_receive(open_at, content, None, patience_s), digest)
    return content.getvalue()


def save(open_at: OpenAt, to: Path, digest: str | None, progress: Progress | None, patience_s: float = 0.0) -> Path:
    """Write a content into a file, which appears whole or not at all; one that was there is replaced.

    Args:
        open_at: Opens the content; asked again, from where it was, when the connection breaks.
        to: The file.
        digest: Of the content; None where only the answer tells it, in its ETag, or nobody does.
        progress: Called with the bytes received so far.
        patience_s: How long to try again after a break that nothing more has come since.

    Raises:
        ArtifactCorrupted: it does not have the digest.
        InvalidInput: there can be no such file.
        Unavailable: the connection broke for good.
    """
    fresh = to.with_name(f".{to.name}.{secrets.token_hex(4)}.part")
    try:
        with fresh.open("xb") as file:
            found = _receive(open_at, file, progress, patience_s)
        _verify(found, digest)
        fresh.replace(to)
    except OSError as wrong:
        raise InvalidInput(f"'{to}' cannot be written: {wrong.strerror}.", hint="Name another file.") from wrong
    finally:
        fresh.unlink(missing_ok=True)
    return to


def digest_of(path: Path) -> str:
    """Return the digest of a file's content."""
    hasher = hashlib.sha256()
    with _opened(path) as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return f"sha256:{hasher.hexdigest()}"


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


class _Received:
    """What has arrived of a content, and its digest."""

    def __init__(self, sink: BinaryIO) -> None:
        self.sink, self.hasher, self.size = sink, hashlib.sha256(), 0
        self.named = ""

    def take(self, answer: httpx.Response, progress: Progress | None) -> Iterator[int]:
        """Write an answer that begins where this ends, and yield the size after each chunk."""
        if self.size and answer.status_code != httpx.codes.PARTIAL_CONTENT:  # all of it comes again
            self.sink.seek(0)
            self.sink.truncate()
            self.hasher, self.size = hashlib.sha256(), 0
        self.named = answer.headers.get("etag", "").strip('"')
        for chunk in answer.iter_bytes(_CHUNK):
            self.sink.write(chunk)
            self.hasher.update(chunk)
            self.size += len(chunk)
            if progress is not None:
                progress(self.size)
            yield self.size


def _receive(open_at: OpenAt, sink: BinaryIO, progress: Progress | None, patience_s: float) -> _Received:
    received, deadline = _Received(sink), None
    while True:
        try:
            with open_at(received.size) as answer:
                for _ in received.take(answer, progress):
                    deadline = None
            return received
        except Unavailable:
            now = time.monotonic()
            deadline = deadline or now + patience_s
            if now >= deadline:
                raise
            time.sleep(0.3)


def _verify(received: _Received, digest: str | None) -> None:
    digest = digest or (received.named if received.named.startswith("sha256:") else None)
    if digest is not None and f"sha256:{received.hasher.hexdigest()}" != digest:
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
