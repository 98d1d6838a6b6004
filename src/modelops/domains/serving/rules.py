"""What a deployment's world should look like next, and what state follows from what was seen of it.

`plan` says what to run and what to end; `judge` draws the conclusions from the replicas observed. Together they hold: the
active revision keeps running until another one has been seen ready in its place, and a revision that is brought up ends
as active or as failed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from modelops.contracts.ports import Phase
from modelops.domains.serving.schemas import DeploymentState, Replica, RevisionState

CRASHES = 3
"""A replica that ended so often before its revision was ready will not become ready."""

WATCHED_AT_MOST_S = 10.0
"""The most that one look adds to the time waited: while the platform was away, nobody waited."""

_ENDED = (Phase.EXITED, Phase.LOST)

SETTLED = frozenset(
    {
        DeploymentState.READY,
        DeploymentState.ROLLED_BACK,
        DeploymentState.FAILED,
        DeploymentState.STOPPED,
        DeploymentState.IDLE,
    }
)
"""States in which nothing is under way."""


@dataclass(frozen=True)
class RevisionFacts:
    """What is known of a revision.

    Attributes:
        prepared: Its workload's spec is fixed.
        placed: Something of its workload may exist.
        trouble: What went wrong so far while it was brought up.
    """

    number: int
    state: RevisionState
    prepared: bool
    placed: bool
    trouble: str | None = None


@dataclass(frozen=True)
class Desired:
    """A deployment as it should be, with what is remembered of the way there.

    Attributes:
        failure: Why the revision last wanted was given up, while another one serves in its place.
        waited_s: How long the platform has watched the last change come about; None when nothing is under way.
        seen_at: When it last looked, while something is under way.
        sleeps: Without replicas it is not stopped but idle: whoever asks wakes it.
    """

    replicas: int
    deleting: bool
    active: int | None
    wanted: int
    revisions: Mapping[int, RevisionFacts]
    failure: str | None = None
    waited_s: float | None = None
    seen_at: datetime | None = None
    sleeps: bool = False

    @property
    def pending(self) -> int | None:
        """The revision that is being brought up, if any."""
        return self.wanted if self.revisions[self.wanted].state is RevisionState.PENDING else None


@dataclass(frozen=True)
class Plan:
    """The next step: revision -> replicas to run, the revisions to end, and the one whose spec is still to be made."""

    run: Mapping[int, int]
    end: Sequence[int]
    prepare: int | None


@dataclass(frozen=True)
class Verdict:
    """What follows from a look.

    Attributes:
        activated: The revision that became active at this look.
        failed: The revision that was given up at this look, `trouble` being why.
        trouble: What is wrong with the revision that is, or was, brought up.
    """

    state: DeploymentState
    reason: str | None
    active: int | None
    wanted: int
    failure: str | None
    waited_s: float | None
    activated: int | None = None
    failed: int | None = None
    trouble: str | None = None


@dataclass(frozen=True)
class Look:
    """What one look at the world saw. `problem` is why the world could not be moved, if it could not."""

    replicas: Sequence[Replica] = field(default_factory=tuple)
    problem: str | None = None

    def of(self, revision: int | None) -> list[Replica]:
        """Return the replicas of a revision."""
        return [replica for replica in self.replicas if replica.revision == revision]


def plan(desired: Desired) -> Plan:
    """Return the next step towards what is desired."""
    placed = [facts.number for facts in desired.revisions.values() if facts.placed]
    if desired.deleting:
        return Plan({}, sorted(placed), None)
    pending = desired.pending
    kept = {number for number in (desired.active, pending) if number is not None}
    run = {number: desired.replicas for number in kept if desired.revisions[number].prepared}
    waits = pending is not None and desired.replicas > 0 and not desired.revisions[pending].prepared
    return Plan(run, sorted(set(placed) - kept), pending if waits else None)


def judge(desired: Desired, look: Look, now: datetime, ready_timeout_s: float) -> Verdict:
    """Return what state a look means."""
    if desired.deleting:
        return _unchanged(desired, DeploymentState.DELETING, _remaining(desired, look))
    if desired.replicas == 0:
        return _stopping(desired, look)
    waited = _waited(desired, now)
    if desired.pending is not None:
        return _bringing_up(desired, desired.pending, look, waited or 0.0, ready_timeout_s)
    if desired.active is None:
        reason = desired.failure or desired.revisions[desired.wanted].trouble
        return _verdict(desired, DeploymentState.FAILED, reason, None)
    return _serving(desired, look, waited, ready_timeout_s)


def ready_count(replicas: Iterable[Replica], wanted: int) -> int:
    """Count the replicas that take requests, of those that shall stay."""
    return sum(replica.ready for replica in replicas if replica.index < wanted)


def crashes(replica: Replica) -> int:
    """Count how often a replica's process has ended."""
    return replica.restarts + (replica.phase in _ENDED)


def restarted(before: Iterable[Replica], after: Iterable[Replica]) -> list[Replica]:
    """Return the replicas whose process was started again between two looks."""
    known = {(replica.revision, replica.index): replica.restarts for replica in before}
    return [
        replica
        for replica in after
        if replica.restarts > known.get((replica.revision, replica.index), replica.restarts)
    ]


def served_before(activations: Mapping[int, datetime], active: int | None, pending: int | None) -> int | None:
    """Return the revision that a rollback goes to by default: the one serving, while another is brought up; otherwise
    the one that served last before it.

    Args:
        activations: When each revision that ever served began to.
    """
    if pending is not None and active is not None:
        return active
    others = [number for number in activations if number != active]
    return max(others, key=lambda number: (activations[number], number), default=None)


