"""Decisions about jobs, without a database or a process."""

from datetime import datetime, timedelta

from modelops.contracts.errors import TrainingError
from modelops.contracts.ports import Observation, Phase
from modelops.domains.training.schemas import JobState

SHUTDOWN = "the platform was shut down"

NEXT: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.CANCELED, JobState.FAILED}),
    JobState.STARTING: frozenset(
        {JobState.RUNNING, JobState.CANCELING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED}
    ),
    JobState.RUNNING: frozenset({JobState.CANCELING, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.CANCELING: frozenset({JobState.CANCELED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
}


class JobEnded(TrainingError):
    """The job has ended, and how it ended stays."""

    code, title = "training.job_ended", "The job has ended"


def state_after_cancel(state: JobState) -> JobState:
    """Return where a job goes when somebody cancels it.

    Raises:
        JobEnded: it has ended.
    """
    if state.final:
        raise JobEnded(f"The job has {state} already.", hint="Submit it again if you want another result.")
    return JobState.CANCELED if state is JobState.QUEUED else JobState.CANCELING


def judge(
    state: JobState,
    seen: Observation,
    *,
    reported: bool,
    failure: str | None,
    cancel_reason: str | None,
    waited_since: datetime,
    now: datetime,
    start_timeout_s: float,
) -> tuple[JobState, str | None]:
    """Return the state that a job is in, given what was seen of its process, and the reason.

    Args:
        state: Its state in the database: starting, running or canceling.
        seen: What the backend saw.
        reported: Whether the trainer reported a result.
        failure: What the trainer said went wrong.
        cancel_reason: Why it was cancelled.
        waited_since: When it was admitted.
        now: The time.
        start_timeout_s: How long a start may take.
    """
    if seen.ended:
        return _end(state, seen, reported=reported, failure=failure, cancel_reason=cancel_reason)
    if state is JobState.CANCELING:
        return state, cancel_reason
    if seen.phase is Phase.RUNNING:
        return JobState.RUNNING, None
    if state is JobState.RUNNING and seen.phase is Phase.ABSENT:
        return JobState.FAILED, "Its process is gone, and nothing is left of it."
    if now - waited_since > timedelta(seconds=start_timeout_s):
        return JobState.FAILED, f"It did not start within {start_timeout_s:g} s."
    return state, None


def _end(
    state: JobState, seen: Observation, *, reported: bool, failure: str | None, cancel_reason: str | None
) -> tuple[JobState, str | None]:
    succeeded = seen.phase is Phase.EXITED and seen.exit_code == 0 and seen.reason is None
    if state is JobState.CANCELING:
        return JobState.CANCELED, cancel_reason or "Cancelled."
    if succeeded and reported:
        return JobState.SUCCEEDED, None
    if succeeded:
        return JobState.FAILED, "The trainer ended without reporting a result."
    return JobState.FAILED, _why(seen, failure)


def _why(seen: Observation, failure: str | None) -> str:
    """Say why a process failed: what the trainer said, and what was seen of its end where that says more."""
    if seen.reason is not None and seen.exit_code is None:
        ended = seen.reason[:1].upper() + seen.reason[1:]
        return f"{ended}." if not ended.endswith(".") else ended
    if failure is not None:
        return failure
    return seen.reason or f"The trainer ended with exit code {seen.exit_code}; its log says why."
