"""Autolog: what training calls say is on runs, nested fits are one run, nothing of ours reaches the program, all is undone."""

import importlib
import json
import threading

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelops
from modelops.domains.experiments.schemas import RunStatus
from modelops.sdk.autolog import autolog, estimators
from modelops.sdk.tracking import ExperimentTracker

ROWS = np.array([[n, n % 3] for n in range(60)], dtype=float)
LABELS = (ROWS[:, 0] > 30).astype(int)


@pytest.fixture
def seen(sqlite_platform):
    return sqlite_platform.client().experiments


@pytest.fixture
def tracker(sqlite_platform):
    return ExperimentTracker(sqlite_platform.client(), experiment="fits")


@pytest.fixture
def on(tracker):
    with autolog(tracker=tracker) as handle:
        yield handle


def only(seen):
    [run] = seen.list_runs("fits").items
    return run


def files(seen, run):
    return [file.path for file in seen.list_run_artifacts(run.id).items]


@pytest.mark.usefixtures("on")
def test_a_classifier_leaves_a_run_with_parameters_metrics_and_signature(seen, sqlite_platform):
    model = LogisticRegression(C=0.5)
    assert model.fit(ROWS, LABELS) is model
    run = only(seen)
    assert (run.status, run.name, run.tags) == (RunStatus.FINISHED, "LogisticRegression", {"autolog": "sklearn"})
    assert run.parameters["C"] == 0.5
    assert run.parameters["estimator"].endswith("LogisticRegression")
    assert run.metrics["training.accuracy"] == model.score(ROWS, LABELS)
    assert 0 < run.metrics["training.log_loss"] < 1
    assert files(seen, run) == ["signature.json"]
    [file] = seen.list_run_artifacts(run.id).items
    signature = json.loads(sqlite_platform.client().data.download_artifact(file.digest))
    assert [feature["name"] for feature in signature["inputs"]] == ["x0", "x1"]


@pytest.mark.usefixtures("on")
def test_a_regressor_and_a_clusterer(seen):
    LinearRegression().fit(ROWS, ROWS[:, 0] * 2)
    run = only(seen)
    assert run.metrics["training.r2"] == pytest.approx(1)
    assert run.metrics["training.rmse"] == pytest.approx(0, abs=1e-9)
    KMeans(2, n_init=1).fit(ROWS)
    runs = seen.list_runs("fits").items
    assert [found.name for found in runs] == ["KMeans", "LinearRegression"]
    assert runs[0].metrics == {}


@pytest.mark.usefixtures("on")
def test_what_only_transforms_makes_no_run(tracker):
    StandardScaler().fit(ROWS)
    assert not tracker.spool.exists()


@pytest.mark.usefixtures("on")
def test_a_pipeline_is_one_run(seen):
    make_pipeline(StandardScaler(), LogisticRegression(C=2)).fit(ROWS, LABELS)
    run = only(seen)
    assert run.name == "Pipeline StandardScaler LogisticRegression"
    assert run.parameters["logisticregression__C"] == 2
    assert run.parameters["standardscaler"] == "StandardScaler"


@pytest.mark.usefixtures("on")
@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_a_search_is_one_run_with_a_summary_of_its_candidates(seen, backend):
    import joblib

    with joblib.parallel_backend(backend, n_jobs=2):
        GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0, 10.0]}, cv=3).fit(ROWS, LABELS)
    run = only(seen)
    assert run.name == "GridSearchCV LogisticRegression"
    scores = seen.get_metric_history(run.id, "candidate.mean_test_score").items
    assert [point.step for point in scores] == [0, 1, 2]
    assert run.metrics["best.score"] == max(point.value for point in scores)
    assert run.parameters["best.C"] in (0.01, 1.0, 10.0)
    assert files(seen, run) == ["candidates.json", "signature.json"]


@pytest.mark.usefixtures("on")
def test_fits_inside_of_a_run_add_to_it_and_never_quarrel(seen, tracker):
    with tracker.start_experiment(run_name="mine") as run:
        run.log_param("C", "my own")
        LogisticRegression(C=1.0).fit(ROWS, LABELS)
        LogisticRegression(C=2.0).fit(ROWS, LABELS)
    kept = only(seen)
    assert (kept.name, kept.status) == ("mine", RunStatus.FINISHED)
    assert kept.parameters["C"] == "my own"
    assert (kept.parameters["LogisticRegression.C"], kept.parameters["LogisticRegression-2.C"]) == (1.0, 2.0)
    assert {"LogisticRegression.training.accuracy", "LogisticRegression-2.training.accuracy"} <= kept.metrics.keys()


@pytest.mark.usefixtures("on")
def test_a_fit_that_fails_is_a_failed_run_and_the_programs_own_error(seen):
    with pytest.raises(ValueError, match="inconsistent") as raised:
        LogisticRegression().fit(ROWS, LABELS[:3])
    assert not hasattr(raised.value, "__notes__")
    run = only(seen)
    assert run.status is RunStatus.FAILED
    assert run.reason.startswith("ValueError: Found input variables")


