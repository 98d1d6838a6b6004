"""Names and references: each means one thing, or is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ids import new_id
from modelops.domains.data.rules import check_name, format_of, is_version_id, parse_ref, parse_version
from modelops.domains.data.schemas import MEDIA_TYPE


@given(st.text(max_size=20))
def test_any_reference_is_read_or_refused(ref):
    try:
        name, version = parse_ref(ref)
    except InvalidInput:
        return
    assert ref in (name, f"{name}:latest") or ref.startswith(f"{name}:")
    assert version is None or 1 <= version < 2**31


@pytest.mark.parametrize(
    ("ref", "read"), [("a", ("a", None)), ("a:3", ("a", 3)), ("a:latest", ("a", None)), ("a:b:3", ("a:b", 3))]
)
def test_references(ref, read):
    assert parse_ref(ref) == read


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "²", "١", str(2**31), "9" * 5_000, "Latest"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(InvalidInput):
        parse_version(text)


def test_ids_are_no_names():
    check_name("dsv_short")
    for kind in ("dst", "dsv"):
        with pytest.raises(InvalidInput):
            check_name(new_id(kind))
    assert is_version_id(new_id("dsv"))
    assert not is_version_id(new_id("dst"))
    assert not is_version_id(new_id("dsv") + "0")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", "csv"), ("A.PARQUET", "parquet"), ("a.b.feather", "arrow"), ("a.csv.gz", None), ("csv.", None)],
)
def test_a_format_is_told_from_a_name(name, kind):
    assert format_of(name) == kind


@pytest.mark.parametrize("text", ["text/csv", "application/vnd.apache.parquet", 'a/b; q="x y"; c=utf-8'])
def test_media_types(text):
    assert re.match(MEDIA_TYPE, text)
