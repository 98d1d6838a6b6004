"""Bodies of requests on their way into the blob store: streamed, so that no file need fit in memory."""

import errno
import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from anyio import CapacityLimiter, from_thread, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import ClientDisconnect

from modelops.contracts.errors import InvalidInput, StorageFull
from modelops.contracts.ports import BlobInfo, BlobStore
from modelops.domains.data.schemas import DataFormat, Upload, UploadPart
from modelops.domains.data.tabular import Conversion, to_parquet
from modelops.kernel.scope import Scope

T = TypeVar("T")

SALT = 32
"""How many random bytes a part's blob begins with."""

_CHUNK = 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_AT_ONCE = 64
_lanes: RunVar[CapacityLimiter] = RunVar("modelops.data.uploads")


async def store_body(scope: Scope, expected: str | None = None) -> BlobInfo:
    """Store a request's body as a blob.

    Raises:
        InvalidInput: it does not have the digest `expected`, or broke off before its end; nothing is kept.
        TooLarge, StorageFull: nothing is kept.
    """
    scope.accept_upload()
    store: BlobStore = scope.place.ports[BlobStore]
    arriving = _Arriving(scope)
    return await in_lane(lambda: store.put(arriving.chunks(), expected=expected))


async def store_part(scope: Scope, number: int, size: int, expected: str | None) -> tuple[BlobInfo, UploadPart]:
    """Store a request's body as a part of an upload, behind a salt of its own.

    Raises:
        InvalidInput: it does not have `size` bytes, or the digest `expected`, or broke off; nothing is kept.
        StorageFull: nothing is kept.
    """
    scope.accept_upload()
    store: BlobStore = scope.place.ports[BlobStore]
    arriving = _Arriving(scope)
    hasher, received = hashlib.sha256(), 0

    def chunks() -> Iterator[bytes]:
        nonlocal received
        yield os.urandom(SALT)
        for chunk in arriving.chunks():
            hasher.update(chunk)
            received += len(chunk)
            if received > size:
                break
            yield chunk
        if received != size:
            what = "more" if received > size else str(received)
            raise InvalidInput(f"Part {number} has {what} bytes, not {size}.", hint="Send it again.")
        if expected not in (None, f"sha256:{hasher.hexdigest()}"):
            raise InvalidInput(f"Part {number} was changed on its way.", hint="Send it again.")

    blob = await in_lane(lambda: store.put(chunks()))
    return blob, UploadPart(number=number, size=size, digest=f"sha256:{hasher.hexdigest()}")


def join_parts(store: BlobStore, blobs: list[str], upload: Upload) -> BlobInfo:
    """Store the parts of an upload, put together.

    Raises:
        InvalidInput: together they do not have the upload's digest; nothing is kept.
        StorageFull: nothing is kept; the parts are still there.
    """
    contents = (_unsalted(store.read(blob)) for blob in blobs)
    try:
        return store.put(itertools.chain.from_iterable(contents), expected=upload.digest)
    except InvalidInput as wrong:
        raise InvalidInput(
            f"The parts of the upload do not make up '{upload.digest}'.",
            hint="The file changed while it was sent. Delete the upload and begin anew.",
        ) from wrong


async def store_table(scope: Scope, original: BlobInfo, kind: DataFormat) -> tuple[BlobInfo, Conversion]:
    """Read a stored blob as a table and store that as Parquet, batch by batch.

    Raises:
        InvalidInput: it is no table of that format.
        StorageFull: there is no room for it.
    """
    store, folder = scope.place.ports[BlobStore], scope.place.settings.home / "tmp"
    return await in_lane(lambda: _store_table(store, original.digest, kind, folder))


def file_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of a file."""
    while chunk := file.read(_CHUNK):
        yield chunk


class _Arriving:
    """The body of a request, read by a thread."""

    def __init__(self, scope: Scope) -> None:
        self._body = scope.request.stream()

    def chunks(self) -> Iterator[bytes]:
        try:
            while (chunk := from_thread.run(self._next)) is not None:
                if chunk:
                    yield chunk
        except ClientDisconnect as gone:
            raise InvalidInput("The upload broke off before its end; nothing of it was kept.") from gone

    async def _next(self) -> bytes | None:
        return await anext(self._body, None)


def _unsalted(chunks: Iterator[bytes]) -> Iterator[bytes]:
    salt = SALT
    for chunk in chunks:
        yield chunk[salt:]
        salt = max(salt - len(chunk), 0)


async def in_lane(work: Callable[[], T]) -> T:
    """Run in a thread of the uploads' own: as slow as their senders, they must not take those of all other requests."""
    lanes = _lanes.get(None)
    if lanes is None:
        lanes = CapacityLimiter(_AT_ONCE)
        _lanes.set(lanes)
    return await to_thread.run_sync(work, limiter=lanes)


def _store_table(store: BlobStore, digest: str, kind: DataFormat, folder: Path) -> tuple[BlobInfo, Conversion]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The file has no name: whatever ends this process, nothing stays behind.
    with _full_disk_as_error(), closing(store.open(digest)) as source, tempfile.TemporaryFile(dir=folder) as target:
        content = to_parquet(source, kind, target)
        target.seek(0)
        return store.put(file_chunks(target)), content


@contextmanager
def _full_disk_as_error() -> Iterator[None]:
    try:
        yield
    except OSError as wrong:
        if wrong.errno not in _FULL:
            raise
        raise StorageFull(f"There is no room to read the table: {os.strerror(wrong.errno)}.") from wrong
