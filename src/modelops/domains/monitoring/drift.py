"""Drift: have live columns moved away from the reference?

Several tests of one null hypothesis, that reference and live rows come from one distribution, look at each column. All work
on ranks or counts, so heavy tails and outliers do not make them raise false alarms. Their p-values become one by the weighted
Cauchy combination (Liu and Xie, JASA 115, 2020), which holds in the tail under wide dependence and loses less than
Bonferroni's where they agree; the weights keep about the power of Kolmogorov-Smirnov alone.

Numeric columns:
- `kolmogorov_smirnov`: the greatest distance D of the distribution functions at the bins' edges, which is at most the true
  one, and Kolmogorov's (1933) limit distribution at the effective sample size nm/(n+m). Against the exact distribution the
  limit errs to the safe side for all sizes, where Stephens' (1970) correction does not when n = m.
- `location_scale`: Wilcoxon's and Mood's (1954) rank scores, orthogonal, with midranks for what shares a bin: Lepage's
  (1971) idea, and the first two components of Neyman's smooth test. Chi-squared with a degree of freedom a score; a score
  that few rows decide is left out, for its sum would be far from normal.
- `tails`: Fisher's exact test of how many live values lie beyond the reference's extremes and beyond its outer 1% and 5%, on
  either side (a precedence test: Nelson, 1963). A few per cent that moved far are seen by it and by neither of the others.
Categorical columns:
- `chi_squared`: Pearson's, of homogeneity, categories with small expected counts pooled.
- `rare_categories`: Fisher's exact test of the share of all rare, other and new categories together.
Every column: `missing_values`, Fisher's exact test of the share that is missing, where any is.

Over all columns of a report Holm's (1979) procedure keeps the chance of any false alarm at the rate asked for, whatever the
dependence between columns.

What is significant may still be small. A column's magnitude is the greatest of its effect (D or total variation), the change
of its missing share, and half its first Wasserstein (Vaserstein, 1969) distance in reference standard deviations, which sees
the few that moved far: Cohen's small effect, 0.2, stands at 0.1.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from modelops.contracts.errors import InvalidInput, MissingExtra, MonitoringError
from modelops.domains.monitoring.schemas import ColumnDrift, ColumnKind, ColumnReference, ColumnSketch

try:
    import numpy as np
    from numpy.typing import NDArray
    from scipy import special, stats
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "Drift statistics need NumPy and SciPy, which are not installed.", hint="Run `pip install 'modelops[sklearn]'`."
    ) from missing

_MIN_EXPECTED = 5.0
_MIN_SUMMANDS = 10.0
_TAIL_SHARES = (0.0, 0.01, 0.05)
_WEIGHTS = {
    "kolmogorov_smirnov": 0.5,
    "location_scale": 0.2,
    "tails": 0.3 / (2 * len(_TAIL_SHARES)),
    "chi_squared": 0.5,
    "rare_categories": 0.5,
    "missing_values": 0.3,
}
_SURELY_NOT = 0.99
"""A p-value of exactly 1 would outweigh every other in the combination."""
_SHIFT_WEIGHT = 0.5


def compare(
    columns: Sequence[tuple[str, ColumnReference, ColumnSketch]], *, false_alarm_rate: float, minimum_effect: float
) -> list[ColumnDrift]:
    """Compare live sketches with their references.

    Args:
        columns: (role, reference, sketch) of each column of the report, `input` and `output` together.
        false_alarm_rate: The chance of naming any column where none moved.
        minimum_effect: Columns whose magnitude is less are not named, however significant it is.

    Returns:
        One entry a column, those that drifted first, then by magnitude. `test` and `statistic` are of the test that found
        most; `p_value` counts all tests of the column, `adjusted_p_value` all columns.

    Raises:
        MonitoringError: there is nothing to compare.
        InvalidInput: a sketch is not of its reference.
    """
    if not columns or all(sum(sketch.counts) + sketch.missing == 0 for _, _, sketch in columns):
        raise MonitoringError(
            "There are no rows in this window.", hint="Send predictions to the deployment, or name an earlier `since`."
        )
    found = [_compare(role, reference, sketch) for role, reference, sketch in columns]
    adjusted = holm([column.p_value for column in found])
    judged = [
        column.model_copy(
            update={"adjusted_p_value": p, "drifted": p < false_alarm_rate and magnitude(column) >= minimum_effect}
        )
        for column, p in zip(found, adjusted, strict=True)
    ]
    return sorted(judged, key=lambda column: (not column.drifted, -magnitude(column), column.name))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given (Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def magnitude(column: ColumnDrift) -> float:
    """Return how far a column moved, 0 or more: by its effect, its missing share or its shift, whichever says most."""
    missing = abs(column.missing_current - column.missing_reference)
    return max(column.effect, missing, _SHIFT_WEIGHT * (column.shift or 0.0))


class _Finding(NamedTuple):
    test: str
    statistic: float
    p_value: float


def _compare(role: str, reference: ColumnReference, sketch: ColumnSketch) -> ColumnDrift:
    expected, seen = np.asarray(reference.counts, dtype=float), np.asarray(sketch.counts, dtype=float)
    if len(expected) != len(seen):
        raise InvalidInput(f"The sketch of '{sketch.name}' is not of this reference: it has other bins.")
    numeric, live = reference.kind is ColumnKind.NUMERIC, float(seen.sum())
    findings = list(_findings(reference, sketch, expected, seen))
    first = min(findings, key=lambda found: found.p_value / _WEIGHTS[found.test], default=_Finding("none", 0.0, 1.0))
    p_value = _combined(findings)
    total = live + sketch.missing
    return ColumnDrift(
        name=reference.name,
        role=role,
        kind=reference.kind,
        test=first.test,
        statistic=first.statistic,
        p_value=p_value,
        adjusted_p_value=p_value,
        effect=_distance(expected, seen, numeric=numeric),
        shift=_shift(reference, sketch, expected, seen) if numeric else None,
        reference_mean=reference.mean,
        current_mean=sketch.sum / live if numeric and live else None,
        missing_reference=reference.missing / reference.count if reference.count else 0.0,
        missing_current=sketch.missing / total if total else 0.0,
        drifted=False,
    )


def _combined(findings: Sequence[_Finding]) -> float:
    """Return the p-value of the weighted Cauchy combination."""
    if not findings or min(finding.p_value for finding in findings) <= 0.0:
        return 0.0 if findings else 1.0
    total = sum(_WEIGHTS[finding.test] for finding in findings)
    mean = sum(
        _WEIGHTS[finding.test] / total / math.tan(math.pi * min(finding.p_value, _SURELY_NOT)) for finding in findings
    )
    return math.atan2(1.0, mean) / math.pi


def _findings(reference: ColumnReference, sketch: ColumnSketch, a: NDArray[Any], b: NDArray[Any]) -> Iterator[_Finding]:
    known, live = float(a.sum()), float(b.sum())
    if known and live:
        if reference.kind is ColumnKind.NUMERIC:
            yield _kolmogorov_smirnov(a, b)
            yield from _location_scale(a, b)
            yield from _tails(a, b)
        else:
            yield from _category_findings(a, b)
    if (reference.missing or sketch.missing) and known + reference.missing and live + sketch.missing:
        p = float(_fisher(reference.missing, known, sketch.missing, live))
        yield _Finding("missing_values", sketch.missing / (live + sketch.missing), p)


def _kolmogorov_smirnov(a: NDArray[Any], b: NDArray[Any]) -> _Finding:
    distance = _distance(a, b, numeric=True)
    size = a.sum() * b.sum() / (a.sum() + b.sum())
    return _Finding("kolmogorov_smirnov", distance, float(special.kolmogorov(math.sqrt(size) * distance)))


def _location_scale(a: NDArray[Any], b: NDArray[Any]) -> Iterator[_Finding]:
    """Test linear rank statistics, whose permutation mean is 0 and variance nm/(N(N-1)) times the pooled sum of squares."""
    pooled = a + b
    n, m, both = a.sum(), b.sum(), pooled.sum()
    middle = (np.cumsum(pooled) - pooled / 2) / both
    wilcoxon = middle - (pooled @ middle) / both
    mood = wilcoxon**2
    mood = mood - (pooled @ mood) / both
    square = float(pooled @ wilcoxon**2)
    if square > 0:
        mood = mood - wilcoxon * float(pooled @ (wilcoxon * mood)) / square
    statistic, freedom = 0.0, 0
    for score in (wilcoxon, mood):
        spread = float(pooled @ score**2)
        # Two values have a location and no scale of their own.
        if spread <= 1e-9 * both:
            continue
        if n * m * spread / both**2 / float(np.square(score[pooled > 0]).max()) >= _MIN_SUMMANDS:
            statistic += float(b @ score) ** 2 * both * (both - 1) / (n * m * spread)
            freedom += 1
    if freedom:
        yield _Finding("location_scale", statistic, float(special.chdtrc(freedom, statistic)))


def _tails(a: NDArray[Any], b: NDArray[Any]) -> Iterator[_Finding]:
    """Test the shares beyond the reference's outer quantiles. The statistic is the change of the share."""
    known, live = a.sum(), b.sum()
    inside, beyond = [], []
    for x, y in ((a, b), (a[::-1], b[::-1])):
        reached = np.cumsum(x)
        places = np.searchsorted(reached, np.multiply(_TAIL_SHARES, known), side="right")
        places = np.maximum(places - 1, 0)
        inside.append(reached[places])
        beyond.append(np.cumsum(y)[places])
    k, j = np.concatenate(inside), np.concatenate(beyond)
    for change, p in zip(j / live - k / known, _fisher(k, known - k, j, live - j), strict=True):
        yield _Finding("tails", float(change), float(p))


