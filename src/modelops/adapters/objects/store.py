"""A BlobStore over objects.

A content lies as the object `sha256/ab/cd/<hex>` as it is, or as `sha256/ab/cd/<hex>.box` compressed, encrypted or both
(`modelops.adapters.objects.box`); the wrapped key of an encrypted one beside it, as `<hex>.<seal>.key`. Every put writes a
box under a new key and a new seal, so a key is never used for two contents.
"""

import io
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from modelops.adapters.content import CHUNK, Counted, checked, corrupted, hex_of
from modelops.adapters.local import durable
from modelops.adapters.objects import box
from modelops.adapters.objects.box import DamagedError, Guard, Header
from modelops.adapters.objects.keys import Keyring, UnknownMasterError, WrappedKey
from modelops.adapters.objects.port import MissingError, ObjectInfo, Objects
from modelops.contracts.errors import MLOpsError, NotFound, StorageFull, Unavailable
from modelops.contracts.ports import BlobInfo, Rewrapping, StoredBlob

_ROOT = "sha256"
_BOX, _KEY = ".box", ".key"
_ATTEMPTS = 4
_LANES = 8
_LEFTOVER_AFTER = timedelta(days=1)


class ObjectBlobStore:
    """A BlobStore over objects. Memory use does not grow with the size of a blob; safe for threads and processes.

    Args:
        objects: Where they lie.
        spool: A folder for contents on their way; what lies there has no name and is gone with the process.
        keys: Master keys; what is put is encrypted if there are any, and what was encrypted can be read.
        compress: Compress what is put; what is encrypted is compressed always.
    """

    def __init__(self, objects: Objects, spool: Path, *, keys: Keyring | None = None, compress: bool = False) -> None:
        self._objects = objects
        self._spool = spool
        self._keys = keys
        self._boxed = compress or keys is not None
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, chunks: Iterable[bytes], *, expected: str | None = None) -> BlobInfo:
        """Store a content; see `BlobStore.put`. A damaged copy that is already there is replaced by the new one."""
        wanted = None if expected is None else hex_of(expected)
        content = Counted(chunks)
        header = Header(os.urandom(16) if self._keys else box.NO_SEAL)
        key = os.urandom(32) if self._keys else None
        with durable.full_disk_as_error("the blob"), tempfile.TemporaryFile(dir=self._spool) as file:
            if self._boxed:
                box.write(file, content, header, header.guard(key), compress=True)
            else:
                for chunk in content:
                    file.write(chunk)
            name = content.name(wanted)
            size = file.tell()
            if key is not None:
                self._write_key(name, header.seal, key)
            try:
                self._replace(name, file, size)
            except StorageFull:
                # Only where the body is known not to be there: a key must never go before its body.
                with suppress(MLOpsError):
                    if key is not None and self._seal_of(_path(name)) != header.seal:
                        self._objects.delete(_key_name(_path(name), header.seal))
                raise
        return BlobInfo(f"sha256:{name}", content.size, size)

    def read(self, digest: str) -> Iterator[bytes]:
        """Yield the content and verify it on the way; see `BlobStore.read`."""
        name = hex_of(digest)
        return _verified(self._open(name, self._objects.open), name)

    def open(self, digest: str) -> BinaryIO:
        """Return a seekable file of the verified content; see `BlobStore.open`. It is never decrypted into a file."""
        name = hex_of(digest)
        with durable.full_disk_as_error("the fetched blob"):
            opened = self._open(name, self._objects.fetch)
        try:
            for _ in checked(_contents(opened, name), name):
                pass
            opened.file.seek(0)
            if opened.header is None:
                return opened.file
            content = box.BoxFile(opened.file, opened.header, opened.guard)  # type: ignore[arg-type]
        except BaseException:
            opened.file.close()
            raise
        return io.BufferedReader(content, CHUNK)

    def stat(self, digest: str) -> BlobInfo | None:
        """Return what is known of the blob, or None; None also for one so damaged that its size cannot be told."""
        name = hex_of(digest)
        boxed, plain = self._objects.head(_path(name) + _BOX), self._objects.head(_path(name))
        if boxed is None:
            return None if plain is None else BlobInfo(digest, plain.size, plain.size)
        try:
            with suppress(MissingError, DamagedError):
                return BlobInfo(digest, self._index(name)[0].size, boxed.size)
        except NotFound:
            pass
        return None

    def read_range(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield a part of the content; see `BlobStore.read_range`."""
        name = hex_of(digest)
        try:
            index, header, guard = self._index(name)
        except NotFound:
            return self._plain_range(name, start, stop)
        except DamagedError as damaged:
            raise corrupted(name) from damaged
        return self._box_range(name, index, header, guard, start, min(stop, index.size))

    def delete(self, digest: str, *, unless_put_since: datetime | None = None) -> bool:
        """Remove the blob; see `BlobStore.delete`. Without its key, copies of an encrypted one are of no use."""
        path = _path(hex_of(digest))
        seal = self._seal_of(path)
        removed = [self._objects.delete(name, unless_put_since=unless_put_since) for name in (path + _BOX, path)]
        if removed[0] and seal is not None:
            self._objects.delete(_key_name(path, seal))
        return any(removed)

    def walk(self, after: str | None = None) -> Iterator[StoredBlob]:
        """Yield every blob in order; see `BlobStore.walk`."""
        for name, infos in self._grouped(after):
            bodies = [info for info in infos if not info.name.endswith(_KEY)]
            if bodies:
                newest = max(info.stored_at for info in bodies)
                yield StoredBlob(f"sha256:{name}", sum(info.size for info in bodies), newest)

    def link(self, digest: str, *, seconds: int, filename: str, media_type: str) -> str | None:
        """Return a URL of a blob that lies as it is; see `BlobStore.link`."""
        path = _path(hex_of(digest))
        if self._objects.head(path) is None:
            if self._objects.head(path + _BOX) is None:
                raise _missing(path.rpartition("/")[2])
            return None
        return self._objects.link(path, seconds=seconds, filename=filename, media_type=media_type)

    def check(self) -> str:
        """Tell where and how blobs are kept; see `BlobStore.check`."""
        how = "encrypted" if self._keys else "compressed" if self._boxed else "as they are"
        return f"Artifacts are {self._objects.check()}, {how}."

    def rewrap_keys(self) -> Rewrapping:
        """Wrap every blob's key with the first master key; see `EncryptedStore.rewrap_keys`."""
        rewrapped, current, failed = 0, 0, []
        groups = self._grouped(None)
        with ThreadPoolExecutor(_LANES, thread_name_prefix="rewrap") as pool:
            while some := list(itertools.islice(groups, 64 * _LANES)):
                for (name, _), done in zip(some, pool.map(self._rewrap_group, some), strict=True):
                    rewrapped += done is _Done.REWRAPPED
                    current += done is _Done.CURRENT
                    if done is _Done.FAILED:
                        failed.append(f"sha256:{name}")
        return Rewrapping(rewrapped, current, failed)

    def _replace(self, name: str, file: BinaryIO, size: int) -> None:
        path = _path(name)
        former = self._seal_of(path)
        written, other = (path + _BOX, path) if self._boxed else (path, path + _BOX)
        self._objects.write(written, file, size)
        self._objects.delete(other)
        if former is not None:
            self._objects.delete(_key_name(path, former))

    def _open(self, name: str, opening: Callable[[str], BinaryIO]) -> "_Opened":
        """Open a stored blob, and where it is a box, read its header and unwrap its key."""
        path = _path(name)
        forms = (path + _BOX, path) if self._boxed else (path, path + _BOX)
        for form in itertools.chain.from_iterable(itertools.repeat(forms, _ATTEMPTS)):
            try:
                file = opening(form)
            except MissingError:
                continue
            if not form.endswith(_BOX):
                return _Opened(file)
            try:
                header = box.read_header(file)
                return _Opened(file, header, self._guard(name, header))
            except MissingError:  # put anew since its header was read, and the former key is gone
                file.close()
            except DamagedError as damaged:
                file.close()
                raise corrupted(name) from damaged
            except BaseException:
                file.close()
                raise
        if self._objects.head(path + _BOX) is not None:
            raise corrupted(name)
        raise _missing(name)

    def _index(self, name: str) -> tuple[box.Index, Header, Guard]:
        """Read what is around the chunks of a box. Raises NotFound where there is none, and DamagedError."""
        boxed = _path(name) + _BOX
        for _ in range(_ATTEMPTS):
            info = self._objects.head(boxed)
            if info is None:
                break
            with suppress(MissingError):
                with self._objects.open(boxed, 0, box.HEADER.size) as file:
                    header = box.read_header(file)
                guard = self._guard(name, header)
                trailer = self._piece(boxed, max(info.size - box.TRAILER.size, 0), info.size)
                start, stop = box.index_span(trailer, info.size)
                return box.parse_index(self._piece(boxed, start, stop), guard), header, guard
        raise _missing(name)

    def _piece(self, object_name: str, start: int, stop: int) -> bytes:
        with self._objects.open(object_name, start, stop) as file:
            return box.exactly(file, stop - start)

    def _box_range(
        self, name: str, index: box.Index, header: Header, guard: Guard, start: int, stop: int
    ) -> Iterator[bytes]:
        if start >= stop:
            return
        first, last = start // header.chunk, (stop - 1) // header.chunk
        begins, ends = index.start_of(first), index.start_of(last + 1)
        try:
            with self._objects.open(_path(name) + _BOX, begins, ends) as file:
                position = first * header.chunk
                for chunk in box.read_records(file, guard, first, last - first + 1):
                    yield chunk[max(start - position, 0) : stop - position]
                    position += len(chunk)
        except DamagedError as damaged:
            raise corrupted(name) from damaged
        except MissingError as gone:
            raise _missing(name) from gone

    def _plain_range(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        try:
            file = self._objects.open(_path(name), start, max(stop, start))
        except MissingError as gone:
            raise _missing(name) from gone
        return _first_bytes(file, stop - start)

    def _guard(self, name: str, header: Header) -> Guard:
        """Return the guard of a box. Raises MissingError where its key is not there, and DamagedError."""
        if not header.sealed:
            return header.guard(None)
        kept = self._read_key(name, header.seal)
        if self._keys is None:
            raise _locked(kept.master)
        try:
            return header.guard(self._keys.unwrap(kept, _label(name, header.seal)))
        except UnknownMasterError as unknown:
            raise _locked(unknown.master) from unknown

    def _read_key(self, name: str, seal: bytes) -> WrappedKey:
        with self._objects.open(_key_name(_path(name), seal)) as file:
            return WrappedKey.parse(file.read(CHUNK))

    def _write_key(self, name: str, seal: bytes, key: bytes) -> None:
        assert self._keys is not None  # noqa: S101 - for the type checker
        data = self._keys.wrap(key, _label(name, seal)).pack()
        self._objects.write(_key_name(_path(name), seal), io.BytesIO(data), len(data))

    def _rewrap_group(self, group: tuple[str, list[ObjectInfo]]) -> "_Done":
        """Wrap the key of a content with the first master, and drop keys that belong to nothing."""
        name, infos = group
        seal = self._seal_of(_path(name)) if any(info.name.endswith(_BOX) for info in infos) else None
        self._drop_leftovers(name, seal, infos)
        if seal is None:
            return _Done.NOTHING
        try:
            kept = self._read_key(name, seal)
            if self._keys is None:
                return _Done.FAILED
            key = self._keys.unwrap(kept, _label(name, seal))
        except (DamagedError, UnknownMasterError):
            return _Done.FAILED
        except MissingError:  # the blob was deleted or put anew meanwhile: then its key is new
            return _Done.NOTHING
        if kept.master == self._keys.first:
            return _Done.CURRENT
        self._write_key(name, seal, key)
        return _Done.REWRAPPED

    def _seal_of(self, path: str) -> bytes | None:
        """Return the seal of the box that lies there, or None where there is none that can be read."""
        try:
            with self._objects.open(path + _BOX, 0, box.HEADER.size) as file:
                header = box.read_header(file)
        except (MissingError, DamagedError):
            return None
        return header.seal if header.sealed else None

    def _drop_leftovers(self, name: str, seal: bytes | None, infos: list[ObjectInfo]) -> None:
        """Delete keys that belong to no box: of puts that were killed, or that another put overtook."""
        before = datetime.now(UTC) - _LEFTOVER_AFTER
        for info in infos:
            used = seal is not None and info.name == _key_name(_path(name), seal)
            if info.name.endswith(_KEY) and not used and info.stored_at < before:
                self._objects.delete(info.name, unless_put_since=before)

    def _grouped(self, after: str | None) -> Iterator[tuple[str, list[ObjectInfo]]]:
        """Yield the objects of each content together."""
        start = "" if after is None else _path(hex_of(after)) + "~"  # behind every object of that content
        for name, infos in itertools.groupby(self._objects.walk(_ROOT, start), _content_of):
            yield name, list(infos)


class _Done(Enum):
    """What became of a content's key."""

    NOTHING, CURRENT, REWRAPPED, FAILED = range(4)


@dataclass(frozen=True)
class _Opened:
    """A stored blob, opened at its first chunk. A box has a header and a guard."""

    file: BinaryIO
    header: Header | None = None
    guard: Guard | None = None


def _contents(opened: _Opened, name: str) -> Iterator[bytes]:
    if opened.guard is None:
        while chunk := opened.file.read(CHUNK):
            yield chunk
        return
    try:
        yield from box.read(opened.file, opened.guard)
    except DamagedError as damaged:
        raise corrupted(name) from damaged


def _verified(opened: _Opened, name: str) -> Iterator[bytes]:
    with opened.file:
        yield from checked(_contents(opened, name), name)


def _first_bytes(file: BinaryIO, size: int) -> Iterator[bytes]:
    with file:
        while size > 0 and (chunk := file.read(min(CHUNK, size))):
            size -= len(chunk)
            yield chunk


def _path(name: str) -> str:
    return f"{_ROOT}/{name[:2]}/{name[2:4]}/{name}"


def _key_name(path: str, seal: bytes) -> str:
    return f"{path}.{seal.hex()}{_KEY}"


def _label(name: str, seal: bytes) -> bytes:
    return bytes.fromhex(name) + seal


def _content_of(info: ObjectInfo) -> str:
    return info.name.rpartition("/")[2].partition(".")[0]


def _missing(name: str) -> NotFound:
    return NotFound(f"There is no blob sha256:{name}.")


def _locked(master: str) -> Unavailable:
    return Unavailable(
        f"The blob is encrypted, and the platform was started without the key '{master}' that opens it.",
        hint="Add the key again to the encryption keys, behind the first, and restart the platform.",
    )
