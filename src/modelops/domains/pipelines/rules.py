"""Decisions about runs and steps, without a database."""

import random
from collections.abc import Mapping

from modelops.contracts.errors import MLOpsError, PermissionDenied
from modelops.domains.pipelines.document import Retries, StepResources, StepSpec, ValueType
from modelops.domains.pipelines.schemas import RunState, StepState, ValueRef

MOST_LOST = 10
"""So many workers may vanish under a step; then it is taken for what makes them vanish."""

FREE_KILLS = 2
"""So many times a step whose process is killed is tried again as if its worker had vanished; then that is the step's failure: it
may be what has the system kill it."""

MOST_DECIDING_BYTES = 16 * 1024**2
"""The size of a JSON output that a condition or a list depends on, at most."""

_MEMBERS = 1_000_000


class PipelineError(MLOpsError):
    """A pipeline, run or step is not in the state that the operation needs."""

    code, status, title = "pipelines.error", 409, "The pipeline refuses"


class RunEnded(PipelineError):
    """The run has ended, and how it ended stays."""

    code, title = "pipelines.run_ended", "The run has ended"


class RunOpen(PipelineError):
    """The run is under way still."""

    code, title = "pipelines.run_open", "The run has not ended"


class NothingAwaited(PipelineError):
    """The step waits for nobody's answer."""

    code, title = "pipelines.nothing_awaited", "Nobody's answer is awaited"


class OwnApproval(PermissionDenied):
    """Whoever started a run does not approve it too."""

    code, title = "pipelines.own_approval", "Another must approve"
    default_hint = "Ask another member with the permission 'pipelines.approve'; rejecting it yourself is possible."


def kind_of(spec: StepSpec) -> str:
    """Return what carries a step out."""
    if spec.job is not None:
        return "job"
    if spec.approval is not None:
        return "approval"
    return "notify" if spec.notify is not None else "function"


def queue_of(resources: StepResources) -> str:
    """Return which workers may take a step: those that were started with its resources."""
    if resources == StepResources():
        return ""
    return f"{resources.cpus or 'any'} cpus, {resources.memory_mb or 'any'} MiB, {resources.pool or 'default'}"


def place_of(order: int, index: int | None) -> int:
    """Return where a step stands in its run: by the document's order, members by their index behind their step."""
    return order * _MEMBERS + (0 if index is None else index + 1)


def wait_before(retries: Retries, failures: int, chance: float | None = None) -> float:
    """Return after how many seconds a step is tried again that failed so often (1 or more times).

    It is the document's wait, spread over three quarters to five quarters of it so that members of a fan-out that failed
    together do not come back together; never more than `most_s`.
    """
    spread = 0.75 + 0.5 * (random.random() if chance is None else chance)  # noqa: S311 - a delay, no secret
    try:
        wait = retries.wait_s * retries.factor ** (failures - 1)
    except OverflowError:
        wait = retries.most_s
    return min(wait * spread, retries.most_s)


def problem_of(outputs: Mapping[str, ValueRef], declared: Mapping[str, ValueType]) -> str | None:
    """Return what is wrong with what a step gave, or None."""
    missing = [name for name in declared if name not in outputs]
    if missing:
        return f"It gave no output '{missing[0]}'."
    unknown = [name for name in outputs if name not in declared]
    if unknown:
        return f"It gave an output '{unknown[0]}', which its pipeline does not declare."
    for name, kind in declared.items():
        given = outputs[name]
        if given.type is not kind:
            return f"Its output '{name}' is {given.type}, and declared is {kind}."
        if (given.model_version_id is None) if kind is ValueType.MODEL else (given.digest is None):
            return f"Its output '{name}' does not say where it lies."
    return None


def check_open(state: RunState) -> None:
    """Refuse what only a run under way takes.

    Raises:
        RunEnded: it has ended.
    """
    if state.final:
        raise RunEnded(f"The run has {state} already.", hint="Run it again: mops pipelines rerun RUN.")


def after_failure(*, hopeless: bool, failures: int, retries: Retries, canceling: bool) -> StepState:
    """Return what a step is after an attempt that failed, the one counted in `failures`."""
    if canceling:
        return StepState.CANCELED
    return StepState.RETRYING if not hopeless and failures <= retries.attempts else StepState.FAILED
