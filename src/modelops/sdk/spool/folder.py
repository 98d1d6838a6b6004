"""A run's folder in the spool: whose it is, how far it was sent, its files, and the lock of whoever sends it."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Json, Schema, UtcTime
from modelops.sdk.spool.records import Entry, File, read, unseal, write, write_json
from modelops.sdk.spool.segments import START, Position, segment_path, segments

_CHUNK = 1024 * 1024
_held: dict[Path, int] = {}
"""The locks that this process holds: the kernel's do not keep a process from itself."""
_guard = threading.Lock()


def _forget_parents_locks() -> None:
    global _guard
    _guard = threading.Lock()
    _held.clear()


os.register_at_fork(after_in_child=_forget_parents_locks)


class Header(Schema):
    """What the run is begun with. `key` makes the beginning happen once, however often it is sent."""

    spool_id: str
    key: str
    url: str | None
    project: str | None
    experiment: str
    name: str | None
    parameters: dict[str, Json]
    tags: dict[str, str]
    began_at: UtcTime


class Progress(Schema):
    """How far a spool was sent, and what was not. `failure` says why the run itself could not be begun."""

    run_id: str | None = None
    segment: int = START.segment
    offset: int = START.offset
    ended: bool = False
    dropped: int = 0
    refused: int = 0
    damaged: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def position(self) -> Position:
        """Return the place up to which everything was sent."""
        return Position(self.segment, self.offset)

    @property
    def gaps(self) -> str:
        """Say what the platform lacks of what was logged; empty where it lacks nothing."""
        found = [
            f"{self.refused:,} entries were refused" if self.refused else "",
            f"{self.dropped:,} entries found no room on the disk" if self.dropped else "",
            f"{len(self.damaged):,} records were damaged" if self.damaged else "",
        ]
        return ", ".join(filter(None, found))


class SpoolFolder:
    """The files of one run. One at a time may send it: whoever holds its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    @classmethod
    def create(cls, root: Path, header: Header) -> "SpoolFolder":
        """Make the folder of a new run, and hold its lock. Raises `OSError` where there can be none."""
        made = cls(root / header.spool_id)
        made.path.mkdir(parents=True, mode=0o700)
        if not made.try_lock():
            raise OSError(f"{made.path} is in use")
        made._replace("run.json", write_json(header.model_dump(mode="json")), durably=True)
        return made

    def try_lock(self) -> bool:
        """Take the lock if it is free. The kernel gives it back when the process dies; forked children do not share it."""
        with _guard:
            if self.path in _held:
                return False
            try:
                descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # it was sent, and is gone
                return False
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._lock = _held[self.path] = descriptor
            return True

    def unlock(self) -> None:
        """Give the lock back, if it is held here."""
        with _guard:
            if self._lock >= 0 and _held.pop(self.path, None) is not None:
                os.close(self._lock)
            self._lock = -1

    def header(self) -> Header:
        """Return what the run is begun with.

        Raises:
            InvalidInput: it is damaged, so that nothing of the spool can be sent.
        """
        content = self._sealed("run.json")
        try:
            return Header.model_validate_json(content or b"")
        except ValidationError as wrong:
            raise InvalidInput(
                f"{self.path / 'run.json'} is damaged, so the run that {self.path} belongs to is unknown.",
                hint="Look at the records beside it by hand, then remove the folder.",
            ) from wrong

    def progress(self) -> Progress:
        """Return how far it was sent; from the start where that is unknown, since sending twice changes nothing."""
        with contextlib.suppress(ValidationError):
            return Progress.model_validate_json(self._sealed("state.json") or b"")
        return Progress()

    def save(self, progress: Progress) -> None:
        """Keep how far it was sent. A full disk is no trouble: it is sent again from the state before."""
        with contextlib.suppress(OSError):
            self._replace("state.json", write_json(progress.model_dump(mode="json")))

    def keep_file(self, source: BinaryIO, path: str) -> File:
        """Copy a content into the folder. Raises `OSError` where there is no room."""
        kept = self.path / "files" / new_id("file")
        kept.parent.mkdir(exist_ok=True)
        try:
            with kept.open("xb") as copy:
                return File(path, digest_of(source, copy), kept.name)
        except BaseException:
            kept.unlink(missing_ok=True)
            raise

    def content(self, file: File) -> Path:
        """Return where the content of a file lies."""
        return self.path / "files" / file.name

    def set_aside(self, entries: Iterable[Entry], reason: str) -> None:
        """Keep what was refused, with the reason, for people to read and to send again."""
        lines = b"".join(write_json([reason, json.loads(unseal(write(entry)) or b"")]) for entry in entries)
        with (self.path / "refused").open("ab") as file:
            file.write(lines)

    def refused(self) -> Iterator[tuple[str, Entry]]:
        """Yield what was set aside, with the reason."""
        with contextlib.suppress(FileNotFoundError):
            for line in (self.path / "refused").read_bytes().splitlines(keepends=True):
                payload = unseal(line)
                if payload is not None:
                    reason, content = json.loads(payload)
                    for entry in read(write_json(content)) or ():
                        yield reason, entry

    def take_refused_back(self) -> None:
        """Put what was set aside behind what waits, so that it is sent once more."""
        if not (self.path / "refused").exists():
            return
        progress = self.progress()
        number = max([progress.segment, *segments(self.path)]) + 1
        lines = b"".join(write(entry) for _, entry in self.refused())
        self._replace(segment_path(self.path, number).name, lines)
        self.save(progress.model_copy(update={"refused": 0, "ended": False}))
        (self.path / "refused").unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder and what is left in it, and give the lock back."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.unlock()

    def _sealed(self, name: str) -> bytes | None:
        try:
            return unseal((self.path / name).read_bytes())
        except FileNotFoundError:
            return None

    def _replace(self, name: str, content: bytes, *, durably: bool = False) -> None:
        fresh = self.path / f".{name}.new"
        with fresh.open("wb") as file:
            file.write(content)
            if durably:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(self.path / name)
        for folder in (self.path, self.path.parent) if durably else ():
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(descriptor)
            os.close(descriptor)


def spools(place: Path) -> list[SpoolFolder]:
    """Return the spools of a folder, oldest first; of one that is a spool itself, that one."""
    if (place / "run.json").is_file():
        return [SpoolFolder(place.absolute())]
    if not place.is_dir():
        return []
    return [SpoolFolder(path.absolute()) for path in sorted(place.iterdir()) if (path / "run.json").is_file()]


def digest_of(source: BinaryIO, copy: BinaryIO | None = None) -> str:
    """Return the digest of what is left of a content, which is written to `copy` on the way."""
    hasher = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        hasher.update(chunk)
        if copy is not None:
            copy.write(chunk)
    return f"sha256:{hasher.hexdigest()}"
