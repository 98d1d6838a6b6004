"""Blocks: new trials that one worker takes at once, and whose parameters, times and ends it tells together.

A trial of a block is a number under a lease until it is told of. Its run is made with its end, or as soon as the worker says
that it goes on for longer. What was not begun is given back, as if it had never been asked for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelops.contracts.ids import new_id
from modelops.domains.experiments.ingest import Batch, Point, parameter_entry
from modelops.domains.experiments.lifecycle import EndedRun, NewRun, check_open, put_ended_runs, put_run
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.tuning.ledger import Entry, Ledger, find_trials, insert_trials, keep_values, rewrite_trials
from modelops.domains.tuning.schemas import TrialState
from modelops.kernel.database import Raw, read_moment
from modelops.kernel.scope import Scope


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial of a block that has ended, as its entry tells, and what its run records."""

    entry: Entry
    value: float | None
    status: RunStatus
    reason: str | None
    began: datetime
    ended: datetime
    intermediate: Mapping[int, float]
    points: list[Point]


def reserve(raw: Raw, scope: Scope, study: Ledger, holder: str, key: str, count: int, now: datetime) -> list[int]:
    """Give a worker new trials under a lease, and return their numbers.

    Raises:
        Conflict: the experiment of their runs is deleted.
    """
    check_open(raw, scope.actor, study.experiment_id)
    entries = []
    for _ in range(count):
        entry = new_entry(raw, study, {}, TrialState.RUNNING, now)
        entry.attempt, entry.holder, entry.started_at = 1, holder, entry.created_at
        entry.lease_until = raw.moment(now + timedelta(seconds=study.lease_s))
        entries.append(entry)
    study.started_at = study.started_at or entries[0].started_at
    insert_trials(raw, study, entries, key)
    return [entry.number for entry in entries]


def unbegun_of(raw: Raw, study: Ledger, holder: str, first: int) -> list[int]:
    """Return the trials of a worker's block that it told nothing of, from one on."""
    found = find_trials(
        raw,
        study,
        "number >= ? AND holder = ? AND state = ? AND run_id IS NULL ORDER BY number",
        first,
        holder,
        TrialState.RUNNING,
    )
    return [entry.number for entry in found]


def release(raw: Raw, study: Ledger, holder: str, numbers: Sequence[int]) -> None:
    """Take trials of a worker's block back that it did not begin: the last of the study are gone, others wait.

    What is not the worker's any more is left alone.
    """
    if not numbers:
        return
    mine = set(numbers).intersection(unbegun_of(raw, study, holder, min(numbers)))
    gone = []
    while study.trials - 1 in mine:
        study.trials -= 1
        mine.remove(study.trials)
        gone.append((study.number, study.trials))
    raw.executemany("DELETE FROM trials WHERE study_number = ? AND number = ?", gone)
    raw.executemany(
        "UPDATE trials SET state = ?, holder = NULL, lease_until = NULL, change = ? WHERE study_number = ? AND number = ?",
        [(TrialState.WAITING, study.count_change(), study.number, number) for number in sorted(mine)],
    )


def write_ended(raw: Raw, scope: Scope, study: Ledger, ended: Sequence[Ended]) -> None:
    """Write trials of a block as they ended, and their runs."""
    runs = []
    for one in ended:
        one.entry.run_id = new_id("run")
        runs.append(_ended_run(study, one))
    if not put_ended_runs(raw, scope, study.experiment_id, runs):
        for one in ended:
            one.entry.run_id = None
    rewrite_trials(raw, study, [(one.entry, one.value) for one in ended])
    keep_values(raw, study, [(one.entry, one.intermediate) for one in ended])


def when(raw: Raw, entry: Entry, began_s: float | None, ended_s: float, now: datetime) -> tuple[datetime, datetime]:
    """Return when a trial began and ended, as its worker tells by its own clock: not before it was given out."""
    given = read_moment(entry.created_at if began_s is not None else entry.started_at or raw.moment(now))
    began = given if began_s is None else max(given, now - timedelta(seconds=began_s))
    return began, max(began, now - timedelta(seconds=ended_s))


def _ended_run(study: Ledger, one: Ended) -> EndedRun:
    parameters = [parameter_entry(key, value) for key, value in json.loads(one.entry.parameters).items()]
    return EndedRun(
        id=one.entry.run_id or "",
        name=_name(study, one.entry),
        status=one.status,
        reason=one.reason,
        started_at=one.began,
        ended_at=one.ended,
        batch=Batch(points=one.points, parameters=parameters, tags=_tags(study, one.entry)),
    )


def _name(study: Ledger, entry: Entry) -> str:
    return f"{study.name} {entry.number}"


def _tags(study: Ledger, entry: Entry) -> list[tuple[str, str]]:
    return [("study", study.name), ("trial", str(entry.number))]


def new_entry(raw: Raw, study: Ledger, parameters: object, state: TrialState, now: datetime) -> Entry:
    """Return the entry of a new trial, counted on its study."""
    entry = Entry(
        number=study.trials,
        change=study.count_change(),
        state=state,
        attempt=0,
        lapses=0,
        parameters=json.dumps(parameters, ensure_ascii=False),
        space="{}",
        attributes="{}",
        system="{}",
        results=None,
        run_id=None,
        holder=None,
        lease_until=None,
        reason=None,
        created_at=raw.moment(now),
        started_at=None,
        ended_at=None,
    )
    study.trials += 1
    return entry


def begin_run(raw: Raw, scope: Scope, study: Ledger, entry: Entry, now: datetime) -> str:
    """Begin the run of a trial that is run from now on, and return its id. Raises as `reserve`."""
    run = new_id("run")
    put_run(
        raw,
        scope,
        run,
        NewRun(
            experiment_id=study.experiment_id,
            started_at=now,
            name=_name(study, entry),
            tags=_tags(study, entry),
            parameters=[parameter_entry(key, value) for key, value in json.loads(entry.parameters).items()],
        ),
    )
    return run