def _bringing_up(desired: Desired, pending: int, look: Look, waited: float, timeout_s: float) -> Verdict:
    # Without a spec it has no workload of its own yet: whatever was seen under its number is not it.
    replicas = look.of(pending) if desired.revisions[pending].prepared else []
    ready = ready_count(replicas, desired.replicas)
    if ready >= desired.replicas:
        return Verdict(DeploymentState.READY, None, pending, pending, None, None, activated=pending)
    trouble = _trouble(replicas) or look.problem or desired.revisions[pending].trouble
    given_up = _given_up(replicas, ready, desired.replicas, trouble, waited, timeout_s)
    if given_up is not None:
        return _given(desired, pending, look, given_up)
    progress = f"Revision {pending}: {ready} of {desired.replicas} replicas are ready."
    return Verdict(
        DeploymentState.PROGRESSING,
        f"{progress} {trouble}" if trouble else progress,
        desired.active,
        desired.wanted,
        desired.failure,
        waited,
        trouble=trouble,
    )


def _given_up(
    replicas: Sequence[Replica], ready: int, wanted: int, trouble: str | None, waited: float, timeout_s: float
) -> str | None:
    """Return why a revision will not become ready; None while it may."""
    doomed = [replica for replica in replicas if not replica.ready and crashes(replica) >= CRASHES]
    if doomed:
        worst = max(doomed, key=crashes)
        why = f"Its replica {worst.index} ended {crashes(worst)} times before it was ready."
    elif waited >= timeout_s:
        why = f"Only {ready} of {wanted} replicas were ready within {timeout_s:g} s."
    else:
        return None
    return f"{why} {trouble}" if trouble else why


def _given(desired: Desired, pending: int, look: Look, why: str) -> Verdict:
    """Return the verdict on a revision that is given up: the active one stays, where there is one."""
    failure = f"Revision {pending} failed. {why}"
    if desired.active is None:
        return Verdict(DeploymentState.FAILED, failure, None, pending, failure, None, failed=pending, trouble=why)
    state, reason = _health(desired, look, failure)
    return Verdict(state, reason, desired.active, desired.active, failure, None, failed=pending, trouble=why)


def _serving(desired: Desired, look: Look, waited: float | None, timeout_s: float) -> Verdict:
    replicas = look.of(desired.active)
    surplus = [replica for replica in replicas if replica.index >= desired.replicas]
    complete = ready_count(replicas, desired.replicas) >= desired.replicas and not surplus
    ready = ready_count(replicas, desired.replicas)
    doomed = ready == 0 and any(replica.phase in _ENDED and crashes(replica) >= CRASHES for replica in replicas)
    if waited is not None and not complete and waited < timeout_s and not doomed:
        trouble = _trouble(replicas) if ready == 0 else None
        reason = f"{ready} of {desired.replicas} replicas are ready."
        return _verdict(desired, DeploymentState.PROGRESSING, f"{reason} {trouble}" if trouble else reason, waited)
    return _verdict(desired, *_health(desired, look, desired.failure), None)


def _health(desired: Desired, look: Look, failure: str | None) -> tuple[DeploymentState, str | None]:
    replicas = look.of(desired.active)
    ready = ready_count(replicas, desired.replicas)
    if ready >= desired.replicas:
        return (DeploymentState.ROLLED_BACK, failure) if failure else (DeploymentState.READY, None)
    trouble = _trouble(replicas) or look.problem
    parts = [f"{ready} of {desired.replicas} replicas of revision {desired.active} are ready.", trouble, failure]
    return DeploymentState.DEGRADED, " ".join(part for part in parts if part)


def _stopping(desired: Desired, look: Look) -> Verdict:
    if desired.active is None and desired.pending is None:
        reason = desired.failure or desired.revisions[desired.wanted].trouble
        return _verdict(desired, DeploymentState.FAILED, reason, None)
    if left := len(look.of(desired.active)) + len(look.of(desired.pending)):
        return _verdict(desired, DeploymentState.PROGRESSING, f"{left} replicas are ending.", 0.0)
    if desired.sleeps and desired.pending is not None:
        return _verdict(desired, DeploymentState.PROGRESSING, f"It wakes for revision {desired.pending}.", 0.0)
    if desired.sleeps:
        return _verdict(desired, DeploymentState.IDLE, "It is scaled to zero; a request wakes it.", None)
    return _verdict(desired, DeploymentState.STOPPED, "No replicas are wanted.", None)


def _verdict(desired: Desired, state: DeploymentState, reason: str | None, waited: float | None) -> Verdict:
    pending = desired.pending
    trouble = desired.revisions[pending].trouble if pending is not None else None
    return Verdict(state, reason, desired.active, desired.wanted, desired.failure, waited, trouble=trouble)


def _unchanged(desired: Desired, state: DeploymentState, reason: str | None) -> Verdict:
    return _verdict(desired, state, reason, desired.waited_s)


def _remaining(desired: Desired, look: Look) -> str | None:
    if not any(facts.placed for facts in desired.revisions.values()):
        return None
    return look.problem or f"{len(look.replicas)} replicas are ending."


def _waited(desired: Desired, now: datetime) -> float | None:
    if desired.waited_s is None:
        return None
    since = 0.0 if desired.seen_at is None else (now - desired.seen_at).total_seconds()
    return desired.waited_s + min(max(since, 0.0), WATCHED_AT_MOST_S)


def _trouble(replicas: Iterable[Replica]) -> str | None:
    """Return what ails the replica that ended most often."""
    ailing = [replica for replica in replicas if replica.reason and not replica.ready]
    if not ailing:
        return None
    worst = max(ailing, key=crashes)
    return f"Replica {worst.index}: {worst.reason}"
