"""The detector names the features that moved, on any kind of table, at once and window by window."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer

from modelops.contracts.errors import InvalidInput, MonitoringError
from modelops.domains.monitoring.detectors import DriftDetector, detect_drift

CANCER = load_breast_cancer(as_frame=True).data
SHIFTED = {"mean radius", "worst symmetry", "area error"}


def split(seed, shifted=()):
    shuffled = CANCER.sample(frac=1, random_state=seed)
    live = shuffled[300:].sample(1000, replace=True, random_state=seed)
    return shuffled[:300], live.assign(**{name: live[name] + live[name].std() for name in shifted})


def normal(rows, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(size=(rows, 2)) + shift


def test_exactly_the_shifted_features_of_real_data_are_named():
    training, _ = split(0)
    resampled = training.sample(600, replace=True, random_state=1)
    assert not detect_drift(training, resampled).drifted
    moved = resampled.assign(**{name: resampled[name] + resampled[name].std() for name in SHIFTED})
    assert set(detect_drift(training, moved).drifted_columns) == SHIFTED


def test_exactly_the_shifted_features_are_named_in_a_holdout():
    training, held_out = split(2)
    live = held_out.drop_duplicates()
    assert not detect_drift(training, live).drifted
    moved = live.assign(**{name: live[name] + live[name].std() for name in SHIFTED})
    assert set(detect_drift(training, moved).drifted_columns) == SHIFTED


@pytest.mark.parametrize(
    "kind",
    [pd.DataFrame, lambda d: pa.table(d), lambda d: pd.DataFrame(d).to_dict("records"), dict],
    ids=["frame", "arrow", "records", "columns"],
)
def test_any_kind_of_table_is_taken(kind):
    luck = np.random.default_rng(0)
    data = {"b": luck.random(400) < 0.5, "x": luck.normal(size=400), "c": luck.choice(["u", "v"], 400)}
    detector = DriftDetector(kind(data))
    assert not detector.detect_drift(kind(data)).drifted
    assert detector.detect_drift(kind({**data, "b": ~data["b"] | data["b"]})).drifted_columns == ["b"]
    assert detector.detect_drift(kind({**data, "x": data["x"] + 2})).drifted_columns == ["x"]


def test_the_columns_are_found_by_name():
    training, live = split(3)
    assert detect_drift(training, live[live.columns[::-1]]).columns == detect_drift(training, live).columns


def test_predictions_drift_without_their_inputs():
    said = np.array([0, 1] * 250)
    detector = DriftDetector(normal(500), predictions=said)
    same = normal(500, seed=1)
    assert not detector.detect_drift(same, said).drifted
    result = detector.detect_drift(same, np.ones(500))
    assert result.drifted_columns == ["prediction"]
    assert {column.role for column in result.columns} == {"input", "output"}
    assert {column.role for column in detector.detect_drift(same).columns} == {"input"}
    with pytest.raises(InvalidInput, match="reference predictions"):
        DriftDetector(normal(500)).detect_drift(same, said)


def test_windows_of_rows_are_compared_when_they_are_full():
    detector = DriftDetector(normal(1000), detection_window=300)
    assert detector.update(normal(200, 1)) is None
    assert detector.update(normal(200, 2)).drifted is False
    result = detector.update(normal(300, 3, shift=2.0))
    assert (result.rows, result.drifted) == (300, True)


def test_windows_of_time_end_with_the_first_batch_after_them():
    start, minute = datetime(2026, 1, 1, tzinfo=UTC), timedelta(minutes=1)
    detector = DriftDetector(normal(1000), detection_window=10 * minute)
    assert detector.update(normal(300, 1), at=start) is None
    assert detector.update(normal(100, 2), at=start + 9 * minute) is None
    first = detector.update(normal(200, 3, shift=2.0), at=start + 10 * minute)
    assert (first.rows, first.drifted) == (400, False)
    second = detector.update(normal(50, 4), at=start.replace(tzinfo=None) + 30 * minute)
    assert (second.rows, second.drifted) == (200, True)


def test_a_batch_that_does_not_fit_changes_nothing():
    for window in (100, timedelta(seconds=1)):
        detector = DriftDetector(normal(500), detection_window=window)
        late = datetime(2026, 1, 1, tzinfo=UTC)
        assert detector.update(normal(60), at=late) is None
        with pytest.raises(InvalidInput):
            detector.update(np.zeros((60, 3)), at=late + timedelta(hours=1))
        assert detector.update(normal(40), at=late + timedelta(hours=1)).rows == (100 if window == 100 else 60)


def test_a_result_reads_well():
    training, live = split(5, shifted=["mean radius"])
    result = detect_drift(training, live)
    assert "mean radius" in result.drifted_columns
    assert result.summary().startswith(f"{len(live)} rows against 300: ")
    lines = str(result).splitlines()
    assert len(lines) == 2 + 30
    assert lines[2].startswith("DRIFT")
    assert json.loads(json.dumps(result.to_dict()))["drifted"] is True
    assert "no drift" in detect_drift(training, training).summary()


def test_what_cannot_be_done_is_told():
    for nothing in (np.empty((0, 2)), []):
        with pytest.raises(MonitoringError, match="no rows"):
            DriftDetector(normal(5)).detect_drift(nothing)
    with pytest.raises(InvalidInput, match="lacks the columns: a"):
        detect_drift([{"a": 1.0}], [{"b": 1.0}])
    with pytest.raises(InvalidInput, match="2 are expected"):
        detect_drift(normal(5), np.zeros((5, 3)))
    for wrong in ({"alert_threshold": 0.0}, {"minimum_effect": -1}, {"detection_window": 0}):
        with pytest.raises(InvalidInput):
            DriftDetector(normal(5), **wrong)
