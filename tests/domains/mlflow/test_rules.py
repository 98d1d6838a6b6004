"""What MLflow's words mean here: stages, paths, sources and filters, with whatever somebody may write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import literal, select

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.domains.mlflow.paging import read_token, write_token
from modelops.domains.mlflow.rules import STAGES, check_alias_name, check_source, clean_path, stage_name, way_to
from modelops.domains.models.rules import NEXT
from modelops.domains.models.schemas import Stage
from modelops.kernel.comparing import compare


@given(st.sampled_from(Stage), st.sampled_from(sorted(STAGES)))
def test_a_way_is_of_allowed_moves_and_passes_no_gate(present, wanted):
    try:
        way = way_to(present, wanted)
    except MLOpsError:
        assert present is Stage.RETIREMENT
        return
    for before, after in zip([present, *way], way, strict=False):
        assert after in NEXT[before]
    assert stage_name((way or [present])[-1]) == wanted
    assert not {Stage.PRODUCTION, Stage.RETIREMENT} & set(way[:-1])


def test_every_stage_has_one_name():
    assert sorted(stage for stages in STAGES.values() for stage in stages) == sorted(Stage)


@given(st.text(max_size=40))
def test_a_clean_path_stays_inside(path):
    try:
        found = clean_path(path)
    except InvalidInput:
        return
    assert ".." not in found.split("/")
    assert not found.startswith("/")
    assert not found.endswith("/")
    assert clean_path(found) == found


@given(st.text(max_size=40))
def test_any_source_and_alias_is_taken_or_refused(text):
    for check in (check_source, check_alias_name):
        try:
            check(text)
        except InvalidInput:
            continue
        assert text


@given(st.text(max_size=40))
def test_any_token_is_read_or_refused(text):
    try:
        assert read_token(text) >= 0
    except InvalidInput:
        assert text


@given(st.integers(0, 2**31 - 1))
def test_a_token_is_read_as_it_was_written(offset):
    assert read_token(write_token(offset)) == offset


@pytest.mark.parametrize(
    ("value", "pattern", "like", "ilike"),
    [
        ("abc", "a%", True, True),
        ("Abc", "a%", False, True),
        ("a*c", "a*c", True, True),
        ("abc", "a*c", False, False),
        ("a?c", "a?_", True, True),
        ("a[b]c", "a[b]%", True, True),
        ("abc", "a[b]c", False, False),
        ("abc", "__c", True, True),
        ("ab\nc", "ab%", True, True),
    ],
)
def test_like_minds_case_on_both_databases(platform, value, pattern, like, ilike):
    with platform.place.work(write=False) as ctx:
        rows = select(literal(value).label("x")).subquery()
        for operator, fits in (("LIKE", like), ("ILIKE", ilike)):
            condition = compare(ctx.session, rows.c.x, operator, pattern)
            assert (ctx.session.scalar(select(rows.c.x).where(condition)) is not None) is fits, operator
