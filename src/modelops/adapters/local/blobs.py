"""Content-addressed blobs in a folder.

A content lies under the SHA-256 of its bytes: `sha256/ab/cd/<hex>` as it is, or `sha256/ab/cd/<hex>.zst` compressed
(`modelops.adapters.local.packing`). A file gets that name only after it was flushed to the disk, so that a name always
stands for a whole content; reading verifies that it still does.
"""

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from modelops.adapters.local import durable, packing
from modelops.contracts.errors import ArtifactCorrupted, InvalidInput, NotFound
from modelops.contracts.ports import BlobInfo

_CHUNK = 1024 * 1024
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_COMPRESSED = ".zst"


class LocalBlobStore:
    """A BlobStore on local files. Memory use does not grow with the size of a blob; safe for threads and processes.

    Args:
        root: The folder of the store; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self._blobs = root / "sha256"
        self._temporary = root / "tmp"
        self._lock = threading.Lock()
        self._flushed_folders: set[Path] = set()
        for folder in (root, self._blobs, self._temporary):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.sweep(self._temporary)

    def put(self, chunks: Iterable[bytes], *, expected: str | None = None) -> BlobInfo:
        """Store a content; see `BlobStore.put`. A damaged copy that is already there is replaced by the new one."""
        wanted = None if expected is None else _hex(expected)
        temporary = self._temporary / durable.temporary_name("put")
        try:
            with durable.full_disk_as_error("the blob"):
                found, size, compressed = _write(temporary, chunks)
                if wanted not in (None, found):
                    raise InvalidInput(
                        f"The bytes have the digest sha256:{found}, not the expected sha256:{wanted}.",
                        hint="Send them again: they changed on the way, or the digest is of another content.",
                    )
                stored_size = temporary.stat().st_size
                self._commit(temporary, found, compressed)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return BlobInfo(f"sha256:{found}", size, stored_size)

    def read(self, digest: str) -> Iterator[bytes]:
        """Yield the content and verify it on the way; see `BlobStore.read`."""
        name = _hex(digest)
        self._open_stored(name)[0].close()  # so that a missing blob is noticed now, and not at the first chunk
        return self._read(name)

    def open(self, digest: str) -> BinaryIO:
        """Return a seekable file of the verified content; see `BlobStore.open`."""
        name = _hex(digest)
        file, compressed = self._open_stored(name)
        if compressed:
            return self._unpacked(file, name)
        try:
            for _ in _checked(_raw_chunks(file), name):
                pass
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def stat(self, digest: str) -> BlobInfo | None:
        """Return what is known of the blob, or None; None also for one so damaged that its size cannot be told."""
        name = _hex(digest)
        try:
            file, compressed = self._open_stored(name)
        except NotFound:
            return None
        with file:
            stored_size = os.fstat(file.fileno()).st_size
            try:
                size = packing.content_size(file) if compressed else stored_size
            except packing.DamagedError:
                return None
        return BlobInfo(digest, size, stored_size)

    def delete(self, digest: str) -> None:
        """Remove the blob; one that is not there is no error. Files that are open stay readable."""
        path = self._path(_hex(digest))
        for candidate in (path, _packed(path)):
            candidate.unlink(missing_ok=True)

    def _read(self, name: str) -> Iterator[bytes]:
        file, compressed = self._open_stored(name)
        yield from _verified(file, name, compressed)

    def _path(self, name: str) -> Path:
        return self._blobs / name[:2] / name[2:4] / name

    def _open_stored(self, name: str) -> tuple[BinaryIO, bool]:
        path = self._path(name)
        for candidate, compressed in ((path, False), (_packed(path), True)):
            try:
                return open(candidate, "rb"), compressed
            except FileNotFoundError:
                continue
        raise NotFound(f"There is no blob sha256:{name}.")

    def _unpacked(self, file: BinaryIO, name: str) -> BinaryIO:
        with file, durable.full_disk_as_error("the unpacked blob"):
            # Unlinked from birth: whatever ends this process, nothing stays behind.
            unpacked = tempfile.TemporaryFile(dir=self._temporary)  # noqa: SIM115 - it is what the caller gets
            try:
                for chunk in _verified(file, name, compressed=True):
                    unpacked.write(chunk)
                unpacked.seek(0)
            except BaseException:
                unpacked.close()
                raise
        return unpacked

    def _commit(self, temporary: Path, name: str, compressed: bool) -> None:
        path = self._path(name)
        self._make_folder(path.parent)
        # Renaming over a copy that is already there keeps one copy, and heals it where it was damaged.
        os.rename(temporary, _packed(path) if compressed else path)
        durable.sync_folder(path.parent)
        (path if compressed else _packed(path)).unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        with self._lock:
            if folder in self._flushed_folders:
                return
        # Another process may have made the folder and not yet flushed it: so flush it even where it was there.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for parent in (folder.parent, self._blobs, self._blobs.parent):
            durable.sync_folder(parent)
        with self._lock:
            self._flushed_folders.add(folder)


def _write(path: Path, chunks: Iterable[bytes]) -> tuple[str, int, bool]:
    """Write the content in the form that pays, flush it, and return its digest (hex), its size and that form."""
    hasher = hashlib.sha256()
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            for piece in _pieces(chunk):
                hasher.update(piece)
                size += len(piece)
                yield piece

    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "w+b") as file:
        compressed = packing.write(file, counted())
        file.flush()
        os.fsync(fd)
    return hasher.hexdigest(), size, compressed


def _pieces(chunk: bytes) -> Iterator[bytes]:
    """Cut a huge chunk, so that no buffer further down grows with it."""
    if len(chunk) <= _CHUNK:
        yield chunk
        return
    for start in range(0, len(chunk), _CHUNK):
        yield bytes(memoryview(chunk)[start : start + _CHUNK])


def _verified(file: BinaryIO, name: str, compressed: bool) -> Iterator[bytes]:
    with file:
        chunks = packing.read(file, _CHUNK) if compressed else _raw_chunks(file)
        try:
            yield from _checked(chunks, name)
        except packing.DamagedError as error:
            raise _corrupted(name) from error


def _checked(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Pass the chunks on, one behind: the last one leaves only after the whole has the right digest."""
    hasher = hashlib.sha256()
    held = b""
    for chunk in chunks:
        hasher.update(chunk)
        if held:
            yield held
        held = chunk
    if hasher.hexdigest() != name:
        raise _corrupted(name)
    if held:
        yield held


def _raw_chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _corrupted(name: str) -> ArtifactCorrupted:
    return ArtifactCorrupted(f"The stored bytes of blob sha256:{name} no longer have that digest.")


def _packed(path: Path) -> Path:
    return path.with_name(path.name + _COMPRESSED)


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidInput(
            f"{digest[:100]!r} is not a blob digest.", hint="A digest is `sha256:` and 64 lower-case hex digits."
        )
    return match[1]
