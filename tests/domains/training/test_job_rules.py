"""A job's states: from any observation a permitted step, and an end that stays."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.ports import Observation, Phase
from modelops.domains.training.rules import NEXT, JobEnded, judge, state_after_cancel
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


@given(live, observations, st.booleans(), st.none() | st.just("it broke"), st.integers(0, 120))
def test_every_step_is_permitted_and_every_failure_has_a_reason(state, seen, reported, failure, waited):
    after, reason = judge(
        state,
        seen,
        reported=reported,
        failure=failure,
        cancel_reason=None,
        waited_since=NOW - timedelta(seconds=waited),
        now=NOW,
        start_timeout_s=60,
    )
    assert after is state or after in NEXT[state]
    if after is JobState.FAILED or after is JobState.CANCELED:
        assert reason
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
