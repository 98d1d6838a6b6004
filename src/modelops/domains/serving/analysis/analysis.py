"""Is a canary's candidate worse than its champion? One test a metric, each with a minimum effect.

A test's null hypothesis is that the candidate is no worse than the champion by more than the effect allowed; it `failed`
where that is rejected, `passed` where it is not and both have enough data, and is `inconclusive` otherwise. A step is
looked at again and again, and each look could raise a false alarm: look k is made at the significance times 6/(pi k)^2,
which adds up to no more than the significance over however many looks (the union bound over Basel's series).
"""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import assert_never

from modelops.domains.serving.analysis.readings import OutputCounts, Pair, Reading, Sample
from modelops.domains.serving.analysis.significance import chi_squared_sf, kolmogorov_sf, normal_sf, student_sf
from modelops.domains.serving.courses.courses import Outcome
from modelops.domains.serving.courses.strategies import Analysis, BusinessMetric, ErrorRate, Latency, PredictionShift
from modelops.domains.serving.rollouts import AnalysisResult, MetricResult

_P95 = 0.95
_MIN_EXPECTED = 5.0


def analyse(plan: Analysis, pair: Pair, look: int, since: datetime, now: datetime) -> AnalysisResult:
    """Compare a candidate with its champion.

    Args:
        look: Counts the analyses of this step, from 1.
        since: When the step began, from where on the readings are.
    """
    level = plan.significance * 6 / (math.pi * look) ** 2
    found = [_measured(metric, pair, level) for metric in plan.metrics]
    return AnalysisResult(
        outcome=overall([one.outcome for one in found]), look=look, made_at=now, since=since, metrics=found
    )


