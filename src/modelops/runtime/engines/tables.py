"""Which Arrow tables Spark reads as they are, and how the others are made plain."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def reads_as_it_is(schema: "pa.Schema") -> bool:
    """Tell whether Spark reads a Parquet file with this schema: it knows no nanoseconds, and no unsigned numbers."""
    return all(_plain(kind) == kind for kind in schema.types)


def plain_for_spark(table: "pa.Table") -> "pa.Table":
    """Return a table with the columns as Spark knows them: categories as their values, times in microseconds."""
    import pyarrow as pa

    kinds = [pa.field(field.name, _plain(field.type), field.nullable) for field in table.schema]
    return table.cast(pa.schema(kinds), safe=False) if not reads_as_it_is(table.schema) else table


def _plain(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_unsigned_integer(kind):
        return pa.float64() if kind == pa.uint64() else pa.int64()
    return pa.float32() if pa.types.is_float16(kind) else kind
