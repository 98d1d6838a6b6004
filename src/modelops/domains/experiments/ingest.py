"""What is logged on a run, on its way into the database: validated by the caller, written here, by the driver's own statements.

A batch is kept whole or not at all. A point that is there already stays as it is, so a batch that is sent again does no harm.
The latest point of each metric is kept in the same transaction.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from operator import itemgetter
from typing import Any

from modelops.contracts.errors import InvalidInput, NotFound, PermissionDenied
from modelops.domains.experiments.rules import (
    LIVE,
    RunDeleted,
    RunEnded,
    check_parameters,
    split_value,
)
from modelops.kernel.context import Actor, project_of
from modelops.kernel.database import Raw, read_moment
from modelops.kernel.scope import Scope

Point = tuple[int, int, int, float, bool]
"""Number of the key, microseconds since 1970, step, stored value, whether it stands for NaN."""

HEARD_EVERY = timedelta(seconds=1)
"""How often at most a run that promised heartbeats is noted as heard of."""

EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999."""

_POINT_BYTES = 120
_lateness = itemgetter(2, 1, 3, 4)

_INSERT_POINTS = "INSERT INTO metric_points (run_number, key_number, time_us, step, value, is_nan) "
_INSERT_LATEST = "INSERT INTO latest_metrics (run_number, key_number, time_us, step, value, is_nan) "
_IF_LATER = (
    " ON CONFLICT (run_number, key_number) DO UPDATE SET"
    " time_us = excluded.time_us, step = excluded.step, value = excluded.value, is_nan = excluded.is_nan"
    " WHERE (excluded.step, excluded.time_us, excluded.value, excluded.is_nan)"
    " > (latest_metrics.step, latest_metrics.time_us, latest_metrics.value, latest_metrics.is_nan)"
)
_INSERT_PARAMETER = "INSERT INTO run_parameters (run_number, key, value, text, number) VALUES (?, ?, ?, ?, ?)"
_INSERT_TAG = "INSERT INTO run_tags (run_number, key, value) VALUES (?, ?, ?)"
_FIND_RUN = "SELECT number, status, heard_at, job_id, created_by, deleted_at FROM runs WHERE id = ? AND project_id = ?"
_ARRAYS = "SELECT ?, * FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::float8[], ?::bool[])"  # PostgreSQL's


@dataclass(frozen=True, slots=True)
class ParameterEntry:
    """A parameter as it is stored. `number` is set if it reads as a finite number."""

    key: str
    value: Any
    text: str
    number: float | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What to record on a run at once."""

    points: list[Point] = field(default_factory=list)
    parameters: list[ParameterEntry] = field(default_factory=list)
    tags: list[tuple[str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Return about how many bytes it holds."""
        texts = sum(len(entry.text) + 2_000 for entry in self.parameters) + sum(len(v) + 500 for _, v in self.tags)
        return len(self.points) * _POINT_BYTES + texts


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that is locked and takes what is logged."""

    number: int
    status: str
    heard_at: Any


def parameter_entry(key: str, value: Any) -> ParameterEntry:
    """Return a parameter as it is stored: a text reads as it is, everything else in JSON."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return ParameterEntry(key, value, text, _as_number(value))


def check_points(points: Sequence[Point]) -> None:
    """Refuse points whose time or step no database holds.

    Raises:
        InvalidInput: names the limits.
    """
    if not points:
        return
    times = [point[1] for point in points]
    if min(times) < EARLIEST_US or max(times) > LATEST_US:
        raise InvalidInput("The timestamp of a metric lies outside of the years 1 to 9999.")
    steps = [point[2] for point in points]
    if min(steps) < -(2**63) or max(steps) >= 2**63:
        raise InvalidInput("The step of a metric is no integer of 64 bits.")


async def log(scope: Scope, run: str, batch: Batch, *, ended_too: bool = False, by_text: bool = False) -> None:
    """Record a batch on a run of the caller's project, and return when it is committed.

    Args:
        ended_too: A run that has ended takes it as well.
        by_text: A parameter that is there is the same if it reads the same.

    Raises:
        NotFound: there is no such run here.
        PermissionDenied: the caller may not write on it.
        RunEnded, RunDeleted: it takes nothing.
        ParameterChanged: a parameter is there with another value; nothing of the batch is kept.
        RateLimited: too much waits to be written.
    """
    now = scope.place.clock.now()
    check_points(batch.points)

    def write(raw: Raw) -> None:
        opened = open_run(raw, scope.actor, run, ended_too=ended_too)
        write_batch(raw, opened.number, batch, by_text=by_text)
        if opened.heard_at is not None and read_moment(opened.heard_at) + HEARD_EVERY < now:
            raw.execute("UPDATE runs SET heard_at = ? WHERE number = ?", (raw.moment(now), opened.number))

    await scope.write(write, permission="runs.write", order=run, size=batch.size)


