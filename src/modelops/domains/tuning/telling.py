"""What workers tell of their trials: intermediate values, and how each ended. Telling twice is telling once."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from modelops.contracts.errors import NotFound
from modelops.domains.experiments.ingest import Batch, Point, parameter_entry, point
from modelops.domains.experiments.keys import number_within
from modelops.domains.experiments.lifecycle import record_on_run, settle_run
from modelops.domains.experiments.rules import to_microseconds
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.tuning.blocks import Ended, begin_run, when, write_ended
from modelops.domains.tuning.ending import finish
from modelops.domains.tuning.ledger import (
    Entry,
    Ledger,
    changes_since,
    find_trial,
    find_trials,
    keep_study,
    keep_values,
    lock_study,
    read_space,
    update_trial,
    write_space,
)
from modelops.domains.tuning.rules import (
    SILENCE,
    Stop,
    TrialEnded,
    TrialLost,
    check_dimension,
    check_merge,
    check_parameters,
    check_result,
    is_better,
    why_stopped,
)
from modelops.domains.tuning.schemas import TrialHeard, TrialReport, TrialState, TrialTell
from modelops.kernel.database import Raw
from modelops.kernel.scope import Scope

_RUNS = {
    TrialState.COMPLETE: RunStatus.FINISHED,
    TrialState.PRUNED: RunStatus.CANCELED,
    TrialState.FAILED: RunStatus.FAILED,
    TrialState.WAITING: RunStatus.SCHEDULED,
}


async def report_trial(scope: Scope, study: str, number: int, body: TrialReport) -> TrialHeard:
    """Record intermediate values of a trial under way, which lengthens its lease, and tell what others did meanwhile.

    Raises:
        TrialLost: it is another worker's by now.
        TrialEnded: it has ended.
    """
    return await scope.write(
        lambda raw: _report(raw, scope, study, number, body),
        permission="studies.write",
        order=study,
        size=size_of(body),
    )


def size_of(body: TrialReport | TrialTell) -> int:
    """Return about how many bytes it holds."""
    values = body.values if isinstance(body, TrialReport) else body.intermediate
    return 100 * len(values) + 500 * (1 + len(body.parameters) + len(body.system))


def _report(raw: Raw, scope: Scope, name: str, number: int, body: TrialReport) -> TrialHeard:
    study, now = lock_study(raw, scope.actor, name), scope.place.clock.now()
    entry = find_trial(raw, study, number)
    if entry.attempt != body.attempt or entry.state == TrialState.WAITING:
        raise TrialLost(f"The trial {number} of '{study.name}' was taken from '{body.holder}'.")
    if entry.final:
        raise TrialEnded(f"The trial {number} of '{study.name}' has ended as {entry.state}.")
    until = raw.moment(now + timedelta(seconds=study.lease_s))
    begun = _begin(raw, scope, study, entry, body, now) if entry.run_id is None else {}
    update_trial(raw, study, entry, holder=body.holder, lease_until=until, **begun, **_learnt(study, entry, body))
    keep_values(raw, study, [(entry, body.values)])
    if entry.run_id is not None and (body.values or body.parameters):
        record_on_run(raw, scope.actor, entry.run_id, _batch(raw, study, body, body.values, now))
    keep_study(raw, study)
    stop = why_stopped(study.progress, now)
    return TrialHeard.model_construct(
        stop=stop.reason if stop is not None and stop.hard else None,
        run_id=entry.run_id,
        changes=changes_since(raw, study, body.since, body.holder),
    )


def _begin(raw: Raw, scope: Scope, study: Ledger, entry: Entry, body: TrialReport, now: datetime) -> dict[str, Any]:
    """Give a trial of a block its run, and return the columns that tell of it."""
    began, _ = when(raw, entry, body.began_s, 0.0, now)
    return {"run_id": begin_run(raw, scope, study, entry, began), "started_at": raw.moment(began)}


async def tell_trial(scope: Scope, study: str, number: int, body: TrialTell) -> TrialHeard:
    """End a trial: with its values, as pruned or failed, or give it back to be run by another.

    A late word of a worker that was taken for dead counts as long as nobody else has taken the trial up.

    Raises:
        TrialLost: it is another worker's by now.
        TrialEnded: it has ended otherwise.
        InvalidInput: its end does not fit the study.
    """
    return await scope.write(
        lambda raw: _tell(raw, scope, study, number, body),
        permission="studies.write",
        order=study,
        size=size_of(body),
    )


def _tell(raw: Raw, scope: Scope, name: str, number: int, body: TrialTell) -> TrialHeard:
    study, now = lock_study(raw, scope.actor, name), scope.place.clock.now()
    stop = end_trials(raw, scope, study, [(number, body)], now)
    keep_study(raw, study)
    return TrialHeard.model_construct(
        stop=None if stop is None else stop.reason,
        run_id=None,
        changes=changes_since(raw, study, body.since, body.holder),
    )


def end_trials(
    raw: Raw, scope: Scope, study: Ledger, ends: Sequence[tuple[int, TrialTell]], now: datetime
) -> Stop | None:
    """End trials of a study that is locked, by number, and return why the study stops, if it does. Raises as `tell_trial`.

    Those of a block get their runs here, many in few statements; others have theirs.
    """
    holes = ", ".join("?" * len(ends)) or "NULL"
    entries = {one.number: one for one in find_trials(raw, study, f"number IN ({holes})", *[n for n, _ in ends])}
    ended: list[Ended] = []
    fresh = False
    for number, body in ends:
        if (entry := entries.get(number)) is None:
            raise NotFound(f"The study '{study.name}' has no trial {number}.")
        check_result(body.state, body.values, body.reason, len(study.aims))
        if _told_before(study, entry, body):
            continue
        fresh = True
        if entry.run_id is None and body.state is not TrialState.WAITING:
            ended.append(_end_in_block(raw, study, entry, body, now))
        else:
            _end(raw, scope, study, entry, body, now)
    if ended:
        write_ended(raw, scope, study, ended)
    stop = why_stopped(study.progress, now)
    if fresh and stop is not None:
        finish(raw, scope.place, scope.actor, study, stop, now)
    return stop


def _told_before(study: Ledger, entry: Entry, body: TrialTell) -> bool:
    """Tell whether a trial ended just so already. Raises as `tell_trial`."""
    if entry.attempt != body.attempt:
        raise TrialLost(f"The trial {entry.number} of '{study.name}' was taken from '{body.holder}'.")
    if entry.state == TrialState.RUNNING:
        return False
    if entry.state == TrialState.WAITING:
        return body.state is TrialState.WAITING
    if entry.state == TrialState.FAILED and (entry.reason or "").startswith(SILENCE):
        study.count(TrialState.FAILED, -1)
        return False
    known = None if entry.results is None else json.loads(entry.results)
    if entry.state != body.state or known != body.values:
        raise TrialEnded(f"The trial {entry.number} of '{study.name}' has ended as {entry.state}, and that stays.")
    return True


def _end(raw: Raw, scope: Scope, study: Ledger, entry: Entry, body: TrialTell, now: datetime) -> None:
    given_back = body.state is TrialState.WAITING
    _, ended = when(raw, entry, None, body.ended_s, now)
    update_trial(
        raw,
        study,
        entry,
        state=body.state,
        holder=None if given_back else body.holder,
        lease_until=None,
        results=None if body.values is None else json.dumps(body.values),
        value=None if body.values is None else body.values[0],
        reason=body.reason,
        ended_at=None if given_back else raw.moment(ended),
        **_learnt(study, entry, body),
    )
    keep_values(raw, study, [(entry, body.intermediate)])
    if given_back:
        raw.execute("DELETE FROM trial_values WHERE study_number = ? AND number = ?", (study.number, entry.number))
    _count(study, entry, body)
    if entry.run_id is not None:
        batch = _batch(raw, study, body, body.intermediate, ended)
        if body.values is not None:
            last = raw.execute(
                "SELECT max(step) FROM trial_values WHERE study_number = ? AND number = ?", (study.number, entry.number)
            ).fetchone()[0]
            batch.points.extend(_results(raw, study, last, body.values, ended))
        settle_run(raw, scope.place, scope.actor, entry.run_id, _RUNS[body.state], _reason(body), batch, ended_at=ended)


def _end_in_block(raw: Raw, study: Ledger, entry: Entry, body: TrialTell, now: datetime) -> Ended:
    """Return how a trial of a block ended, to be written with others."""
    for name, value in _learnt(study, entry, body).items():
        setattr(entry, name, value)
    began, ended = when(raw, entry, body.began_s, body.ended_s, now)
    entry.state, entry.holder, entry.lease_until, entry.reason = body.state, body.holder, None, body.reason
    entry.results = None if body.values is None else json.dumps(body.values)
    entry.started_at, entry.ended_at = raw.moment(began), raw.moment(ended)
    _count(study, entry, body)
    points = _batch(raw, study, body, body.intermediate, ended).points
    if body.values is not None:
        points += _results(raw, study, max(body.intermediate, default=None), body.values, ended)
    value = None if body.values is None else body.values[0]
    return Ended(entry, value, _RUNS[body.state], _reason(body), began, ended, body.intermediate, points)


def _count(study: Ledger, entry: Entry, body: TrialTell) -> None:
    """Count an end on its study, whose best trial it may be."""
    study.count(body.state)
    value = body.values[0] if body.values is not None and len(body.values) == 1 else None
    if value is not None and is_better(value, study.best_value, study.aims[0].direction):
        study.best_value, study.best_number, study.best_at = value, entry.number, study.completed


def _reason(body: TrialTell) -> str | None:
    return body.reason or ("Pruned." if body.state is TrialState.PRUNED else None)


def _learnt(study: Ledger, entry: Entry, body: TrialReport | TrialTell) -> dict[str, Any]:
    """Return the columns of what became known of a trial: its parameters, attributes, and what samplers keep."""
    columns: dict[str, Any] = {}
    if body.parameters:
        known, ranges = json.loads(entry.parameters), study.ranges
        for name, dimension in body.space.items():
            check_dimension(name, dimension)
        if ranges is None:
            ranges = {**read_space(entry.space), **body.space}
            columns["space"] = write_space(ranges)
        check_merge(known, body.parameters)
        check_parameters(ranges, body.parameters, whole=False)
        columns["parameters"] = json.dumps({**known, **body.parameters}, ensure_ascii=False)
    if body.attributes:
        columns["attributes"] = json.dumps({**json.loads(entry.attributes), **body.attributes}, ensure_ascii=False)
    if body.system:
        columns["system"] = json.dumps({**json.loads(entry.system), **body.system}, ensure_ascii=False)
    return columns


def _batch(raw: Raw, study: Ledger, body: TrialReport | TrialTell, values: dict[int, float], now: datetime) -> Batch:
    """Return what a run records of it: intermediate values under the first objective's name."""
    points: list[Point] = []
    if values:
        metric, time_us = study.aims[0].metric, to_microseconds(now)
        key = number_within(raw, [metric])[metric]
        points = [point(key, time_us, step, value) for step, value in values.items()]
    return Batch(points=points, parameters=[parameter_entry(key, value) for key, value in body.parameters.items()])


def _results(raw: Raw, study: Ledger, last: int | None, values: list[float], now: datetime) -> list[Point]:
    """Return the values as points that are the latest of their metrics: a step behind the last that was reported."""
    keys = number_within(raw, [aim.metric for aim in study.aims])
    step, time_us = 0 if last is None else min(last + 1, 2**63 - 1), to_microseconds(now)
    return [
        point(keys[aim.metric], time_us, step if n == 0 else 0, value)
        for n, (aim, value) in enumerate(zip(study.aims, values, strict=True))
    ]
