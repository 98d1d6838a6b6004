"""Decisions about runs, without a database."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from modelops.contracts.errors import Conflict, ExperimentError, InvalidInput
from modelops.domains.experiments.schemas import RunStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_SILENCE = "Not heard of for"

LIVE = (RunStatus.SCHEDULED, RunStatus.RUNNING)
"""The states of a run that has not ended."""


class RunEnded(ExperimentError):
    """The run has ended: nothing more is recorded on it."""

    code, title = "experiments.run_ended", "The run has ended"


class RunDeleted(ExperimentError):
    """The run is deleted: nothing is recorded on it until it is restored."""

    code, title = "experiments.run_deleted", "The run is deleted"


class ParameterChanged(Conflict):
    """A parameter was recorded with another value before."""

    code, title = "experiments.parameter_changed", "A parameter has another value"


def silence(seconds: float) -> str:
    """Return the reason for which a run fails that nobody was heard of for so long."""
    return f"{_SILENCE} {seconds:g} s: the trainer has gone."


def check_transition(run: str, present: RunStatus, wanted: RunStatus, reason: str | None = None) -> bool:
    """Tell whether moving a run to a status changes it.

    A run that failed for silence alone, as its `reason` tells, goes on or ends as its maker says, who is heard again.

    Raises:
        RunEnded: it has ended otherwise; how a run ended never changes.
    """
    if present is RunStatus.FAILED and (reason or "").startswith(_SILENCE):
        return True
    if present is wanted:
        return False
    if present not in LIVE:
        raise RunEnded(f"The run '{run}' has ended as {present}, and that stays.", hint="Start another run.")
    return True


def check_reason(status: RunStatus | None, reason: str | None) -> None:
    """Refuse a reason that would be kept nowhere: it tells why a run ended, so it comes with a final status.

    Raises:
        InvalidInput: it comes alone, or with `running`.
    """
    if reason is not None and (status is None or status in LIVE):
        raise InvalidInput(
            "A reason tells why a run ended, and this request does not end it.",
            hint="Send `status` too: finished, failed or canceled.",
        )


def check_parameters(present: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse parameters that are recorded with other values.

    Raises:
        ParameterChanged: names them.
    """
    changed = [key for key, value in present.items() if key in wanted and not same_value(value, wanted[key])]
    if changed:
        raise ParameterChanged(
            f"The parameters {name_some(changed)} have other values in this run.",
            hint="A parameter is recorded once; record what changes as a metric or a tag.",
            extra={"parameters": {key: {"present": present[key], "wanted": wanted[key]} for key in changed}},
        )


def same_value(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are one: `1` and `1.0` are, `1` and `true` are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    return bool(type(one) is type(other) and one == other)


def split_value(value: float) -> tuple[float, bool]:
    """Return the number to store, and whether it stands for NaN, for which SQLite has no number.

    What is latest is decided by step, time and these two, in the database as here, so that it never depends on the order
    of arrival: at one step and time, -Infinity comes first, then NaN, then the other numbers as they grow.
    """
    return (-math.inf, True) if math.isnan(value) else (value + 0.0, False)  # -0.0 and 0.0 are one value


def join_value(stored: float, is_nan: bool) -> float:
    """Reverse `split_value`."""
    return math.nan if is_nan else stored


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970 in UTC, exactly; floats would round beyond the year 2255."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(time_us: int) -> datetime:
    """Reverse `to_microseconds`."""
    return _EPOCH + time_us * _MICROSECOND


def name_some(keys: Iterable[str], limit: int = 5) -> str:
    """Name some keys for an error message."""
    found = sorted(keys)
    return ", ".join(f"'{key}'" for key in found[:limit]) + (" …" if len(found) > limit else "")
