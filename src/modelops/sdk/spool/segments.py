"""Segment files: appended by one program, read by one sender, forgotten one by one when the platform has what is in them."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from modelops.sdk.spool.records import NEWLINE, End, Entry, File, Tag, read, write_points

BATCH = 1_000
"""Entries that are sent at once, and that a record holds at most."""

_TAGS = 200
_BATCH_BYTES = 2 * 1024**2
_SEGMENT_BYTES = 4 * 1024**2
_REFUSED_FOR_S = 0.5


class Position(NamedTuple):
    """A place in the segments: the file's number, and the byte in it."""

    segment: int
    offset: int


START = Position(1, 0)


class Room:
    """How much of the disk the spools of one folder may take together.

    Writers ask for a segment at a time, so several at once may go over by a segment each.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self._root, self._limit = root, limit
        self.segment_bytes = min(_SEGMENT_BYTES, max(4_096, limit // 16))

    def left(self) -> int:
        """Return the bytes that are still free."""
        return self._limit - size_of(self._root)


def size_of(folder: Path) -> int:
    """Return the bytes of the files below a folder; those that vanish meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


class Writer:
    """Appends records. Thread-safe; a call that returned has handed its record to the operating system, which keeps it
    when the process is killed. What finds no room is refused, counted and never waited for.
    """

    def __init__(self, folder: Path, room: Room) -> None:
        self._folder, self._room = folder, room
        self._lock = threading.Lock()
        self._unsynced: list[int] = []
        self._segment, self._offset, self._granted = 0, 0, 0
        self._descriptor = -1
        self._synced = Position(0, 0)
        self._asked_at = -_REFUSED_FOR_S
        self._last_us = 0
        self.kept = self.dropped = 0
        self.trouble = ""
        """Why the last entry was refused that was."""
        self._roll()

    @property
    def position(self) -> Position:
        """Return the place behind the last record."""
        with self._lock:
            return Position(self._segment, self._offset)

    def append(self, line: bytes, entries: int = 1, *, anyway: bool = False) -> bool:
        """Write a line of some entries, and tell whether there was room; with `anyway`, beyond the bound, too."""
        with self._lock:
            if anyway:
                self._granted = max(self._granted, self._offset + len(line))
            return self._append(line, entries)

    def append_points(self, time_us: int | None, step: int, pairs: str, count: int) -> bool:
        """Write metrics of one moment: the present one where none is given, which is later than the one before."""
        with self._lock:
            if time_us is None:
                self._last_us = time_us = max(time.time_ns() // 1_000, self._last_us + 1)
            return self._append(write_points(time_us, step, pairs), count)

    def has_room(self, length: int) -> bool:
        """Tell whether so many bytes more may be kept."""
        return self._room.left() >= length

    def sync(self) -> None:
        """Have the disk keep what was written, so that it survives a power failure, too."""
        with self._lock:
            place = Position(self._segment, self._offset)
            if place == self._synced or self._descriptor < 0:
                return
            retired, self._unsynced = self._unsynced, []
        with contextlib.suppress(OSError):  # a disk that fails says so to the next write
            present = os.open(segment_path(self._folder, place.segment), os.O_RDONLY | os.O_CLOEXEC)
            retired.append(present)
            if place.segment != self._synced.segment:
                retired.append(os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC))
        for descriptor in retired:
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
            os.close(descriptor)
        self._synced = place

    def close(self) -> None:
        """Write no more."""
        self.sync()
        with self._lock:
            for descriptor in (*self._unsynced, self._descriptor):
                if descriptor >= 0:
                    os.close(descriptor)
            self._unsynced, self._descriptor = [], -1

    def _append(self, line: bytes, entries: int) -> bool:
        if self._offset + len(line) > self._granted and not self._grant(len(line)):
            return self._refuse(entries)
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                os.ftruncate(self._descriptor, self._offset)  # half a record would spoil the next one
                self.trouble = "the disk is full"
                return self._refuse(entries)
        except OSError as failure:
            self.trouble = (failure.strerror or str(failure)).lower()
            return self._refuse(entries)
        self._offset += written
        self.kept += entries
        return True

    def _grant(self, length: int) -> bool:
        """Ask for room, though not more often than twice a second where there was none."""
        now = time.monotonic()
        if now - self._asked_at < _REFUSED_FOR_S:
            return False
        left = self._room.left()
        if left < length:
            self._asked_at, self.trouble = now, "the spool is as large as it may be (tracking_spool_bytes)"
            return False
        try:
            if self._offset + length > self._room.segment_bytes and self._offset > 0:
                self._roll()
        except OSError as failure:
            self._asked_at, self.trouble = now, (failure.strerror or str(failure)).lower()
            return False
        self._granted = self._offset + max(length, min(left, self._room.segment_bytes - self._offset))
        return True

    def _roll(self) -> None:
        path = segment_path(self._folder, self._segment + 1)
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._descriptor >= 0:
            self._unsynced.append(self._descriptor)
        self._descriptor, self._offset, self._granted = fresh, 0, 0
        self._segment += 1

    def _refuse(self, entries: int) -> bool:
        self.dropped += entries
        return False


