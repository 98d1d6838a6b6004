"""Files of logged predictions: Arrow streams, which can be read up to the last batch however their writer ended.

A file that is written to has the suffix `.part`, and its writer holds a lock on it; a finished one has `.arrow`, and its
name tells how many rows it has. What a dead process left is finished by another.
"""

import contextlib
import fcntl
import itertools
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

CAPACITY_BYTES = 512 * 1024 * 1024

_FINISHED = re.compile(r"(.+)-(\d+)\.(\d+)\.arrow")
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")

_log = logging.getLogger(__name__)


class LogFolder:
    """A deployment's files that the platform has not taken yet, shared by its replicas. Safe among threads and processes.

    Args:
        source: The own process.
        capacity_bytes: How much is kept; beyond, the oldest files go.
    """

    def __init__(self, folder: Path, source: str, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self.path, self.source, self._capacity = folder, source, capacity_bytes
        self._sequence = itertools.count()

    def begin(self, schema: Any) -> "LogFile":
        """Return a new file."""
        self.path.mkdir(parents=True, exist_ok=True)
        return LogFile(self.path / f"{self.source}-{next(self._sequence)}.part", schema)

    def finished(self) -> list[Path]:
        """Return the finished files, the oldest first."""
        return [path for _, _, path in self._by_age()]

    def trim(self) -> int:
        """Remove the oldest files for which there is no room, and return how many rows were in them."""
        aged, rows = self._by_age(), 0
        left = sum(size for _, size, _ in aged)
        for _, size, path in aged:
            if left <= self._capacity:
                break
            path.unlink(missing_ok=True)
            left -= size
            rows += rows_of(path)
        return rows

    def adopt(self) -> None:
        """Finish what dead processes left."""
        for path in self.path.glob("*.part"):
            with contextlib.suppress(OSError), path.open("rb") as opened:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who writes to it holds this
                if path.exists():
                    _salvage(path, opened)

    def _by_age(self) -> list[tuple[float, int, Path]]:
        aged: list[tuple[float, int, Path]] = []
        for path in self.path.glob("*.arrow"):
            if _FINISHED.fullmatch(path.name) is None:  # nothing of ours
                continue
            with contextlib.suppress(FileNotFoundError):  # a sibling has sent it
                facts = path.stat()
                aged.append((facts.st_mtime, facts.st_size, path))
        return sorted(aged)


class LogFile:
    """A file that is written to, by one thread."""

    def __init__(self, path: Path, schema: Any) -> None:
        self._path, self.schema = path, schema
        self._file = path.open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._writer = pa.ipc.new_stream(self._file, schema, options=_OPTIONS)
        self._rows = 0
        self.began = time.monotonic()

    @property
    def size(self) -> int:
        """Return its size in bytes."""
        return self._file.tell()

    def write(self, batch: Any) -> None:
        """Add a batch of the file's schema. A process that is killed afterwards leaves it readable."""
        self._writer.write_batch(batch)
        self._file.flush()
        self._rows += batch.num_rows

    def finish(self) -> None:
        """Complete the file, durably."""
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.rename(_finished(self._path, self._rows))
        self._file.close()


def rows_of(path: Path) -> int:
    """Return how many rows a finished file has, by its name."""
    found = _FINISHED.fullmatch(path.name)
    return int(found[3]) if found else 0


def identity_of(path: Path) -> tuple[str, int]:
    """Return the source and sequence of a finished file, by its name.

    Raises:
        ValueError: it is not the name of one.
    """
    found = _FINISHED.fullmatch(path.name)
    if found is None:
        raise ValueError(f"{path.name} is not a file of logged predictions")
    return found[1], int(found[2])


def _finished(path: Path, rows: int) -> Path:
    return path.with_name(f"{path.stem}.{rows}.arrow")


def _salvage(path: Path, opened: BinaryIO) -> None:
    """Complete a file with the batches in it that are whole."""
    rows, complete = 0, path.with_suffix(".salvage")
    try:
        reader = pa.ipc.open_stream(opened)
    except (pa.ArrowException, ValueError, OSError):  # it ended before its schema was written
        path.unlink()
        return
    with complete.open("wb") as target, pa.ipc.new_stream(target, reader.schema, options=_OPTIONS) as writer:
        for batch in _whole(reader):
            writer.write_batch(batch)
            rows += batch.num_rows
    if rows:
        complete.replace(_finished(path, rows))
    complete.unlink(missing_ok=True)
    path.unlink()
    _log.info("%d logged predictions of a process that died were kept", rows)


def _whole(reader: Any) -> Iterator[Any]:
    while True:
        try:
            yield reader.read_next_batch()
        except (StopIteration, pa.ArrowException, ValueError, OSError):
            return
