"""Is the candidate worse? Known cases, and what holds of every one."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelops.domains.serving.analysis.analysis import analyse, in_words, overall
from modelops.domains.serving.analysis.readings import OutputCounts, Pair, Reading, Sample
from modelops.domains.serving.courses.courses import Outcome
from modelops.domains.serving.courses.strategies import Analysis, BusinessMetric, ErrorRate, Latency, PredictionShift

NOW = datetime(2025, 1, 1, tzinfo=UTC)
BOUNDS = (0.001, 0.01, 0.1, 1.0)


def reading(requests=1_000, errors=0, latencies=None, **rest):
    counts = latencies or (0, requests, 0, 0, 0)
    total = sum(count * bound for count, bound in zip(counts, (*BOUNDS, 1.0), strict=True))
    return Reading(requests, errors, requests, BOUNDS, counts, total, **rest)


def judged(metric, pair, look=1):
    return analyse(Analysis(metrics=[metric]), pair, look, NOW, NOW).metrics[0]


def sample(values):
    values = np.asarray(values, dtype=float)
    return Sample(len(values), float(values.mean()), float(((values - values.mean()) ** 2).sum()))


def test_errors_of_the_candidate():
    good, bad = reading(), reading(1_000, 200)
    assert judged(ErrorRate(), Pair(good, good)).outcome is Outcome.PASSED
    found = judged(ErrorRate(), Pair(good, bad))
    assert (found.outcome, found.effect) == (Outcome.FAILED, 0.2)
    assert "20.00% of the candidate's 1,000 requests failed" in found.why
    assert judged(ErrorRate(), Pair(bad, bad)).outcome is Outcome.PASSED
    assert judged(ErrorRate(), Pair(bad, good)).outcome is Outcome.PASSED
    assert judged(ErrorRate(minimum_effect=0.5), Pair(good, bad)).outcome is Outcome.PASSED


def test_too_little_is_inconclusive():
    for pair in (Pair(), Pair(reading(), None), Pair(reading(), reading(99)), Pair(reading(5), reading(1_000, 1_000))):
        for metric in (ErrorRate(), Latency(), PredictionShift(), BusinessMetric(metric="sales")):
            found = judged(metric, pair)
            assert found.outcome is Outcome.INCONCLUSIVE
            assert found.why
    assert "no requests of the candidate" in judged(ErrorRate(), Pair(reading(), None)).why


@pytest.mark.parametrize("statistic", ["p95", "mean"])
def test_a_slow_candidate(statistic):
    quick, slow = reading(latencies=(900, 100, 0, 0, 0)), reading(latencies=(0, 0, 900, 100, 0))
    metric = Latency(statistic=statistic)
    assert judged(metric, Pair(quick, slow)).outcome is Outcome.FAILED
    assert judged(metric, Pair(quick, quick)).outcome is Outcome.PASSED
    assert judged(metric, Pair(slow, quick)).outcome is Outcome.PASSED
    assert judged(metric.model_copy(update={"minimum_effect_s": 10.0}), Pair(quick, slow)).outcome is Outcome.PASSED


def test_latencies_beyond_the_last_bound():
    slow = reading(latencies=(0, 0, 0, 0, 1_000))
    assert judged(Latency(), Pair(reading(), slow)).outcome is Outcome.FAILED
    assert judged(Latency(), Pair(slow, slow)).outcome is Outcome.PASSED


def classes(*counts, names=("a", "b")):
    return (OutputCounts("label", counts, categories=names),)


def numbers(*counts, edges=(0.0, 1.0)):
    return (OutputCounts("value", counts, edges=edges),)


def test_predictions_of_classes():
    pair = Pair(reading(outputs=classes(500, 500, 0)), reading(outputs=classes(500, 500, 0)))
    assert judged(PredictionShift(), pair).outcome is Outcome.PASSED
    found = judged(PredictionShift(), replace(pair, candidate=reading(outputs=classes(900, 100, 0))))
    assert (found.outcome, found.effect) == (Outcome.FAILED, pytest.approx(0.4))
    other = reading(
        outputs=classes(500, 400, 100, names=("a", "c"))
    )  # `b` is among its others, `c` among the champion's
    assert judged(PredictionShift(), replace(pair, candidate=other)).effect == 0.0


def test_predictions_of_numbers():
    pair = Pair(reading(outputs=numbers(300, 400, 300)), reading(outputs=numbers(300, 400, 300)))
    assert judged(PredictionShift(), pair).effect == 0.0
    moved = replace(pair, candidate=reading(outputs=numbers(0, 0, 1_000)))
    assert judged(PredictionShift(), moved).effect == pytest.approx(0.7)
    assert judged(PredictionShift(), replace(pair, candidate=reading())).outcome is Outcome.INCONCLUSIVE


@given(st.lists(st.floats(-3, 3), min_size=20, max_size=60), st.lists(st.floats(-3, 3), min_size=20, max_size=60))
def test_over_different_bins_the_distance_is_never_too_large(first, second):
    def counted(values, edges):
        return OutputCounts("v", np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1).tolist(), edges)

    mine, its = counted(first, (-1.0, 0.0, 1.0)), counted(second, (-1.5, -0.5, 0.0, 2.0))
    pair = Pair(reading(len(first), outputs=(mine,)), reading(len(second), outputs=(its,)))
    found = judged(PredictionShift(min_rows=1), pair)
    assert 0 <= found.effect <= stats.ks_2samp(first, second, method="asymp").statistic + 1e-9


def test_business_values_are_welchs():
    rng = np.random.default_rng(0)
    mine, its = rng.normal(10, 2, 80), rng.normal(8.5, 3, 60)
    pair = Pair(business={"sales": (sample(mine), sample(its))})
    found = judged(BusinessMetric(metric="sales", minimum_effect=0.25), pair)
    expected = stats.ttest_ind(mine - 0.25, its, equal_var=False, alternative="greater").pvalue
    assert found.p_value == pytest.approx(expected, rel=1e-6)
    assert found.outcome is (Outcome.FAILED if expected < found.significance else Outcome.PASSED)
    assert judged(BusinessMetric(metric="sales", direction="lower"), pair).outcome is Outcome.PASSED
    same = Pair(business={"sales": (sample([1.0] * 40), sample([0.0] * 40))})
    assert judged(BusinessMetric(metric="sales"), same).outcome is Outcome.FAILED


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_samples_add_up(first, second):
    both, whole = sample(first).plus(sample(second)), sample(first + second)
    assert both.count == whole.count
    assert both.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-6)
    assert both.squares == pytest.approx(whole.squares, rel=1e-6, abs=1e-3)


def test_looks_share_the_significance():
    levels = [judged(ErrorRate(), Pair(reading(), reading()), look).significance for look in range(1, 1_000)]
    assert levels[0] < 0.01
    assert sum(levels) <= 0.01
    assert math.isclose(sum(levels), 0.01, rel_tol=1e-2)


def test_false_alarms_over_many_looks_are_rare():
    rng, alarms = np.random.default_rng(1), 0
    metric = ErrorRate(minimum_effect=0.0, min_requests=50)
    for _ in range(300):
        errors, outcome = [0, 0], Outcome.PASSED
        for look in range(1, 11):
            errors = [before + int(now) for before, now in zip(errors, rng.binomial(100, 0.05, 2), strict=True)]
            pair = Pair(reading(look * 100, errors[0]), reading(look * 100, errors[1]))
            outcome = judged(metric, pair, look).outcome if outcome is not Outcome.FAILED else outcome
        alarms += outcome is Outcome.FAILED
    assert alarms <= 9  # 1 % of 300 is 3; binomial, more than 9 has a chance below 0.001


def test_figures_that_make_no_sense_conclude_nothing():
    for strange in (reading(latencies=(-500, 2_000, 0, 0, 0)), reading(200, -400), reading(200, 10**9)):
        for metric in (ErrorRate(), Latency(), Latency(statistic="mean")):
            found = judged(metric, Pair(strange, strange))
            assert found.outcome is not Outcome.FAILED


def test_the_whole():
    passed, failed, open_ = Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE
    assert overall([passed, open_, failed]) is failed
    assert overall([passed, open_]) is open_
    assert overall([passed]) is passed
    assert overall([]) is open_
    result = analyse(Analysis(), Pair(reading(), reading(1_000, 500)), 1, NOW, NOW)
    assert result.outcome is failed
    assert in_words(result) == result.metrics[0].why


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000), st.integers(1, 50))
def test_whatever_was_counted_there_is_an_outcome(n, failed, m, failing, look):
    pair = Pair(reading(n, min(n, failed)), reading(m, min(m, failing)))
    result = analyse(Analysis(metrics=[ErrorRate(), Latency(), Latency(statistic="mean")]), pair, look, NOW, NOW)
    for one in result.metrics:
        assert one.p_value is None or 0 <= one.p_value <= 1
        assert one.outcome is not Outcome.FAILED or one.effect > 0