def _category_findings(a: NDArray[Any], b: NDArray[Any]) -> Iterator[_Finding]:
    share = min(a.sum(), b.sum()) / (a.sum() + b.sum())
    rare = (a + b) * share < _MIN_EXPECTED
    rare[-1] = True  # everything that was no category of the reference
    few, live = float(a[rare].sum()), float(b[rare].sum())
    if few + live:
        p = float(_fisher(few, a.sum() - few, live, b.sum() - live))
        yield _Finding("rare_categories", live / float(b.sum()), p)
    pooled = few + live and (few + live) * share >= _MIN_EXPECTED
    rows = [np.append(x[~rare], x[rare].sum()) if pooled else x[~rare] for x in (a, b)]
    if len(rows[0]) > 1:
        result = stats.chi2_contingency(np.vstack(rows), correction=False)
        yield _Finding("chi_squared", float(result.statistic), float(result.pvalue))


def _fisher(a_in: Any, a_out: Any, b_in: Any, b_out: Any) -> Any:
    """Return the two-sided p-values of Fisher's exact test, twice the smaller tail, of one table or of arrays of them."""
    everything, inside, drawn = a_in + a_out + b_in + b_out, a_in + b_in, b_in + b_out
    more = stats.hypergeom.sf(b_in - 1, everything, inside, drawn)
    fewer = stats.hypergeom.cdf(b_in, everything, inside, drawn)
    return np.minimum(1.0, 2 * np.minimum(more, fewer))


