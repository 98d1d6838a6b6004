"""The tests of drift keep their size, and find what moved: in the middle, in the tails, in what is missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelops.contracts.errors import InvalidInput, MonitoringError
from modelops.domains.monitoring.drift import compare, holm
from modelops.domains.monitoring.sketches import Sketcher, build_reference


def judge(reference, live, rate=0.01, least=0.0):
    profile = build_reference(reference)
    sketcher = Sketcher(profile)
    sketcher.add(live)
    pairs = [("input", c, s) for c, s in zip(profile.inputs, sketcher.take()[0], strict=True)]
    return compare(pairs, false_alarm_rate=rate, minimum_effect=least)


def column(values):
    return np.asarray(values)[:, None]


def power(alternative, repetitions=60, least=0.0):
    luck = np.random.default_rng(7)
    found = [
        judge(luck.normal(size=(1000, 1)), column(alternative(luck)), least=least)[0].drifted
        for _ in range(repetitions)
    ]
    return np.mean(found)


def tail(share, distance):
    def draw(luck):
        values = luck.normal(size=1000)
        values[: int(1000 * share)] += distance
        return values

    return draw


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_at_least_each_p_value_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert [adjusted[index] for index in order] == sorted(adjusted)


def test_holm_is_holms():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(("correlated", "repetitions"), [(False, 80), (True, 200)], ids=["independent", "correlated"])
def test_thirty_features_that_did_not_move_rarely_raise_an_alarm(correlated, repetitions):
    luck, alarms = np.random.default_rng(1), 0
    mixing = luck.normal(size=(30, 30)) if correlated else np.eye(30)
    for _ in range(repetitions):
        reference, live = luck.normal(size=(1000, 30)) @ mixing, luck.normal(size=(1000, 30)) @ mixing
        alarms += any(found.drifted for found in judge(reference, live))
    assert alarms / repetitions < 0.05


@pytest.mark.parametrize(
    "draw",
    [
        lambda luck, rows: np.exp(2 * luck.normal(size=(rows, 30))),
        lambda luck, rows: luck.standard_cauchy((rows, 30)),
        lambda luck, rows: luck.poisson(0.3, (rows, 30)).astype(float),
        lambda luck, rows: np.where(luck.random((rows, 30)) < 0.02, np.nan, luck.normal(size=(rows, 30))),
    ],
    ids=["lognormal", "cauchy", "counts", "holes"],
)
@pytest.mark.parametrize("rows", [10, 300])
def test_no_column_raises_more_alarms_than_its_rate(draw, rows):
    luck = np.random.default_rng(2)
    p_values = [f.p_value for _ in range(25) for f in judge(draw(luck, 2000), draw(luck, rows))]
    for rate in (0.05, 0.01):
        allowed = stats.binom.ppf(0.9999, len(p_values), rate)
        assert np.sum(np.array(p_values) <= rate) <= allowed


def test_a_small_shift_is_seen_where_the_reference_is_large():
    luck = np.random.default_rng(3)
    profile = luck.normal(size=(20_000, 1))
    assert np.mean([judge(profile, luck.normal(size=(1000, 1)) + 0.2)[0].drifted for _ in range(60)]) >= 0.97


@pytest.mark.parametrize(
    ("alternative", "least"),
    [
        (lambda luck: luck.normal(size=1000) + 0.2, 0.8),
        (lambda luck: luck.normal(size=1000) * 1.25, 0.95),
        (lambda luck: luck.standard_t(3, 1000), 0.95),
        (lambda luck: np.minimum(luck.normal(size=1000), 1.4), 0.9),
        (tail(0.02, 5), 0.95),
        (tail(0.05, 3), 0.95),
    ],
    ids=["shift", "scale", "heavy tails", "clipped", "2 per cent by 5", "5 per cent by 3"],
)
def test_power_on_a_thousand_rows_each(alternative, least):
    assert power(alternative) >= least


def test_a_tail_that_moved_far_is_named_though_few_rows_moved():
    assert power(tail(0.02, 15), 20, least=0.1) == 1.0
    found = judge(*(column(f(np.random.default_rng(n))) for n, f in enumerate((tail(0, 0), tail(0.02, 15)))), least=0.1)
    assert (found[0].test, found[0].effect < 0.1, found[0].shift > 0.2) == ("tails", True, True)


def test_significant_but_small_is_no_drift():
    luck = np.random.default_rng(4)
    (found,) = judge(luck.normal(size=(50_000, 1)), luck.normal(size=(50_000, 1)) + 0.05, least=0.1)
    assert found.adjusted_p_value < 0.01
    assert not found.drifted


def test_the_shift_is_wassersteins():
    luck = np.random.default_rng(5)
    a, b = luck.normal(size=5000), luck.normal(size=5000) * 1.5 + 0.3
    (found,) = judge(column(a), column(b))
    assert found.shift == pytest.approx(stats.wasserstein_distance(a, b) / a.std(ddof=1), rel=0.1)
    assert found.effect == pytest.approx(stats.ks_2samp(a, b).statistic, abs=0.01)


def categories(*counts):
    return column(np.repeat([f"c{n}" for n in range(len(counts))], counts).astype(object))


def test_categories_that_shift_come_or_go_are_drift():
    reference = categories(500, 300, 200)
    assert not judge(reference, categories(50, 30, 20))[0].drifted
    moved = judge(reference, categories(300, 300, 400))[0]
    assert (moved.drifted, moved.test, moved.effect) == (True, "chi_squared", pytest.approx(0.2))
    fresh = judge(reference, categories(480, 290, 190, 40))[0]
    assert (fresh.drifted, fresh.test) == (True, "rare_categories")


def test_one_new_category_among_many_rows_is_chance():
    (found,) = judge(categories(60_000, 40_000), categories(60, 40, 1))
    assert found.p_value > 1e-4
    (found,) = judge(categories(100_000), categories(99, 1))
    assert found.p_value > 1e-4


def test_a_hole_that_opens_is_drift():
    values = np.random.default_rng(6).normal(size=1000)
    (found,) = judge(column(values), column(np.where(np.arange(1000) % 5 == 0, np.nan, values)), least=0.1)
    assert (found.drifted, found.test, found.missing_current) == (True, "missing_values", 0.2)
    (found,) = judge(column(values), column(np.full(1000, np.nan)), least=0.1)
    assert (found.drifted, found.shift, found.current_mean) == (True, None, None)


@pytest.mark.parametrize(
    ("reference", "live"),
    [
        (np.ones((50, 1)), np.ones((50, 1))),
        (np.full((50, 1), np.nan), np.full((50, 1), np.nan)),
        (np.zeros((1, 1)), np.arange(500.0)[:, None]),
        (np.arange(500.0)[:, None], np.zeros((1, 1))),
        (np.full((20, 1), np.inf), np.full((20, 1), np.inf)),
    ],
    ids=["constant", "all missing", "one reference row", "one live row", "all infinite"],
)
def test_what_says_nothing_is_no_drift(reference, live):
    assert not judge(reference, live)[0].drifted


def test_a_constant_that_changed_and_one_that_came_are_drift():
    assert judge(np.ones((200, 1)), np.full((200, 1), 2.0), least=0.1)[0].drifted
    assert judge(np.full((200, 1), np.nan), np.ones((200, 1)), least=0.1)[0].drifted


def test_what_cannot_be_compared_is_told():
    profile = build_reference(np.zeros((5, 1)))
    other = Sketcher(build_reference(np.arange(5.0)[:, None]))
    with pytest.raises(MonitoringError, match="no rows"):
        judge(np.zeros((5, 1)), np.empty((0, 1)))
    with pytest.raises(MonitoringError, match="no rows"):
        compare([], false_alarm_rate=0.01, minimum_effect=0.1)
    other.add(np.zeros((1, 1)))
    with pytest.raises(InvalidInput, match="not of this reference"):
        compare([("input", profile.inputs[0], other.take()[0][0])], false_alarm_rate=0.01, minimum_effect=0.1)
