"""Decisions about spaces, budgets and trials, without a database."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelops.contracts.errors import Conflict, InvalidInput, MLOpsError
from modelops.domains.experiments.analysis_schemas import Direction
from modelops.domains.experiments.rules import same_value
from modelops.domains.tuning.schemas import (
    Choice,
    Dimension,
    IntRange,
    PrunerName,
    SamplerName,
    StudyCreate,
    StudyState,
    TrialState,
)

FINAL = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)
"""The states of a trial that has ended."""

SILENCE = "Not heard of for"
"""How the reason begins for which a trial fails whose worker fell silent."""

_NEARLY, _ROUNDING, _ENDLESS = 1e-8, 1e-14, float("inf")
_LAST_SECOND = timedelta(seconds=1)


class StudyError(MLOpsError):
    """A study or trial is not in the state that the operation needs."""

    code, status, title = "tuning.error", 409, "The study refuses"


class TrialEnded(StudyError):
    """The trial has ended otherwise, and that stays."""

    code, title = "tuning.trial_ended", "The trial has ended"


class TrialLost(StudyError):
    """The trial is another worker's by now."""

    code, title = "tuning.trial_lost", "The trial is another worker's"
    default_hint = "Its lease ran out. Drop what you computed and ask for another trial."


class ParameterOutside(Conflict):
    """A parameter does not lie in the space."""

    code, status, title = "tuning.parameter_outside", 422, "A parameter lies outside of the space"


def check_study(new: StudyCreate) -> None:
    """Refuse a study that could not run.

    Raises:
        InvalidInput: names what is wrong.
    """
    if len({one.metric for one in new.objectives}) < len(new.objectives):
        raise InvalidInput("Two objectives name one metric.", hint="Name each metric once.")
    for name, dimension in (new.space or {}).items():
        check_dimension(name, dimension)
        _check_condition(name, dimension, new.space or {})
    many = len(new.objectives) > 1
    if many and new.pruner.name is not PrunerName.NONE:
        raise InvalidInput(
            "A study of several objectives prunes no trials: which is worse is not told by one value.",
            hint="Leave the pruner out, or take one objective.",
        )
    if many and (new.target is not None or new.patience is not None):
        raise InvalidInput("`target` and `patience` need one objective.", hint="Bound it by `max_trials` instead.")
    if many and new.sampler.name is SamplerName.CMAES:
        raise InvalidInput("CMA-ES has one objective.", hint="For several, take `tpe`, `gp`, `nsga2` or `nsga3`.")
    if new.sampler.name is SamplerName.GRID:
        if not new.space or any(dimension.when for dimension in new.space.values()):
            raise InvalidInput(
                "A grid needs a space that is told beforehand, without conditions.",
                hint="Name each parameter's values.",
            )
        if (size := grid_size(new.space)) is None or size > 1_000_000:
            raise InvalidInput(
                "The grid has no end, or more than a million points.",
                hint="Give each number a `step`, or take the sampler `qmc`, which covers a space evenly.",
            )


def check_dimension(name: str, dimension: Dimension) -> None:
    """Refuse a range that holds nothing.

    Raises:
        InvalidInput: says why.
    """
    if isinstance(dimension, Choice):
        if any(isinstance(one, float) and not math.isfinite(one) for one in dimension.choices):
            raise InvalidInput(f"The choices of '{name}' hold a number that is not finite.", hint="Leave it out.")
        if any(a == b for n, a in enumerate(dimension.choices) for b in dimension.choices[:n]):
            raise InvalidInput(
                f"A choice of '{name}' is named twice.", hint="Name each choice once; 1 and 1.0 are one."
            )
        return
    if dimension.low > dimension.high:
        raise InvalidInput(
            f"The range of '{name}' is empty: {dimension.low} is above {dimension.high}.",
            hint="Name the lower end first.",
        )
    if dimension.log and dimension.low <= 0:
        raise InvalidInput(
            f"The range of '{name}' begins at {dimension.low}, which has no logarithm.", hint="Begin above 0."
        )
    if dimension.log and dimension.step not in (None, 1):
        raise InvalidInput(f"'{name}' has a step and a logarithm.", hint="Take one of them.")
    if not math.isfinite(float(dimension.high) - float(dimension.low)):
        raise InvalidInput(f"The range of '{name}' is wider than a number can say.", hint="Take a narrower one.")


