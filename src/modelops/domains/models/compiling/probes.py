"""Rows that a compiled model is held to: as in the training data, near them, far from them, and where trees decide."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from modelops.domains.models.compiling.forests import Forest
from modelops.domains.models.compiling.linear import Scaling
from modelops.domains.models.compiling.plans import Plan

SAMPLE, MISSING = "the sample", "missing values"
_SEED = 20_250_901
_ROUNDS = 4
_GREATEST = 1e38


def probes(plan: Plan, sample: Any, optional: list[int], *, ties: int) -> Iterator[tuple[str, Any]]:
    """Give groups of rows by name, each float64 of shape (rows, features). The same model gets the same rows.

    Args:
        sample: Rows of training data, shape (rows, features); None where there are none.
        optional: The columns that may be missing.
        ties: At how many thresholds at most.
    """
    chance = np.random.default_rng(_SEED)
    rows = sample if sample is not None and len(sample) else _made_up(plan, chance)
    if sample is not None and len(sample):
        yield SAMPLE, rows
    yield "rows with values of others", _mixed(rows, chance)
    spread = np.nan_to_num(np.nanstd(np.where(np.isinf(rows), np.nan, rows), axis=0), nan=1.0) + 1e-9
    near = np.concatenate([rows + chance.normal(size=rows.shape) * spread * width for width in (1e-6, 0.1, 1.0)])
    yield "perturbed rows", near
    yield "rows far outside", np.concatenate([rows * 1e3, -rows, np.zeros_like(rows[:1]), rows[:1] + 1e6])
    if plan.forest is not None and plan.scaling is not None:
        yield "rows at the trees' thresholds", _ties(plan.forest, plan.scaling, rows, chance, ties)
    if optional:
        yield MISSING, _with_missing(rows, optional, chance)


def _made_up(plan: Plan, chance: np.random.Generator) -> Any:
    rows = chance.normal(size=(64, plan.features)) * chance.choice([0.1, 1.0, 10.0, 100.0], size=(64, 1))
    if plan.forest is None or plan.before is not None:
        return rows
    usual = np.abs(plan.forest.threshold) < _GREATEST
    for column in range(plan.features):
        limits = plan.forest.threshold[usual & (plan.forest.feature == column)]
        if len(limits):
            low, high = limits.min(), limits.max()
            rows[:, column] = chance.uniform(low - 0.1 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3, 64)
    return rows


def _mixed(rows: Any, chance: np.random.Generator) -> Any:
    return np.column_stack([chance.permutation(column) for column in rows.T])


def _ties(forest: Forest, scaling: Scaling, rows: Any, chance: np.random.Generator, most: int) -> Any:
    """Put a column of each row on a threshold, and on the numbers next to it in float64 and in float32.

    Behind a scaling, on what comes to lie there as nearly as can be, and on the numbers next to that.
    """
    inner = np.flatnonzero(forest.feature >= 0)
    if not len(inner):
        return rows[:1]
    inner = inner if len(inner) <= most else chance.choice(inner, size=most, replace=False)
    columns, width = forest.feature[inner], rows.shape[1]
    zero, one = scaling(np.zeros((1, width)))[0, columns], scaling(np.ones((1, width)))[0, columns]
    infinite = np.float32(np.inf)
    with np.errstate(all="ignore"):
        limits = (forest.threshold[inner] - zero) / (one - zero)
        short = limits.astype(np.float32)
        values = (
            limits,
            np.nextafter(limits, np.inf),
            np.nextafter(limits, -np.inf),
            short.astype(np.float64),
            np.nextafter(short, infinite).astype(np.float64),
            np.nextafter(short, -infinite).astype(np.float64),
        )
    parts = []
    for value in values:
        part = rows[chance.integers(len(rows), size=len(inner))].copy()
        part[np.arange(len(inner)), columns] = value
        # Greater numbers scikit-learn's trees refuse; a split that only tells what is missing has such a threshold.
        parts.append(part[np.abs(value) < _GREATEST])
    return np.concatenate(parts)


def _with_missing(rows: Any, optional: list[int], chance: np.random.Generator) -> Any:
    one_each = rows[chance.integers(len(rows), size=len(optional))].copy()
    one_each[np.arange(len(optional)), optional] = np.nan
    some = np.concatenate([rows] * _ROUNDS)
    hidden = chance.random((len(some), len(optional))) < 0.3
    part = some[:, optional]
    part[hidden] = np.nan
    some[:, optional] = part
    nothing = rows[:1].copy()
    nothing[:, optional] = np.nan
    return np.concatenate([one_each, some, nothing])
