"""The history of a metric: its points by time, then step, page by page."""

import base64
import binascii
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.keys import find_numbers
from modelops.domains.experiments.rules import from_microseconds, join_value
from modelops.domains.experiments.schemas import MetricPoint
from modelops.kernel.database import Raw

Place = tuple[int, int, float, bool]
"""A point's place in the history of its metric: microseconds since 1970, step, stored value, whether it stands for NaN."""


class Points(NamedTuple):
    """A page of a history as it is stored; `further` is the cursor behind it, if there is more."""

    places: list[Place]
    further: str | None


def read_points(raw: Raw, run_number: int, key: str, limit: int, cursor: str | None) -> Points:
    """Read a page of a metric's history. One range of one tree, wherever the page lies.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    after = read_cursor(cursor)
    number = find_numbers(raw, [key]).get(key)
    if number is None:
        return Points([], None)
    statement = "SELECT time_us, step, value, is_nan FROM metric_points WHERE run_number = ? AND key_number = ?"
    if after is not None:
        statement += " AND (time_us, step, value, is_nan) > (?, ?, ?, ?)"
    statement += " ORDER BY time_us, step, value, is_nan LIMIT ?"
    places = raw.execute(statement, (run_number, number, *(after or ()), limit + 1)).fetchall()
    further = write_cursor(places[limit - 1]) if len(places) > limit else None
    return Points(places[:limit], further)


def sample_points(
    raw: Raw, run_numbers: Sequence[int], key: str, limit: int, first: int | None = None, last: int | None = None
) -> list[list[Place]]:
    """Return points of some runs, of the same steps in each: about `limit`, and less than twice as many, spread evenly.

    The first step and the last one of each run are among them.

    Args:
        first, last: Look between these steps alone, both included.
    """
    number = find_numbers(raw, [key]).get(key)
    if number is None:
        return [[] for _ in run_numbers]
    between = " AND step BETWEEN ? AND ?" if first is not None else ""
    bounds = (first, last) if first is not None else ()
    where = f"FROM metric_points WHERE run_number = ? AND key_number = ?{between}"
    asked = [(run, number, *bounds) for run in run_numbers]
    statement = f"SELECT DISTINCT step {where} ORDER BY step"
    steps = [[row[0] for row in raw.execute(statement, values).fetchall()] for values in asked]
    there = sorted({step for each in steps for step in each})
    chosen = {*there[:: max(1, len(there) // limit)], *(each[-1] for each in steps if each)}
    found = []
    for values, each in zip(asked, steps, strict=True):
        wanted = [step for step in each if step in chosen]
        holes = ", ".join("?" * len(wanted))
        statement = f"SELECT time_us, step, value, is_nan {where} AND step IN ({holes}) ORDER BY step, time_us, value"
        found.append(list(raw.execute(statement, (*values, *wanted)).fetchall()) if wanted else [])
    return found


def count_points(raw: Raw, run_number: int, key: str) -> int:
    """Count the points of a metric."""
    number = find_numbers(raw, [key]).get(key)
    statement = "SELECT count(*) FROM metric_points WHERE run_number = ? AND key_number = ?"
    return int(raw.execute(statement, (run_number, number)).fetchone()[0]) if number is not None else 0


def as_point(key: str, place: Place) -> MetricPoint:
    """Return a point as it was sent."""
    time_us, step, value, is_nan = place
    return MetricPoint(key=key, value=join_value(value, is_nan), step=step, timestamp=from_microseconds(time_us))


def write_cursor(place: Place) -> str:
    """Return the cursor that stands behind a point."""
    time_us, step, value, is_nan = place
    return base64.urlsafe_b64encode(json.dumps([time_us, step, value, bool(is_nan)]).encode()).decode()


def read_cursor(cursor: str | None) -> Place | None:
    """Reverse `write_cursor`.

    Raises:
        InvalidInput: it is not one of ours.
    """
    if cursor is None:
        return None
    try:
        written: list[Any] = json.loads(base64.urlsafe_b64decode(cursor))
        time_us, step, value, is_nan = written
        place = int(time_us), int(step), float(value), bool(is_nan)
        if math.isnan(place[2]) or not all(-(2**63) <= number < 2**63 for number in place[:2]):
            raise ValueError("out of range")
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        raise InvalidInput(
            "The cursor is not one of ours.", hint="Send `next_cursor` of the page before, unchanged."
        ) from None
    return place