def _check_condition(name: str, dimension: Dimension, space: Mapping[str, Dimension]) -> None:
    before = list(space)[: list(space).index(name)]
    for parent, values in dimension.when.items():
        if parent not in before:
            raise InvalidInput(
                f"'{name}' depends on '{parent}', which does not stand before it.", hint=f"Name '{parent}' first."
            )
        for value in values:
            if not contains(space[parent], value):
                raise InvalidInput(
                    f"'{name}' depends on '{parent}' being {value!r}, which it never is.",
                    hint="Name one of its values.",
                )


def contains(dimension: Dimension, value: Any) -> bool:
    """Tell whether a value lies in a dimension."""
    if isinstance(dimension, Choice):
        return any(same_value(value, choice) for choice in dimension.choices)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _ENDLESS:
        return False
    margin = _ROUNDING * max(abs(dimension.low), abs(dimension.high))  # exp(log(x)) is x but for its last bits
    if not dimension.low - margin <= value <= dimension.high + margin:
        return False
    if isinstance(dimension, IntRange):
        return float(value).is_integer() and (int(value) - dimension.low) % dimension.step == 0
    if dimension.step is None:
        return True
    steps = (value - dimension.low) / dimension.step
    return abs(steps - round(steps)) < max(_NEARLY * max(1.0, abs(steps)), margin / dimension.step)


def is_active(dimension: Dimension, parameters: Mapping[str, Any]) -> bool:
    """Tell whether a dimension's condition holds among the parameters chosen before it."""
    return all(
        parent in parameters and any(same_value(parameters[parent], value) for value in values)
        for parent, values in dimension.when.items()
    )


def check_parameters(space: Mapping[str, Dimension], parameters: Mapping[str, Any], *, whole: bool) -> None:
    """Refuse parameters that do not lie in the space.

    Args:
        space: Where they must lie.
        parameters: Their values.
        whole: Every parameter whose condition holds must be there, and no other.

    Raises:
        ParameterOutside: names the first that does not.
    """
    for name, value in parameters.items():
        if name not in space:
            raise ParameterOutside(f"The space has no parameter '{name[:60]}'.", hint=f"It has: {', '.join(space)}.")
        if not contains(space[name], value):
            raise ParameterOutside(f"{value!r} lies outside of the range of '{name}'.")
    if not whole:
        return
    for name, dimension in space.items():
        if is_active(dimension, parameters) != (name in parameters):
            problem = "is missing" if name not in parameters else "is there, though its condition does not hold"
            raise ParameterOutside(f"The parameter '{name}' {problem}.")


def grid_of(dimension: Dimension) -> list[Any] | None:
    """Return every value of a dimension; None where there is no end."""
    if isinstance(dimension, Choice):
        return list(dimension.choices)
    if isinstance(dimension, IntRange):
        count = (dimension.high - dimension.low) // dimension.step + 1
        return None if count > 1_000_000 else list(range(dimension.low, dimension.high + 1, dimension.step))
    if dimension.step is None:
        return [dimension.low] if dimension.low == dimension.high else None
    count = math.floor((dimension.high - dimension.low) / dimension.step + _NEARLY) + 1
    return (
        None if count > 1_000_000 else [min(dimension.low + n * dimension.step, dimension.high) for n in range(count)]
    )


def grid_size(space: Mapping[str, Dimension]) -> int | None:
    """Return of how many points a grid is; None where there is no end."""
    size = 1
    for dimension in space.values():
        values = grid_of(dimension)
        if values is None:
            return None
        size *= len(values)
    return size


