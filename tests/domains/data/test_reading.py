"""Reading files as tables: what they say is kept, and what they are not is said, with its place."""

import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelops.contracts.errors import InvalidInput
from modelops.domains.data import reading
from modelops.domains.data.reading import BATCH_ROWS, Source, open_table
from modelops.domains.data.schemas import DataFormat
from modelops.domains.data.tabular import preview, to_parquet

LATE = 2 * 1024**2


def read(content, kind=DataFormat.CSV):
    target = io.BytesIO()
    to_parquet(io.BytesIO(content), kind, target)
    return pq.read_table(target)


def parquet(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def arrow(table, opener=pa.ipc.new_stream, **options):
    sink = io.BytesIO()
    with opener(sink, table.schema) as writer:
        writer.write_table(table, **options)
    return sink.getvalue()


def bad_text():
    buffers = [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
    return pa.table({"s": pa.Array.from_buffers(pa.string(), 1, buffers)})


BAD = {
    "empty": (b"", "csv", "Empty"),
    "blank lines": (b"\n\n\n", "csv", "Empty"),
    "only a header": (b"a,b\n", "csv", "no rows"),
    "ragged": (b"a,b\n1,2\n3\n", "csv", "Row #3: Expected 2 columns, got 1"),
    "late ragged": (b"a,b\n" + b"1,2\n" * LATE + b"3\n", "csv", f"Row #{LATE + 2}: Expected 2"),
    "not utf-8": (b"a,b\n1,1\n\xff\xfe,2\n", "csv", "column 'a' is not UTF-8 .Row #3"),
    "late not utf-8": (b"a,b\n" + b"x,2\n" * LATE + b"\xff,2\n", "csv", f"column 'a' is not UTF-8 .Row #{LATE + 2}"),
    "header not utf-8": (b"\xff,b\n1,2\n", "csv", "utf-8"),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), "csv", "cannot be read as csv"),
    "twice the same name": (b"a,b,a\n1,2,3\n", "csv", "3. column has the name 'a'"),
    "no name": (b"a,,c\n1,2,3\n", "csv", "2. column has no name"),
    "nul in a name": (b"a\x00,b\n1,2\n", "csv", "1. column has no name"),
    "open quote": (b'a,b\n"1,2\n' + b"1,2\n" * LATE, "csv", "quotation mark"),
    "no parquet": (b"PAR1 nonsense PAR1", "parquet", "parquet"),
    "no arrow": (b"ARROW1 nonsense", "arrow", "arrow"),
    "empty parquet": (b"", "parquet", "parquet"),
    "empty arrow": (b"", "arrow", "arrow"),
    "no columns": (parquet(pa.table({})), "parquet", "no columns"),
    "no rows": (parquet(pa.table({"a": pa.array([], pa.int64())})), "parquet", "no rows"),
    "twice in arrow": (arrow(pa.table([[1], [2]], names=["a", "a"])), "arrow", "2. column has the name 'a'"),
    "text that is none in arrow": (arrow(bad_text()), "arrow", "UTF8"),
    "text that is none in parquet": (parquet(bad_text()), "parquet", "UTF8"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_table_is_refused_with_the_place(name):
    content, kind, place = BAD[name]
    with pytest.raises(InvalidInput, match=place):
        read(content, DataFormat(kind))


def test_a_cut_file_is_refused():
    table = pa.table({"a": list(range(10_000)), "b": ["x"] * 10_000})
    for kind, content in [(DataFormat.PARQUET, parquet(table)), (DataFormat.ARROW, arrow(table, pa.ipc.new_file))]:
        with pytest.raises(InvalidInput):
            read(content[: len(content) // 2], kind)


@pytest.mark.parametrize(
    ("early", "late", "kind"),
    [
        ("1", "1.5", pa.float64()),
        ("1", "x", pa.string()),
        ("", "7", pa.int64()),
        ("", "x", pa.string()),
        ("true", "maybe", pa.string()),
        ("2026-01-01", "soon", pa.string()),
        ("1.5", "x", pa.string()),
    ],
)
def test_a_late_value_of_another_type_widens_its_column(early, late, kind):
    rows = LATE // 4
    table = read(b"row,c,d\n" + b"".join(b"1,%b,z\n" % value.encode() for value in [*[early] * rows, late]))
    assert table.schema.field("c").type == kind
    assert table.num_rows == rows + 1
    assert str(table.column("c")[rows].as_py()) == late
    assert table.column("c")[0].as_py() == pa.scalar(early or None, pa.string()).cast(kind).as_py()


def test_columns_that_change_without_end_are_given_up():
    columns = reading.MAX_COLUMNS // 100
    names = ",".join(f"c{n}" for n in range(columns))
    rows = [",".join("1" for _ in range(columns))] * 6_000
    rows += [",".join("x" if n == k else "1" for n in range(columns)) for k in range(columns)]
    with pytest.raises(InvalidInput, match="change in the course of the file"):
        read("\n".join([names, *rows, ""]).encode())


def test_missing_is_what_is_empty_and_not_what_is_quoted():
    table = read(b'a,b,c\n1,x,"NA"\n,,""\nNA,null,"y"\n')
    assert table.to_pydict() == {"a": [1, None, None], "b": ["x", None, None], "c": ["NA", "", "y"]}


def test_a_file_that_quotes_everything_has_numbers_too():
    table = read(b'"a","b"\n"1","x"\n"","y"\n"3",""\n')
    assert table.to_pydict() == {"a": [1, None, 3], "b": ["x", "y", None]}


def test_values_may_have_lines_wherever_a_block_ends():
    value = "line\n" * 1_000
    table = read(b"n,t\n" + b"".join(b'%d,"%b"\n' % (n, value.encode()) for n in range(700)))
    assert table.column("n").to_pylist() == list(range(700))
    assert set(table.column("t").to_pylist()) == {value}


def test_a_byte_order_mark_is_no_part_of_a_name():
    assert read("\ufeffa,b\n1,2\n".encode()).column_names == ["a", "b"]


def test_batches_are_of_bounded_size_whatever_the_file_has():
    tiny = arrow(pa.table({"a": list(range(200))}), max_chunksize=1)
    large = arrow(pa.table({"a": list(range(300_000))}), pa.ipc.new_file)
    wide = parquet(pa.table({"a": ["x" * 100_000] * 500}))
    for content, kind, many in [(tiny, "arrow", 1), (large, "arrow", 5), (wide, "parquet", 2)]:
        _, batches = open_table(Source(io.BytesIO(content)), DataFormat(kind), {})
        sizes = [(batch.num_rows, batch.nbytes) for batch in batches]
        assert len(sizes) >= many
        assert all(rows <= 2 * BATCH_ROWS and size <= 2 * reading.BATCH_BYTES for rows, size in sizes)
    assert pq.ParquetFile(io.BytesIO(parquet(read(tiny, DataFormat.ARROW)))).num_row_groups == 1


def test_damaged_files_are_refused_or_read_but_never_break_anything():
    table = pa.table({"i": [1, 2, None], "s": ["a", "b", None], "d": pa.array(["x", "y", "x"]).dictionary_encode()})
    samples = [
        (DataFormat.PARQUET, parquet(table)),
        (DataFormat.ARROW, arrow(table)),
        (DataFormat.ARROW, arrow(table, pa.ipc.new_file)),
        (DataFormat.CSV, b'a,b,c\n1,"x\ny",2026-01-01\n2,,\n'),
    ]
    chance = random.Random(7)
    for _ in range(400):
        kind, sample = chance.choice(samples)
        content = bytearray(sample)
        for _ in range(chance.randint(1, 3)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        target = io.BytesIO()
        try:
            to_parquet(io.BytesIO(bytes(content)), kind, target)
        except InvalidInput:
            continue
        assert preview(target, 2).model_dump_json()
