"""What becomes of trials whose workers are gone, and of a study that has come to its end."""

from datetime import datetime, timedelta
from operator import attrgetter

from modelops.domains.experiments.lifecycle import settle_run
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.tuning.ledger import Ledger, find_leased, update_trial
from modelops.domains.tuning.rules import Stop, silence
from modelops.domains.tuning.schemas import StudyState, TrialState
from modelops.kernel import outbox
from modelops.kernel.context import Actor, Context
from modelops.kernel.database import Raw, read_moment
from modelops.kernel.work import Watching, Workplace


def lapse(raw: Raw, place: Workplace | Context, actor: Actor, study: Ledger, now: datetime) -> int:
    """Take the trials back whose workers fell silent, and return how many: they wait for another, or have failed for good.

    While the platform was away nobody could be heard, so silence counts from when it began to watch. What was not begun
    waits, whatever its study says of trying again.
    """
    if study.live == 0 or not _could_be_heard(place, study.lease_s, now):
        return 0
    silent = [entry for entry in find_leased(raw, study) if read_moment(entry.lease_until) < now]
    for entry in sorted(silent, key=attrgetter("number")):
        again = entry.run_id is None or entry.lapses < study.retries
        reason = silence(study.lease_s)
        if again:
            raw.execute("DELETE FROM trial_values WHERE study_number = ? AND number = ?", (study.number, entry.number))
        else:
            study.count(TrialState.FAILED)
        update_trial(
            raw,
            study,
            entry,
            state=TrialState.WAITING if again else TrialState.FAILED,
            lapses=entry.lapses + (entry.run_id is not None),
            holder=None,
            lease_until=None,
            reason=reason,
            ended_at=None if again else raw.moment(now),
        )
        if entry.run_id is not None:
            status = RunStatus.SCHEDULED if again else RunStatus.FAILED
            settle_run(raw, place, actor, entry.run_id, status, reason)
    return len(silent)


def _could_be_heard(place: Workplace | Context, lease_s: float, now: datetime) -> bool:
    watching = place.ports.get(Watching)
    since = watching.since if watching is not None else None
    return since is None or since + timedelta(seconds=lease_s) <= now


def finish(raw: Raw, place: Workplace | Context, actor: Actor, study: Ledger, stop: Stop, now: datetime) -> None:
    """Note that a study has come to its end, if nobody works on a trial of it any more."""
    if study.state != StudyState.RUNNING:
        return
    if study.live and (not stop.hard or find_leased(raw, study)):
        return
    study.state, study.reason, study.ended_at = StudyState.FINISHED, stop.reason, raw.moment(now)
    kind = "modelops.tuning.study_finished"
    best = {"best_value": study.best_value, "best_number": study.best_number}
    outbox.put(raw, place, actor, kind, study.id, name=study.name, reason=stop.reason, **best)
