"""Datasets: any table comes back as it went in, and what is no table leaves nothing."""

import io
import threading

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import AlreadyExists, InvalidInput, MLOpsError, NotFound, PermissionDenied
from modelops.domains.data.profiling import TableProfile
from modelops.domains.data.rules import parse_ref
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


BAD = {
    "empty": (b"", "csv"),
    "only a header": (b"a,b\n", "csv"),
    "ragged": (b"a,b\n1,2\n3\n", "csv"),
    "late ragged": (b"a,b\n" + b"1,2\n" * 2000 + b"3\n", "csv"),
    "not utf-8": (b"a,b\n\xff\xfe,2\n", "csv"),
    "twice the same name": (b"a,a\n1,2\n", "csv"),
    "no parquet": (b"PAR1 nonsense PAR1", "parquet"),
    "no arrow": (b"ARROW1 nonsense", "arrow"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_table_is_refused_and_leaves_no_version(data, name):
    content, kind = BAD[name]
    with pytest.raises(InvalidInput) as refused:
        data.create_dataset_version("d", content, format=kind)
    assert refused.value.detail
    assert data.get_dataset("d").latest_version is None


def test_versions_count_up_without_gaps_when_many_come_at_once(platform):
    platform.client().data.create_dataset("d")

    def add(number):
        platform.client().data.create_dataset_version("d", f"x\n{number}\n".encode(), format="csv")

    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = platform.client().data.list_dataset_versions("d").items
    assert sorted(version.version for version in versions) == list(range(1, 9))


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
    with pytest.raises(NotFound, match="no versions yet"):
        data.get_dataset_version("d")


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
values = {
    "numbers": st.lists(
        st.none() | st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=20
    ),
    "whole": st.lists(st.none() | st.integers(-(2**53), 2**53), min_size=1, max_size=20),
    "texts": st.lists(
        st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8),
        min_size=1,
        max_size=20,
    ),
}


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.one_of(*values.values()), kind=st.sampled_from(["parquet", "arrow"]))
def test_any_table_comes_back_as_it_went_in(shared, content, kind):
    table = pa.table({"c": content})
    if pa.types.is_null(table.schema.field("c").type):
        return
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    version = shared.data.create_dataset_version("any", sink.getvalue(), format=kind)
    back = shared.data.load_table(f"any:{version.version}")
    assert back.to_pydict() == table.to_pydict()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with running_platform(tmp_path_factory.mktemp("any") / "home") as platform:
        client = platform.client()
        client.data.create_dataset("any")
        yield client


@settings(max_examples=60, deadline=None)
@given(
    content=st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 20), max_size=6),
)
def test_a_profile_does_not_depend_on_the_batches(content, cuts):
    schema = pa.schema([("c", pa.float64())])
    whole, parts = TableProfile(schema), TableProfile(schema)
    batch = pa.record_batch([pa.array(content, pa.float64())], schema=schema)
    whole.add(batch)
    start = 0
    for cut in [*cuts, len(content)]:
        parts.add(batch.slice(start, cut))
        start += cut
    (a,), (b,) = whole.result(), parts.result()
    known = [value for value in content if value is not None]
    assert (a.count, a.missing, a.distinct) == (b.count, b.missing, b.distinct)
    assert a.missing == len(content) - len(known)
    if known:
        assert a.mean == pytest.approx(b.mean, abs=1e-6)
        assert a.mean == pytest.approx(np.mean(known), abs=1e-6)
    if len(known) > 1:
        assert a.std == pytest.approx(np.std(known, ddof=1), abs=1e-6)
        assert b.std == pytest.approx(a.std, abs=1e-6)


@given(st.text(max_size=20))
def test_any_reference_is_read_or_refused(ref):
    try:
        name, version = parse_ref(ref)
    except MLOpsError:
        return
    assert isinstance(name, str)
    assert version is None or version >= 1
