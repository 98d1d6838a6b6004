"""Paired tests of two runs that were measured on the same folds.

The folds of a resampling share training rows, so a plain paired t-test finds differences that are not there. The corrected
resampled t-test of C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning 52 (2003), widens the
variance by the ratio of tested to trained rows. F. Wilcoxon's signed-rank test (1945) stands beside it: it asks for no normal
differences, but knows no such correction, so it is the more easily impressed of the two. Several runs tested against one
baseline are corrected as S. Holm describes ("A Simple Sequentially Rejective Multiple Test Procedure", 1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEAST_FOLDS = 3
"""Below, a variance of differences means nothing."""

LEAST_FOLDS_RANKED = 6
"""Below, the signed-rank test cannot reach 0.05 whatever the values are."""


@dataclass(frozen=True)
class Paired:
    """A mean difference with its 95 % interval and p-values of no difference."""

    difference: float
    lower: float
    upper: float
    p_value: float
    wilcoxon: float | None


def compare_paired(values: NDArray[np.float64], baseline: NDArray[np.float64], tested: float) -> Paired:
    """Test values against a baseline's on the same folds.

    Args:
        values: Shape (folds,), finite.
        baseline: Shape (folds,), finite, in the order of `values`.
        tested: The share of the rows that each fold tests, in (0, 1).

    Raises:
        ValueError: there are fewer than `LEAST_FOLDS` folds.
    """
    apart = values - baseline
    grain = 1e-12 * max(np.abs(values).max(initial=0), np.abs(baseline).max(initial=0))
    apart = np.round(apart / grain) * grain if grain else apart  # so that 0.9 - 0.8 and 0.8 - 0.7 are a tie
    folds = len(apart)
    if folds < LEAST_FOLDS:
        raise ValueError("too few folds")
    mean = float(apart.mean())
    error = float(np.sqrt((1 / folds + tested / (1 - tested)) * apart.var(ddof=1)))
    if np.ptp(apart) == 0:  # the same everywhere: either no difference, or one without any doubt
        return Paired(mean, mean, mean, 1.0 if mean == 0 else 0.0, _signed_rank(apart))
    within = float(stats.t.ppf(0.975, folds - 1)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, folds - 1))
    return Paired(mean, mean - within, mean + within, p_value, _signed_rank(apart))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in the order given."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    stepped = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors))
    corrected = np.empty(len(p_values))
    corrected[order] = stepped
    return [float(value) for value in corrected]


def _signed_rank(apart: NDArray[np.float64]) -> float | None:
    moved = apart[apart != 0]  # as Wilcoxon does: a fold without a difference tells nothing
    if len(moved) < LEAST_FOLDS_RANKED:
        return None
    tied = len(np.unique(np.abs(moved))) < len(moved)
    exact = not tied and len(moved) <= 50
    return float(stats.wilcoxon(moved, method="exact" if exact else "asymptotic").pvalue)
