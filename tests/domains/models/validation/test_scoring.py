"""Figures agree with scikit-learn's, and tests of significance with SciPy's and with what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from modelops.domains.models.validation import scoring
from modelops.domains.models.validation.significance import bootstrap, holm, mcnemar, slice_is_worse

labels = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60)


@given(labels)
def test_figures_of_labels_are_scikit_learns(pairs):
    truth, said = (np.array(column) for column in zip(*pairs, strict=True))
    found = scoring.classification(truth, said, None, None)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, said))
    recalls = [np.mean(said[truth == label] == label) for label in np.unique(truth)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["f1_macro"] == pytest.approx(metrics.f1_score(truth, said, average="macro", zero_division=0))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=60))
def test_figures_of_probabilities_are_scikit_learns(pairs):
    truth = np.array([one for one, _ in pairs])
    chance = np.array([ten for _, ten in pairs]) / 10
    chances = np.column_stack([1 - chance, chance])
    found = scoring.classification(truth, chance > 0.5, [False, True], chances)
    assert found["brier"] == pytest.approx(np.mean((chance - truth) ** 2))
    clipped = np.clip(chances, 1e-15, 1)
    assert found["log_loss"] == pytest.approx(-np.mean(np.log(clipped[np.arange(len(truth)), truth.astype(int)])))
    if 0 < truth.sum() < len(truth):
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, chance))
    else:
        assert "roc_auc" not in found


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=40))
def test_figures_of_numbers_are_scikit_learns(pairs):
    truth, said = (np.array(column) for column in zip(*pairs, strict=True))
    found = scoring.regression(truth, said)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, said))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, said))
    spread = np.sum((truth - truth.mean()) ** 2)
    if spread > 1e-9:
        assert found["r2"] == pytest.approx(metrics.r2_score(truth, said), rel=1e-6, abs=1e-9)


def test_a_target_that_does_not_vary_has_no_r2():
    assert math.isnan(scoring.regression(np.ones(3), np.ones(3))["r2"])


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (np.array([0, 1]), np.array([0.0, 1.0])),
        (np.array(["a", "b"]), np.array(["a", "b"], dtype=object)),
        (np.array([True, False]), np.array([1, 0])),
        (np.array(["1", "2"], dtype=object), np.array([1, 2])),
        (np.array([1.0, 2.0]), np.array(["1", "2"])),
        (np.array([True, None], dtype=object), np.array(["True", "None"])),
    ],
)
def test_equal_labels_are_equal_whatever_they_came_as(truth, said):
    left, right = scoring.alike(truth, said)
    assert (left == right).all()


def test_labels_that_a_model_never_saw_cost_it_the_whole_loss():
    found = scoring.classification(np.array(["z"]), np.array(["a"]), ["a", "b"], np.array([[0.5, 0.5]]))
    assert found["log_loss"] == pytest.approx(-math.log(1e-15))


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(gained, lost):
    candidate = np.array([True] * gained + [False] * lost + [True] * 5)
    champion = np.array([False] * gained + [True] * lost + [True] * 5)
    found = mcnemar(candidate, champion)
    if gained + lost == 0:
        assert (found.p_worse, found.p_better) == (1.0, 1.0)
        return
    assert found.p_worse == pytest.approx(stats.binomtest(gained, gained + lost, alternative="less").pvalue)
    assert found.p_better == pytest.approx(stats.binomtest(gained, gained + lost, alternative="greater").pvalue)


def test_the_bootstrap_agrees_with_the_paired_t_test_on_many_rows():
    luck = np.random.default_rng(1)
    score = luck.normal(-0.05, 1.0, 2_000)
    found = bootstrap(score, np.zeros(2_000))
    assert found.p_worse == pytest.approx(stats.ttest_1samp(score, 0, alternative="less").pvalue, abs=0.02)
    many = np.tile(score, 4)
    assert bootstrap(many, np.zeros(8_000)).p_worse == pytest.approx(
        stats.ttest_1samp(many, 0, alternative="less").pvalue, abs=0.001
    )


@settings(deadline=None)
@given(st.integers(0, 1_000))
def test_the_bootstrap_says_the_same_twice(seed):
    score = np.random.default_rng(seed).normal(size=50)
    assert bootstrap(score, np.zeros(50)) == bootstrap(score, np.zeros(50))


def test_the_same_scores_show_no_difference():
    assert bootstrap(np.ones(9), np.ones(9)).p_worse == 1.0


def test_false_alarms_stay_under_what_was_asked_for():
    luck = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        candidate, champion = luck.random((2, 200)) < 0.8
        alarms += mcnemar(candidate, champion).p_worse <= 0.05
    assert alarms / 400 <= 0.07


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_corrects_upwards_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert all(b >= a for a, b in zip(p_values, corrected, strict=True))
    assert [corrected[i] for i in np.argsort(p_values)] == sorted(corrected)
    assert min(corrected) == pytest.approx(min(1.0, len(p_values) * min(p_values)))


def test_a_slice_without_spread_is_worse_or_is_not():
    assert slice_is_worse(np.zeros(9), np.ones(9)) == 0.0
    assert slice_is_worse(np.ones(9), np.ones(9)) == 1.0
