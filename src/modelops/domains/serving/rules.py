"""What a deployment's world should look like next, and what state follows from what was seen of it.

`plan` says what to run and what to end; `judge` draws the conclusions from the replicas observed. Together they hold: the
active revision keeps running until another one has been seen ready in its place, and a revision that is brought up ends
as active or as failed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from modelops.contracts.ports import Phase
from modelops.domains.serving.courses.courses import Course, Outcome, RolloutState, advance, end
from modelops.domains.serving.courses.strategies import Rolling, stages
from modelops.domains.serving.schemas import DeploymentState, Replica, RevisionState

CRASHES = 3
"""A replica that ended so often before its revision was ready will not become ready."""

WATCHED_AT_MOST_S = 10.0
"""The most that one look adds to the time waited: while the platform was away, nobody waited."""

NOT_SCALED = "the cluster does not scale it"

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
        prepared: Its workload's spec is fixed, or its document where it lives in another's.
        placed: Something of its workload may exist.
        trouble: What went wrong so far while it was brought up.
        home: The revision in whose workload it lives; None where it has its own.
    """

    number: int
    state: RevisionState
    prepared: bool
    placed: bool
    trouble: str | None = None
    home: int | None = None


@dataclass(frozen=True)
class Desired:
    """A deployment as it should be, with what is remembered of the way there.

    Attributes:
        failure: Why the revision last wanted was given up, while another one serves in its place.
        waited_s: How long the platform has watched the last change come about; None when nothing is under way.
        seen_at: When it last looked, while something is under way.
        kept: Workloads that serve no longer and are kept for a while, to return to.
        course: Where the rollout of the pending revision stands.
        aim: What the pending revision's replicas shall serve at this stage: a digest; None where it has its own workload.
        rest: What the active revision's replicas shall serve when nothing is rolled out; None where they cannot change.
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
    kept: frozenset[int] = frozenset()
    course: Course | None = None
    aim: str | None = None
    rest: str | None = None
    sleeps: bool = False

    def home(self, revision: int) -> int:
        """Return the revision in whose workload a revision lives."""
        return self.revisions[revision].home or revision

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
    course: Course | None = None


@dataclass(frozen=True)
class Look:
    """What one look at the world saw. `problem` is why the world could not be moved, if it could not.

    `verdict` is what an analysis of the rollout's present stage found, if one was made, and `why` says it in words. `unscaled`
    is why the cluster does not scale it, although it should.
    """

    replicas: Sequence[Replica] = field(default_factory=tuple)
    problem: str | None = None
    verdict: Outcome | None = None
    why: str = ""
    unscaled: str | None = None

    def of(self, revision: int | None) -> list[Replica]:
        """Return the replicas of a revision's workload."""
        return [replica for replica in self.replicas if replica.revision == revision]


@dataclass(frozen=True)
class Control:
    """What the replicas of a workload shall serve: a digest, at most so many of them on their way to it at a time, and
    nobody new while it is frozen. With `again`, one that could not is told once more."""

    digest: str
    at_once: int
    frozen: bool = False
    again: bool = False


def plan(desired: Desired) -> Plan:
    """Return the next step towards what is desired."""
    placed = {facts.number for facts in desired.revisions.values() if facts.placed}
    if desired.deleting:
        return Plan({}, sorted(placed), None)
    pending = desired.pending
    homes = {desired.home(number) for number in (desired.active, pending) if number is not None}
    homes |= desired.kept & placed
    run = {home: desired.replicas for home in homes if desired.revisions[home].prepared}
    waits = pending is not None and desired.replicas > 0 and not desired.revisions[pending].prepared
    return Plan(run, sorted(placed - homes), pending if waits else None)


def controls(desired: Desired) -> dict[int, Control]:
    """Return what the replicas of each workload shall serve, where they can change what they serve."""
    found: dict[int, Control] = {}
    if desired.active is not None and desired.rest is not None:
        found[desired.home(desired.active)] = Control(desired.rest, desired.replicas, again=True)
    if desired.pending is not None and desired.aim is not None and desired.course is not None:
        course = desired.course
        rolling = course.strategy if isinstance(course.strategy, Rolling) else None
        at_once = rolling.max_unavailable if rolling else desired.replicas
        frozen = course.state is RolloutState.PAUSED and course.last
        found[desired.home(desired.pending)] = Control(desired.aim, at_once, frozen)
    return found


