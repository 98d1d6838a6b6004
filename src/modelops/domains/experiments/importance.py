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
    forest = _forest()
    if forest is not None and len(kept) >= FOREST_RUNS and len(columns) <= _MOST_COLUMNS:
        return _by_forest(metric, columns, ranks, forest, left_out)
    return _by_ranks(metric, columns, ranks, left_out)


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
    losses, error, spread = [], 0.0, 0.0
    for _ in range(_REPEATS):
        for test in np.array_split(random.permutation(len(ranks)), _FOLDS):
            train = np.setdiff1d(np.arange(len(ranks)), test)
            model = forest(n_estimators=_TREES, min_samples_leaf=2, random_state=0, n_jobs=1).fit(
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


def _by_ranks(metric: str, columns: list[_Column], ranks: Array, left_out: str) -> ParameterImportance:
    random = np.random.default_rng(0)
    shuffles = np.argsort(random.random((_RESAMPLES, len(ranks))), axis=1)
    draws = random.integers(0, len(ranks), (_RESAMPLES, len(ranks)))
    measured = [_association(column, ranks, shuffles, draws) for column in columns]
    corrected = holm([p_value for _, _, _, p_value in measured])
    found = [
        ImportanceOf(parameter=column.name, importance=strength, lower=lower, upper=upper, p_value=p_value)
        for column, (strength, lower, upper, _), p_value in zip(columns, measured, corrected, strict=True)
    ]
    message = (
        f"Each parameter by itself, over {len(ranks)} runs: what parameters do together is not seen. "
        f"Thirty runs and scikit-learn beside the platform would show it.{left_out}"
    )
    return _told(metric, "rank correlation", len(ranks), None, found, message)


def _association(
    column: _Column, ranks: Array, shuffles: NDArray[np.int64], draws: NDArray[np.int64]
) -> tuple[float, float, float, float]:
    """Return a parameter's strength, its interval, and the p-value of no relation."""
    if column.is_number:
        known = ~np.isnan(column.codes)
        codes = np.where(known, stats.rankdata(np.where(known, column.codes, -np.inf)), 0.0)
        codes = np.where(known, codes, codes[known].mean())  # a gap stands in the middle, where it pulls nowhere
        measure = _correlation
    else:
        codes, measure = column.codes, _between
    here = float(measure(codes[None], ranks[None])[0])
    by_chance = np.abs(measure(codes[None], ranks[shuffles]))
    p_value = (1 + int(np.sum(by_chance >= abs(here) - 1e-12))) / (1 + len(shuffles))
    low, high = (float(bound) for bound in np.quantile(measure(codes[draws], ranks[draws]), [0.025, 0.975]))
    if low <= 0 <= high:
        low, high = 0.0, max(-low, high)
    low, high = sorted((abs(low), abs(high)))
    return abs(here), min(low, abs(here)), max(high, abs(here)), p_value


def _correlation(codes: Array, ranks: Array) -> Array:
    """Return the correlation of each row of `codes` with that of `ranks`, shape (rows,); 0 where one does not vary."""
    one = codes - codes.mean(axis=1, keepdims=True)
    other = ranks - ranks.mean(axis=1, keepdims=True)
    scale = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    together = (one * other).sum(axis=1)
    return np.asarray(np.divide(together, scale, out=np.zeros_like(together), where=scale > 0))


def _between(codes: Array, ranks: Array) -> Array:
    """Return the root of epsilon squared of the categories in each row of `codes`, shape (rows,)."""
    runs = ranks.shape[1]
    apart = ranks - ranks.mean(axis=1, keepdims=True)
    whole = (apart**2).sum(axis=1)
    between, groups = np.zeros(len(apart)), np.zeros(len(apart))
    for code in np.unique(codes):
        inside = np.broadcast_to(codes == code, apart.shape)
        count = inside.sum(axis=1)
        sums = (apart * inside).sum(axis=1)
        between += np.divide(sums**2, count, out=np.zeros(len(apart)), where=count > 0)
        groups += count > 0
    share = np.divide(between, whole, out=np.zeros(len(apart)), where=whole > 0)
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