def _distance(a: NDArray[Any], b: NDArray[Any], *, numeric: bool) -> float:
    """Return the Kolmogorov-Smirnov distance, or for categories the total variation distance; 0 to 1."""
    if not a.sum() or not b.sum():
        return 0.0
    gaps = a / a.sum() - b / b.sum()
    found = np.abs(np.cumsum(gaps)).max() if numeric else np.abs(gaps).sum() / 2
    return min(1.0, float(found))


def _shift(reference: ColumnReference, sketch: ColumnSketch, a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """Return the first Wasserstein distance in reference standard deviations.

    The area between the distribution functions (Vallender, 1974) over the bins' edges, and from there halfway to the extremes
    seen; at least the difference of the means, which no Wasserstein distance is below.
    """
    if not a.sum() or not b.sum() or reference.mean is None or not reference.edges:
        return None
    edges = np.asarray(reference.edges, dtype=float)
    gaps = np.abs(np.cumsum(a / a.sum() - b / b.sum())[:-1])
    area = float(gaps[:-1] @ np.diff(edges))
    if sketch.low is not None and sketch.high is not None:
        area += float(b[-1] / b.sum()) * max(0.0, sketch.high - edges[-1]) / 2
        area += float(b[0] / b.sum()) * max(0.0, edges[0] - sketch.low) / 2
    moved = max(area, abs(sketch.sum / float(b.sum()) - reference.mean))
    if not reference.std:
        return 0.0 if moved == 0.0 else None
    return moved / reference.std
