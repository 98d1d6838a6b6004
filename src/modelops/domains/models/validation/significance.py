"""Whether two models differ by more than chance on the same rows.

| test | of | source |
|---|---|---|
| `mcnemar` | right or wrong, row by row | McNemar 1947, exact: binomial over the rows on which they differ |
| `bootstrap` | a score a row | Efron and Tibshirani 1993, percentiles of the mean difference; for paired systems, Koehn 2004 |
| `holm` | several tests at once | Holm 1979 |

Chances are one-sided: of a difference at least as bad for the candidate where there is none.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RESAMPLES = 2_000
_BOOTSTRAP_ROWS = 5_000
"""With more rows than this the mean's own normal distribution is taken: the two agree there, and it costs nothing."""


class Difference(NamedTuple):
    """Candidate less champion in mean score (higher is better), its 95% interval, and the one-sided chances."""

    mean: float
    low: float
    high: float
    p_worse: float
    p_better: float


def mcnemar(candidate: Array, champion: Array) -> Difference:
    """Compare two classifiers.

    Args:
        candidate: Which rows it has right, bool of shape (rows,).
        champion: The same.
    """
    from scipy.stats import binom

    gained, lost = int(np.sum(candidate & ~champion)), int(np.sum(~candidate & champion))
    differ = gained + lost
    p_worse = float(binom.cdf(gained, differ, 0.5)) if differ else 1.0
    p_better = float(binom.cdf(lost, differ, 0.5)) if differ else 1.0
    score = candidate.astype(np.float64) - champion.astype(np.float64)
    low, high = _normal_interval(score)
    return Difference(float(score.mean()), low, high, p_worse, p_better)


def bootstrap(candidate: Array, champion: Array, *, seed: int = 0) -> Difference:
    """Compare two models by a score a row, higher is better.

    Args:
        candidate: Its scores, float64 of shape (rows,).
        champion: The same.
        seed: Of the resampling.
    """
    score = candidate - champion
    if not score.any():
        return Difference(0.0, 0.0, 0.0, 1.0, 1.0)
    if len(score) > _BOOTSTRAP_ROWS:
        return _by_the_normal(score)
    luck = np.random.default_rng(seed)
    means = np.array([score[luck.integers(0, len(score), len(score))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    p_worse, p_better = ((1 + int(np.sum(side))) / (1 + RESAMPLES) for side in (means >= 0, means <= 0))
    return Difference(float(score.mean()), float(low), float(high), p_worse, p_better)


def slice_is_worse(inside: Array, outside: Array) -> float:
    """Return the chance that a slice's mean score is as low against the other rows' (Welch 1947)."""
    from scipy.stats import norm

    spread = np.sqrt(_variance(inside) / len(inside) + _variance(outside) / len(outside))
    difference = float(inside.mean() - outside.mean())
    if spread == 0:
        return 1.0 if difference >= 0 else 0.0
    return float(norm.cdf(difference / spread))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in the same order."""
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return [float(value) for value in corrected]


def _by_the_normal(score: Array) -> Difference:
    from scipy.stats import norm

    low, high = _normal_interval(score)
    place = float(score.mean()) / float(np.sqrt(_variance(score) / len(score)) or np.inf)
    return Difference(float(score.mean()), low, high, float(norm.cdf(place)), float(norm.sf(place)))


def _normal_interval(score: Array) -> tuple[float, float]:
    half = 1.959963984540054 * float(np.sqrt(_variance(score) / len(score)))
    return float(score.mean()) - half, float(score.mean()) + half


def _variance(values: Array) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
