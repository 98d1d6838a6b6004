"""Files of logged predictions: what one tells of itself, and several put together as one table."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from modelops.contracts.errors import InvalidInput
from modelops.domains.serving.schemas import LogFacts, LogFormat

_METADATA = b"modelops"
_ABOUT = {
    "deployment_id": pa.string(),
    "revision": pa.int32(),
    "variant": pa.string(),
    "model": pa.string(),
    "version": pa.int32(),
    "replica": pa.string(),
}
_NEEDED = {"request_id": pa.string(), "row": pa.int32(), "time": pa.timestamp("us", "UTC"), "latency_ms": pa.float64()}
_NUMBERS = (pa.int64(), pa.float64())

Open = Callable[[], BinaryIO]


@dataclass(frozen=True)
class Contents:
    """What is in a file: whose predictions, how many rows, and when the first and the last of their requests came."""

    facts: LogFacts
    rows: int
    began_at: datetime
    ended_at: datetime


def read_contents(file: BinaryIO) -> Contents:
    """Read a file to its end.

    Raises:
        InvalidInput: it is not a file of logged predictions, or an empty one.
    """
    try:
        reader = pa.ipc.open_stream(file)
        facts = LogFacts.model_validate_json((reader.schema.metadata or {}).get(_METADATA, b""))
        if any(
            name not in reader.schema.names or reader.schema.field(name).type != kind for name, kind in _NEEDED.items()
        ):
            raise InvalidInput(f"The file lacks one of the columns {', '.join(_NEEDED)}.")
        rows, moments = 0, []
        for batch in reader:
            batch.validate(full=True)
            rows += batch.num_rows
            least, greatest = pc.min_max(batch.column("time")).as_py().values()
            moments += [moment for moment in (least, greatest) if moment is not None]
    except (pa.ArrowException, ValidationError, OSError, ValueError, OverflowError) as wrong:
        raise InvalidInput(f"The body is not a file of logged predictions: {str(wrong)[:300]}.") from wrong
    if not moments:
        raise InvalidInput("The file holds no prediction.")
    return Contents(facts, rows, min(moments), max(moments))


def write_together(
    opens: Sequence[Open], target: BinaryIO, kind: LogFormat, since: datetime | None, until: datetime | None
) -> int:
    """Write the predictions of several files as one table, and return how many rows it has.

    Each row also tells whose it is. A column that is not in each file is null elsewhere; one whose type differs among them is
    text, unless all of them are numbers.

    Args:
        since, until: Only requests that came from `since` on and before `until`.
    """
    schema = _common([_schema_of(opened) for opened in opens])
    rows = 0
    with _writer(target, schema, kind) as writer:
        for opened in opens:
            for batch in _batches(opened):
                table = _within(batch, since, until)
                if table.num_rows:
                    writer.write_table(_fitted(table, schema))
                    rows += table.num_rows
    return rows


def _writer(target: BinaryIO, schema: Any, kind: LogFormat) -> Any:
    if kind is LogFormat.PARQUET:
        return pq.ParquetWriter(target, schema, compression="zstd")
    return pa.ipc.new_file(target, schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))


def _schema_of(opened: Open) -> Any:
    with opened() as file:
        return pa.ipc.open_stream(file).schema.remove_metadata()


def _common(schemas: Sequence[Any]) -> Any:
    types: dict[str, Any] = {**_NEEDED, **_ABOUT}
    for schema in schemas:
        for field in schema:
            types[field.name] = _wider(types.get(field.name, field.type), field.type)
    return pa.schema(list(types.items()))


def _wider(one: Any, other: Any) -> Any:
    if one == other:
        return one
    return pa.float64() if one in _NUMBERS and other in _NUMBERS else pa.string()


def _batches(opened: Open) -> Iterator[Any]:
    with opened() as file:
        reader = pa.ipc.open_stream(file)
        facts = json.loads(reader.schema.metadata[_METADATA])
        for batch in reader:
            table = pa.Table.from_batches([batch])
            for name, kind in _ABOUT.items():
                table = table.append_column(name, pa.repeat(pa.scalar(facts[name], kind), batch.num_rows))
            yield table


def _within(table: Any, since: datetime | None, until: datetime | None) -> Any:
    time = table.column("time")
    for moment, compare in ((since, pc.greater_equal), (until, pc.less)):
        if moment is not None:
            kept = compare(time, pa.scalar(moment.astimezone(UTC), _NEEDED["time"]))
            table = table.filter(kept)
            time = table.column("time")
    return table


def _fitted(table: Any, schema: Any) -> Any:
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
