"""Objects that are files in a folder of this machine."""

import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from modelops.adapters.local import durable
from modelops.adapters.objects.port import MissingError, ObjectInfo


class FileObjects:
    """Objects as files. Safe for threads and processes.

    Args:
        root: The folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"
        for folder in (root, self._temporary):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.sweep(self._temporary)

    def write(self, name: str, file: BinaryIO, size: int) -> None:
        """Write or replace an object; see `Objects.write`."""
        path = self._root / name
        temporary = self._temporary / durable.temporary_name("object")
        try:
            with durable.full_disk_as_error("the blob"):
                self._make_folder(path.parent)
                _copy(file, temporary)
                with durable.turn(path.parent):
                    durable.renew(temporary)
                    os.rename(temporary, path)
                    durable.sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def open(self, name: str, start: int = 0, stop: int | None = None) -> BinaryIO:
        """Open an object or a part of it; see `Objects.open`."""
        file = self.fetch(name)
        file.seek(start)
        return file

    def fetch(self, name: str) -> BinaryIO:
        """Open the file; see `Objects.fetch`."""
        try:
            return (self._root / name).open("rb")
        except FileNotFoundError as gone:
            raise MissingError(name) from gone

    def head(self, name: str) -> ObjectInfo | None:
        """Return what is known of an object, or None."""
        return _info(self._root / name, name)

    def walk(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects in the order of their names; see `Objects.walk`."""
        yield from _walk(self._root / prefix, prefix, after)

    def delete(self, name: str, *, unless_put_since: datetime | None = None) -> bool:
        """Remove an object; see `Objects.delete`."""
        path = self._root / name
        try:
            with durable.turn(path.parent):
                if unless_put_since is not None and durable.written_at(path.stat()) >= unless_put_since:
                    return False
                path.unlink()
        except FileNotFoundError:
            return False
        return True

    def link(self, name: str, *, seconds: int, filename: str, media_type: str) -> str | None:
        """Return None: files have no URLs."""
        return None

    def check(self) -> str:
        """Write and remove a file; see `Objects.check`."""
        probe = self._temporary / durable.temporary_name("check")
        try:
            with durable.full_disk_as_error("a blob"):
                durable.write_new(probe, b"check")
        finally:
            probe.unlink(missing_ok=True)
        return f"files in {self._root}"

    def _make_folder(self, folder: Path) -> None:
        # Another process may have made the folder and not yet flushed it: so flush its names even where it was there.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while folder != self._root:
            folder = folder.parent
            durable.sync_folder(folder)


def _copy(file: BinaryIO, path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "wb") as target:
        file.seek(0)
        shutil.copyfileobj(file, target, 1024 * 1024)
        target.flush()
        os.fsync(fd)


def _walk(folder: Path, prefix: str, after: str) -> Iterator[ObjectInfo]:
    try:
        paths = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in paths:
        name = f"{prefix}/{path.name}"
        if path.is_dir():
            if f"{name}/" >= after[: len(name) + 1]:
                yield from _walk(path, name, after)
        elif name > after and (info := _info(path, name)) is not None:
            yield info


def _info(path: Path, name: str) -> ObjectInfo | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return ObjectInfo(name, facts.st_size, durable.written_at(facts))
