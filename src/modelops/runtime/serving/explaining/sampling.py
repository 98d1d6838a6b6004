"""Shapley values of any model, by replacing features with those of background rows (interventional SHAP).

The worth of a set of features is the model's mean output over the background, where these features are the row's own. All
sets are asked for where the budget allows it; else the values are estimated along random orders of the features, forwards
and backwards (Castro et al. 2009; antithetic as in Mitchell et al. 2022), with a standard error each.
"""

import math
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.runtime.serving.explaining.attributions import Attribution, Target
from modelops.runtime.serving.explaining.turns import Pace, Turns

DEFAULT_EVALUATIONS = 20_000
"""How many rows a model is asked for, for each row that is estimated."""

EXACT_EVALUATIONS = 2**17
"""Up to so many, all sets of features are asked for unless a request says otherwise: ten features and 100 rows."""

MOST_HELD = 2**25
"""How many of a model's outputs are held at once to explain one row."""

_FEWEST_ROUNDS = 2
_MOST_CELLS = 2**20
"""How many numbers one call of the model holds at most."""


class Asking:
    """Asks a model for many made-up rows, in turns."""

    def __init__(self, target: Target, background: Any) -> None:
        self.target, self.background = target, background
        self._pace = Pace(16)
        self._outputs: Any = None

    def of_background(self, turns: Turns) -> Any:
        """Return the outputs for the background, shape (background rows, outputs); asked for once."""
        if self._outputs is None:
            self._outputs = self.of(turns, len(self.background), lambda start, stop: self.background[start:stop])
        return self._outputs

    def of(self, turns: Turns, count: int, rows: Any) -> Any:
        """Return the outputs for `count` rows that `rows(start, stop)` makes."""
        width = self.background.shape[1]
        most = max(1, _MOST_CELLS // width)

        def work(start: int, stop: int) -> Any:
            parts = range(start, stop, most)
            return [self.target.ask(rows(part, min(part + most, stop))) for part in parts]

        return np.concatenate([part for parts in self._pace.run(turns, count, work) for part in parts])


class ExactShap:
    """Exact values, over all sets of features."""

    name, max_rows = "exact", 100

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self.explains, self.outputs = asking.target.explains, asking.target.outputs
        features = asking.background.shape[1]
        self._sets = np.arange(2**features)
        self._members = (self._sets[:, None] >> np.arange(features)) & 1 == 1
        sizes = self._members.sum(axis=1)
        shares = [1 / (features * math.comb(features - 1, size)) for size in range(features)]
        self._shares = np.array([*shares, 0.0])[sizes]
        self.evaluations = cost_of_all(features, len(asking.background))

    def attribute(self, matrix: Any, turns: Turns) -> Attribution:
        """Explain the rows."""
        values = np.stack([self._of_row(row, turns) for row in matrix])
        base = self._asking.of_background(turns).mean(axis=0)
        return Attribution(base, values, self._asking.target.ask(matrix))

    def _of_row(self, row: Any, turns: Turns) -> Any:
        background, members = self._asking.background, self._members

        def rows(start: int, stop: int) -> Any:
            sets, others = np.divmod(np.arange(start, stop), len(background))
            return np.where(members[sets], row, background[others])

        told = self._asking.of(turns, len(members) * len(background), rows)
        worth = told.reshape(len(members), len(background), -1).mean(axis=1)
        values = []
        for feature in range(len(row)):
            without = self._sets[~members[:, feature]]
            gained = worth[without | (1 << feature)] - worth[without]
            values.append(self._shares[without] @ gained)
        return np.stack(values, axis=1)


class SampledShap:
    """Estimates that add up exactly: along an order, what the features bring is all that the output changes by.

    Each round has an order, its reverse, and a background row. Where the rounds do not take all background rows equally
    often, the little that is off is spread so that the estimates' variance is least (a control variate whose mean is known).
    """

    name, max_rows = "permutation", 100

    def __init__(self, asking: Asking, evaluations: int | None = None) -> None:
        self._asking = asking
        self.explains, self.outputs = asking.target.explains, asking.target.outputs
        background = asking.background
        features = background.shape[1]
        least, each = least_evaluations(features), _round_cost(features)
        if evaluations is not None and evaluations < least:
            raise InvalidInput(
                f"{evaluations:,} evaluations are too few to estimate the shares of {features:,} features.",
                hint=f"Allow {least:,} or more in `max_evaluations`.",
            )
        usual = min(DEFAULT_EVALUATIONS, MOST_HELD // len(asking.target.outputs))
        rounds = max(evaluations or usual, least) // each
        generator = np.random.default_rng(0)  # the same rows get the same values, alone or among others
        self._ranks = np.argsort(np.stack([generator.permutation(features) for _ in range(rounds)]), axis=1)
        self._others = generator.permutation(np.resize(np.arange(len(background)), rounds))
        self.evaluations = rounds * each

    def attribute(self, matrix: Any, turns: Turns) -> Attribution:
        """Explain the rows."""
        outputs = self._asking.target.ask(matrix)
        told = self._asking.of_background(turns)
        found = [self._of_row(row, own, told, turns) for row, own in zip(matrix, outputs, strict=True)]
        values, errors = (np.stack(parts) for parts in zip(*found, strict=True))
        return Attribution(told.mean(axis=0), values, self._asking.target.ask(matrix), errors)

    def _of_row(self, row: Any, own: Any, told: Any, turns: Turns) -> tuple[Any, Any]:
        """Return values and standard errors, both of shape (outputs, features)."""
        ranks, features = self._ranks, len(row)
        steps = features - 1

        def rows(start: int, stop: int) -> Any:
            way, step = np.divmod(np.arange(start, stop), steps)
            number, backwards = np.divmod(way, 2)
            rank = np.where(backwards[:, None] == 1, steps - ranks[number], ranks[number])
            return np.where(rank <= step[:, None], row, self._asking.background[self._others[number]])

        count = len(ranks)
        between = (
            self._asking.of(turns, count * 2 * steps, rows).reshape(count, 2, steps, -1)
            if steps
            else np.empty((count, 2, 0, len(own)))
        )
        first = np.broadcast_to(told[self._others][:, None, None, :], (count, 2, 1, len(own)))
        last = np.broadcast_to(own, (count, 2, 1, len(own)))
        gains = np.diff(np.concatenate([first, between, last], axis=2), axis=2)
        forwards = np.take_along_axis(gains[:, 0], ranks[:, :, None], axis=1)
        backwards = np.take_along_axis(gains[:, 1], (steps - ranks)[:, :, None], axis=1)
        return _estimate((forwards + backwards) / 2, own - told.mean(axis=0))


def cost_of_all(features: int, background: int) -> int:
    """Return how many rows a model is asked for where all sets of features are."""
    return background << features


def least_evaluations(features: int) -> int:
    """Return with how many rows an estimate can be made that has a standard error."""
    return _FEWEST_ROUNDS * _round_cost(features)


def _round_cost(features: int) -> int:
    return max(1, 2 * (features - 1))


def _estimate(samples: Any, total: Any) -> tuple[Any, Any]:
    """Return the mean of samples, shape (rounds, features, outputs), such that it adds up to `total`, and its errors."""
    mean, count = samples.mean(axis=0), len(samples)
    spread = samples - mean
    with_sum = (spread * spread.sum(axis=1, keepdims=True)).sum(axis=0)
    of_sum = with_sum.sum(axis=0)
    is_flat = of_sum <= 1e-12 * (spread**2).sum(axis=(0, 1))
    weights = np.where(is_flat, 1 / len(mean), with_sum / np.where(is_flat, 1.0, of_sum))
    values = mean + weights * (total - mean.sum(axis=0))
    left = spread - weights * spread.sum(axis=1, keepdims=True)
    errors = np.sqrt((left**2).sum(axis=0) / (count - 1) / count)
    return values.T, errors.T
