"""Decisions about jobs, without a database or a process."""

import codecs
import json
from datetime import datetime, timedelta
from typing import Any

from modelops.contracts.errors import Conflict, InvalidInput, TrainingError
from modelops.contracts.ports import EndedBy, Observation, Phase, Placement
from modelops.contracts.settings import Settings
from modelops.domains.training.schemas import EndCause, Engine, InputKind, JobState, Retry

NEXT: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.CANCELED, JobState.FAILED}),
    JobState.STARTING: frozenset(
        {
            *(JobState.RUNNING, JobState.CANCELING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED),
            JobState.QUEUED,  # tried again
            JobState.PREEMPTING,
        }
    ),
    JobState.RUNNING: frozenset(
        {JobState.CANCELING, JobState.SUCCEEDED, JobState.FAILED, JobState.QUEUED, JobState.PREEMPTING}
    ),
    JobState.PREEMPTING: frozenset({JobState.QUEUED, JobState.CANCELING, JobState.SUCCEEDED}),
    JobState.CANCELING: frozenset({JobState.CANCELED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),  # by `retry_job`
    JobState.CANCELED: frozenset({JobState.QUEUED}),
}
"""Where a job may go from each state."""

LONGEST_DELAY_S = 600.0
"""How long a job that is tried again by itself waits at most."""


class JobEnded(TrainingError):
    """The job has ended, and how it ended stays."""

    code, title = "training.job_ended", "The job has ended"


def state_after_cancel(state: JobState) -> JobState:
    """Return where a job goes when somebody cancels it.

    Raises:
        JobEnded: it has ended.
    """
    if state.final:
        raise JobEnded(f"The job has {state} already.", hint="Submit another if you want another result.")
    return JobState.CANCELED if state is JobState.QUEUED else JobState.CANCELING


def check_retry(state: JobState) -> None:
    """Refuse to try a job again that goes on, or succeeded.

    Raises:
        Conflict: it has not ended.
        JobEnded: it succeeded.
    """
    if not state.final:
        raise Conflict(f"The job is {state}: it has not ended.", hint="Cancel it first, or wait for its end.")
    if state is JobState.SUCCEEDED:
        raise JobEnded("The job has succeeded already.", hint="Submit it again if you want another result.")


def check_processes(recipe: str, engine: Engine, processes: int) -> None:
    """Refuse several processes for a recipe that runs in one.

    Raises:
        InvalidInput: its engine is the job's one process.
    """
    if engine is Engine.LOCAL and processes > 1:
        raise InvalidInput(
            f"The recipe '{recipe}' runs in one process, and {processes} are asked for.",
            hint="Leave `processes` out, or take a recipe whose engine runs several: `mops jobs list-recipes` names it.",
        )


def cause_of(was: JobState, state: JobState, seen: Observation | None, *, out_of_memory: bool) -> EndCause:
    """Tell of what kind the end of an attempt is.

    Args:
        was: The job's state before.
        state: The one that it ends in.
        seen: What the backend saw; None where it was not asked.
        out_of_memory: Whether the trainer said that it was refused memory.
    """
    if state is JobState.SUCCEEDED:
        return EndCause.SUCCEEDED
    if state is JobState.CANCELED:
        return EndCause.CANCELED
    if seen is None or not seen.ended:
        return EndCause.LOST if was is JobState.RUNNING else EndCause.NOT_STARTED
    if seen.phase is Phase.LOST or seen.ended_by is EndedBy.REQUEST:  # nobody asked for it here: its machine goes down
        return EndCause.LOST
    if seen.ended_by is EndedBy.MEMORY or out_of_memory:
        return EndCause.OUT_OF_MEMORY
    if seen.ended_by is not None:
        return EndCause.TIME_LIMIT if seen.ended_by is EndedBy.TIME else EndCause.KILLED
    return EndCause.FAILED if seen.exit_code is not None else EndCause.NOT_STARTED


def delay_before_next(retry: Retry, cause: EndCause, attempts: int) -> float | None:
    """Return after how many seconds a job is tried again by itself, or None where it is not.

    Args:
        retry: The job's policy.
        cause: How the last attempt ended.
        attempts: How many there were.
    """
    if str(cause) not in map(str, retry.causes) or attempts >= retry.max_attempts:
        return None
    return min(retry.delay_s * 2.0 ** (attempts - 1), LONGEST_DELAY_S)


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
    problem: str | None = None,
    hopeless: bool = False,
) -> tuple[JobState, str | None]:
    """Return the state that a job is in, given what was seen of its process, and the reason.

    Args:
        state: Its state in the database: starting, running, canceling or preempting.
        seen: What the backend saw.
        reported: Whether the trainer reported a result.
        failure: What the trainer said went wrong.
        cancel_reason: Why it was cancelled.
        waited_since: When it was admitted.
        now: The time.
        start_timeout_s: How long a start may take.
        problem: What stood in the way of starting it just now.
        hopeless: Whether that will stand in the way for ever.
    """
    if state is JobState.PREEMPTING:
        return _given_way(seen, reported=reported)
    if seen.ended:
        return _end(state, seen, reported=reported, failure=failure, cancel_reason=cancel_reason)
    if state is JobState.CANCELING:
        # A job may be cancelled after it was admitted and before its process was started: then there is none to wait for.
        never_started = seen.phase is Phase.ABSENT
        return (JobState.CANCELED if never_started else state), cancel_reason or "Cancelled."
    if seen.phase is Phase.RUNNING:
        return JobState.RUNNING, None
    if state is JobState.RUNNING:
        return _vanished(seen)
    if hopeless:
        return JobState.FAILED, f"It cannot be started: {problem}"
    if now - waited_since > timedelta(seconds=start_timeout_s):
        return JobState.FAILED, f"It did not start within {start_timeout_s:g} s" + (f": {problem}" if problem else ".")
    return state, problem


