"""Listings: paging gives every row once and in order, and the grammar refuses what it does not know."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from modelops.contracts.errors import InvalidInput
from modelops.kernel.listing import PageQuery, list_rows, parse_filter
from modelops.kernel.tables import AuditRow

FIELDS = {"outcome": AuditRow.outcome, "time": AuditRow.time, "request_id": AuditRow.request_id}


def fill(platform, rows):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with platform.place.work() as ctx:
        for number, (outcome, request_id) in enumerate(rows):
            ctx.session.add(
                AuditRow(
                    id=f"aud_{number:05d}",
                    time=start + timedelta(minutes=number % 7),
                    actor="a",
                    operation="o",
                    resource="r",
                    outcome=outcome,
                    request_id=request_id,
                )
            )


def walk(platform, **query):
    ids, cursor = [], query.pop("cursor", None)
    while True:
        with platform.place.work(write=False) as ctx:
            page = list_rows(ctx, select(AuditRow), AuditRow.id, FIELDS, PageQuery(cursor=cursor, **query))
        ids += [row.id for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return ids, page.total


@pytest.mark.parametrize("order_by", [None, "outcome", "outcome desc", "time desc", "request_id", "request_id desc"])
def test_paging_gives_every_row_once_and_in_order(platform, order_by):
    rows = [(f"o{n % 5}", None if n % 3 == 0 else f"r{n % 4}") for n in range(40)]
    fill(platform, rows)
    whole, total = walk(platform, limit=1000, order_by=order_by)
    paged, _ = walk(platform, limit=7, order_by=order_by)
    assert paged == whole
    assert sorted(whole) == [f"aud_{n:05d}" for n in range(40)]
    assert total == 40


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('outcome = "o1"', 8),
        ('outcome != "o1"', 32),
        ("request_id = null", 14),
        ("request_id != null", 26),
        ('outcome ~ "O1" and request_id != null', 5),
        ('time >= "2026-01-01T00:03:00Z"', 22),
        ('outcome = "no \\"such\\""', 0),
    ],
)
def test_filters(platform, text, count):
    fill(platform, [(f"o{n % 5}", None if n % 3 == 0 else f"r{n % 4}") for n in range(40)])
    assert len(walk(platform, filter=text)[0]) == count


@pytest.mark.parametrize(
    "text",
    [
        "outcome",
        "outcome =",
        "= 3",
        'outcome = "a" or outcome = "b"',
        "outcome = bare",
        "nope = 1",
        "outcome = 3",
        'time > "x"',
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_with_a_hint(text):
    with pytest.raises(InvalidInput) as refused:
        parse_filter(text, FIELDS)
    assert refused.value.hint


@pytest.mark.parametrize(
    "query", [{"cursor": "x"}, {"cursor": "W10="}, {"order_by": "nope"}, {"order_by": "outcome up"}]
)
def test_a_cursor_or_order_that_cannot_be_read_is_refused(sqlite_platform, query):
    with pytest.raises(InvalidInput):
        walk(sqlite_platform, **query)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_refused(text):
    with contextlib.suppress(InvalidInput):
        parse_filter(text, FIELDS)
