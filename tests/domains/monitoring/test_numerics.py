"""Sketches add up exactly, and drift is named where it is and not where it is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput, MonitoringError
from modelops.domains.monitoring.detectors import DriftDetector, detect_drift
from modelops.domains.monitoring.drift import holm
from modelops.domains.monitoring.sketches import Sketcher, build_reference, merge

numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)
tables = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=60).map(lambda rows: np.array(rows, dtype=float))


@settings(max_examples=80, deadline=None)
@given(reference=tables, live=tables, cuts=st.lists(st.integers(1, 30), max_size=5))
def test_counts_are_conserved_whatever_the_batches(reference, live, cuts):
    profile = build_reference(reference)
    whole, parts = Sketcher(profile), Sketcher(profile)
    whole.add(live)
    start = 0
    for cut in [*cuts, len(live)]:
        parts.add(live[start : start + cut])
        start += cut
    (a, _, rows), (b, _, same) = whole.take(), parts.take()
    assert rows == same == len(live)
    for one, other in zip(a, b, strict=True):
        assert one.counts == other.counts
        assert sum(one.counts) + one.missing == len(live)
        assert np.isfinite([one.sum, one.sum_squares]).all()


@settings(max_examples=40, deadline=None)
@given(reference=tables, one=tables, two=tables)
def test_merging_is_adding_in_any_order(reference, one, two):
    profile = build_reference(reference)

    def sketch(*batches):
        sketcher = Sketcher(profile)
        for batch in batches:
            sketcher.add(batch)
        return sketcher.take()[0]

    together = sketch(one, two)
    for merged in (merge([sketch(one), sketch(two)]), merge([sketch(two), sketch(one)])):
        assert [column.counts for column in merged] == [column.counts for column in together]
        assert [column.missing for column in merged] == [column.missing for column in together]


def test_categories_numbers_and_missing_values_each_have_their_place():
    rows = [{"city": "Ulm", "size": 1.0}, {"city": "Bonn", "size": None}, {"city": None, "size": 3.0}]
    profile = build_reference(rows, [0, 1, 1])
    city, size = profile.inputs
    assert (city.kind, city.categories, city.missing) == ("categorical", ["Bonn", "Ulm"], 1)
    assert (size.kind, size.missing, size.mean) == ("numeric", 1, 2.0)
    assert profile.outputs[0].categories == ["1", "0"]
    sketcher = Sketcher(profile)
    sketcher.add(np.array([["Ulm", 2.0], ["Rom", np.nan]], dtype=object), np.array([1, 7]))
    inputs, outputs, rows = sketcher.take()
    assert (rows, inputs[0].counts, outputs[0].counts) == (2, [0, 1, 1], [1, 0, 1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_at_least_each_p_value_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    assert all(a >= p or a == 1.0 for a, p in zip(adjusted, p_values, strict=True))
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert [adjusted[index] for index in order] == sorted(adjusted)


def test_without_drift_thirty_correlated_features_rarely_raise_an_alarm():
    luck = np.random.default_rng(1)
    alarms = 0
    for _ in range(100):
        mixing = luck.normal(size=(30, 30))
        reference, live = luck.normal(size=(1000, 30)) @ mixing, luck.normal(size=(1000, 30)) @ mixing
        alarms += DriftDetector(reference, alert_threshold=0.05, minimum_effect=0).detect_drift(live).drifted
    assert alarms <= 8


def test_a_small_shift_is_seen():
    luck = np.random.default_rng(2)
    seen = 0
    for _ in range(50):
        reference, live = luck.normal(size=(1000, 1)), luck.normal(size=(1000, 1)) + 0.2
        seen += DriftDetector(reference, minimum_effect=0).detect_drift(live).drifted
    assert seen >= 44


def test_exactly_the_shifted_features_of_real_data_are_named():
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).data
    live = frame.sample(600, replace=True, random_state=3)
    assert not detect_drift(frame, live).drifted
    shifted = live.copy()
    shifted["mean radius"] *= 1.3
    shifted["worst symmetry"] += 0.15
    result = detect_drift(frame, shifted)
    assert set(result.drifted_columns) == {"mean radius", "worst symmetry"}
    assert "DRIFT" in str(result)


def test_new_categories_and_missing_values_are_drift():
    reference = [{"c": "ab"[n % 2], "x": float(n)} for n in range(500)]
    assert detect_drift(reference, [{**row, "c": "z"} for row in reference]).drifted_columns == ["c"]
    holes = [{**row, "x": None if n % 2 else row["x"]} for n, row in enumerate(reference)]
    assert detect_drift(reference, holes).drifted_columns == ["x"]


def test_windows_are_compared_when_they_are_full():
    luck = np.random.default_rng(4)
    detector = DriftDetector(luck.normal(size=(1000, 2)), detection_window=300)
    assert detector.update(luck.normal(size=(200, 2))) is None
    assert detector.update(luck.normal(size=(200, 2))).drifted is False
    assert detector.update(luck.normal(size=(300, 2)) + 2).drifted is True


def test_what_cannot_be_compared_is_told():
    with pytest.raises(InvalidInput, match="at least one row"):
        build_reference(np.empty((0, 3)))
    with pytest.raises(InvalidInput):
        build_reference(np.zeros(3))
    with pytest.raises(MonitoringError):
        DriftDetector(np.zeros((5, 1))).detect_drift(np.empty((0, 1)))
    with pytest.raises(InvalidInput):
        detect_drift([{"a": 1.0}], [{"b": 1.0}])
    assert not detect_drift(np.ones((50, 1)), np.ones((50, 1))).drifted
    assert not detect_drift(np.full((50, 1), np.nan), np.full((50, 1), np.nan)).drifted