@pytest.mark.parametrize("broken", ["_parameters", "_training_metrics", "_record_package", "_title", "_evaluations"])
def test_whatever_fails_in_recording_stops_no_fit(on, seen, monkeypatch, caplog, broken):
    def fail(*_):
        raise RuntimeError("ours")

    monkeypatch.setattr(estimators, broken, fail)
    model = LogisticRegression().fit(ROWS, LABELS)
    assert model.score(ROWS, LABELS) > 0.9
    assert "RuntimeError: ours" in caplog.text
    if broken != "_title":
        assert only(seen).status is RunStatus.FINISHED


def test_all_is_undone_and_classes_that_come_later_are_patched_meanwhile(tracker, seen):
    before = {kind: vars(kind).get("fit") for kind in (LogisticRegression, GridSearchCV, BaggingClassifier)}
    with autolog(tracker=tracker) as handle:

        class Mine(ClassifierMixin, BaseEstimator):
            def fit(self, rows, y):
                self.classes_ = np.unique(y)
                return self

            def predict(self, rows):
                return np.zeros(len(rows), dtype=int)

        clone(Mine()).fit(ROWS, LABELS)
        assert only(seen).name == "Mine"
        assert hasattr(Mine.fit, "__autolog__")
    assert not hasattr(Mine.fit, "__autolog__")
    assert {kind: vars(kind).get("fit") for kind in before} == before
    assert "__init_subclass__" not in vars(BaseEstimator)
    handle.stop()
    Mine().fit(ROWS, LABELS)
    assert seen.list_runs("fits").total == 1


def test_turning_it_on_again_replaces_it_and_off_takes_it_out(tracker, seen):
    original = LogisticRegression.fit
    first = autolog(tracker=tracker)
    second = modelops.autolog(tracker=tracker, metrics=False)
    first.stop()
    LogisticRegression().fit(ROWS, LABELS)
    assert only(seen).metrics == {}
    autolog(enabled=False)
    second.stop()
    assert LogisticRegression.fit is original


def test_models_are_recorded_where_that_is_asked(tracker, seen):
    with autolog(tracker=tracker, models=True):
        LogisticRegression().fit(ROWS, LABELS)
    run = only(seen)
    assert {"model/model.pkl", "model/sample.json", "signature.json"} <= set(files(seen, run))


@pytest.mark.usefixtures("on")
def test_a_class_that_is_pickled_by_value_takes_nothing_of_ours_along():
    import cloudpickle

    namespace = {"BaseEstimator": BaseEstimator, "__name__": "__main__"}
    exec("class Local(BaseEstimator):\n    def fit(self, X):\n        return self\n", namespace)
    again = cloudpickle.loads(cloudpickle.dumps(namespace["Local"]()))
    assert again.fit(ROWS) is again


@pytest.mark.usefixtures("on")
def test_fits_of_two_threads_do_no_harm(seen):
    models = [LogisticRegression() for _ in range(4)]
    threads = [threading.Thread(target=model.fit, args=(ROWS, LABELS)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(model.score(ROWS, LABELS) > 0.9 for model in models)
    assert {run.status for run in seen.list_runs("fits").items} == {RunStatus.FINISHED}


@pytest.fixture
def needed(missing):
    """Imports a library that a test needs."""

    def imported(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            missing(f"{name} is not installed")

    return imported


def test_curves_of_xgboost(seen, tracker, needed):
    xgboost = needed("xgboost")
    with autolog(tracker=tracker):
        data = xgboost.DMatrix(ROWS, LABELS)
        params = {"objective": "binary:logistic", "eval_metric": "logloss"}
        xgboost.train(params, data, 5, evals=[(data, "train")], verbose_eval=False)
        xgboost.XGBClassifier(n_estimators=3).fit(ROWS, LABELS, eval_set=[(ROWS, LABELS)], verbose=False)
    sklearn_run, run = seen.list_runs("fits").items
    assert run.parameters == {"objective": "binary:logistic", "eval_metric": "logloss", "num_boost_round": 5}
    assert [point.step for point in seen.get_metric_history(run.id, "train.logloss").items] == [0, 1, 2, 3, 4]
    assert seen.get_metric_history(sklearn_run.id, "validation_0.logloss").total == 3
    assert sklearn_run.tags == {"autolog": "xgboost"}


def test_curves_of_lightgbm(seen, tracker, needed):
    lightgbm = needed("lightgbm")
    params = {"objective": "binary", "verbose": -1, "min_data_in_leaf": 5, "num_threads": 1}
    original = lightgbm.train
    with autolog(tracker=tracker, models=True):
        data = lightgbm.Dataset(ROWS, LABELS)
        lightgbm.train(params, data, 4, valid_sets=[data], valid_names=["train"])
    assert lightgbm.train is original
    run = only(seen)
    assert [point.step for point in seen.get_metric_history(run.id, "train.binary_logloss").items] == [0, 1, 2, 3]
    assert run.parameters["num_boost_round"] == 4
    assert files(seen, run) == ["model/model.txt"]
