"""Content-addressed blobs in a folder.

A content lies under the SHA-256 of its bytes: `sha256/ab/cd/<hex>` as it is, or `sha256/ab/cd/<hex>.zst` compressed
(`modelops.adapters.local.packing`). A file gets that name only after it was flushed to the disk, so that a name always
stands for a whole content; reading verifies that it still does.
"""

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from modelops.adapters.content import CHUNK, Counted, checked, corrupted, hex_of
from modelops.adapters.local import durable, packing
from modelops.contracts.errors import NotFound
from modelops.contracts.ports import BlobInfo, StoredBlob

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
        wanted = None if expected is None else hex_of(expected)
        content = Counted(chunks)
        temporary = self._temporary / durable.temporary_name("put")
        try:
            with durable.full_disk_as_error("the blob"):
                compressed = _write(temporary, content)
                found = content.name(wanted)
                stored_size = temporary.stat().st_size
                self._commit(temporary, found, compressed)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return BlobInfo(f"sha256:{found}", content.size, stored_size)

    def read(self, digest: str) -> Iterator[bytes]:
        """Yield the content and verify it on the way; see `BlobStore.read`."""
        name = hex_of(digest)
        self._open_stored(name)[0].close()  # so that a missing blob is noticed now, and not at the first chunk
        return self._read(name)

    def open(self, digest: str) -> BinaryIO:
        """Return a seekable file of the verified content; see `BlobStore.open`."""
        name = hex_of(digest)
        file, compressed = self._open_stored(name)
        if compressed:
            return self._unpacked(file, name)
        try:
            for _ in checked(_raw_chunks(file), name):
                pass
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def stat(self, digest: str) -> BlobInfo | None:
        """Return what is known of the blob, or None; None also for one so damaged that its size cannot be told."""
        name = hex_of(digest)
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

    def read_range(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield a part of the content; see `BlobStore.read_range`."""
        name = hex_of(digest)
        file, compressed = self._open_stored(name)
        return _part(file, name, compressed, start, stop)

    def delete(self, digest: str, *, unless_put_since: datetime | None = None) -> bool:
        """Remove the blob; see `BlobStore.delete`. Files that are open stay readable."""
        path = self._path(hex_of(digest))
        try:
            with durable.turn(path.parent):
                found = [form for form in (path, _packed(path)) if form.exists()]
                if unless_put_since is not None and any(
                    durable.written_at(form.stat()) >= unless_put_since for form in found
                ):
                    return False
                for form in found:
                    form.unlink()
        except FileNotFoundError:  # the folder: nothing like it was ever put
            return False
        return bool(found)

    def walk(self, after: str | None = None) -> Iterator[StoredBlob]:
        """Yield every blob in order; see `BlobStore.walk`."""
        start = "" if after is None else hex_of(after)
        for outer in _below(self._blobs, start[:2]):
            for folder in _below(outer, start[2:4] if outer.name == start[:2] else ""):
                for path in _below(folder, ""):
                    name = path.name.removesuffix(_COMPRESSED)
                    if name > start and (facts := _facts(path)) is not None:
                        yield StoredBlob(f"sha256:{name}", facts.st_size, durable.written_at(facts))

    def link(self, digest: str, *, seconds: int, filename: str, media_type: str) -> str | None:
        """Return None: files have no URLs."""
        self._open_stored(hex_of(digest))[0].close()
        return None

    def check(self) -> str:
        """Write and read a file; see `BlobStore.check`."""
        probe = self._temporary / durable.temporary_name("check")
        try:
            with durable.full_disk_as_error("a blob"):
                durable.write_new(probe, b"check")
        finally:
            probe.unlink(missing_ok=True)
        return f"Artifacts are files in {self._blobs.parent}."

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
        with durable.turn(path.parent):
            durable.renew(temporary)
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


def _write(path: Path, content: Counted) -> bool:
    """Write the content in the form that pays, flush it, and return whether that is the compressed one."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "w+b") as file:
        compressed = packing.write(file, content)
        file.flush()
        os.fsync(fd)
    return compressed


def _verified(file: BinaryIO, name: str, compressed: bool) -> Iterator[bytes]:
    with file:
        chunks = packing.read(file, CHUNK) if compressed else _raw_chunks(file)
        try:
            yield from checked(chunks, name)
        except packing.DamagedError as error:
            raise corrupted(name) from error


def _part(file: BinaryIO, name: str, compressed: bool, start: int, stop: int) -> Iterator[bytes]:
    with file:
        if not compressed:
            file.seek(start)
            while (missing := stop - file.tell()) > 0 and (chunk := file.read(min(CHUNK, missing))):
                yield chunk
            return
        position = 0
        try:
            for chunk in packing.read(file, CHUNK):
                first, last = max(start - position, 0), stop - position
                position += len(chunk)
                if first < len(chunk) and last > first:
                    yield chunk[first:last]
                if position >= stop:
                    return
        except packing.DamagedError as error:
            raise corrupted(name) from error


def _below(folder: Path, start: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name >= start)


def _facts(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # deleted, or put anew in its other form, since the folder was read
        return None


def _raw_chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _packed(path: Path) -> Path:
    return path.with_name(path.name + _COMPRESSED)
