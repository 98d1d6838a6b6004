"""The statistics of comparisons: the Pareto front, paired tests, importance, groups, scales."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from modelops.domains.experiments import importance
from modelops.domains.experiments.analysis_rules import read_objectives
from modelops.domains.experiments.grouping import summarise
from modelops.domains.experiments.importance import rank_parameters
from modelops.domains.experiments.paired import compare_paired, holm
from modelops.domains.experiments.pareto import pareto_front
from modelops.domains.experiments.scales import Categories, Numbers, scale_of, write_number

SMALL = st.integers(-3, 3).map(float) | st.sampled_from([math.inf, -math.inf])
POINTS = st.integers(1, 4).flatmap(lambda k: arrays(float, st.tuples(st.integers(0, 25), st.just(k)), elements=SMALL))


def dominates(one, other, lower):
    signed = [(a, b) if low else (-a, -b) for a, b, low in zip(one, other, lower, strict=True)]
    return all(a <= b for a, b in signed) and any(a < b for a, b in signed)


@given(POINTS, st.lists(st.booleans(), min_size=4, max_size=4))
def test_nobody_in_the_front_is_beaten_and_everybody_outside_is_beaten_by_one_inside(points, ways):
    lower = np.array(ways[: points.shape[1]])
    front = pareto_front(points, lower)
    for place, point in enumerate(points):
        beaten = [other for n, other in enumerate(points) if front[n] and dominates(other, point, lower)]
        assert bool(beaten) != bool(front[place])
    assert not len(points) or front.any()


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=20), st.floats(0.05, 0.5))
def test_the_corrected_test_is_a_t_test_with_a_wider_variance(apart, tested):
    apart = np.array(apart)
    baseline = np.linspace(0.5, 0.9, len(apart))
    found = compare_paired(baseline + apart, baseline, tested)
    assert found.lower <= found.difference <= found.upper
    assert 0 <= found.p_value <= 1
    differences = (baseline + apart) - baseline
    if np.ptp(differences) < 1e-9:
        return
    plain = stats.ttest_rel(baseline + apart, baseline)
    n = len(apart)
    narrower = math.sqrt((1 / n) / (1 / n + tested / (1 - tested)))
    expected = 2 * stats.t.sf(abs(plain.statistic) * narrower, n - 1)
    assert found.p_value == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert found.p_value >= plain.pvalue - 1e-12
    assert (found.p_value < 0.05) == (not found.lower <= 0 <= found.upper) or found.p_value == pytest.approx(0.05)


def test_without_a_correction_it_is_the_paired_t_test():
    random = np.random.default_rng(0)
    one, other = random.normal(size=10), random.normal(size=10)
    assert compare_paired(one, other, 1e-12).p_value == pytest.approx(stats.ttest_rel(one, other).pvalue, rel=1e-6)


@pytest.mark.parametrize("count", [6, 10, 60])
def test_signed_ranks_are_scipys(count):
    random = np.random.default_rng(count)
    one, other = random.normal(size=count), random.normal(0.3, 1, size=count)
    method = "exact" if count <= 50 else "asymptotic"
    assert compare_paired(one, other, 0.2).wilcoxon == pytest.approx(stats.wilcoxon(one - other, method=method).pvalue)


def test_signed_ranks_take_ties_and_say_nothing_of_few_folds():
    tied = np.array([1.0, 1, 1, -1, 2, 2, 0])
    assert 0 < compare_paired(tied, np.zeros(7), 0.2).wilcoxon <= 1
    assert compare_paired(tied[:5], np.zeros(5), 0.2).wilcoxon is None


def test_the_same_everywhere_is_no_difference_or_one_without_doubt():
    ones = np.ones(5)
    assert compare_paired(ones, ones, 0.2).p_value == 1
    assert compare_paired(ones, np.zeros(5), 0.2).p_value == 0
    with pytest.raises(ValueError, match="too few"):
        compare_paired(ones[:2], ones[:2], 0.2)


def test_the_correction_keeps_its_promise_where_a_plain_test_does_not():
    """Folds that share training rows: the differences of a run with itself, retrained, are correlated."""
    random = np.random.default_rng(1)
    plain, corrected = 0, 0
    for _ in range(400):
        shared = random.normal(0, 0.5)  # what two fits have in common in every fold: ratio 1/4 of the variance
        apart = shared + random.normal(size=5)
        plain += stats.ttest_1samp(apart, 0).pvalue < 0.05
        corrected += compare_paired(apart, np.zeros(5), 0.2).p_value < 0.05
    assert plain / 400 > 0.08
    assert corrected / 400 < 0.07


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert all(0 <= p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(corrected)[order]) == sorted(corrected)
    assert min(corrected) == pytest.approx(min(1, len(p_values) * min(p_values)))


def trials(count, seed=0):
    random = np.random.default_rng(seed)
    parameters, values = [], []
    for n in range(count):
        lr, optimizer = float(10 ** random.uniform(-4, -1)), str(random.choice(["adam", "sgd", "rmsprop"]))
        parameters.append(
            {"lr": lr, "optimizer": optimizer, "noise": float(random.random()), "batch": 32, "id": f"x{n}"}
        )
        values.append(-((math.log10(lr) + 1.5) ** 2) + 0.8 * (optimizer == "adam") + float(random.normal(0, 0.1)))
    return parameters, values


def test_a_forest_finds_what_matters_with_intervals():
    found = rank_parameters("accuracy", *trials(80))
    assert "random forest" in found.method
    assert found.explained > 0.5
    assert [one.parameter for one in found.parameters][:2] == ["lr", "optimizer"]
    lr, _, noise = found.parameters
    assert lr.lower > 0
    assert noise.parameter == "noise"
    assert noise.lower <= noise.importance <= noise.upper < lr.lower
    assert "'id'" in found.message  # a category with a value a run says nothing


def test_it_is_told_when_nothing_can_be_learnt():
    random = np.random.default_rng(3)
    parameters = [{"a": float(random.random())} for _ in range(40)]
    found = rank_parameters("m", parameters, [float(v) for v in random.random(40)])
    assert found.parameters == []
    assert "no better than its mean" in found.message


@pytest.mark.parametrize(("count", "installed"), [(20, True), (80, False)])
def test_few_runs_or_no_forest_leave_rank_correlation(monkeypatch, count, installed):
    if not installed:
        monkeypatch.setattr(importance, "_forest", lambda: None)
    parameters, values = trials(count)
    found = rank_parameters("accuracy", parameters, values)
    assert found.method == "rank correlation"
    by_name = {one.parameter: one for one in found.parameters}
    expected = stats.spearmanr([p["lr"] for p in parameters], values).statistic
    assert by_name["lr"].importance == pytest.approx(abs(expected))
    assert all(0 <= one.lower <= one.importance <= one.upper <= 1 + 1e-9 for one in found.parameters)
    assert all(0 < one.p_value <= 1 for one in found.parameters)
    assert by_name["noise"].lower == 0
    assert by_name["noise"].p_value > 0.05 > by_name["lr"].p_value


def test_a_category_alone_is_found_by_ranks():
    parameters = [{"kind": "abc"[n % 3]} for n in range(15)]
    found = rank_parameters("m", parameters, [float(n % 3) + n / 100 for n in range(15)])
    assert found.parameters[0].importance > 0.9
    assert found.parameters[0].p_value < 0.01


def test_texts_of_numbers_are_numbers():
    parameters = [{"lr": str(n / 10)} for n in range(12)]
    found = rank_parameters("m", parameters, [float(n) for n in range(12)])
    assert found.parameters[0].importance == pytest.approx(1)


@pytest.mark.parametrize(
    ("parameters", "values", "said"),
    [
        ([{"a": n} for n in range(7)], [float(n) for n in range(7)], "below 8"),
        ([{"a": n} for n in range(9)], [1.0, math.nan] + [None] * 7, "1 runs have"),
        ([{"a": n} for n in range(9)], [1.0] * 9, "same in every run"),
        ([{"a": 1} for _ in range(9)], [float(n) for n in range(9)], "No parameter differs"),
        ([{"a": f"v{n}"} for n in range(9)], [float(n) for n in range(9)], "own value: 'a'"),
    ],
)
def test_it_is_refused_with_the_reason(parameters, values, said):
    found = rank_parameters("m", parameters, values)
    assert found.parameters == []
    assert said in found.message


@pytest.mark.parametrize("count", [10, 40])
def test_gaps_lists_and_mixed_values_are_taken(count):
    values = [1, "x", None, [1, 2], 2.5, True]
    parameters = [
        {"mixed": values[n % 6], **({"rare": 1} if n % 2 else {}), **({"gap": n} if n % 3 else {})}
        for n in range(count)
    ]
    found = rank_parameters("m", parameters, [float(n % 2) + n / 1000 for n in range(count)])
    assert found.parameters[0].parameter == "rare"
    assert all(math.isfinite(one.importance) for one in found.parameters)


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.none() | st.floats(-1e6, 1e6) | st.just(math.nan), st.none()),
        max_size=30,
    )
)
def test_groups_hold_every_run_once(rows):
    told = [(f"run{n}", *row) for n, row in enumerate(rows)]
    found = summarise("parameters.p", told, read_objectives(["m:min", "other:max"]), 100)
    assert found.runs == len(rows) == sum(group.runs for group in found.items)
    for group in found.items:
        own = [(run, m) for run, value, m, _ in told if value == group.value and m is not None and math.isfinite(m)]
        summary, empty = group.metrics
        assert (summary.count, empty.count, empty.mean, empty.best_run) == (len(own), 0, None, None)
        if own:
            numbers = [m for _, m in own]
            assert (summary.minimum, summary.maximum) == (min(numbers), max(numbers))
            assert summary.mean == pytest.approx(np.mean(numbers), abs=1e-6)
            assert dict(own)[summary.best_run] == min(numbers)
        assert (summary.deviation is None) == (len(own) < 2)


def test_the_best_group_comes_first_and_those_without_it_last():
    rows = [("r1", "a", 0.9), ("r2", "b", 0.5), ("r3", "c", None), ("r4", "c", None)]
    assert [g.value for g in summarise("p", rows, read_objectives(["m:min"]), 9).items] == ["b", "a", "c"]
    assert [g.value for g in summarise("p", rows, read_objectives(["m:max"]), 9).items] == ["a", "b", "c"]
    assert [g.value for g in summarise("p", [r[:2] for r in rows], [], 1).items] == ["c"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_every_number_has_a_place_and_ticks_lie_inside(values):
    scale = Numbers(values)
    assert all(-1e-6 <= scale.place(value) <= 1 + 1e-6 for value in values)
    assert all(-1e-6 <= place <= 1 + 1e-6 for place, _ in scale.ticks())


def test_scales_are_chosen_by_what_is_there():
    assert isinstance(scale_of([1, 2.5, "3"]), Numbers)
    assert scale_of([1e-4, 1.0]).log
    assert isinstance(scale_of(["a", 1, None]), Categories)
    assert scale_of([None]) is None
    assert scale_of([f"v{n}" for n in range(13)]) is None
    assert (write_number(math.nan), write_number(-math.inf), write_number(1e-7)) == ("NaN", "−∞", "1e−7")
