"""Trials as workers ask for them: one that waits, or a new one, its lease and its run, in a single write.

Who asks names the request, so that one that is sent again gets the same trial; and may name the number that the trial would
have, so that of two who chose their points without knowing of each other, one chooses again.
"""

import json
from datetime import datetime, timedelta

from modelops.contracts.ids import new_id
from modelops.domains.experiments.ingest import parameter_entry
from modelops.domains.experiments.lifecycle import NewRun, put_run, take_up_run
from modelops.domains.tuning.ending import finish, is_worked_on, lapse
from modelops.domains.tuning.ledger import (
    Entry,
    Ledger,
    as_trial,
    changes_since,
    find_trials,
    insert_trial,
    keep_study,
    lock_study,
    read_values,
    update_trial,
    write_space,
)
from modelops.domains.tuning.rules import check_dimension, check_parameters, why_stopped
from modelops.domains.tuning.schemas import Beat, Beaten, TrialAnswer, TrialAsk, TrialState
from modelops.domains.tuning.telling import end_trial
from modelops.kernel.database import Raw
from modelops.kernel.scope import Scope


async def ask_trial(scope: Scope, study: str, body: TrialAsk) -> TrialAnswer:
    """Give a worker a trial to run: one that waits, else a new one with the parameters that it chose.

    What it tells of the trial before is kept in the same write, also where no trial is left to run.

    Raises:
        NotFound: there is no such study.
        ParameterOutside: the parameters do not lie in the study's space.
        TrialLost: the trial before is another worker's by now; nothing is given.
    """
    for name, dimension in body.space.items():
        check_dimension(name, dimension)
    size = 500 * (1 + len(body.parameters or {}) + len(body.system))
    return await scope.write(
        lambda raw: _ask(raw, scope, study, body), permission="studies.write", order=study, size=size
    )


def _ask(raw: Raw, scope: Scope, name: str, body: TrialAsk) -> TrialAnswer:
    scope.actor.require("runs.write")
    study, now = lock_study(raw, scope.actor, name), scope.place.clock.now()
    if body.ended is not None:
        end_trial(raw, scope, study, body.ended.number, body.ended, now)
    before = find_trials(raw, study, "ask_key = ?", body.key)
    taken, stop, moved = before[0] if before else None, None, False
    if taken is None:
        lapse(raw, scope.place, scope.actor, study, now)
        stop = why_stopped(study.progress, now)
        if stop is None or not stop.hard:
            taken = _take_waiting(raw, scope, study, body, now)
        if taken is None and stop is None and body.parameters is not None:
            moved = body.expected not in (None, study.trials)
            taken = None if moved else _make(raw, scope, study, body, now)
        if taken is None and stop is not None:
            finish(raw, scope.place, scope.actor, study, stop, now)
    keep_study(raw, study)
    wait = taken is None and stop is not None and not stop.hard and is_worked_on(raw, study)
    values = read_values(raw, study.number, [taken.number]).get(taken.number, {}) if taken and taken.attempt > 1 else {}
    return TrialAnswer.model_construct(
        trial=None if taken is None else as_trial(taken, values),
        moved=moved,
        wait=wait,
        stop=None if stop is None or taken is not None else stop.reason,
        changes=changes_since(raw, study, body.since, body.holder),
    )


def _take_waiting(raw: Raw, scope: Scope, study: Ledger, body: TrialAsk, now: datetime) -> Entry | None:
    found = find_trials(raw, study, "state = ? ORDER BY number LIMIT 1", TrialState.WAITING)
    if not found:
        return None
    [entry] = found
    if entry.run_id is None:
        run = _begin_run(raw, scope, study, entry, now)
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
    entry.run_id = _begin_run(raw, scope, study, entry, now)
    study.started_at = study.started_at or entry.started_at
    insert_trial(raw, study, entry, body.key)
    return entry


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


def _begin_run(raw: Raw, scope: Scope, study: Ledger, entry: Entry, now: datetime) -> str:
    run = new_id("run")
    put_run(
        raw,
        scope,
        run,
        NewRun(
            experiment_id=study.experiment_id,
            started_at=now,
            name=f"{study.name} {entry.number}",
            tags=[("study", study.name), ("trial", str(entry.number))],
            parameters=[parameter_entry(key, value) for key, value in json.loads(entry.parameters).items()],
        ),
    )
    return run


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
