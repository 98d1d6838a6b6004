"""Files read as tables: CSV, Parquet and Arrow, batch by batch, so that none need fit in memory."""

import io
import mmap
import os
import re
import threading
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from modelops.contracts.errors import InvalidInput
from modelops.domains.data.schemas import DataFormat

BATCH_ROWS = 64 * 1024
BATCH_BYTES = 16 * 1024**2
MAX_COLUMNS = 10_000
_CSV_BLOCK = 1024**2  # Arrow reads 32 of them ahead
_CONVERSION = re.compile(r"In CSV column #(\d+): (?:(Row #\d+): )?CSV conversion error to ([^:]+): (.*)", re.DOTALL)
_WIDER = {"null": pa.int64(), "int64": pa.float64()}

Batches = tuple[pa.Schema, Iterator[pa.RecordBatch]]


class Source:
    """A seekable file that several readers share: Arrow reads ahead in threads of its own, also for a reader given up."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.lock = threading.Lock()

    def reader(self) -> pa.PythonFile:
        """Return a reader with a position of its own."""
        return pa.PythonFile(_Reader(self), mode="r")


class _Reader(io.RawIOBase):
    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with self._source.lock:
            self._source.file.seek(self._position)
            content = self._source.file.read(size)
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            with self._source.lock:
                offset = self._source.file.seek(offset, os.SEEK_END)
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position


class TypeConflict(Exception):
    """A value further down in a CSV file does not fit the type that its beginning suggests; `wider` would take it."""

    def __init__(self, column: str, wider: pa.DataType) -> None:
        super().__init__(column)
        self.column = column
        self.wider = wider


def open_table(source: Source, kind: DataFormat, types: dict[str, pa.DataType]) -> Batches:
    """Return a file's schema and its record batches, each of bounded size.

    Dictionary columns come as what their entries mean.

    Args:
        source: The file.
        kind: What it is.
        types: Types of CSV columns, in place of those that the file's beginning suggests.

    Raises:
        InvalidInput: it is no such file, or no table that can be kept. The batches may raise it too.
        TypeConflict: (by the batches) of a CSV file that needs another type for a column.
    """
    if kind is DataFormat.CSV:
        return _open_csv(source, types)
    schema, batches = _open_parquet(source) if kind is DataFormat.PARQUET else _open_arrow(source)
    check_schema(schema)
    plain = pa.schema([field.with_type(_plain(field.type)) for field in schema], metadata=schema.metadata)
    return plain, _sized(_checked(batches, plain), plain)


def check_schema(schema: pa.Schema) -> None:
    """Refuse columns that could not be told apart or kept."""
    names = schema.names
    if not names:
        raise InvalidInput("The table has no columns.")
    if len(names) > MAX_COLUMNS:
        raise InvalidInput(f"The table has {len(names)} columns; a dataset may have {MAX_COLUMNS}.")
    seen: set[str] = set()
    for place, name in enumerate(names, 1):
        if name in seen:
            raise InvalidInput(
                f"The {place}. column has the name '{name[:200]}', which another one has.",
                hint="Give every column a name of its own.",
            )
        seen.add(name)
        if not name or "\x00" in name:
            raise InvalidInput(
                f"The {place}. column has no name that can be kept.",
                hint="The first line of a CSV file names its columns.",
            )


def _open_csv(source: Source, types: dict[str, pa.DataType]) -> Batches:
    """Open CSV as RFC 4180 has it, in UTF-8, its first line the names.

    Empty cells, `NA`, `null` and their like are missing, among texts too; in quotes they are texts, save in files that
    quote numbers as well.
    """
    reader = _csv_reader(source, types, quoted_nulls=False)
    check_schema(reader.schema)
    for field in reader.schema:
        if pa.types.is_binary(field.type):  # what a column becomes whose bytes are no text
            raise _not_text(source, field.name)
    loose = _csv_reader(source, types, quoted_nulls=True)
    if _quotes_numbers(reader.schema, loose.schema):
        return loose.schema, _csv_batches(loose)
    return reader.schema, _csv_batches(_csv_reader(source, types, quoted_nulls=False))


def _csv_reader(source: Source, types: dict[str, pa.DataType], *, quoted_nulls: bool) -> pa_csv.CSVStreamingReader:
    return pa_csv.open_csv(
        source.reader(),
        read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),  # so that errors name the row
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=quoted_nulls
        ),
    )


def _quotes_numbers(strict: pa.Schema, loose: pa.Schema) -> bool:
    """Tell whether a column is one of texts only because its quoted blanks are taken for texts."""
    blank = (pa.string(), pa.null())
    return any(a.type == pa.string() and b.type not in blank for a, b in zip(strict, loose, strict=True))


def _csv_batches(reader: pa_csv.CSVStreamingReader) -> Iterator[pa.RecordBatch]:
    try:
        yield from _sized(reader, reader.schema)
    except pa.ArrowInvalid as wrong:
        conflict = _CONVERSION.match(str(wrong))
        if conflict is None:
            raise
        name = reader.schema.names[int(conflict[1])]
        if "invalid UTF8" in conflict[4]:
            raise _bad_text(name, conflict[2]) from wrong
        raise TypeConflict(name, _WIDER.get(conflict[3], pa.string())) from wrong


def _not_text(source: Source, name: str) -> InvalidInput:
    """Read a column as text, to learn which row is none."""
    try:
        _csv_reader(source, {name: pa.string()}, quoted_nulls=False)
    except pa.ArrowInvalid as wrong:
        conflict = _CONVERSION.match(str(wrong))
        return _bad_text(name, conflict[2] if conflict else None)
    return _bad_text(name, None)


def _bad_text(name: str, row: str | None) -> InvalidInput:
    place = f" ({row})" if row else ""
    return InvalidInput(f"The column '{name[:200]}' is not UTF-8{place}.", hint="Save the file as UTF-8.")


def _open_parquet(source: Source) -> Batches:
    file = pq.ParquetFile(source.reader())
    facts = file.metadata
    size = sum(facts.row_group(n).total_byte_size for n in range(facts.num_row_groups))
    rows = _rows_within(facts.num_rows, size)
    return file.schema_arrow, file.iter_batches(batch_size=rows)


def _open_arrow(source: Source) -> Batches:
    """Open an Arrow file or stream: both are called `.arrow`."""
    mapped = _mapped(source)
    try:
        file = pa.ipc.open_file(mapped)
        return file.schema, (file.get_batch(n) for n in range(file.num_record_batches))
    except pa.ArrowInvalid:
        mapped.seek(0)
        stream = pa.ipc.open_stream(mapped)
        return stream.schema, iter(stream)


def _mapped(source: Source) -> pa.NativeFile:
    """Map a file into memory, so that a batch as large as the file need not be read at once."""
    try:
        view = mmap.mmap(source.file.fileno(), 0, access=mmap.ACCESS_READ)
    except (io.UnsupportedOperation, ValueError):  # not a file of the system, or an empty one
        return source.reader()
    return pa.BufferReader(pa.py_buffer(view))


def _checked(batches: Iterator[pa.RecordBatch], plain: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Verify what a file says of itself before anything trusts it, and decode it to the plain schema."""
    for batch in batches:
        batch.validate(full=True)
        columns = [
            column if column.type == field.type else _decoded(column, field.type)
            for column, field in zip(batch.columns, plain, strict=True)
        ]
        yield pa.record_batch(columns, schema=plain)


def _decoded(column: pa.Array, kind: pa.DataType) -> pa.Array:
    values = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return values.cast(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column is kept as: one that every format and engine knows."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def _sized(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Cut large batches and gather small ones: each comes to about `BATCH_ROWS` rows or `BATCH_BYTES`."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        step = _rows_within(batch.num_rows, batch.nbytes)
        for start in range(0, batch.num_rows, step):
            piece = batch.slice(start, step)
            held.append(piece)
            rows, size = rows + piece.num_rows, size + piece.nbytes
            if rows >= BATCH_ROWS or size >= BATCH_BYTES:
                yield _joined(held)
                held, rows, size = [], 0, 0
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _rows_within(rows: int, size: int) -> int:
    """Return how many rows of a table of this size a batch may have."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))
