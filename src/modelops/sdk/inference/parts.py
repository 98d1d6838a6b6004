"""Answers on their way: a part a batch, each there whole or not at all, beside the file that they become."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from modelops.contracts.errors import Conflict, InvalidInput
from modelops.contracts.schemas import Schema
from modelops.domains.data.schemas import DataFormat

_JOB, _LOCK = "job.json", "lock"


class Job(Schema):
    """What the parts in a folder answer: they are of no use to another one."""

    source: str
    source_size: int
    source_changed_ns: int
    model_version_id: str
    digest: str
    kept: list[str]


class Parts:
    """The folder of one job's parts. Open it with `opened`.

    Raises:
        Conflict: (by `resume`) the folder holds the parts of another job.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f".{target.name}.parts")

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder, so that no second process writes the same parts.

        Raises:
            Conflict: another one does.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as taken:
                raise Conflict(f"Another process writes '{self.target}' at this moment.") from taken
            yield

    def resume(self, job: Job, *, afresh: bool) -> int:
        """Return how many parts of this job are there already.

        Args:
            afresh: Begin anew, whatever is there.
        """
        kept = self.folder / _JOB
        there = 0 if afresh or not kept.exists() else self._count()
        if there:
            if Job.model_validate_json(kept.read_bytes()) != job:
                raise Conflict(
                    f"'{self.folder.name}' holds answers to another table, or of another version.",
                    hint="Begin anew with `--restart` (`resume=False`), or write to another file.",
                )
            return there
        self._clear()
        _write(kept, lambda file: file.write(job.model_dump_json().encode()))
        return 0

    def add(self, number: int, batch: pa.RecordBatch) -> None:
        """Keep the answers to a batch for good."""

        def write(file: BinaryIO) -> None:
            with pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)

        _write(self._path(number), write)

    def join(self, count: int, kind: DataFormat, facts: dict[str, str]) -> list[str]:
        """Make the parts the one file that is wanted, remove them, and return its columns.

        Args:
            facts: What is said of the table in its schema, where the format has a place for it.
        """
        schema = _common(self._read(number).schema for number in range(count)).with_metadata(facts)

        def write(file: BinaryIO) -> None:
            with _writer(file, schema, kind) as writer:
                for number in range(count):
                    writer.write_table(pa.Table.from_batches([self._read(number)]).cast(schema))

        _write(self.target, write)
        shutil.rmtree(self.folder)
        return list(schema.names)

    def _read(self, number: int) -> pa.RecordBatch:
        with pa.memory_map(str(self._path(number))) as mapped:
            return pa.ipc.open_file(mapped).get_batch(0)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.arrow"

    def _count(self) -> int:
        number = 0
        while self._path(number).exists():
            number += 1
        return number

    def _clear(self) -> None:
        for file in self.folder.iterdir():
            if file.name != _LOCK:
                file.unlink()


def _common(schemas: Iterator[pa.Schema]) -> pa.Schema:
    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive")
    except pa.ArrowException as wrong:
        raise InvalidInput(
            f"The model's predictions are of types that no column holds together: {wrong}.",
            hint="A model must predict values of one type.",
        ) from wrong


def _writer(file: BinaryIO, schema: pa.Schema, kind: DataFormat) -> "pq.ParquetWriter | pa_csv.CSVWriter":
    if kind is DataFormat.PARQUET:
        return pq.ParquetWriter(file, schema, compression="zstd")
    if kind is DataFormat.CSV:
        return pa_csv.CSVWriter(file, schema)
    return pa.ipc.new_file(file, schema)


def _write(path: Path, content: Callable[[BinaryIO], object]) -> None:
    """Write a file durably in one step: it is there whole, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
