"""Trials as workers ask for them: one that waits, or a new one, its lease and its run, in a single write.

Who asks names the request, so that one that is sent again gets the same trial; and may name the number that the trial would
have, so that of two who chose their points without knowing of each other, one chooses again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelops.domains.experiments.lifecycle import take_up_run
from modelops.domains.tuning.blocks import begin_run, new_entry, release, reserve, unbegun_of
from modelops.domains.tuning.ending import finish, lapse
from modelops.domains.tuning.ledger import (
    Entry,
    Ledger,
    as_trial,
    changes_since,
    find_leased,
    find_trials,
    insert_trials,
    keep_study,
    lock_study,
    read_values,
    update_trial,
    write_space,
)
from modelops.domains.tuning.rules import block_size, check_dimension, check_parameters, why_stopped
from modelops.domains.tuning.schemas import Beat, Beaten, TrialAnswer, TrialAsk, TrialState
from modelops.domains.tuning.telling import end_trials, size_of
from modelops.kernel.database import Raw
from modelops.kernel.scope import Scope


async def ask_trial(scope: Scope, study: str, body: TrialAsk) -> TrialAnswer:
    """Give a worker a trial to run: one that waits, else a new one with the parameters that it chose.

    What it tells of the trials before is kept in the same write, also where no trial is left to run.

    Raises:
        NotFound: there is no such study.
        ParameterOutside: the parameters do not lie in the study's space.
        TrialLost: a trial before is another worker's by now; nothing is kept nor given.
    """
    for name, dimension in body.space.items():
        check_dimension(name, dimension)
    size = 500 * (1 + len(body.parameters or {}) + len(body.system)) + sum(map(size_of, body.ended))
    return await scope.write(
        lambda raw: _ask(raw, scope, study, body), permission="studies.write", order=study, size=size
    )


def _ask(raw: Raw, scope: Scope, name: str, body: TrialAsk) -> TrialAnswer:
    scope.actor.require("runs.write")
    study, now = lock_study(raw, scope.actor, name), scope.place.clock.now()
    release(raw, study, body.holder, body.unbegun)
    end_trials(raw, scope, study, [(one.number, one) for one in body.ended], now)
    given = _give(raw, scope, study, body, now) if body.count else _Given()
    keep_study(raw, study)
    taken, values = given.trial, {}
    if taken is not None and taken.attempt > 1:
        values = read_values(raw, study.number, [taken.number]).get(taken.number, {})
    return TrialAnswer.model_construct(
        trial=None if taken is None else as_trial(taken, values),
        block=list(given.block),
        made=study.trials,
        moved=given.moved,
        wait=given.wait,
        stop=given.stop,
        changes=changes_since(raw, study, body.since, body.holder),
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """What a worker gets; fields as of `TrialAnswer`."""

    trial: Entry | None = None
    block: Sequence[int] = ()
    moved: bool = False
    wait: bool = False
    stop: str | None = None


def _give(raw: Raw, scope: Scope, study: Ledger, body: TrialAsk, now: datetime) -> _Given:
    for before in find_trials(raw, study, "ask_key = ?", body.key):
        block = unbegun_of(raw, study, body.holder, before.number) if before.run_id is None else []
        return _Given(block=block) if before.run_id is None else _Given(before)
    lapse(raw, scope.place, scope.actor, study, now)
    stop, leased = why_stopped(study.progress, now), find_leased(raw, study) if study.live else []
    if study.live > len(leased) and (stop is None or not stop.hard):
        return _Given(_take_waiting(raw, scope, study, body, now))
    if stop is not None:
        finish(raw, scope.place, scope.actor, study, stop, now)
        return _Given(wait=not stop.hard and bool(leased), stop=stop.reason)
    if body.count > 1 and all(entry.holder == body.holder for entry in leased):
        size = block_size(study.progress, body.count, len(leased), now)
        if size > 1:
            return _Given(block=reserve(raw, scope, study, body.holder, body.key, size, now))
    if body.parameters is None:
        return _Given()
    if body.expected not in (None, study.trials):
        return _Given(moved=True)
    return _Given(_make(raw, scope, study, body, now))


def _take_waiting(raw: Raw, scope: Scope, study: Ledger, body: TrialAsk, now: datetime) -> Entry:
    [entry] = find_trials(raw, study, "state = ? ORDER BY number LIMIT 1", TrialState.WAITING)
    if entry.run_id is None:
        run = begin_run(raw, scope, study, entry, now)
    else:
        run = entry.run_id
        take_up_run(raw, scope, run)
    study.started_at = study.started_at or raw.moment(now)
    update_trial(
        raw,
        study,
        entry,
        state=TrialState.RUNNING,
        attempt=entry.attempt + 1,
        run_id=run,
        holder=body.holder,
        ask_key=body.key,
        lease_until=raw.moment(now + timedelta(seconds=study.lease_s)),
        started_at=raw.moment(now),
    )
    return entry


def _make(raw: Raw, scope: Scope, study: Ledger, body: TrialAsk, now: datetime) -> Entry:
    parameters, ranges = body.parameters or {}, study.ranges
    check_parameters(body.space if ranges is None else ranges, parameters, whole=ranges is not None)
    entry = new_entry(raw, study, parameters, TrialState.RUNNING, now)
    entry.space = write_space(body.space) if ranges is None else "{}"
    entry.system = json.dumps(body.system)
    entry.attempt, entry.holder = 1, body.holder
    entry.started_at, entry.lease_until = raw.moment(now), raw.moment(now + timedelta(seconds=study.lease_s))
    entry.run_id = begin_run(raw, scope, study, entry, now)
    study.started_at = study.started_at or entry.started_at
    insert_trials(raw, study, [entry], body.key)
    return entry


async def beat_trials(scope: Scope, study: str, body: Beat) -> Beaten:
    """Note that a worker is alive, and tell it which of its trials are another's by now."""
    return await scope.write(lambda raw: _beat(raw, scope, study, body), permission="studies.write", order=study)


def _beat(raw: Raw, scope: Scope, name: str, body: Beat) -> Beaten:
    study, now = lock_study(raw, scope.actor, name), scope.place.clock.now()
    until = raw.moment(now + timedelta(seconds=study.lease_s))
    lost = []
    for number, attempt in body.trials.items():
        held = raw.execute(
            "UPDATE trials SET lease_until = ? WHERE study_number = ? AND number = ? AND attempt = ? AND state = ?",
            (until, study.number, number, attempt, TrialState.RUNNING),
        )
        if held.rowcount == 0:
            lost.append(number)
    stop = why_stopped(study.progress, now)
    return Beaten(lost=lost, stop=stop.reason if stop is not None and stop.hard else None)