def to_tell(replicas: Sequence[Replica], control: Control) -> list[int]:
    """Return the indices of the replicas to tell now what they shall serve: ready ones that said what they serve."""
    away = [one for one in replicas if not (one.ready and one.serves == control.digest)]
    known = [one for one in away if one.ready and one.serves is not None]
    refused = [one for one in known if one.told == control.digest and one.refusal]
    waiting = [one for one in known if one.told != control.digest]
    under_way = [one for one in away if one not in refused and one not in waiting]
    if control.again:
        waiting += refused
    free = 0 if control.frozen else max(0, control.at_once - len(under_way))
    return sorted(one.index for one in waiting)[:free]


def judge(desired: Desired, look: Look, now: datetime, ready_timeout_s: float) -> Verdict:
    """Return what state a look means."""
    if desired.deleting:
        return _unchanged(desired, DeploymentState.DELETING, _remaining(desired, look))
    if desired.replicas == 0:
        return _stopping(desired, look)
    waited = _waited(desired, now)
    if desired.pending is not None:
        return _bringing_up(desired, desired.pending, look, now, waited or 0.0, ready_timeout_s)
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


def _bringing_up(desired: Desired, pending: int, look: Look, now: datetime, waited: float, timeout_s: float) -> Verdict:
    # Without a spec it has no workload of its own yet: whatever was seen under its number is not it.
    replicas = look.of(desired.home(pending)) if desired.revisions[pending].prepared else []
    arrived = ready_count((one for one in replicas if desired.aim in (None, one.serves)), desired.replicas)
    settled = arrived >= desired.replicas
    trouble = _trouble(replicas) or look.problem or desired.revisions[pending].trouble
    doom = _doom(desired, replicas)
    if doom is None and not settled and waited >= timeout_s and not _waits_for_a_person(desired.course):
        doom = f"Only {arrived} of {desired.replicas} replicas were ready within {timeout_s:g} s."
    if doom is not None:
        return _given(desired, pending, look, f"{doom} {trouble}" if trouble else doom)
    course = desired.course
    if course is not None:
        course = advance(course, now, settled=settled, verdict=look.verdict, why=look.why)
        if course.state is RolloutState.ABORTED:
            return _given(desired, pending, look, course.reason or "", course)
    if settled and (course is None or course.state is RolloutState.SUCCEEDED):
        return Verdict(DeploymentState.READY, None, pending, pending, None, None, activated=pending, course=course)
    return Verdict(
        DeploymentState.PROGRESSING,
        _progress(desired, pending, arrived, course, None if settled else trouble),
        desired.active,
        desired.wanted,
        desired.failure,
        None if settled and course is not None and course.step == (desired.course or course).step else waited,
        trouble=None if settled else trouble,
        course=course,
    )


def _progress(desired: Desired, pending: int, arrived: int, course: Course | None, trouble: str | None) -> str:
    parts = [f"Revision {pending}: {arrived} of {desired.replicas} replicas are ready."]
    if course is not None and not course.last:
        total = len(stages(course.strategy))
        parts.append(f"It is at step {course.step + 1} of {total}, with {course.share:g} % of the callers.")
    return " ".join([*parts, *filter(None, (course.reason if course else None, trouble))])


def _waits_for_a_person(course: Course | None) -> bool:
    return course is not None and course.state is RolloutState.PAUSED


def _at_rest(desired: Desired, look: Look) -> int:
    """Count the replicas that serve the active revision; one that was not asked or told yet was started with it."""
    replicas, rest = look.of(desired.home(desired.active or desired.wanted)), desired.rest
    return ready_count(
        (one for one in replicas if rest is None or one.serves == rest or (one.serves is None and one.told is None)),
        desired.replicas,
    )


def _doom(desired: Desired, replicas: Sequence[Replica]) -> str | None:
    """Return why a revision will not become ready; None while it may."""
    if desired.aim is None:
        doomed = [one for one in replicas if not one.ready and crashes(one) >= CRASHES]
        if not doomed:
            return None
        worst = max(doomed, key=crashes)
        return f"Its replica {worst.index} ended {crashes(worst)} times before it was ready."
    refused = next((one for one in replicas if one.told == desired.aim and one.refusal), None)
    if refused is not None:
        return f"Replica {refused.index} cannot serve it: {refused.refusal}"
    lost = max(replicas, key=lambda one: one.lost, default=None)
    if lost is None or lost.lost < CRASHES:
        return None
    return f"Replica {lost.index} ended {lost.lost} times while it was brought up."


