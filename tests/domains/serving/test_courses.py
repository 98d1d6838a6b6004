"""The course of a rollout, over everything that may happen to it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modelops.contracts.errors import DeploymentError
from modelops.domains.serving.courses.courses import (
    FINAL,
    Course,
    Hold,
    Outcome,
    RolloutState,
    abort,
    advance,
    end,
    pause,
    promote,
    resume,
    strategy_of,
)
from modelops.domains.serving.courses.strategies import (
    AllAtOnce,
    Analysis,
    BlueGreen,
    Canary,
    CanaryStep,
    Rolling,
    stages,
)

NOW = datetime(2025, 1, 1, tzinfo=UTC)

steps = st.builds(CanaryStep, share=st.integers(1, 100), pause_s=st.one_of(st.none(), st.integers(0, 60)))
analyses = st.builds(Analysis, max_extensions=st.integers(0, 2), interval_s=st.just(5.0))
strategies = st.one_of(
    st.just(AllAtOnce()),
    st.just(Rolling()),
    st.builds(BlueGreen, auto_promote=st.booleans()),
    st.builds(Canary, steps=st.lists(steps, min_size=1, max_size=4), analysis=st.one_of(st.none(), analyses)),
)


class Rollout(RuleBasedStateMachine):
    """A rollout that everything happens to: looks, analyses, people, time."""

    @initialize(strategy=strategies)
    def begin(self, strategy):
        self.course, self.now = Course(strategy), NOW
        self.before = self.course

    def moved(self, course):
        self.before, self.course = self.course, course

    @rule(seconds=st.integers(0, 100))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule(settled=st.booleans())
    def look(self, settled):
        verdict = None
        self.moved(advance(self.course, self.now, settled=settled, verdict=verdict))
        if not settled:
            assert self.course == self.before

    @rule(settled=st.booleans(), verdict=st.sampled_from(Outcome))
    def analysis(self, settled, verdict):
        analysed = isinstance(self.course.strategy, Canary) and self.course.strategy.analysis is not None
        waited = self.course.wants_analysis(self.now)
        if not (analysed and waited):
            return
        self.moved(advance(self.course, self.now, settled=settled, verdict=verdict))
        if verdict is Outcome.INCONCLUSIVE:
            assert self.course.step == self.before.step
            assert self.course.state is not RolloutState.SUCCEEDED
        if verdict is Outcome.FAILED:
            assert self.course.state is RolloutState.ABORTED

    @rule(move=st.sampled_from([pause, resume, promote, lambda course: abort(course, "enough")]))
    def somebody(self, move):
        try:
            self.moved(move(self.course))
        except DeploymentError:
            assert self.course.finished or move is resume

    @precondition(lambda self: self.course.finished)
    @rule(verdict=st.sampled_from([None, *Outcome]), settled=st.booleans())
    def nothing_moves_what_is_over(self, verdict, settled):
        assert advance(self.course, self.now, settled=settled, verdict=verdict) == self.course
        assert end(self.course, RolloutState.FAILED, "x") == self.course
        for move in (pause, resume, promote):
            with pytest.raises(DeploymentError):
                move(self.course)

    @invariant()
    def it_is_somewhere(self):
        if not hasattr(self, "course"):
            return
        course = self.course
        assert 0 <= course.step <= len(stages(course.strategy))
        assert 0 <= course.share <= 100
        assert (course.hold is not None) == (course.state is RolloutState.PAUSED)
        assert course.step >= self.before.step or self.before.finished
        assert course.share < 100 or course.last or course.stage.share == 100
        assert course.finished == (course.state in FINAL)
        if course.state is RolloutState.SUCCEEDED:
            assert course.last
        elif course.finished:
            assert course.share == 0


TestRollout = Rollout.TestCase


def canary(*pauses, **rest):
    return Canary(steps=[CanaryStep(share=10 * (n + 1), pause_s=pause) for n, pause in enumerate(pauses)], **rest)


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def test_a_canary_without_analysis_goes_by_time():
    course = advance(Course(canary(10, 20, analysis=None)), at(0), settled=True)
    assert (course.step, course.share, course.ends_at) == (0, 10, at(10))
    assert advance(course, at(9), settled=True) == course
    course = advance(course, at(10), settled=True)
    assert (course.step, course.began_at, course.share) == (1, None, 20)
    course = advance(advance(course, at(11), settled=True), at(31), settled=True)
    assert (course.last, course.share, course.state) == (True, 100, RolloutState.PROGRESSING)
    assert advance(course, at(32), settled=True).state is RolloutState.SUCCEEDED


def test_what_is_inconclusive_is_extended_and_then_waits_for_a_person():
    plan = Analysis(max_extensions=1, interval_s=100)
    course = advance(Course(canary(10, 10, analysis=plan)), at(0), settled=True)
    assert not course.wants_analysis(at(9))
    assert course.wants_analysis(at(10))
    course = advance(course, at(10), settled=True, verdict=Outcome.INCONCLUSIVE, why="Too few.")
    assert (course.extensions, course.ends_at, course.state) == (1, at(20), RolloutState.PROGRESSING)
    assert course.wants_analysis(at(20))
    course = advance(course, at(20), settled=True, verdict=Outcome.INCONCLUSIVE, why="Too few.")
    assert (course.state, course.hold, course.step) == (RolloutState.PAUSED, Hold.INCONCLUSIVE, 0)
    assert "Too few." in course.reason
    again = resume(course)
    assert (again.step, again.began_at, again.extensions, again.looks) == (0, None, 0, 0)
    assert promote(course).last


def test_a_step_is_not_over_before_it_was_analysed():
    course = advance(Course(canary(10)), at(0), settled=True)
    assert advance(course, at(11), settled=True) == course
    assert advance(course, at(11), settled=True, verdict=Outcome.PASSED).last


def test_a_failing_candidate_is_aborted_amid_a_step_and_while_it_is_paused():
    course = pause(advance(Course(canary(100)), at(0), settled=True))
    assert course.wants_analysis(at(10))
    found = advance(course, at(10), settled=False, verdict=Outcome.FAILED, why="It fails.")
    assert (found.state, found.reason) == (RolloutState.ABORTED, "The analysis failed. It fails.")


def test_a_step_without_an_end_waits_and_goes_on():
    course = advance(Course(canary(None, 10)), at(0), settled=True)
    assert (course.state, course.hold) == (RolloutState.PAUSED, Hold.STEP)
    assert resume(course).step == 1
    early = pause(Course(canary(None)))
    assert advance(resume(early), at(1), settled=True).hold is Hold.STEP


def test_blue_green_waits_for_its_promotion():
    course = advance(Course(BlueGreen(auto_promote=False)), at(0), settled=True)
    assert (course.hold, course.share) == (Hold.PROMOTION, 0)
    with pytest.raises(DeploymentError, match="promote"):
        resume(course)
    assert advance(promote(course), at(1), settled=True).state is RolloutState.SUCCEEDED
    assert advance(Course(BlueGreen()), at(0), settled=True).state is RolloutState.SUCCEEDED


def test_strategies_are_stored_and_read():
    for strategy in (AllAtOnce(), Rolling(max_unavailable=3), canary(1, None), BlueGreen(keep_s=9)):
        assert strategy_of(strategy.model_dump(mode="json")) == strategy
    with pytest.raises(ValueError, match="kind"):
        strategy_of({"kind": "nonsense"})
