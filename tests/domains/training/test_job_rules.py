"""A job's states: from any observation a permitted step, and an end that stays."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.ports import Observation, Phase
from modelops.domains.training.rules import NEXT, JobEnded, decode_output, judge, state_after_cancel, why_it_waits
from modelops.domains.training.schemas import JobState

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
        assert NEXT[state] == frozenset()
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
