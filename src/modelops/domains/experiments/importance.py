"""Which parameters a metric depends on.

With thirty runs or more and scikit-learn installed: a random forest learns the metric's ranks from the parameters, and the
importance of a parameter is what the forest loses, on runs it has not seen, when that parameter's values are shuffled among
them (L. Breiman, "Random Forests", Machine Learning 45, 2001). Half of the loss relative to the variance is, for a forest
that predicts well and independent parameters, the share of the variance that goes through the parameter, alone and with
others (B. Gregorutti, B. Michel, P. Saint-Pierre, "Correlation and variable importance in random forests", Statistics and
Computing 27, 2017). The intervals are over the folds, widened as for resampled folds (see `paired`).

Otherwise each parameter is taken by itself: the rank correlation of a number (C. Spearman, 1904), and for a category the
share of the ranks' variance between its values, less what chance alone gives (T. Kelley's epsilon squared, 1935), as a root,
so that both read alike. Intervals are of the bootstrap, p-values of permutations, corrected for their number as Holm does.

Ranks instead of values, since one run that diverged must not decide what mattered.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from modelops.domains.experiments.analysis_rules import as_number
from modelops.domains.experiments.analysis_schemas import ImportanceOf, ParameterImportance
from modelops.domains.experiments.paired import holm
from modelops.domains.experiments.rules import name_some

Array = NDArray[np.float64]

LEAST_RUNS = 8
FOREST_RUNS = 30
_MOST_COLUMNS = 64
_MOST_CATEGORIES = 30
_FOLDS, _REPEATS, _SHUFFLES, _TREES = 5, 2, 5, 100
_LARGE, _FEW_TREES = 10_000, 30  # a request may take seconds, not a minute
_RESAMPLES = 999


def rank_parameters(
    metric: str, parameters: Sequence[Mapping[str, Any]], values: Sequence[float | None]
) -> ParameterImportance:
    """Rank parameters by how much a metric depends on them, or say why that cannot be told.

    Args:
        parameters: Each run's parameters.
        values: Each run's value of the metric; None, NaN and infinities leave the run out.
    """
    kept = [place for place, value in enumerate(values) if value is not None and np.isfinite(value)]
    if len(kept) < LEAST_RUNS:
        return _refused(
            metric, len(kept), f"{len(kept)} runs have '{metric}' as a number; below {LEAST_RUNS} chance rules."
        )
    ranks = stats.rankdata([values[place] for place in kept])
    if np.ptp(ranks) == 0:
        return _refused(metric, len(kept), f"'{metric}' is the same in every run, so nothing mattered to it.")
    columns, unusable = _columns([parameters[place] for place in kept])
    left_out = f" Left out, since nearly every run has its own value: {name_some(unusable)}." if unusable else ""
    if not columns:
        return _refused(metric, len(kept), f"No parameter differs between the runs in a way that repeats.{left_out}")
    if len(kept) < FOREST_RUNS:
        return _by_ranks(metric, columns, ranks, f"from {FOREST_RUNS} runs on, a forest sees it.{left_out}")
    if len(columns) > _MOST_COLUMNS:
        return _by_ranks(metric, columns, ranks, f"for a forest, too many differ.{left_out}")
    forest = _forest()
    if forest is None:
        return _by_ranks(metric, columns, ranks, f"a forest would, with scikit-learn beside the platform.{left_out}")
    return _by_forest(metric, columns, ranks, forest, left_out)


class _Column:
    """A parameter over the runs: numbers with gaps, or categories."""

    def __init__(self, name: str, values: list[Any]) -> None:
        self.name = name
        numbers = [None if value is None else as_number(value) for value in values]
        told = [number for number, value in zip(numbers, values, strict=True) if value is not None]
        # One number and gaps are a category: what matters is whether it is there.
        self.is_number = None not in told and len(set(told)) > 1
        if self.is_number:
            self.codes = np.array([np.nan if number is None else number for number in numbers])
        else:
            texts = ["" if value is None else json.dumps(value, sort_keys=True) for value in values]
            self.codes = np.unique(texts, return_inverse=True)[1].astype(float)
        self.distinct = len(np.unique(self.codes))

    @property
    def varies(self) -> bool:
        return self.distinct > 1

    @property
    def repeats(self) -> bool:
        return self.is_number or self.distinct <= min(_MOST_CATEGORIES, len(self.codes) // 2)

    def strength(self, weights: Array, apart: Array) -> Array:
        """Return the association with a metric's ranks, less their mean, in weighted runs, shape (draws,).

        Args:
            weights: How often each run counts, shape (draws, runs); each row sums to the number of runs.
        """
        runs = len(apart)
        mean = weights @ apart / runs
        whole = weights @ apart**2 - runs * mean**2
        if self.is_number:
            codes = self._centred_ranks()
            middle = weights @ codes / runs
            spread = weights @ codes**2 - runs * middle**2
            return _share(weights @ (codes * apart) - runs * middle * mean, np.sqrt(np.maximum(spread * whole, 0)))
        inside = self.features()
        counts, sums = weights @ inside, weights @ (inside * apart[:, None])
        between = _share(sums**2, counts).sum(axis=1) - runs * mean**2
        return _unbiased(_share(between, whole), (counts > 0).sum(axis=1), runs)

    def strength_by_chance(self, shuffled: Array) -> Array:
        """Return the association with each row of shuffled ranks, shape (rows,)."""
        whole = (shuffled**2).sum(axis=1)
        if self.is_number:
            codes = self._centred_ranks()
            return _share(shuffled @ codes, np.sqrt(whole * (codes**2).sum()))
        inside = self.features()
        between = ((shuffled @ inside) ** 2 / inside.sum(axis=0)).sum(axis=1)
        return _unbiased(_share(between, whole), np.full(len(whole), inside.shape[1]), shuffled.shape[1])

    def _centred_ranks(self) -> Array:
        """Return the numbers' ranks less their mean; a gap stands in the middle, where it pulls nowhere."""
        known = ~np.isnan(self.codes)
        ranks = np.zeros(len(self.codes))
        ranks[known] = stats.rankdata(self.codes[known])
        ranks[known] -= ranks[known].mean()
        return ranks

    def features(self) -> Array:
        """Return the column as the forest takes it, shape (runs, features): gaps and categories get columns of their own."""
        if not self.is_number:
            return np.asarray(self.codes[:, None] == np.unique(self.codes), dtype=float)
        gaps = np.isnan(self.codes)
        filled = np.where(gaps, np.nanmedian(self.codes), self.codes)
        return np.column_stack([filled, gaps]) if gaps.any() else filled[:, None]


