"""Checks of how right a candidate is: overall, on slices, and whether a difference is more than chance."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.validation import scoring
from modelops.domains.models.validation.columns import Column, floats, plain
from modelops.domains.models.validation.schemas import Task
from modelops.domains.models.validation.significance import Difference, bootstrap, holm, mcnemar, slice_is_worse
from modelops.domains.models.validation.trial import Finding, Trial

Array = NDArray[Any]
ALONE = "There is no champion to compare it with."
_FEW, _MOST_VALUES = 12, 100


class MetricsCheck:
    """Figures on all rows: not below a minimum, and not worse than the champion's by more than a tolerance.

    Args:
        metric: The one that is compared; by default `accuracy`, or `rmse` of a regression.
        tolerance: How much worse it may be, in the metric's unit; of an error, as a share of the champion's.
        minimum: What figures must at least be, or of an error at most.
    """

    name = "metrics"

    def __init__(
        self, metric: str | None = None, tolerance: float = 0.01, minimum: Mapping[str, float] | None = None
    ) -> None:
        self.metric = metric
        self.tolerance = tolerance
        self.minimum = dict(minimum or {})

    def run(self, trial: Trial) -> Finding:
        """Compute the figures of both, and compare."""
        mine, theirs = trial.metrics["candidate"], trial.metrics.get("champion")
        figures = {**mine, **{f"champion.{name}": value for name, value in (theirs or {}).items()}}
        metric = self.metric or ("rmse" if trial.task is Task.REGRESSION else "accuracy")
        for name in (metric, *self.minimum):
            if name not in mine:
                raise InvalidInput(f"There is no figure '{name}' here.", hint=f"There are: {', '.join(sorted(mine))}.")
        short = [name for name, bound in self.minimum.items() if not _as_good(name, mine[name], bound)]
        if short:
            return Finding(False, _sentence(short[0], mine[short[0]], "is asked for", self.minimum[short[0]]), figures)
        if theirs is None:
            return Finding(True, f"{metric} is {mine[metric]:.4g}. {ALONE}", figures)
        higher = scoring.higher_is_better(metric)
        bound = theirs[metric] - self.tolerance if higher else theirs[metric] * (1 + self.tolerance)
        said = _sentence(metric, mine[metric], "is the champion's", theirs[metric])
        return Finding(_as_good(metric, mine[metric], bound), said, figures)


class SignificanceCheck:
    """Whether candidate and champion differ by more than chance: McNemar's test of classes, a paired bootstrap elsewhere.

    Args:
        alpha: The chance of a false alarm.
        require: `not_worse`: fails where the candidate is significantly worse. `better`: passes only where it is better.
    """

    name = "significance"

    def __init__(self, alpha: float = 0.05, require: str = "not_worse") -> None:
        if not 0 < alpha < 1 or require not in ("not_worse", "better"):
            raise InvalidInput("`alpha` lies between 0 and 1, and `require` is `not_worse` or `better`.")
        self.alpha = alpha
        self.require = require

    def run(self, trial: Trial) -> Finding:
        """Compare the two row by row."""
        if trial.champion is None:
            return Finding(True, ALONE)
        found = _paired(trial)
        figures = {f"difference.{name}": value for name, value in found._asdict().items()}
        if self.require == "better":
            passed = found.p_better <= self.alpha
            verdict = "better than" if passed else "not shown to be better than"
        else:
            passed = found.p_worse > self.alpha
            verdict = "not shown to be worse than" if passed else "worse than"
        chance = found.p_better if self.require == "better" else found.p_worse
        interval = f"{found.mean:+.4g} in mean score, 95% from {found.low:+.4g} to {found.high:+.4g}"
        return Finding(passed, f"The candidate is {verdict} the champion (p = {chance:.2g}; {interval}).", figures)


class SlicesCheck:
    """Parts of the data on which the candidate is worse than the champion, or without one, than on the other rows.

    A slice counts if it is worse by `max_gap` and by more than chance, all slices taken together (Holm 1979).

    Args:
        by: The columns to slice by: a name, several, or None for the model's features. Numbers are cut at quantiles.
        max_gap: In mean score: a difference of accuracies; of a regression, of errors as a share of their mean.
        min_rows: Smaller slices are passed over.
        bins: Into how many parts numbers are cut.
        alpha: The chance of a false alarm.
    """

    name = "slices"

    def __init__(
        self,
        by: str | Sequence[str] | None = None,
        max_gap: float = 0.05,
        min_rows: int = 30,
        bins: int = 4,
        alpha: float = 0.05,
    ) -> None:
        self.by = [by] if isinstance(by, str) else None if by is None else list(by)
        self.max_gap = max_gap
        self.min_rows = min_rows
        self.bins = bins
        self.alpha = alpha

    def run(self, trial: Trial) -> Finding:
        """Look at each slice."""
        found = [(name, rows) for name, rows in self._slices(trial) if self.min_rows <= rows.sum() < trial.rows]
        if not found:
            return Finding(True, f"No slice has {self.min_rows} rows.")
        gaps, chances = zip(*(_gap(trial, rows) for _, rows in found), strict=True)
        worse = [
            (gap, name)
            for (name, _), gap, chance in zip(found, gaps, holm(chances), strict=True)
            if gap > self.max_gap and chance <= self.alpha
        ]
        figures = {f"gap.{name}"[:250]: gap for (name, _), gap in zip(found[:1_000], gaps, strict=False)}
        if not worse:
            return Finding(True, f"None of {len(found)} slices is worse by {self.max_gap:g}.", figures)
        gap, name = max(worse)
        return Finding(
            False, f"{len(worse)} of {len(found)} slices are worse; most of all {name[:200]}, by {gap:.3g}.", figures
        )

    def _slices(self, trial: Trial) -> Iterator[tuple[str, Array]]:
        names = self.by if self.by is not None else [one.name for one in trial.candidate.signature.inputs]
        for name in names:
            if name not in trial.columns:
                raise InvalidInput(f"The data has no column '{name}' to slice by.")
            yield from slices(name, trial.columns[name], self.bins)


def slices(name: str, column: Column, bins: int) -> Iterator[tuple[str, Array]]:
    """Yield the parts of a column: one for each value where they are few, else between quantiles; and what is missing."""
    values = [plain(value) for value in column.tolist()]
    places: dict[Any, int] = {}
    for value in values:
        if value is not None:
            places.setdefault(value, len(places))
    codes = np.array([-1 if value is None else places[value] for value in values])
    if (codes < 0).any():
        yield f"{name} is missing", codes < 0
    if len(places) > max(bins, _FEW) and column.dtype.kind in "fiu":
        yield from _between_quantiles(name, floats(name, column), bins)
    elif len(places) <= _MOST_VALUES:
        for value in sorted(places, key=str):
            yield f"{name} = {value}", codes == places[value]


def _between_quantiles(name: str, numbers: Array, bins: int) -> Iterator[tuple[str, Array]]:
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, bins + 1)))
    for low, high in pairwise(edges):
        below = numbers <= high if high == edges[-1] else numbers < high
        yield f"{name} from {low:.4g} to {high:.4g}", (numbers >= low) & below


def _paired(trial: Trial) -> Difference:
    mine, theirs = trial.scores["candidate"], trial.scores["champion"]
    if trial.task is Task.CLASSIFICATION:
        return mcnemar(mine > 0, theirs > 0)
    return bootstrap(mine, theirs, seed=trial.seed)


def _gap(trial: Trial, rows: Array) -> tuple[float, float]:
    """Return by how much a slice is worse, and the chance of that."""
    mine, theirs = trial.scores["candidate"], trial.scores.get("champion")
    unit = (
        1.0 if trial.task is Task.CLASSIFICATION else float(np.mean(np.abs(mine if theirs is None else theirs))) or 1.0
    )
    if theirs is None:
        return float(mine[~rows].mean() - mine[rows].mean()) / unit, slice_is_worse(mine[rows], mine[~rows])
    test = (
        mcnemar(mine[rows] > 0, theirs[rows] > 0)
        if trial.task is Task.CLASSIFICATION
        else bootstrap(mine[rows], theirs[rows])
    )
    return -test.mean / unit, test.p_worse


def _as_good(metric: str, value: float, bound: float) -> bool:
    return value >= bound if scoring.higher_is_better(metric) else value <= bound


def _sentence(metric: str, value: float, what: str, bound: float) -> str:
    return f"{metric} is {value:.4g}; {bound:.4g} {what}."
