"""Drift: have live columns moved away from the reference?

Numeric columns: the two-sample Kolmogorov-Smirnov test over the reference's bins. The distance at the bins' edges is at most
the true one, so the p-value (Kolmogorov's distribution at the effective sample size, with Stephens' (1970) correction) is
never too small. Beside it stands the first Wasserstein distance in reference standard deviations, which sees what KS does
not: few values that moved far.
Categorical columns: Pearson's chi-squared test of homogeneity, categories with few expected counts pooled; the effect is
the total variation distance.
A change in how often a value is missing is tested by the same chi-squared test, and the column takes the smaller p-value,
doubled (Bonferroni).
Over all columns of a report Holm's (1979) procedure keeps the chance of any false alarm at the rate asked for, whatever the
dependence between columns.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from modelops.contracts.errors import MonitoringError
from modelops.domains.monitoring.schemas import ColumnDrift, ColumnKind, ColumnReference, ColumnSketch

_MIN_EXPECTED = 5.0
_TAIL_SHIFT = 0.25
"""A Wasserstein shift of this many standard deviations counts as an effect, even where KS sees little: a moved tail."""


def compare(
    columns: Sequence[tuple[str, ColumnReference, ColumnSketch]], *, false_alarm_rate: float, minimum_effect: float
) -> list[ColumnDrift]:
    """Compare live sketches with their references.

    Args:
        columns: (role, reference, sketch) of each column of the report, `input` and `output` together.
        false_alarm_rate: The chance of naming any column where none moved.
        minimum_effect: Columns that moved less are not named, however significant it is.

    Returns:
        One entry a column, greatest effect first.

    Raises:
        MonitoringError: there is nothing to compare.
    """
    if not columns or all(sum(sketch.counts) + sketch.missing == 0 for _, _, sketch in columns):
        raise MonitoringError(
            "There are no rows in this window.", hint="Send predictions to the deployment, or name an earlier `since`."
        )
    found = [_compare(role, reference, sketch) for role, reference, sketch in columns]
    adjusted = holm([column.p_value for column in found])
    judged = [
        column.model_copy(
            update={"adjusted_p_value": p, "drifted": p < false_alarm_rate and _matters(column, minimum_effect)}
        )
        for column, p in zip(found, adjusted, strict=True)
    ]
    return sorted(judged, key=lambda column: (not column.drifted, -column.effect, column.name))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given (Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _matters(column: ColumnDrift, minimum_effect: float) -> bool:
    missing = abs(column.missing_current - column.missing_reference)
    tail = (column.shift or 0.0) >= max(_TAIL_SHIFT, minimum_effect)
    return max(column.effect, missing) >= minimum_effect or tail


def _compare(role: str, reference: ColumnReference, sketch: ColumnSketch) -> ColumnDrift:
    expected, seen = np.asarray(reference.counts, dtype=float), np.asarray(sketch.counts, dtype=float)
    numeric = reference.kind is ColumnKind.NUMERIC
    statistic, p_values, shift, effect = 0.0, [], None, 0.0
    if expected.sum() and seen.sum():
        if numeric:
            statistic, p = _kolmogorov_smirnov(expected, seen)
            shift, tail_p = _wasserstein(reference, sketch, expected, seen)
            effect = statistic
            p_values += [p, tail_p]
        else:
            statistic, p = _chi_squared(expected, seen)
            effect = float(np.abs(expected / expected.sum() - seen / seen.sum()).sum() / 2)
            p_values.append(p)
    known, live = reference.count - reference.missing, float(seen.sum())
    if reference.missing or sketch.missing:
        table = np.array([reference.missing, known], float), np.array([sketch.missing, live], float)
        p_values.append(_chi_squared(*table)[1])
    p_value = min(1.0, len(p_values) * min(p_values)) if p_values else 1.0
    total = live + sketch.missing
    return ColumnDrift(
        name=reference.name,
        role=role,
        kind=reference.kind,
        test="kolmogorov_smirnov" if numeric else "chi_squared",
        statistic=statistic,
        p_value=p_value,
        adjusted_p_value=p_value,
        effect=effect,
        shift=shift,
        reference_mean=reference.mean,
        current_mean=sketch.sum / live if numeric and live else None,
        missing_reference=reference.missing / reference.count if reference.count else 0.0,
        missing_current=sketch.missing / total if total else 0.0,
        drifted=False,
    )


def _kolmogorov_smirnov(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float]:
    """Return D and its p-value from counts over common bins."""
    distance = float(np.abs(np.cumsum(a) / a.sum() - np.cumsum(b) / b.sum()).max())
    root = math.sqrt(a.sum() * b.sum() / (a.sum() + b.sum()))
    return distance, float(stats.kstwobign.sf((root + 0.12 + 0.11 / root) * distance))


def _wasserstein(
    reference: ColumnReference, sketch: ColumnSketch, a: NDArray[Any], b: NDArray[Any]
) -> tuple[float | None, float]:
    """Return the first Wasserstein distance in reference standard deviations, and the p-value of Welch's test of the means.

    The distance is the area between the distribution functions (Vallender, 1974) over the bins' edges, and from the last
    edges to the extremes seen.
    """
    edges, spread = np.asarray(reference.edges, dtype=float), reference.std or 0.0
    if sketch.low is None or sketch.high is None or reference.mean is None:
        return None, 1.0
    gaps = np.abs(np.cumsum(a)[:-1] / a.sum() - np.cumsum(b)[:-1] / b.sum())
    area = float((gaps[:-1] * np.diff(edges)).sum())
    area += float(b[-1] / b.sum()) * max(0.0, sketch.high - edges[-1]) / 2
    area += float(b[0] / b.sum()) * max(0.0, edges[0] - sketch.low) / 2
    if spread == 0.0:
        return (0.0 if area == 0.0 else None), 1.0
    return area / spread, _welch(reference, sketch, a.sum(), b.sum())


def _welch(reference: ColumnReference, sketch: ColumnSketch, n: float, m: float) -> float:
    if n < 2 or m < 2 or reference.mean is None or reference.std is None:
        return 1.0
    mean = sketch.sum / m
    variance = max(0.0, (sketch.sum_squares - m * mean * mean) / (m - 1))
    a, b = reference.std**2 / n, variance / m
    if a + b <= 0.0:
        return 1.0
    t = (mean - reference.mean) / math.sqrt(a + b)
    freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    return float(2 * stats.t.sf(abs(t), freedom))


def _chi_squared(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float]:
    """Return the statistic and p-value of the test that two rows of counts have one distribution."""
    share = min(a.sum(), b.sum()) / (a.sum() + b.sum())
    common = (a + b) * share >= _MIN_EXPECTED
    rows = np.vstack([a, b])
    table = np.column_stack([rows[:, common], rows[:, ~common].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 0.0, 1.0
    result = stats.chi2_contingency(table, correction=False)
    return float(result.statistic), float(result.pvalue)
