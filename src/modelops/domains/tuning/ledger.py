"""Studies and trials as they are locked and written by the driver's own statements."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from itertools import chain, repeat
from operator import attrgetter
from typing import Any

from pydantic import TypeAdapter

from modelops.contracts.errors import NotFound
from modelops.domains.experiments.analysis_schemas import Objective
from modelops.domains.tuning.rules import FINAL, Progress
from modelops.domains.tuning.schemas import Changes, Dimension, Space, StudyState, Trial, TrialState
from modelops.kernel.context import Actor, project_of
from modelops.kernel.database import Raw, read_moment

PAGE = 200
"""How many changed trials an answer holds at most."""

_spaces: TypeAdapter[dict[str, Dimension]] = TypeAdapter(Space)
_objectives = TypeAdapter(list[Objective])


@dataclass(slots=True)
class Ledger:
    """A study, locked: what is decided by and changed with its trials."""

    number: int
    id: str
    name: str
    experiment_id: str
    objectives: str
    space: str | None
    state: str
    reason: str | None
    max_trials: int | None
    max_seconds: float | None
    target: float | None
    patience: int | None
    max_failures: int | None
    retries: int
    lease_s: float
    trials: int
    completed: int
    pruned: int
    failed: int
    best_value: float | None
    best_number: int | None
    best_at: int
    changes: int
    started_at: Any
    ended_at: Any

    @property
    def progress(self) -> Progress:
        """Return how far it has come, for decisions."""
        names = {one.name for one in fields(Progress)} - {"state", "direction", "started_at"}
        return Progress(
            state=StudyState(self.state),
            direction=self.aims[0].direction,
            started_at=None if self.started_at is None else read_moment(self.started_at),
            **{name: getattr(self, name) for name in names},
        )

    @property
    def aims(self) -> Sequence[Objective]:
        """Return the objectives."""
        return read_objectives(self.objectives)

    @property
    def ranges(self) -> Mapping[str, Dimension] | None:
        """Return the space."""
        return None if self.space is None else read_space(self.space)

    @property
    def live(self) -> int:
        """Return how many trials wait or run."""
        return self.trials - self.completed - self.pruned - self.failed

    def count_change(self) -> int:
        """Count a change of a trial, and return its number."""
        self.changes += 1
        return self.changes

    def count(self, state: TrialState, by: int = 1) -> None:
        """Count a trial that ended so, or, with -1, no longer did."""
        if state is TrialState.COMPLETE:
            self.completed += by
        elif state is TrialState.PRUNED:
            self.pruned += by
        elif state is TrialState.FAILED:
            self.failed += by


_STUDY = [one.name for one in fields(Ledger)]
_KEPT = (
    "state", "reason", "trials", "completed", "pruned", "failed", "best_value", "best_number", "best_at", "changes",
    "started_at", "ended_at",
)  # fmt: skip
_TRIAL = (
    "number", "change", "state", "attempt", "lapses", "parameters", "space", "attributes", "system", "results", "run_id",
    "holder", "lease_until", "reason", "created_at", "started_at", "ended_at",
)  # fmt: skip
_trial_values = attrgetter(*_TRIAL)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_SELECT_TRIAL = f"SELECT {', '.join(_TRIAL)} FROM trials WHERE study_number = ?"  # noqa: S608


@dataclass(slots=True)
class Entry:
    """A trial as it lies in its table."""

    number: int
    change: int
    state: str
    attempt: int
    lapses: int
    parameters: str
    space: str
    attributes: str
    system: str
    results: str | None
    run_id: str | None
    holder: str | None
    lease_until: Any
    reason: str | None
    created_at: Any
    started_at: Any
    ended_at: Any

    @property
    def final(self) -> bool:
        """Tell whether it has ended."""
        return self.state in FINAL


def lock_study(raw: Raw, actor: Actor, study: str, *, lock: bool = True) -> Ledger:
    """Find a study of the caller's project by name or id, and keep others from changing it until the write ends.

    Args:
        lock: False for a reader, who keeps nobody.

    Raises:
        NotFound: there is none.
    """
    statement = (
        f"SELECT {', '.join(_STUDY)} FROM studies WHERE project_id = ? AND (id = ? OR name = ?)"  # noqa: S608
        " ORDER BY CASE WHEN id = ? THEN 0 ELSE 1 END LIMIT 1"
    )
    statement += " FOR UPDATE" if lock and not raw.on_sqlite else ""
    found = raw.execute(statement, (project_of(actor), study, study, study)).fetchone()
    if found is None:
        raise NotFound(f"There is no study '{study}' in this project.", hint="`mops studies list-studies` lists them.")
    return Ledger(*found)


def keep_study(raw: Raw, study: Ledger) -> None:
    """Write what changed on a study."""
    sets = ", ".join(f"{name} = ?" for name in _KEPT)
    values = [getattr(study, name) for name in _KEPT]
    raw.execute(f"UPDATE studies SET {sets} WHERE number = ?", (*values, study.number))  # noqa: S608


def find_trial(raw: Raw, study: Ledger, number: int) -> Entry:
    """Return a trial.

    Raises:
        NotFound: the study has none of that number.
    """
    found = raw.execute(f"{_SELECT_TRIAL} AND number = ?", (study.number, number)).fetchone()
    if found is None:
        raise NotFound(f"The study '{study.name}' has no trial {number}.")
    return Entry(*found)


def find_trials(raw: Raw, study: Ledger, where: str, *values: Any) -> list[Entry]:
    """Return the trials that fit a condition."""
    return [Entry(*row) for row in raw.execute(f"{_SELECT_TRIAL} AND {where}", (study.number, *values)).fetchall()]


def find_leased(raw: Raw, study: Ledger) -> list[Entry]:
    """Return the trials that are under a lease, by the index of leases: `+` keeps that of the study out of it."""
    statement = f"SELECT {', '.join(_TRIAL)} FROM trials WHERE lease_until > ? AND +study_number = ?"  # noqa: S608
    return [Entry(*row) for row in raw.execute(statement, (raw.moment(_EVER), study.number)).fetchall()]


def insert_trials(raw: Raw, study: Ledger, entries: Sequence[Entry], key: str | None) -> None:
    """Write new trials, the first of which is known by the key of its request."""
    holes = ", ".join("?" * (len(_TRIAL) + 2))
    keys = chain([key], repeat(None))
    raw.executemany(
        f"INSERT INTO trials (study_number, ask_key, {', '.join(_TRIAL)}) VALUES ({holes})",  # noqa: S608
        [(study.number, next(keys), *_trial_values(entry)) for entry in entries],
    )


def rewrite_trials(raw: Raw, study: Ledger, entries: Sequence[tuple[Entry, float | None]]) -> None:
    """Write trials as their entries have become, each with its value; each counts as one change of the study."""
    for entry, _ in entries:
        entry.change = study.count_change()
    sets = ", ".join(f"{name} = ?" for name in _TRIAL)
    raw.executemany(
        f"UPDATE trials SET {sets}, value = ? WHERE study_number = ? AND number = ?",  # noqa: S608
        [(*_trial_values(entry), value, study.number, entry.number) for entry, value in entries],
    )


def update_trial(raw: Raw, study: Ledger, entry: Entry, **columns: Any) -> None:
    """Write changes of a trial, here and on the entry; each counts as one change of the study."""
    columns["change"] = study.count_change()
    for name, value in columns.items():
        if name in _TRIAL:
            setattr(entry, name, value)
    sets = ", ".join(f"{name} = ?" for name in columns)
    raw.execute(
        f"UPDATE trials SET {sets} WHERE study_number = ? AND number = ?",  # noqa: S608
        (*columns.values(), study.number, entry.number),
    )


def keep_values(raw: Raw, study: Ledger, told: Iterable[tuple[Entry, Mapping[int, float]]]) -> None:
    """Write intermediate values of trials; one of a step that is there replaces it."""
    raw.executemany(
        "INSERT INTO trial_values (study_number, number, step, change, value) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (study_number, number, step) DO UPDATE SET change = excluded.change, value = excluded.value",
        [
            (study.number, entry.number, step, entry.change, None if value != value else value)
            for entry, values in told
            for step, value in values.items()
        ],
    )


def read_values(raw: Raw, study: int, numbers: list[int], since: int = 0) -> dict[int, dict[int, float]]:
    """Return the intermediate values of trials by step, those written after a change alone."""
    found: dict[int, dict[int, float]] = {}
    if not numbers:
        return found
    rows = raw.execute(
        f"SELECT number, step, value FROM trial_values WHERE study_number = ? AND change > ?"  # noqa: S608
        f" AND number IN ({', '.join('?' * len(numbers))}) ORDER BY number, step",
        (study, since, *numbers),
    )
    for number, step, value in rows.fetchall():
        found.setdefault(number, {})[step] = float("nan") if value is None else value
    return found


def changes_since(raw: Raw, study: Ledger, since: int, holder: str | None, *, base: int | None = None) -> Changes:
    """Return the trials that changed since a cursor, but for those of a holder, and those of a block that may not begin.

    Args:
        base: The cursor behind which intermediate values are told; by default `since`.
    """
    if since >= study.changes:
        return Changes(trials=[], cursor=study.changes, more=False)
    rows = find_trials(
        raw,
        study,
        "change > ? AND (holder IS NULL OR holder <> ?) AND (state <> ? OR run_id IS NOT NULL)"
        f" ORDER BY change LIMIT {PAGE + 1}",
        since,
        holder or "",
        TrialState.RUNNING,
    )
    more, rows = len(rows) > PAGE, rows[:PAGE]
    values = read_values(raw, study.number, [row.number for row in rows], since if base is None else base)
    cursor = rows[-1].change if more else study.changes
    return Changes(trials=[as_trial(row, values.get(row.number, {})) for row in rows], cursor=cursor, more=more)


def as_trial(entry: Entry, intermediate: Mapping[int, float]) -> Trial:
    """Return a trial as it is shown."""
    return Trial.model_construct(
        number=entry.number,
        state=TrialState(entry.state),
        attempt=entry.attempt,
        parameters=json.loads(entry.parameters),
        space=dict(read_space(entry.space)),
        values=None if entry.results is None else json.loads(entry.results),
        intermediate=dict(intermediate),
        attributes=json.loads(entry.attributes),
        system=json.loads(entry.system),
        run_id=entry.run_id,
        holder=entry.holder,
        reason=entry.reason,
        lease_until=_moment(entry.lease_until),
        created_at=read_moment(entry.created_at),
        started_at=_moment(entry.started_at),
        ended_at=_moment(entry.ended_at),
    )


@functools.lru_cache(maxsize=256)
def read_space(text: str) -> Mapping[str, Dimension]:
    """Return a space from its JSON; it is shared, and not to be changed."""
    return {} if text == "{}" else _spaces.validate_json(text)


def write_space(space: Mapping[str, Dimension]) -> str:
    """Reverse `read_space`."""
    return _spaces.dump_json(dict(space)).decode() if space else "{}"


@functools.lru_cache(maxsize=256)
def read_objectives(text: str) -> Sequence[Objective]:
    """Return objectives from their JSON; they are shared, and not to be changed."""
    return _objectives.validate_json(text)


def write_objectives(objectives: list[Objective]) -> str:
    """Reverse `read_objectives`."""
    return _objectives.dump_json(objectives).decode()


def _moment(stored: Any) -> datetime | None:
    return None if stored is None else read_moment(stored)