def _columns(parameters: list[Mapping[str, Any]]) -> tuple[list[_Column], list[str]]:
    names = sorted({name for found in parameters for name in found})
    columns = [_Column(name, [found.get(name) for found in parameters]) for name in names]
    varying = [column for column in columns if column.varies]
    return [one for one in varying if one.repeats], [one.name for one in varying if not one.repeats]


def _forest() -> Any:
    try:
        return importlib.import_module("sklearn.ensemble").RandomForestRegressor
    except ImportError:
        return None


def _by_forest(metric: str, columns: list[_Column], ranks: Array, forest: Any, left_out: str) -> ParameterImportance:
    blocks = [column.features() for column in columns]
    ends = np.cumsum([block.shape[1] for block in blocks])
    inputs, random = np.column_stack(blocks), np.random.default_rng(0)
    trees = _TREES if inputs.size <= _LARGE else _FEW_TREES
    losses, error, spread = [], 0.0, 0.0
    for _ in range(_REPEATS):
        for test in np.array_split(random.permutation(len(ranks)), _FOLDS):
            train = np.setdiff1d(np.arange(len(ranks)), test)
            model = forest(n_estimators=trees, min_samples_leaf=2, random_state=0, n_jobs=1).fit(
                inputs[train], ranks[train]
            )
            missed = float(np.mean((model.predict(inputs[test]) - ranks[test]) ** 2))
            error += missed * len(test)
            spread += float(np.sum((ranks[test] - ranks[train].mean()) ** 2))
            losses.append(
                [_loss(model, inputs[test], ranks[test], missed, ends, n, random) for n in range(len(blocks))]
            )
    explained = 1 - error / spread
    method = f"permutation importance of a random forest, {_REPEATS} x {_FOLDS} folds"
    if explained <= 0:
        message = (
            f"A random forest predicts '{metric}' no better than its mean, so it cannot tell what matters.{left_out}"
        )
        return _refused(metric, len(ranks), message, method, explained)
    shares = np.array(losses) / (2 * ranks.var())
    means = shares.mean(axis=0)
    errors = np.sqrt((1 / len(shares) + 1 / (_FOLDS - 1)) * shares.var(axis=0, ddof=1))
    within = stats.t.ppf(0.975, len(shares) - 1) * errors
    found = [
        ImportanceOf(
            parameter=column.name,
            importance=float(means[n]),
            lower=float(means[n] - within[n]),
            upper=float(means[n] + within[n]),
            p_value=None,
        )
        for n, column in enumerate(columns)
    ]
    message = f"The forest predicts {explained:.0%} of the variance of the ranks of '{metric}' in runs it has not seen.{left_out}"
    return _told(metric, method, len(ranks), explained, found, message)