def why_it_waits(*, running: int, ahead: int, most: int) -> str:
    """Say why a queued job does not run yet.

    Args:
        running: How many jobs have been admitted.
        ahead: How many were submitted before it and wait too.
        most: How many may run at once.
    """
    if running + ahead < most:
        return "It starts in a moment."
    jobs = "jobs run" if most > 1 else "job runs"
    before = f"{ahead} wait" if ahead != 1 else "1 waits"
    return f"{running} of {most} {jobs}, and {before} before it."


def read_object(text: str, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InvalidInput: it is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"`{what}` is not a JSON object.", hint=f'Such as {what}={{"trees": 200}}, URL-encoded.')
    return found


def split_input(name: str, ref: str) -> tuple[InputKind, str]:
    """Return what an input that no recipe declares is: `dataset:REF`, `model:REF` or `file:DIGEST`.

    Raises:
        InvalidInput: it does not say.
    """
    kind, _, rest = ref.partition(":")
    if kind not in set(InputKind) or not rest:
        raise InvalidInput(
            f"The input '{name}' does not say what it is.",
            hint="Put `dataset:`, `model:` or `file:` before it, such as `dataset:iris:2` or `file:sha256:…`.",
        )
    return InputKind(kind), rest


def seconds_left(done: float, left: float, took_s: float) -> float | None:
    """Return how long what is left takes at the pace of what is done; None while there is no pace to tell."""
    if left <= 0:
        return 0.0
    return left * took_s / done if done > 0 and took_s > 0 else None


def decode_output(raw: bytes, *, last: bool) -> tuple[str, int]:
    """Return the whole characters at the start of a piece of output, and how many bytes they took.

    A character that is cut off at the end is left for the next piece, unless this is the `last` one. What is no UTF-8, and
    NUL, which many programs cannot show, become U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(raw, final=last)
    return text.replace("\x00", "\ufffd"), len(raw) - len(decoder.getstate()[0])


def _given_way(seen: Observation, *, reported: bool) -> tuple[JobState, str | None]:
    """Tell what becomes of a job that was asked to give way: what it had done by then counts, however it ended."""
    if _succeeded(seen) and reported:
        return JobState.SUCCEEDED, None
    gone = seen.ended or seen.phase is Phase.ABSENT
    return (JobState.QUEUED if gone else JobState.PREEMPTING), None


def _succeeded(seen: Observation) -> bool:
    return seen.phase is Phase.EXITED and seen.exit_code == 0 and seen.reason is None


def _vanished(seen: Observation) -> tuple[JobState, str | None]:
    if seen.phase is Phase.ABSENT:
        return JobState.FAILED, "Its process is gone, and nothing is left of it."
    return JobState.RUNNING, None  # a backend may move it elsewhere and start it there


def _end(
    state: JobState, seen: Observation, *, reported: bool, failure: str | None, cancel_reason: str | None
) -> tuple[JobState, str | None]:
    succeeded = _succeeded(seen)
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


def environments(settings: Settings) -> dict[str, str]:
    """Return the variables that a process needs to be started in an environment of its own: where they are, and where
    packages come from."""
    index = {"MODELOPS_PACKAGE_INDEX": settings.package_index} if settings.package_index else {}
    return {"MODELOPS_ENVIRONMENTS": str(settings.home / "environments"), **index}


def given_devices(placement: Placement | None) -> dict[str, str]:
    """Return the variables that tell a job where it was admitted and which devices are its own."""
    if placement is None:
        return {}
    said = {"MODELOPS_QUEUE": placement.queue}
    if placement.pool is not None:
        said |= {"MODELOPS_POOL": placement.pool, "MODELOPS_GPU_SHARES": str(placement.gpu_count)}
    if placement.best_effort:
        said["MODELOPS_GPU_BEST_EFFORT"] = "1"
    if placement.devices:
        said["CUDA_VISIBLE_DEVICES"] = ",".join(placement.devices)
    return said
