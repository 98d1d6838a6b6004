"""Datasets: any table comes back as it went in, and what is no table leaves nothing."""

import io
import math
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from modelops.contracts.errors import (
    AlreadyExists,
    ArtifactCorrupted,
    InvalidInput,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from modelops.contracts.ports import BlobStore
from modelops.domains.data import service
from modelops.domains.data.schemas import DataFormat
from modelops.kernel.tables import EventRow
from modelops.testing.platform import running_platform

CSV = b"x,y,city\n1,0.5,Ulm\n2,,Bonn\n3,1.5,Ulm\n"


@pytest.fixture
def data(platform):
    data = platform.client().data
    data.create_dataset("d")
    return data


def test_a_csv_becomes_a_version_with_schema_profile_and_preview(data):
    version = data.create_dataset_version("d", CSV, format="csv")
    assert (version.version, version.rows) == (1, 3)
    assert [(column.name, column.type) for column in version.columns] == [
        ("x", "int64"),
        ("y", "double"),
        ("city", "string"),
    ]
    x, y, city = version.profile
    assert (x.mean, x.min, x.max, x.distinct, x.std) == (2.0, 1.0, 3.0, 3, 1.0)
    assert (y.missing, y.count) == (1, 3)
    assert city.top == [("Ulm", 2), ("Bonn", 1)]
    preview = data.preview_dataset_version("d", rows=2)
    assert preview.rows == [[1, 0.5, "Ulm"], [2, None, "Bonn"]]
    assert preview.total_rows == 3


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
def test_a_version_downloads_in_each_format_and_as_it_was(data, tmp_path, kind):
    data.create_dataset_version("d", CSV, format="csv")
    assert data.download_dataset_version("d", 1, tmp_path / "same").read_bytes() == CSV
    file = data.download_dataset_version("d", "latest", tmp_path / f"t.{kind}", format=kind)
    read = {"csv": pa_csv.read_csv, "parquet": pq.read_table, "arrow": lambda f: pa.ipc.open_stream(f).read_all()}[kind]
    assert read(file).to_pydict() == data.load_table("d:1").to_pydict()
    assert [child.name for child in tmp_path.iterdir() if child.name.startswith(".")] == []


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n3\n"])
def test_what_is_no_table_is_refused_and_leaves_no_version(data, content):
    with pytest.raises(InvalidInput):
        data.create_dataset_version("d", content, format="csv")
    assert data.get_dataset("d").latest_version is None


def test_versions_count_up_without_gaps_when_many_come_at_once(platform):
    clients = [platform.client() for _ in range(12)]
    clients[0].data.create_dataset("d")

    def add(number):
        content = b"a,b\n1\n" if number % 4 == 3 else f"x\n{number}\n".encode()
        try:
            return clients[number].data.create_dataset_version("d", content, format="csv").version
        except InvalidInput:
            return None

    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(add, range(12)))
    assert sorted(version for version in made if version) == list(range(1, 10))
    assert [v.version for v in clients[0].data.list_dataset_versions("d").items] == list(range(1, 10))
    assert clients[0].data.get_dataset("d").latest_version == 9


def test_the_same_bytes_twice_are_two_versions_and_one_artifact(data):
    first, second = (data.create_dataset_version("d", CSV, format="csv") for _ in range(2))
    assert (first.version, second.version) == (1, 2)
    assert (first.digest, first.table_digest) == (second.digest, second.table_digest)
    assert data.list_artifacts().total == 2
    assert data.get_artifact(first.digest).media_type == "text/csv"


def test_versions_are_listed_in_pages_and_filtered(data):
    for rows in (3, 1, 2):
        data.create_dataset_version("d", b"x\n" + b"1\n" * rows, format="csv")
    page = data.list_dataset_versions("d", limit=2)
    rest = data.list_dataset_versions("d", limit=2, cursor=page.next_cursor)
    assert [v.version for v in [*page.items, *rest.items]] == [1, 2, 3]
    assert [v.rows for v in data.list_dataset_versions("d", filter="rows >= 2", order_by="rows").items] == [2, 3]
    assert [d.name for d in data.list_datasets(filter='name = "d"').items] == ["d"]


