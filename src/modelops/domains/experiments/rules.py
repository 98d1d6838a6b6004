"""Decisions about runs, without a database."""

import math
from collections.abc import Iterable

from modelops.contracts.errors import ExperimentError
from modelops.domains.experiments.schemas import RunStatus


class RunEnded(ExperimentError):
    """The run has ended: nothing more is recorded on it."""

    code, title = "experiments.run_ended", "The run has ended"


def check_transition(run: str, present: RunStatus, wanted: RunStatus) -> bool:
    """Tell whether moving a run to a status changes it.

    Raises:
        RunEnded: it has ended otherwise; how a run ended never changes.
    """
    if present is wanted:
        return False
    if present is not RunStatus.RUNNING:
        raise RunEnded(f"The run '{run}' has ended as {present}, and that stays.", hint="Start another run.")
    return True


def comes_after(step: int, time_us: int, value_order: float, than: tuple[int, int, float]) -> bool:
    """Tell whether a point is later than another: by step, then time, then value, so that any order of arrival agrees."""
    return (step, time_us, value_order) > than


def value_order(value: float) -> float:
    """Return what ties between equal steps and times are broken by: the value, NaN first of all."""
    return -math.inf if math.isnan(value) else value


def split_value(value: float) -> tuple[float, bool]:
    """Return the number to store and whether it stands for NaN, for which SQLite has no number."""
    return (0.0, True) if math.isnan(value) else (value, False)


def join_value(stored: float, is_nan: bool) -> float:
    """Reverse `split_value`."""
    return math.nan if is_nan else stored


def name_some(keys: Iterable[str], limit: int = 5) -> str:
    """Name some keys for an error message."""
    found = sorted(keys)
    return ", ".join(f"'{key}'" for key in found[:limit]) + (" …" if len(found) > limit else "")