class Batch(NamedTuple):
    """What is to be sent next: entries, where they end, and the places of damaged records on the way there."""

    entries: list[Entry]
    end: Position
    damaged: list[str]


def read_batch(folder: Path, start: Position) -> Batch:
    """Return the entries behind a place: up to `BATCH` that go together, or one file, or the end.

    A record that is not finished yet is left. At the end of everything the batch is empty.
    """
    entries: list[Entry] = []
    damaged: list[str] = []
    place, tags, length = start, 0, 0
    for line, where, behind in _lines(folder, start):
        found = read(line) if line.endswith(NEWLINE) else None
        if found is None:
            damaged.append(where)
            place = behind
            continue
        tags += sum(isinstance(entry, Tag) for entry in found)
        length += len(line)
        alone = isinstance(found[0], File | End) if found else False
        if entries and (alone or len(entries) + len(found) > BATCH or tags > _TAGS or length > _BATCH_BYTES):
            break
        entries += found
        place = behind
        if alone:
            break
    if place == start:
        place = next((Position(number, 0) for number in segments(folder) if number > start.segment), start)
    return Batch(entries, place, damaged)


def forget_before(folder: Path, position: Position) -> None:
    """Remove the segments that lie wholly before a place."""
    for number in segments(folder):
        if number < position.segment:
            segment_path(folder, number).unlink(missing_ok=True)


def segments(folder: Path) -> list[int]:
    """Return the numbers of the segments, in order."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.log"))


def segment_path(folder: Path, number: int) -> Path:
    """Return the file of a segment."""
    return folder / f"{number:06d}.log"


def waiting_bytes(folder: Path, start: Position) -> int:
    """Return how many bytes of records lie behind a place."""
    sizes = {number: segment_path(folder, number).stat().st_size for number in segments(folder)}
    return sum(size - (start.offset if number == start.segment else 0) for number, size in sizes.items())


def is_unfinished(folder: Path) -> bool:
    """Tell whether the last record was cut off: its writer was killed in the middle, before the call returned."""
    numbers = segments(folder)
    if not numbers:
        return False
    content = segment_path(folder, numbers[-1]).read_bytes()
    return bool(content) and not content.endswith(NEWLINE)


def _lines(folder: Path, start: Position) -> Iterator[tuple[bytes, str, Position]]:
    """Yield each line, where it is, and the place behind it. The last segment's tail without a line break is left."""
    numbers = [number for number in segments(folder) if number >= start.segment]
    for number in numbers:
        path = segment_path(folder, number)
        offset = start.offset if number == start.segment else 0
        with path.open("rb") as file:
            file.seek(offset)
            while line := file.readline():
                if not line.endswith(NEWLINE) and number == numbers[-1]:
                    return
                behind = Position(number, offset + len(line))
                yield line, f"{path.name} at byte {offset}", behind
                offset += len(line)