def test_a_version_is_found_by_what_it_is_called(data, platform):
    version = data.create_dataset_version("d", CSV, format="csv")
    dataset = data.get_dataset("d")
    for name, number in [("d", 1), ("d", "latest"), (dataset.id, 1), ("-", version.id), ("d", version.id)]:
        assert data.get_dataset_version(name, number) == version
    assert data.load_table(version.id).num_rows == 3
    data.create_dataset("other")
    for name, number in [("d", 2), ("d", 2**31), ("other", version.id), ("-", f"dsv_{'0' * 32}"), ("-", 1)]:
        with pytest.raises((NotFound, InvalidInput)):
            data.get_dataset_version(name, number)
    with platform.place.work(write=False) as system:
        inside, outside = system.within(dataset.project_id), system.within("prj_other")
        for ref in ("d", "d:1", "d:latest", version.id):
            assert service.resolve_dataset_version(inside, ref) == version
            with pytest.raises(NotFound):
                service.resolve_dataset_version(outside, ref)
        for ref in ("d:2", "none", "none:1", ":1", "dsv_1"):
            with pytest.raises(NotFound):
                service.resolve_dataset_version(inside, ref)


@pytest.mark.parametrize("name", [f"dst_{'a' * 32}", f"dsv_{'0' * 32}", "-", "", "a\x00", "x" * 201, "a:1"])
def test_a_name_that_could_mean_something_else_is_refused(sqlite_platform, name):
    with sqlite_platform.http(authorization=f"Bearer {sqlite_platform.admin_key}") as http:
        assert http.post("/v1/datasets", json={"name": name}).status_code == 422


def test_what_json_and_databases_do_not_know_comes_through(data):
    table = pa.table(
        {
            "infinite": [math.inf, -math.inf, math.nan],
            "huge": [1.7e308, -1.7e308, 0.0],
            "nul": ["a\x00b", "", None],
            "late": pa.array([2**50, None, 1], pa.timestamp("s")),
            "nano": pa.array([1, 2, 3], pa.timestamp("ns", "UTC")),
            "bytes": [b"\xff", b"", None],
            "nested": [[math.nan, 1.0], [], None],
            "class": pa.array(["a", "b", "a"]).dictionary_encode(),
            "nothing": pa.nulls(3),
        }
    )
    version = data.create_dataset_version("d", table)
    infinite, huge, nul, *_ = version.profile
    assert (infinite.min, infinite.max, infinite.mean, infinite.missing) == (-math.inf, math.inf, None, 1)
    assert (huge.mean, huge.quantiles[0], huge.quantiles[-1]) == (0.0, -1.7e308, 1.7e308)
    assert math.isfinite(huge.std)
    assert nul.distinct == 2
    assert {column.name: column.type for column in version.columns}["class"] == "string"
    first, second, third = data.preview_dataset_version("d").rows
    assert first[0] == "Infinity"
    assert third[0] is None
    assert first[2] == "a\x00b"
    assert first[6] == [None, 1.0]
    assert second[7] == "b"
    read = data.load_table("d")
    assert read.column("late").cast(pa.timestamp("s")).equals(table.column("late"))
    assert read.column("class").to_pylist() == ["a", "b", "a"]


def test_a_table_that_a_format_cannot_hold_is_refused_before_the_first_byte(data, tmp_path):
    data.create_dataset_version("d", pa.table({"a": [[1], [2]]}))
    with pytest.raises(InvalidInput, match="cannot be written as csv"):
        data.download_dataset_version("d", 1, tmp_path / "x", format="csv")
    assert not (tmp_path / "x").exists()


def test_damage_to_a_version_is_told_by_everything_that_reads_it(sqlite_platform, tmp_path):
    data, store = sqlite_platform.client().data, sqlite_platform.place.ports[BlobStore]
    data.create_dataset("d")
    version = data.create_dataset_version("d", CSV, format="csv")
    store.delete(version.table_digest)
    with pytest.raises(ArtifactCorrupted):
        data.preview_dataset_version("d")
    with pytest.raises(ArtifactCorrupted):
        data.load_table("d")
    assert data.download_dataset_version("d", 1, tmp_path / "same").read_bytes() == CSV


def test_what_happens_is_told(data, platform):
    data.create_dataset_version("d", CSV, format="csv")
    data.update_dataset("d", description="x")
    with platform.place.work(write=False) as ctx:
        types = [row.type for row in ctx.session.scalars(select(EventRow).order_by(EventRow.number))]
    assert [kind.removeprefix("modelops.data.") for kind in types if ".data." in kind] == [
        "dataset_created",
        "artifact_added",
        "artifact_added",
        "dataset_version_created",
        "dataset_updated",
    ]