def _loss(
    model: Any, inputs: Array, ranks: Array, missed: float, ends: NDArray[np.int64], column: int, random: Any
) -> float:
    """Return by how much the mean squared error grows when a parameter is shuffled among the runs of a fold."""
    begin, end = int(ends[column - 1]) if column else 0, int(ends[column])
    shuffled = np.tile(inputs, (_SHUFFLES, 1))
    order = np.concatenate([random.permutation(len(inputs)) for _ in range(_SHUFFLES)])
    shuffled[:, begin:end] = inputs[order, begin:end]
    return float(np.mean((model.predict(shuffled) - np.tile(ranks, _SHUFFLES)) ** 2)) - missed


def _by_ranks(metric: str, columns: list[_Column], ranks: Array, rest: str) -> ParameterImportance:
    random = np.random.default_rng(0)
    apart = ranks - ranks.mean()
    shuffled = apart[np.argsort(random.random((_RESAMPLES, len(apart))), axis=1)]
    draws = random.multinomial(len(apart), np.full(len(apart), 1 / len(apart)), _RESAMPLES).astype(float)
    strengths = [float(column.strength(np.ones((1, len(apart))), apart)[0]) for column in columns]
    strongest = sorted(range(len(columns)), key=lambda n: -abs(strengths[n]))[:_MOST_COLUMNS]
    p_values = np.ones(len(columns))  # those that are not told count for the correction all the same
    for n in strongest:
        by_chance = np.abs(columns[n].strength_by_chance(shuffled))
        p_values[n] = (1 + int(np.sum(by_chance >= abs(strengths[n]) - 1e-12))) / (1 + _RESAMPLES)
    corrected = holm(p_values.tolist())
    found = []
    for n in strongest:
        lower, upper = _interval(strengths[n], columns[n].strength(draws, apart))
        found.append(
            ImportanceOf(
                parameter=columns[n].name,
                importance=abs(strengths[n]),
                lower=lower,
                upper=upper,
                p_value=corrected[n],
            )
        )
    weak = f" Of {len(columns)}, the {len(found)} strongest are told." if len(found) < len(columns) else ""
    message = f"Each parameter by itself, over {len(ranks)} runs: what parameters do together is not seen; {rest}{weak}"
    return _told(metric, "rank correlation", len(ranks), None, found, message)


def _interval(strength: float, resampled: Array) -> tuple[float, float]:
    """Return the interval of a strength without its sign: from 0, where it may have either."""
    low, high = (float(bound) for bound in np.quantile(resampled, [0.025, 0.975]))
    ends = (0.0, max(-low, high)) if low <= 0 <= high else sorted((abs(low), abs(high)))
    return min(ends[0], abs(strength)), max(ends[1], abs(strength))


def _share(part: Array, whole: Array) -> Array:
    """Divide, with 0 where there is nothing to divide by."""
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 1e-9))


def _unbiased(share: Array, groups: NDArray[Any], runs: int) -> Array:
    """Return the root of a share of variance between groups, less what chance alone gives: epsilon squared."""
    free = np.maximum(runs - groups, 1)
    return np.asarray(np.sqrt(np.clip(share - (groups - 1) / free * (1 - share), 0, 1)))


def _told(
    metric: str, method: str, runs: int, explained: float | None, found: list[ImportanceOf], message: str
) -> ParameterImportance:
    ordered = sorted(found, key=lambda one: (-one.importance, one.parameter))
    return ParameterImportance(
        metric=metric, method=method, runs=runs, explained=explained, parameters=ordered, message=message
    )


def _refused(
    metric: str, runs: int, message: str, method: str | None = None, explained: float | None = None
) -> ParameterImportance:
    return ParameterImportance(
        metric=metric, method=method, runs=runs, explained=explained, parameters=[], message=message
    )