def _given(desired: Desired, pending: int, look: Look, why: str, course: Course | None = None) -> Verdict:
    """Return the verdict on a revision that is given up: the active one stays, where there is one."""
    aborted = course is not None
    failure = (
        f"The rollout of revision {pending} was aborted. {why}" if aborted else f"Revision {pending} failed. {why}"
    )
    course = course or (desired.course and end(desired.course, RolloutState.FAILED, why))
    health: tuple[DeploymentState, str | None] = (DeploymentState.FAILED, failure)
    waited = None
    if desired.active is not None:
        health = _health(desired, look, failure)
        if desired.aim is not None:  # its replicas are still to be told that they stay with what they had
            health, waited = (DeploymentState.PROGRESSING, failure), 0.0
    state, reason = health
    wanted = desired.active or pending
    return Verdict(state, reason, desired.active, wanted, failure, waited, failed=pending, trouble=why, course=course)


def _serving(desired: Desired, look: Look, waited: float | None, timeout_s: float) -> Verdict:
    replicas = look.of(desired.home(desired.active or desired.wanted))
    surplus = [replica for replica in replicas if replica.index >= desired.replicas]
    arrived = _at_rest(desired, look)
    hopeless = arrived == 0 and any(one.phase in _ENDED and crashes(one) >= CRASHES for one in replicas)
    if waited is not None and (arrived < desired.replicas or surplus) and waited < timeout_s and not hopeless:
        trouble = _trouble(replicas) if arrived == 0 else None
        reason = f"{arrived} of {desired.replicas} replicas are ready."
        return _verdict(desired, DeploymentState.PROGRESSING, f"{reason} {trouble}" if trouble else reason, waited)
    return _verdict(desired, *_health(desired, look, desired.failure), None)


def _health(desired: Desired, look: Look, failure: str | None) -> tuple[DeploymentState, str | None]:
    replicas = look.of(desired.home(desired.active or desired.wanted))
    arrived = _at_rest(desired, look)
    if arrived >= desired.replicas and look.unscaled is not None:
        why = f"It serves, but {NOT_SCALED}. {look.unscaled}"
        return DeploymentState.DEGRADED, " ".join(filter(None, (why, failure)))
    if arrived >= desired.replicas:
        return (DeploymentState.ROLLED_BACK, failure) if failure else (DeploymentState.READY, None)
    trouble = _trouble(replicas) or look.problem
    parts = [f"{arrived} of {desired.replicas} replicas of revision {desired.active} are ready.", trouble, failure]
    return DeploymentState.DEGRADED, " ".join(part for part in parts if part)


def _stopping(desired: Desired, look: Look) -> Verdict:
    if desired.active is None and desired.pending is None:
        reason = desired.failure or desired.revisions[desired.wanted].trouble
        return _verdict(desired, DeploymentState.FAILED, reason, None)
    homes = {desired.home(number) for number in (desired.active, desired.pending) if number is not None}
    if left := sum(len(look.of(home)) for home in homes):
        return _verdict(desired, DeploymentState.PROGRESSING, f"{left} replicas are ending.", 0.0)
    if desired.sleeps and desired.pending is not None:
        return _verdict(desired, DeploymentState.PROGRESSING, f"It wakes for revision {desired.pending}.", 0.0)
    if desired.sleeps:
        return _verdict(desired, DeploymentState.IDLE, "It is scaled to zero; a request wakes it.", None)
    return _verdict(desired, DeploymentState.STOPPED, "No replicas are wanted.", None)


def _verdict(desired: Desired, state: DeploymentState, reason: str | None, waited: float | None) -> Verdict:
    pending = desired.pending
    trouble = desired.revisions[pending].trouble if pending is not None else None
    return Verdict(
        state, reason, desired.active, desired.wanted, desired.failure, waited, trouble=trouble, course=desired.course
    )


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
    if ailing:
        worst = max(ailing, key=crashes)
        return f"Replica {worst.index}: {worst.reason}"
    refused = next((replica for replica in replicas if replica.refusal), None)
    return None if refused is None else f"Replica {refused.index}: {refused.refusal}"