def overall(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome on the whole: failed where any failed, else inconclusive where any is."""
    for worst in (Outcome.FAILED, Outcome.INCONCLUSIVE):
        if worst in outcomes or not outcomes:
            return worst if outcomes else Outcome.INCONCLUSIVE
    return Outcome.PASSED


def in_words(result: AnalysisResult) -> str:
    """Return what decided, in a sentence for each metric that did."""
    return " ".join(one.why for one in result.metrics if one.outcome is result.outcome)


def _measured(metric: ErrorRate | Latency | PredictionShift | BusinessMetric, pair: Pair, level: float) -> MetricResult:
    try:
        return _measure(metric, pair, level)
    except (ArithmeticError, ValueError) as wrong:  # figures that no true replica sends must not hold the deployment up
        return _result(metric.kind, f"The {metric.kind} cannot be computed: {wrong}.", 0, 0, level)


def _measure(metric: ErrorRate | Latency | PredictionShift | BusinessMetric, pair: Pair, level: float) -> MetricResult:
    if isinstance(metric, BusinessMetric):
        return _business(metric, *pair.business.get(metric.metric, (Sample(), Sample())), level)
    champion, candidate = pair.champion or Reading(), pair.candidate or Reading()
    if isinstance(metric, ErrorRate):
        return _error_rate(metric, champion, candidate, level)
    if isinstance(metric, Latency):
        return _latency(metric, champion, candidate, level)
    if isinstance(metric, PredictionShift):
        return _prediction_shift(metric, champion, candidate, level)
    assert_never(metric)


def _error_rate(metric: ErrorRate, champion: Reading, candidate: Reading, level: float) -> MetricResult:
    """Test two proportions with a margin, by the score statistic with unpooled variance of add-one counts (Wald's test
    after Agresti and Caffo, The American Statistician 54, 2000), which holds where no request failed."""
    n, m = champion.requests, candidate.requests
    if few := _few(n, m, metric.min_requests, "requests"):
        return _result("error_rate", few, n, m, level)
    a, b = (champion.errors + 1) / (n + 2), (candidate.errors + 1) / (m + 2)
    spread = math.sqrt(a * (1 - a) / (n + 2) + b * (1 - b) / (m + 2))
    before, after = champion.errors / n, candidate.errors / m
    effect = after - before
    p = normal_sf((b - a - metric.minimum_effect) / spread)
    failed = p < level and effect > metric.minimum_effect
    why = (
        f"{after:.2%} of the candidate's {m:,} requests failed, {before:.2%} of the champion's {n:,}; "
        f"{metric.minimum_effect:.2%} more are allowed (p = {p:.2g})."
    )
    return _result("error_rate", why, n, m, level, failed=failed, values=(before, after), effect=effect, p_value=p)


def _latency(metric: Latency, champion: Reading, candidate: Reading, level: float) -> MetricResult:
    """Test the ratio of means by the delta method, or of 95th percentiles by the binomial distribution of order statistics
    (Conover, Practical Nonparametric Statistics, 1999, 3.2), each with half of the error. Both see latencies in bins."""
    name = f"latency_{metric.statistic}"
    n, m = sum(champion.latencies), sum(candidate.latencies)
    if few := _few(n, m, metric.min_requests, "timed requests"):
        return _result(name, few, n, m, level)
    if metric.statistic == "mean":
        before, after = champion.latency_sum_s / n, candidate.latency_sum_s / m
        spread = math.sqrt(_variance(candidate) / m + metric.max_ratio**2 * _variance(champion) / n)
        apart = after - metric.max_ratio * before
        p = normal_sf(apart / spread) if spread else float(apart <= 0)
    else:
        before, after = _quantile(champion, _P95), _quantile(candidate, _P95)
        # Where the bounds of both part, each with chance p/2, the ratio is above the one allowed with chance 1 - p.
        p = _least(
            lambda z: (
                _quantile(candidate, _P95 - _reach(z, m)) > metric.max_ratio * _quantile(champion, _P95 + _reach(z, n))
            )
        )
    effect = after - before
    failed = p < level and after > metric.max_ratio * before and effect > metric.minimum_effect_s
    called = "mean latency" if metric.statistic == "mean" else "95th percentile"
    why = (
        f"The candidate's {called} is {after * 1000:.3g} ms over {m:,} requests, the champion's {before * 1000:.3g} ms "
        f"over {n:,}; {metric.max_ratio:g} times that is allowed (p = {p:.2g})."
    )
    return _result(name, why, n, m, level, failed=failed, values=(before, after), effect=effect, p_value=p)


def _prediction_shift(metric: PredictionShift, champion: Reading, candidate: Reading, level: float) -> MetricResult:
    """Test whether each output is distributed alike, at the level divided by the outputs (Bonferroni), and name the one
    that is furthest apart."""
    n, m = champion.rows, candidate.rows
    if few := _few(n, m, metric.min_rows, "rows"):
        return _result("prediction_shift", few, n, m, level)
    mine = {output.name: output for output in candidate.outputs}
    found = [(output.name, *_apart(output, mine[output.name])) for output in champion.outputs if output.name in mine]
    if not found:
        return _result(
            "prediction_shift", "Candidate and champion have no output that both were counted in.", n, m, level
        )
    worst, distance, p = min(found, key=lambda one: (not _shifted(metric, one[1], one[2], level / len(found)), -one[1]))
    failed = _shifted(metric, distance, p, level / len(found))
    why = (
        f"The predictions '{worst}' of candidate ({m:,} rows) and champion ({n:,}) are {distance:.3f} apart; "
        f"{metric.minimum_effect:g} is allowed (p = {p:.2g})."
    )
    return _result("prediction_shift", why, n, m, level, failed=failed, effect=distance, p_value=p)


def _shifted(metric: PredictionShift, distance: float, p: float, level: float) -> bool:
    return p < level and distance > metric.minimum_effect


def _business(metric: BusinessMetric, champion: Sample, candidate: Sample, level: float) -> MetricResult:
    """Test two means with a margin by Welch's t (Biometrika 34, 1947)."""
    name, n, m = f"business:{metric.metric}", champion.count, candidate.count
    if few := _few(n, m, metric.min_values, f"values of '{metric.metric}'"):
        return _result(name, few, n, m, level)
    sign = 1.0 if metric.direction == "higher" else -1.0
    worse = sign * (champion.mean - candidate.mean)
    a, b = champion.squares / (n - 1) / n, candidate.squares / (m - 1) / m
    beyond = worse - metric.minimum_effect
    if a + b > 0:
        freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
        p = student_sf(beyond / math.sqrt(a + b), freedom)
    else:
        p = float(beyond <= 0)
    why = (
        f"The mean '{metric.metric}' of the candidate is {candidate.mean:.6g} over {m:,} values, of the champion "
        f"{champion.mean:.6g} over {n:,}; {metric.minimum_effect:g} worse is allowed, {metric.direction} is better "
        f"(p = {p:.2g})."
    )
    return _result(
        name, why, n, m, level, failed=p < level, values=(champion.mean, candidate.mean), effect=-worse, p_value=p
    )


def _few(champion: int, candidate: int, least: int, what: str) -> str | None:
    """Return why there is too little to conclude from, or None."""
    for who, count in (("candidate", candidate), ("champion", champion)):
        if count < least:
            told = f"only {count:,} {what}" if count else f"no {what}"
            return f"There are {told} of the {who} yet; {least:,} are needed."
    return None


def _result(
    metric: str,
    why: str,
    champion_size: int,
    candidate_size: int,
    level: float,
    *,
    failed: bool | None = None,
    values: tuple[float | None, float | None] = (None, None),
    effect: float | None = None,
    p_value: float | None = None,
) -> MetricResult:
    outcome = Outcome.FAILED if failed else Outcome.PASSED
    return MetricResult(
        metric=metric,
        outcome=Outcome.INCONCLUSIVE if failed is None else outcome,
        why=why,
        champion=values[0],
        candidate=values[1],
        champion_size=champion_size,
        candidate_size=candidate_size,
        effect=effect,
        p_value=p_value,
        significance=level,
    )


def _reach(z: float, size: int) -> float:
    """Return how far the 95th percentile of a sample may lie from the true one, in probability."""
    return z * math.sqrt(_P95 * (1 - _P95) / size)


def _least(holds: Callable[[float], bool]) -> float:
    """Return the least p-value, for both bounds together, at which something still holds that wider bounds undo."""
    low, high = 0.0, 38.0
    if not holds(low):
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return min(1.0, 2 * normal_sf(low))


def _quantile(reading: Reading, share: float) -> float:
    """Return a quantile of latencies in seconds: linear within its bin; the last bin has no end and counts as its start."""
    total = sum(reading.latencies)
    rank = min(max(share, 0.0), 1.0) * total
    low, seen = 0.0, 0
    for count, bound in zip(reading.latencies, (*reading.bounds_s, reading.bounds_s[-1]), strict=True):
        if count and seen + count >= rank:
            return low + (bound - low) * max(0.0, rank - seen) / count
        seen, low = seen + count, bound
    return low


def _variance(reading: Reading) -> float:
    """Return the variance of latencies, in s^2: of the bins' middles about the mean, and of a bin within itself."""
    total = sum(reading.latencies)
    mean, low, squares = reading.latency_sum_s / total, 0.0, 0.0
    for count, bound in zip(reading.latencies, (*reading.bounds_s, reading.bounds_s[-1] * 2), strict=True):
        squares += count * (((low + bound) / 2 - mean) ** 2 + (bound - low) ** 2 / 12)
        low = bound
    return squares / total


def _apart(champion: OutputCounts, candidate: OutputCounts) -> tuple[float, float]:
    """Return how far two distributions are apart, from 0 to 1, and the chance of that where they are alike."""
    n, m = sum(champion.counts), sum(candidate.counts)
    if not n or not m or (champion.edges is None) != (candidate.edges is None):
        return (0.0, 1.0) if not n or not m else (1.0, 1.0)
    if champion.edges is not None and candidate.edges is not None:
        distance = _numbers_apart(champion, candidate)
        return distance, kolmogorov_sf(math.sqrt(n * m / (n + m)) * distance)
    return _classes_apart(champion, candidate)


def _numbers_apart(champion: OutputCounts, candidate: OutputCounts) -> float:
    """Return a bound that the Kolmogorov-Smirnov distance is not below.

    Each was counted over bins of its own, so at an edge of one the other's distribution function is known only to lie
    between its values at its own edges around.
    """
    edges = sorted({*(champion.edges or ()), *(candidate.edges or ())})
    gaps = [0.0]
    for edge in edges:
        (a_low, a_high), (b_low, b_high) = _reached(champion, edge), _reached(candidate, edge)
        gaps.append(max(a_low - b_high, b_low - a_high))
    return max(gaps)


def _reached(output: OutputCounts, edge: float) -> tuple[float, float]:
    """Return the least and the greatest share of values that may be at or below an edge."""
    edges, total = output.edges or (), sum(output.counts)
    below = sum(1 for own in edges if own <= edge)
    low = sum(output.counts[:below]) / total
    return (low, low) if below and edges[below - 1] == edge else (low, sum(output.counts[: below + 1]) / total)


def _classes_apart(champion: OutputCounts, candidate: OutputCounts) -> tuple[float, float]:
    """Return the total variation distance over the classes that both name (all others are one), and the p-value of Pearson's
    chi-squared test of homogeneity, classes with small expected counts pooled (Cochran, Biometrics 10, 1954)."""
    both = set(champion.categories or ()) & set(candidate.categories or ())
    a, b = _by_class(champion, both), _by_class(candidate, both)
    n, m = sum(a.values()), sum(b.values())
    names = list(dict.fromkeys([*a, *b]))
    distance = sum(abs(a.get(name, 0) / n - b.get(name, 0) / m) for name in names) / 2
    small = min(n, m) / (n + m)
    cells, pooled = [], [0, 0]
    for name in names:
        pair = [a.get(name, 0), b.get(name, 0)]
        if sum(pair) * small >= _MIN_EXPECTED:
            cells.append(pair)
        else:
            pooled = [pooled[0] + pair[0], pooled[1] + pair[1]]
    if sum(pooled):
        cells.append(pooled)
    if len(cells) < 2:
        return distance, 1.0
    statistic = 0.0
    for x, y in cells:
        for seen, size in ((x, n), (y, m)):
            expected = (x + y) * size / (n + m)
            statistic += (seen - expected) ** 2 / expected
    return distance, chi_squared_sf(statistic, len(cells) - 1)


def _by_class(output: OutputCounts, classes: set[str]) -> dict[str | None, int]:
    """Return the counts of these classes, and under None of all others."""
    found: dict[str | None, int] = {}
    for name, count in zip((*(output.categories or ()), None), output.counts, strict=True):
        key = name if name in classes else None
        found[key] = found.get(key, 0) + count
    return {name: count for name, count in found.items() if count}
