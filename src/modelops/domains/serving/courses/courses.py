"""The course of a rollout: where it stands, and what moves it.

A rollout goes through its stages one after the other, and succeeds after the last. It never goes back: what is aborted or
fails leaves the revision that served before as it was, which is active until the very end.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from modelops.contracts.errors import DeploymentError
from modelops.domains.serving.courses.strategies import (
    AllAtOnce,
    BlueGreen,
    Canary,
    CanaryStep,
    Rolling,
    RolloutStrategy,
    stages,
)

Strategy = AllAtOnce | Rolling | Canary | BlueGreen

_STRATEGY: TypeAdapter[Strategy] = TypeAdapter(RolloutStrategy)


class RolloutState(StrEnum):
    """`progressing` <-> `paused`; the others are final. `aborted`: by a person or by the analysis; `failed`: the candidate
    could not be brought up; `superseded`: another change took its place."""

    PROGRESSING = "progressing"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class Hold(StrEnum):
    """Why a rollout is paused: a `person` paused it, its `step` has no end of its own, the analysis stayed `inconclusive`,
    or it waits for its `promotion`."""

    PERSON = "person"
    STEP = "step"
    INCONCLUSIVE = "inconclusive"
    PROMOTION = "promotion"


class Outcome(StrEnum):
    """What an analysis finds, of a metric and on the whole."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


FINAL = frozenset({RolloutState.SUCCEEDED, RolloutState.ABORTED, RolloutState.FAILED, RolloutState.SUPERSEDED})


@dataclass(frozen=True)
class Course:
    """Where a rollout stands.

    Attributes:
        step: Which stage it is in, from 0; as many as there are stages is the last stretch, where the candidate takes over.
        began_at: When the stage was first seen on every replica.
        extensions: How often the stage was made longer because nothing could be concluded.
        looks: How many analyses the stage has had.
        looked_at: When the last one was.
    """

    strategy: Strategy = field(default_factory=AllAtOnce)
    state: RolloutState = RolloutState.PROGRESSING
    step: int = 0
    began_at: datetime | None = None
    extensions: int = 0
    looks: int = 0
    looked_at: datetime | None = None
    hold: Hold | None = None
    reason: str | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing moves it any more."""
        return self.state in FINAL

    @property
    def last(self) -> bool:
        """Whether it is in the last stretch."""
        return self.step >= len(stages(self.strategy))

    @property
    def stage(self) -> CanaryStep | None:
        """The canary's step that it is in, if it is in one."""
        return None if self.last else stages(self.strategy)[self.step]

    @property
    def share(self) -> float:
        """The percentage of the callers that the candidate shall answer now."""
        if self.state is RolloutState.SUCCEEDED or (self.last and not self.finished):
            return 100.0
        return 0.0 if self.finished or self.stage is None else self.stage.share

    @property
    def ends_at(self) -> datetime | None:
        """When its stage is over, if it ends by itself."""
        if self.stage is None or self.stage.pause_s is None or self.began_at is None:
            return None
        return self.began_at + timedelta(seconds=self.stage.pause_s * (1 + self.extensions))

    def is_due(self, now: datetime) -> bool:
        """Tell whether a stage that every replica serves has something to do: an analysis, or its end."""
        if self.finished:
            return False
        if self.last or self.began_at is None:
            return True
        if self.wants_analysis(now):
            return True
        return self.state is RolloutState.PROGRESSING and self.ends_at is not None and now >= self.ends_at

    def wants_analysis(self, now: datetime) -> bool:
        """Tell whether the candidate is to be compared with the champion now, paused or not."""
        analysis = self.strategy.analysis if isinstance(self.strategy, Canary) else None
        if analysis is None or self.finished or self.last or self.began_at is None:
            return False
        since = self.looked_at or self.began_at
        over = self.ends_at is not None and since < self.ends_at <= now
        return over or now >= since + timedelta(seconds=analysis.interval_s)


def strategy_of(stored: Any) -> Strategy:
    """Return a strategy as it was stored. Raises ValueError where it is none."""
    return _STRATEGY.validate_python(stored)