def test_parents_are_recorded_and_must_exist(data):
    first = data.create_dataset_version("d", CSV, format="csv")
    second = data.create_dataset_version("d", CSV, format="csv", parents=["d:1"])
    assert second.parents == [first.id]
    with pytest.raises(NotFound):
        data.create_dataset_version("d", CSV, format="csv", parents=["d:9"])


def test_frames_and_arrow_tables_go_in_directly(data):
    import pandas as pd

    assert data.create_dataset_version("d", pd.DataFrame({"a": [1, 2]})).rows == 2
    assert data.create_dataset_version("d", pa.table({"a": [1, 2, 3]})).rows == 3
    with pytest.raises(InvalidInput):
        data.create_dataset_version("d", [1, 2])


def test_rights_and_isolation(platform, data):
    data.create_dataset_version("d", CSV, format="csv")
    viewer, stranger = platform.member("viewer"), platform.stranger()
    assert viewer.data.get_dataset_version("d").rows == 3
    with pytest.raises(PermissionDenied):
        viewer.data.create_dataset_version("d", CSV, format="csv")
    with pytest.raises(NotFound):
        stranger.data.get_dataset("d")
    with pytest.raises(NotFound):
        stranger.data.create_dataset_version(data.get_dataset("d").id, CSV, format="csv")


def test_names_and_updates(data):
    with pytest.raises(AlreadyExists):
        data.create_dataset("d")
    changed = data.update_dataset("d", description="x", tags={"team": "a"})
    assert (changed.description, changed.tags) == ("x", {"team": "a"})
    assert data.update_dataset("d", tags={}).description == "x"
    with pytest.raises(PreconditionFailed):
        data.update_dataset("d", description="y", revision=changed.revision)
    with pytest.raises(NotFound, match="no versions yet"):
        data.get_dataset_version("d")


def test_a_project_does_not_see_the_parents_of_another(platform, data):
    theirs = data.create_dataset_version("d", CSV, format="csv")
    stranger = platform.stranger().data
    stranger.create_dataset("d")
    with pytest.raises(NotFound):
        stranger.create_dataset_version("d", CSV, format="csv", parents=[theirs.id])
    with pytest.raises(NotFound):
        stranger.get_dataset_version("-", theirs.id)
    assert stranger.list_datasets().total == 1


words = st.sampled_from(["red", "green", "", "a,b", 'say "x"', "two\nlines", "NA", "null", " ", "ü"])
columns = {
    "number": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
    "text": st.none() | words,
}
rows = st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=20)
KINDS = {"number": pa.float64(), "whole": pa.int64(), "text": pa.string()}


@settings(max_examples=40, deadline=None)
@given(content=rows, kind=st.sampled_from(list(DataFormat)))
def test_any_table_comes_back_as_it_went_in(shared, content, kind):
    schema = pa.schema([("row", pa.int64()), *KINDS.items()])
    table = pa.Table.from_pylist([{"row": n, **row} for n, row in enumerate(content)], schema=schema)
    version = shared.data.create_dataset_version("any", written(table, kind), format=kind)
    assert [column.missing for column in version.profile] == [column.null_count for column in table.columns]
    back = shared.data.load_table(f"any:{version.version}")
    if kind is DataFormat.CSV:  # which says nothing of types: a column without values, or with whole ones, has another
        back = back.cast(schema)
    assert back.equals(table)


@settings(max_examples=15, deadline=None)
@given(content=rows, kind=st.sampled_from(list(DataFormat)))
def test_what_is_downloaded_and_uploaded_again_is_the_same_table(shared, tmp_path_factory, content, kind):
    table = pa.Table.from_pylist(
        [{"row": n, **row} for n, row in enumerate(content)], schema=pa.schema([("row", pa.int64()), *KINDS.items()])
    )
    first = shared.data.create_dataset_version("any", table)
    file = tmp_path_factory.mktemp("again") / f"table.{kind.value}"
    shared.data.download_dataset_version("any", first.version, file, format=kind)
    again = shared.data.create_dataset_version("any", file)
    assert again.format is kind
    assert shared.data.load_table(again.id).cast(table.schema).equals(table)


def written(table, kind):
    sink = io.BytesIO()
    if kind is DataFormat.CSV:
        pa_csv.write_csv(table, sink)
    elif kind is DataFormat.PARQUET:
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with running_platform(tmp_path_factory.mktemp("any") / "home") as platform:
        client = platform.client()
        client.data.create_dataset("any")
        yield client