def is_better(value: float, best: float | None, direction: Direction) -> bool:
    """Tell whether a value is better than the best so far."""
    if best is None:
        return True
    return value > best if direction is Direction.MAX else value < best


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study has come, and its bounds."""

    state: StudyState
    reason: str | None
    trials: int
    completed: int
    failed: int
    best_value: float | None
    best_at: int
    direction: Direction
    started_at: datetime | None
    max_trials: int | None
    max_seconds: float | None
    target: float | None
    patience: int | None
    max_failures: int | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Why no new trials are made. A hard one keeps those that wait from being run, too."""

    reason: str
    hard: bool


def why_stopped(study: Progress, now: datetime) -> Stop | None:
    """Return why a study makes no new trials; None while it does."""
    if study.state is StudyState.STOPPED:
        return Stop(study.reason or "The study is stopped.", hard=True)
    if study.max_failures is not None and study.failed >= study.max_failures:
        return Stop(f"{study.failed} trials failed, and {study.max_failures} are the limit.", hard=True)
    if study.target is not None and study.best_value is not None:
        reached = study.best_value == study.target or is_better(study.best_value, study.target, study.direction)
        if reached:
            return Stop(f"The target {study.target:g} is reached.", hard=True)
    if study.patience is not None and study.completed - study.best_at >= study.patience:
        return Stop(f"{study.patience} trials brought nothing better.", hard=True)
    begun, most = study.started_at, study.max_seconds
    if begun is not None and most is not None and now >= begun + timedelta(seconds=most):
        return Stop(f"Its time of {most:g} s is over.", hard=True)
    if study.max_trials is not None and study.trials >= study.max_trials:
        return Stop(f"The budget of {study.max_trials} trials is spent.", hard=False)
    return None


def block_size(study: Progress, wanted: int, live: int, now: datetime) -> int:
    """Return how many trials may be given out at once so that no bound is overrun before their ends are told.

    Args:
        study: How far it has come.
        wanted: How many are asked for.
        live: How many are under way.
        now: The moment.
    """
    begun, most = study.started_at, study.max_seconds
    if begun is not None and most is not None and now + _LAST_SECOND >= begun + timedelta(seconds=most):
        return 0
    left = [wanted]
    if study.max_trials is not None:
        left.append(study.max_trials - study.trials)
    if study.patience is not None:
        left.append(study.patience - (study.completed - study.best_at) - live)
    if study.max_failures is not None:
        left.append(study.max_failures - study.failed - live)
    return max(0, min(left))


def silence(lease_s: float) -> str:
    """Return the reason for which a trial fails whose worker fell silent once too often."""
    return f"{SILENCE} {lease_s:g} s: its worker has gone."


def check_result(state: TrialState, values: Sequence[float] | None, reason: str | None, objectives: int) -> None:
    """Refuse an end that does not fit the study.

    Raises:
        InvalidInput: says what is missing or too much.
    """
    if state is TrialState.RUNNING:
        raise InvalidInput("A trial is told when it ends.", hint="While it runs, report intermediate values.")
    if state is TrialState.COMPLETE:
        if values is None or len(values) != objectives:
            raise InvalidInput(f"A completed trial has {objectives} values, one an objective.")
        if any(math.isnan(value) for value in values):
            raise InvalidInput("NaN is no value of an objective.", hint="Tell the trial as failed, or as pruned.")
    elif values is not None:
        raise InvalidInput("Only a completed trial has values.")
    if reason is not None and state not in (TrialState.FAILED, TrialState.PRUNED):
        raise InvalidInput("A reason tells why a trial failed or was pruned.")


def check_merge(known: Mapping[str, Any], added: Mapping[str, Any]) -> None:
    """Refuse parameters that would change what was tried.

    Raises:
        StudyError: names one.
    """
    for name, value in added.items():
        if name in known and not same_value(known[name], value):
            raise StudyError(f"The parameter '{name[:60]}' of the trial is {known[name]!r}, and stays it.")