def advance(course: Course, now: datetime, *, settled: bool, verdict: Outcome | None = None, why: str = "") -> Course:
    """Return where a rollout stands after a look.

    Args:
        settled: Every replica serves what the stage wants.
        verdict: What an analysis of this stage, made now, found; None where none was made.
        why: The analysis in words.
    """
    if course.finished:
        return course
    if verdict is not None and not course.last:
        course = replace(course, looks=course.looks + 1, looked_at=now)
        if verdict is Outcome.FAILED:
            return end(course, RolloutState.ABORTED, f"The analysis failed. {why}".strip())
    if not settled:
        return course
    if course.last:
        return course if course.state is RolloutState.PAUSED else end(course, RolloutState.SUCCEEDED, None)
    if course.began_at is None:
        course = replace(course, began_at=now)
        if course.state is RolloutState.PROGRESSING and (course.stage is None or course.stage.pause_s is None):
            waits = Hold.PROMOTION if course.stage is None else Hold.STEP
            return _held(course, waits, "It waits until somebody promotes or resumes it.")
    if course.state is RolloutState.PAUSED or course.ends_at is None or now < course.ends_at:
        return course
    return _over(course, verdict, why)


def pause(course: Course) -> Course:
    """Return a rollout that goes no further for now. Raises DeploymentError where it is over."""
    _check(course)
    if course.state is RolloutState.PAUSED:
        return course
    return _held(course, Hold.PERSON, "Somebody paused it.")


def resume(course: Course) -> Course:
    """Return a rollout that goes on: one that somebody paused from where it was, a step without an end with the next one,
    an inconclusive one with its step from the start. Raises DeploymentError where it is not paused, or over."""
    _check(course)
    if course.hold is None:
        raise DeploymentError("The rollout is not paused.", hint="`promote-rollout` skips what is left of its steps.")
    if course.hold is Hold.PROMOTION:
        raise DeploymentError("The rollout waits to be promoted.", hint="`mops deployments promote-rollout NAME` does.")
    going = replace(course, state=RolloutState.PROGRESSING, hold=None, reason=None)
    if course.hold is Hold.STEP:
        return _next(going)
    if course.hold is Hold.INCONCLUSIVE:
        return replace(going, began_at=None, extensions=0, looks=0, looked_at=None)
    # One that was paused before its step began has not been asked yet whether the step ends by itself.
    return going if course.last or course.ends_at is not None else replace(going, began_at=None)


def promote(course: Course) -> Course:
    """Return a rollout whose candidate takes over now. Raises DeploymentError where it is over."""
    _check(course)
    going = replace(course, state=RolloutState.PROGRESSING, hold=None, reason=None)
    return going if going.last else replace(_next(going), step=len(stages(going.strategy)))


def abort(course: Course, why: str) -> Course:
    """Return a rollout that was given up. Raises DeploymentError where it is over."""
    _check(course)
    return end(course, RolloutState.ABORTED, why)


def end(course: Course, state: RolloutState, reason: str | None) -> Course:
    """Return a rollout that is over; one that was over stays as it was."""
    return course if course.finished else replace(course, state=state, hold=None, reason=reason)


def _over(course: Course, verdict: Outcome | None, why: str) -> Course:
    """Decide on a stage whose time is up."""
    analysis = course.strategy.analysis if isinstance(course.strategy, Canary) else None
    if analysis is None or verdict is Outcome.PASSED:
        return _next(course)
    if verdict is None:
        return course
    if course.extensions < analysis.max_extensions:
        return replace(course, extensions=course.extensions + 1)
    return _held(course, Hold.INCONCLUSIVE, f"The analysis stayed inconclusive. {why}".strip())


def _next(course: Course) -> Course:
    return replace(course, step=course.step + 1, began_at=None, extensions=0, looks=0, looked_at=None)


def _held(course: Course, hold: Hold, reason: str) -> Course:
    return replace(course, state=RolloutState.PAUSED, hold=hold, reason=reason)


def _check(course: Course) -> None:
    if course.finished:
        raise DeploymentError(
            f"The rollout is {course.state} already.",
            hint="`mops deployments list-rollouts NAME` shows what there was.",
        )
