"""Tables on their way in and out: to Parquet with a profile, to CSV and Arrow, and to a preview."""

import base64
import io
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from modelops.contracts.errors import InvalidInput
from modelops.domains.data.profiling import TableProfile
from modelops.domains.data.reading import BATCH_ROWS, Source, TypeConflict, open_table
from modelops.domains.data.schemas import Column, ColumnProfile, DataFormat, Preview

_REREADINGS = 50
_NOT_FINITE = {"nan": None, "inf": "Infinity", "-inf": "-Infinity"}


class Conversion:
    """What came out of reading a table: its columns, its profile and its number of rows."""

    def __init__(self, schema: pa.Schema, profile: TableProfile) -> None:
        self.columns = [Column(name=f.name, type=str(f.type), nullable=f.nullable) for f in schema]
        self.profile: list[ColumnProfile] = profile.result()
        self.rows = profile.rows


def to_parquet(source: BinaryIO, kind: DataFormat, target: BinaryIO) -> Conversion:
    """Read a file as a table, write it as Parquet into `target`, and profile it on the way.

    A CSV file is read again with a wider type for a column whose later values do not fit the type of the first ones:
    whole numbers become floats, anything becomes text.

    Raises:
        InvalidInput: the file is not what it is said to be; the error names the place.
    """
    shared = Source(source)
    types: dict[str, pa.DataType] = {}
    for _ in range(_REREADINGS):
        try:
            return _convert(shared, kind, types, target)
        except TypeConflict as conflict:
            types[conflict.column] = conflict.wider
        except (pa.ArrowException, UnicodeDecodeError) as wrong:
            raise _unreadable(kind, wrong) from wrong
        except OSError as wrong:
            if wrong.errno is not None:  # the disk's, not the file's
                raise
            raise _unreadable(kind, wrong) from wrong
    raise InvalidInput(
        f"The types of more than {_REREADINGS // 3} columns change in the course of the file; the last one is "
        f"'{list(types)[-1]}'.",
        hint="Send it as Parquet, where each column has its type.",
    )


def preview(parquet: BinaryIO, rows: int) -> Preview:
    """Return the first rows of a Parquet file."""
    file = pq.ParquetFile(parquet)
    found: list[list[Any]] = []
    for batch in file.iter_batches(batch_size=max(1, rows)):
        head = batch.slice(0, rows - len(found))
        columns = [_column(column) for column in head.columns]
        found += [list(row) for row in zip(*columns, strict=True)]
        if len(found) >= rows:
            break
    return Preview(columns=file.schema_arrow.names, rows=found, total_rows=file.metadata.num_rows)


def stream_as(parquet: BinaryIO, kind: DataFormat) -> Iterator[bytes]:
    """Return a Parquet file's table as CSV or as an Arrow IPC stream, in chunks.

    Raises:
        InvalidInput: the table has a column that the format cannot hold (raised now, not by the chunks).
    """
    file, sink = pq.ParquetFile(parquet), _Sink()
    schema = file.schema_arrow
    try:
        writer: Any = pa_csv.CSVWriter(sink, schema) if kind is DataFormat.CSV else pa.ipc.new_stream(sink, schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as wrong:
        raise InvalidInput(
            f"The table cannot be written as {kind.value}: {wrong}.", hint="Download it as Parquet or Arrow."
        ) from wrong
    return _written(file, writer, sink)


def _convert(source: Source, kind: DataFormat, types: dict[str, pa.DataType], target: BinaryIO) -> Conversion:
    target.seek(0)
    target.truncate()
    schema, batches = open_table(source, kind, types)
    profile = TableProfile(schema)
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in batches:
            profile.add(batch)
            writer.write_batch(batch)
    if profile.rows == 0:
        raise InvalidInput("The table has no rows.", hint="A dataset version needs at least one row.")
    return Conversion(schema, profile)


def _unreadable(kind: DataFormat, wrong: Exception) -> InvalidInput:
    why = str(wrong).strip()[:500]
    if "straddling" in why:
        why = "a row is longer than 1 MB, or a quotation mark is not closed"
    return InvalidInput(
        f"The file cannot be read as {kind.value}: {why}.", hint="Name its true format, or correct the place named."
    )


def _written(file: pq.ParquetFile, writer: Any, sink: "_Sink") -> Iterator[bytes]:
    with writer:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            writer.write_batch(batch)
            yield sink.take()
    if rest := sink.take():
        yield rest


class _Sink(io.RawIOBase):
    """A sink whose content is taken out as it comes."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        held = bytes(data)
        self._held.append(held)
        return len(held)

    def take(self) -> bytes:
        held, self._held = b"".join(self._held), []
        return held


def _column(column: pa.Array) -> list[Any]:
    """Return a column's cells in JSON form. Moments are written by Arrow: Python knows fewer of them."""
    if pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type):
        column = column.cast(pa.string())
    return [_cell(scalar) for scalar in column]


def _cell(scalar: Any) -> Any:
    try:
        return _json(scalar.as_py())
    except (ValueError, OverflowError):  # a moment within a list or struct that Python does not know
        return f"({scalar.type})"


def _json(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _NOT_FINITE[str(value)]
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