def open_run(raw: Raw, actor: Actor, run: str, *, ended_too: bool = False) -> OpenRun:
    """Lock a run to write on. Raises as `log`."""
    statement = _FIND_RUN if raw.on_sqlite else _FIND_RUN + " FOR UPDATE"
    found = raw.execute(statement, (run, project_of(actor))).fetchone()
    if found is None:
        raise NotFound(f"There is no run '{run}' in this project.")
    number, status, heard_at, job_id, made_by, deleted_at = found
    if actor.kind == "grant" and actor.id not in (job_id, made_by):
        raise PermissionDenied(f"The run '{run}' is not this job's.")
    if deleted_at is not None:
        raise RunDeleted(f"The run '{run}' is deleted.", hint="Restore it first.")
    if status not in LIVE and not ended_too:
        raise RunEnded(
            f"The run '{run}' has ended as {status}; nothing more is recorded on it.", hint="Start another run."
        )
    return OpenRun(number, status, heard_at)


def write_batch(raw: Raw, run_number: int, batch: Batch, *, by_text: bool = False) -> None:
    """Write a batch on a run.

    Raises:
        ParameterChanged: a parameter is there with another value.
    """
    if batch.parameters:
        _write_parameters(raw, run_number, batch.parameters, by_text=by_text)
    if batch.tags:
        _write_tags(raw, run_number, batch.tags)
    if batch.points:
        points, latest = _in_order(batch.points)
        _insert(raw, _INSERT_POINTS, " ON CONFLICT DO NOTHING", run_number, points)
        _insert(raw, _INSERT_LATEST, _IF_LATER, run_number, latest)


def write_fresh(raw: Raw, batches: Sequence[tuple[int, Batch]]) -> None:
    """Write batches on runs that hold nothing yet, by their numbers; each key of a parameter or tag is there once."""
    raw.executemany(
        _INSERT_PARAMETER, [_parameter_row(number, entry) for number, batch in batches for entry in batch.parameters]
    )
    raw.executemany(_INSERT_TAG, [(number, key, value) for number, batch in batches for key, value in batch.tags])
    points, latest = [], []
    for number, batch in batches:
        ordered, last = _in_order(batch.points)
        points += [(number, *one) for one in ordered]
        latest += [(number, *one) for one in last]
    for insert, rows in ((_INSERT_POINTS, points), (_INSERT_LATEST, latest)):
        raw.executemany(f"{insert} VALUES (?, ?, ?, ?, ?, ?)", rows)


def _insert(raw: Raw, insert: str, conflict: str, run_number: int, points: list[Point]) -> None:
    if raw.on_sqlite:  # a number in the statement is one thing less to bind for each row
        raw.executemany(f"{insert} VALUES ({int(run_number)}, ?, ?, ?, ?, ?){conflict}", points)
    else:
        raw.execute(insert + _ARRAYS + conflict, (run_number, *map(list, zip(*points, strict=True))))


def _in_order(points: Iterable[Point]) -> tuple[list[Point], list[Point]]:
    """Return points as they lie in the table, and the latest of each key: of the highest step, then time, then value."""
    groups: dict[int, list[Point]] = {}
    for one in points:
        group = groups.get(one[0])
        if group is None:
            groups[one[0]] = [one]
        else:
            group.append(one)
    ordered: list[Point] = []
    latest: list[Point] = []
    for key in sorted(groups):
        group = groups[key]
        group.sort()  # nearly in order as a rule, which costs little
        ordered += group
        latest.append(max(group, key=_lateness))
    return ordered, latest


def _write_parameters(raw: Raw, run_number: int, entries: list[ParameterEntry], *, by_text: bool) -> None:
    wanted = {entry.key: entry for entry in entries}
    holes = ", ".join("?" * len(wanted))
    present = raw.execute(
        f"SELECT key, value, text FROM run_parameters WHERE run_number = ? AND key IN ({holes})",  # noqa: S608
        (run_number, *wanted),
    ).fetchall()
    read = {key: text if by_text else json.loads(value) for key, value, text in present}
    check_parameters(read, {entry.key: entry.text if by_text else entry.value for entry in entries})
    raw.executemany(_INSERT_PARAMETER, [_parameter_row(run_number, e) for e in wanted.values() if e.key not in read])


def _parameter_row(run_number: int, entry: ParameterEntry) -> tuple[Any, ...]:
    return run_number, entry.key, json.dumps(entry.value, ensure_ascii=False), entry.text, entry.number


def _write_tags(raw: Raw, run_number: int, tags: list[tuple[str, str]]) -> None:
    raw.executemany(
        _INSERT_TAG + " ON CONFLICT (run_number, key) DO UPDATE SET value = excluded.value",
        [(run_number, key, value) for key, value in dict(tags).items()],
    )


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def point(key_number: int, time_us: int, step: int, value: float) -> Point:
    """Return a point as it is stored."""
    return (key_number, time_us, step, *split_value(value))
