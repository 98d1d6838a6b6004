"""A job's states: from any observation a permitted step, and an end that stays."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import Conflict, InvalidInput
from modelops.contracts.ports import EndedBy, Observation, Phase
from modelops.domains.training.rules import (
    LONGEST_DELAY_S,
    NEXT,
    JobEnded,
    cause_of,
    check_retry,
    decode_output,
    delay_before_next,
    judge,
    seconds_left,
    split_input,
    state_after_cancel,
    why_it_waits,
)
from modelops.domains.training.schemas import EndCause, InputKind, JobState, Retry, RetryCause

NOW = datetime(2026, 1, 1, tzinfo=UTC)
observations = st.builds(
    Observation,
    phase=st.sampled_from(Phase),
    pid=st.none() | st.integers(2, 99),
    exit_code=st.none() | st.integers(0, 255),
    reason=st.none() | st.just("killed by SIGKILL"),
)
live = st.sampled_from([JobState.STARTING, JobState.RUNNING, JobState.CANCELING])


@given(
    live,
    observations,
    st.booleans(),
    st.none() | st.just("it broke"),
    st.integers(0, 120),
    st.sampled_from([(None, False), ("the disk is full", False), ("no such file", True)]),
)
def test_every_step_is_permitted_and_every_failure_has_a_reason(state, seen, reported, failure, waited, trouble):
    after, reason = judge(
        state,
        seen,
        reported=reported,
        failure=failure,
        cancel_reason=None,
        waited_since=NOW - timedelta(seconds=waited),
        now=NOW,
        start_timeout_s=60,
        problem=trouble[0],
        hopeless=trouble[1],
    )
    assert after is state or after in NEXT[state]
    if after is JobState.FAILED or after is JobState.CANCELED:
        assert reason
    if seen.ended or (state is JobState.CANCELING and seen.phase is Phase.ABSENT):
        assert after.final
    if seen.phase is Phase.RUNNING:
        assert not after.final
    if after is JobState.SUCCEEDED:
        assert reported
        assert seen.exit_code == 0
        assert state is not JobState.CANCELING


@given(st.sampled_from(JobState))
def test_a_cancelled_job_never_succeeds_and_an_ended_one_stays(state):
    if state.final:
        with pytest.raises(JobEnded):
            state_after_cancel(state)
        assert NEXT[state] == (frozenset() if state is JobState.SUCCEEDED else {JobState.QUEUED})
    else:
        assert JobState.SUCCEEDED not in NEXT[state_after_cancel(state)]


def test_a_running_job_is_not_judged_by_how_long_a_start_may_take():
    facts = {"reported": False, "failure": None, "cancel_reason": None, "now": NOW, "start_timeout_s": 60}
    moved = Observation(Phase.STARTING)
    assert judge(JobState.RUNNING, moved, waited_since=NOW - timedelta(days=1), **facts) == (JobState.RUNNING, None)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")), st.binary(max_size=3), st.integers(4, 9))
def test_output_read_in_pieces_is_the_output(text, broken, size):
    raw, read, offset = text.encode("utf-8", "surrogatepass") + broken, "", 0
    while True:
        piece = raw[offset : offset + size]
        found, used = decode_output(piece, last=len(piece) < size)
        read, offset = read + found, offset + used
        assert used > 0 or not piece
        if len(piece) < size:
            break
    assert offset == len(raw)
    assert read == raw.decode("utf-8", "replace").replace("\0", "\ufffd")


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5))
def test_why_a_job_waits_is_a_sentence(running, ahead, most):
    told = why_it_waits(running=running, ahead=ahead, most=most)
    assert told.endswith(".")
    assert ("in a moment" in told) == (running + ahead < most)


def ended(code=None, by=None, phase=Phase.EXITED):
    return Observation(phase, exit_code=code, ended_by=by, reason=None if code == 0 else "a reason")


CAUSES = {
    "by itself": (JobState.RUNNING, JobState.SUCCEEDED, ended(0), False, EndCause.SUCCEEDED),
    "cancelled": (JobState.CANCELING, JobState.CANCELED, ended(by=EndedBy.REQUEST), False, EndCause.CANCELED),
    "exit code": (JobState.RUNNING, JobState.FAILED, ended(3), False, EndCause.FAILED),
    "without a word": (JobState.RUNNING, JobState.FAILED, ended(0), False, EndCause.FAILED),
    "signal": (JobState.RUNNING, JobState.FAILED, ended(by=EndedBy.SIGNAL), False, EndCause.KILLED),
    "memory limit": (JobState.RUNNING, JobState.FAILED, ended(by=EndedBy.MEMORY), False, EndCause.OUT_OF_MEMORY),
    "memory refused": (JobState.RUNNING, JobState.FAILED, ended(1), True, EndCause.OUT_OF_MEMORY),
    "time limit": (JobState.RUNNING, JobState.FAILED, ended(by=EndedBy.TIME), False, EndCause.TIME_LIMIT),
    "machine goes down": (JobState.RUNNING, JobState.FAILED, ended(by=EndedBy.REQUEST), False, EndCause.LOST),
    "lost": (JobState.RUNNING, JobState.FAILED, ended(phase=Phase.LOST), False, EndCause.LOST),
    "folder gone": (JobState.RUNNING, JobState.FAILED, Observation(Phase.ABSENT), False, EndCause.LOST),
    "never came up": (JobState.STARTING, JobState.FAILED, Observation(Phase.STARTING), False, EndCause.NOT_STARTED),
    "no such program": (JobState.STARTING, JobState.FAILED, ended(), False, EndCause.NOT_STARTED),
    "was never seen": (JobState.QUEUED, JobState.CANCELED, None, False, EndCause.CANCELED),
}


@pytest.mark.parametrize(("was", "state", "seen", "refused", "cause"), CAUSES.values(), ids=CAUSES.keys())
def test_of_what_kind_an_end_is(was, state, seen, refused, cause):
    assert cause_of(was, state, seen, out_of_memory=refused) is cause


@given(
    st.builds(
        Retry,
        max_attempts=st.integers(1, 100),
        causes=st.lists(st.sampled_from(RetryCause), max_size=4),
        delay_s=st.floats(0, 600),
    ),
    st.sampled_from(EndCause),
    st.integers(1, 200),
)
def test_a_job_is_tried_again_within_its_limit_after_causes_it_names_and_never_for_want_of_memory(
    retry, cause, attempts
):
    delay = delay_before_next(retry, cause, attempts)
    assert (delay is not None) == (str(cause) in retry.causes and attempts < retry.max_attempts)
    if delay is not None:
        assert retry.delay_s <= delay <= LONGEST_DELAY_S
        assert cause not in (EndCause.OUT_OF_MEMORY, EndCause.TIME_LIMIT, EndCause.CANCELED, EndCause.SUCCEEDED)


def test_what_may_be_tried_again_by_hand():
    check_retry(JobState.FAILED)
    check_retry(JobState.CANCELED)
    with pytest.raises(JobEnded):
        check_retry(JobState.SUCCEEDED)
    for state in (state for state in JobState if not state.final):
        with pytest.raises(Conflict):
            check_retry(state)


def test_an_undeclared_input_says_what_it_is():
    assert split_input("x", "model:fraud:3") == (InputKind.MODEL, "fraud:3")
    assert split_input("x", "file:sha256:00") == (InputKind.FILE, "sha256:00")
    for wrong in ("fraud", "model:", "thing:fraud", ":fraud"):
        with pytest.raises(InvalidInput, match="'x'"):
            split_input("x", wrong)


@given(st.floats(0, 1e9), st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_the_time_that_is_left_is_never_negative(done, left, took):
    told = seconds_left(done, left, took)
    assert told is None or told >= 0
    assert left > 0 or told == 0
