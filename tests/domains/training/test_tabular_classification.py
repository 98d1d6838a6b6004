"""The recipe for tables without a platform: its scores are scikit-learn's own, and bad tables are refused in words."""

from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import flavour_for
from modelops.domains.training.recipes.frames import read_examples
from modelops.domains.training.recipes.tabular_classification import recipe

SMALL = {"target": "y", "model": "m", "algorithms": ["logistic_regression"], "folds": 2}


class FakeJob:
    """A `JobContext` that keeps everything in memory."""

    dataset_version_id = "dsv_1"

    def __init__(self, table, **parameters):
        self.data = table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False)
        self.parameters = recipe.Parameters.model_validate(parameters)
        self.runs, self.lines, self.registered = [], [], None

    def table(self):
        return self.data

    @contextmanager
    def start_run(self, name, parameters):
        run = SimpleNamespace(id=f"run_{len(self.runs)}", name=name, parameters=parameters, points=[])
        run.log_metrics = lambda metrics, *, step=0: run.points.extend((k, step, v) for k, v in metrics.items())
        run.set_tags = lambda tags: setattr(run, "tags", tags)
        self.runs.append(run)
        yield run

    def register_model(self, name, model, *, sample, outputs, **facts):
        self.registered = SimpleNamespace(name=name, model=model, sample=sample, outputs=outputs, **facts)
        return SimpleNamespace(id="mdv_1")

    def log(self, text):
        self.lines.append(text)


def fit(table, **parameters):
    job = FakeJob(table, **{**SMALL, **parameters})
    job.result = recipe.run(job)
    return job


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def cancer():
    return load_breast_cancer(as_frame=True).frame


@pytest.mark.parametrize(
    ("metric", "scoring", "sign"),
    [
        ("accuracy", "accuracy", 1),
        ("balanced_accuracy", "balanced_accuracy", 1),
        ("f1_macro", "f1_macro", 1),
        ("roc_auc", "roc_auc", 1),
        ("log_loss", "neg_log_loss", -1),
    ],
)
def test_scores_are_scikit_learns_own(cancer, metric, scoring, sign):
    algorithms = {
        "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=5_000, random_state=3)),
        "random_forest": RandomForestClassifier(20, random_state=3),
        "hist_gradient_boosting": HistGradientBoostingClassifier(random_state=3),
    }
    sample = cancer.sample(150, random_state=0)[["mean radius", "mean texture", "worst area", "target"]]
    job = fit(sample, target="target", algorithms=list(algorithms), metric=metric, folds=3, trees=20, seed=3)
    folds = StratifiedKFold(3, shuffle=True, random_state=3)
    features, target = sample.drop(columns="target"), sample["target"].to_numpy()
    means = {}
    assert {run.tags["folds"] for run in job.runs} == {"3 stratified, seed 3, dsv_1, by target"}
    for run, (name, model) in zip(job.runs, algorithms.items(), strict=True):
        expected = sign * cross_val_score(clone(model), features, target, cv=folds, scoring=scoring)
        assert run.name == name
        assert [point for point in run.points if point[0] == f"fold_{metric}"] == [
            (f"fold_{metric}", fold, pytest.approx(score, abs=1e-12)) for fold, score in enumerate(expected)
        ]
        found = {key: value for key, step, value in run.points if not key.startswith("fold_")}
        assert found == {metric: pytest.approx(expected.mean()), f"{metric}_std": pytest.approx(expected.std())}
        means[name] = expected.mean()
    best = min(means, key=means.get) if metric == "log_loss" else max(means, key=means.get)
    board = job.result.summary["leaderboard"]
    assert (job.result.summary["best"], board[0]["algorithm"]) == (best, best)
    assert [line["mean"] for line in board] == pytest.approx(sorted(means.values(), reverse=metric != "log_loss"))
    assert job.result.metrics[metric] == pytest.approx(means[best])
    assert job.result.run_id == next(run.id for run in job.runs if run.name == best)


def test_the_best_is_registered_with_all_that_is_known_of_it(cancer):
    job = fit(cancer, target="target", model="diagnosis", algorithms=["random_forest"], trees=10)
    kept = job.registered
    assert (kept.name, job.result.model_version_id) == ("diagnosis", "mdv_1")
    assert kept.experiment_id == job.result.run_id
    assert kept.metrics == job.result.metrics
    assert kept.parameters["algorithm"] == job.result.summary["best"] == "random_forest"
    assert list(kept.sample.columns) == [name for name in cancer.columns if name != "target"]
    expected = RandomForestClassifier(10, random_state=0).fit(cancer.drop(columns="target"), cancer["target"])
    assert (kept.outputs == expected.predict(cancer.drop(columns="target"))).all()
    assert b"def read_examples" in kept.code
    assert b"class TabularClassification" in kept.code
    assert job.runs[0].parameters["RandomForestClassifier.n_estimators"] == 10


def test_the_same_seed_gives_the_same_scores():
    iris = load_iris(as_frame=True).frame
    algorithms = ["random_forest", "svm", "nearest_neighbours", "hist_gradient_boosting", "logistic_regression"]
    first, second = (fit(iris, target="target", algorithms=algorithms, trees=10, metric="log_loss") for _ in range(2))
    assert first.result == second.result
    assert len(first.runs) == 5


def mixed(rows=60):
    chance = np.random.default_rng(0)
    colour = chance.choice(["red", "green", None], rows)
    size = np.where(chance.random(rows) < 0.2, np.nan, chance.normal(size=rows))
    label = np.where((colour == "red") | (size > 0.5), "yes", "no")
    label[:2] = ["yes", "no"]
    return pa.table(
        {
            "colour": pa.array(colour),
            "shade": pa.array(colour).dictionary_encode(),
            "size": pa.array(size, from_pandas=True),
            "count": pa.array([None if n % 7 == 0 else n for n in range(rows)]),
            "heavy": pa.array([n % 2 == 0 for n in range(rows)]),
            "known": pa.array([None if n % 5 == 0 else n % 2 == 0 for n in range(rows)]),
            "price": pa.array([Decimal(f"{n}.25") for n in range(rows)]),
            "y": pa.array([None if n == 50 else str(value) for n, value in enumerate(label)]),
        }
    )


@pytest.mark.parametrize(
    "algorithm", ["logistic_regression", "random_forest", "hist_gradient_boosting", "svm", "nearest_neighbours"]
)
def test_texts_gaps_and_truth_values_are_learned_from_and_served(algorithm, tmp_path):
    job = fit(mixed(), algorithms=[algorithm], metric="log_loss", trees=10)
    assert any("1 rows without a class" in line for line in job.lines)
    kept = job.registered
    assert set(kept.outputs) == {"yes", "no"}
    kind = flavour_for(kept.model)
    kind.save(kept.model, tmp_path)
    rows = np.array([["red", "red", None, None, True, None, 3.5], ["violet", None, 1, 2, False, True, 1]], dtype=object)
    assert set(kind.load(tmp_path).predict(rows)) <= {"yes", "no"}


def test_a_text_with_very_many_values_does_not_make_as_many_columns():
    rows = 400
    table = pd.DataFrame({"id": [f"id {n}" for n in range(rows)], "x": range(rows), "y": [n % 2 for n in range(rows)]})
    model = fit(table).registered.model
    assert model[:-1].transform(table[["id", "x"]]).shape[1] <= 101


def test_labels_that_a_csv_read_as_floats_are_whole_again():
    table = pa.table({"x": list(range(8)), "y": [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, None, 1.0]})
    assert fit(table).registered.model.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("labels", [[True, False] * 4, ["a", "b"] * 4, [1, 2] * 4, list("abcdabcd")])
def test_classes_of_any_plain_type(labels):
    assert set(fit(pd.DataFrame({"x": range(8), "y": labels})).registered.outputs.tolist()) <= set(labels)


BAD = {
    "no such target": ({"x": [1, 2], "z": [1, 2]}, {}, "no column 'y'"),
    "no such feature": ({"x": [1, 2], "y": [1, 2]}, {"features": ["zzz"]}, "no column 'zzz'"),
    "nothing to learn from": ({"y": [1, 2, 1, 2]}, {}, "no column beside 'y'"),
    "one class": ({"x": [1, 2], "y": [1, 1]}, {}, "one class only"),
    "no class": ({"x": [1, 2], "y": pa.nulls(2, pa.int64())}, {}, "no values"),
    "no rows": ({"x": pa.array([], pa.int64()), "y": pa.array([], pa.int64())}, {}, "no values"),
    "small class": (
        {"x": [1, 2, 3], "y": ["a", "a", "b"]},
        {},
        "class 'b' of the target 'y' has 1 row, fewer than the 2",
    ),
    "measurements": ({"x": [1, 2, 3, 4], "y": [0.5, 1.5] * 2}, {}, "'y' holds fractions"),
    "dates as target": ({"x": [1, 2], "y": [date(2026, 1, 1), date(2026, 1, 2)]}, {}, "names no classes"),
    "dates": ({"x": [date(2026, 1, 1)] * 4, "y": [1, 2, 1, 2]}, {}, "'x' holds date32"),
    "lists": ({"x": [[1], [2], [1], [2]], "y": [1, 2, 1, 2]}, {}, "'x' holds list"),
    "empty": ({"x": pa.nulls(4, pa.float64()), "y": [1, 2, 1, 2]}, {}, "'x' has no values"),
    "nulls": ({"x": pa.nulls(4), "y": [1, 2, 1, 2]}, {}, "'x' has no values"),
    "infinite": ({"x": [1.0, float("inf"), 2.0, 3.0], "y": [1, 2, 1, 2]}, {}, "'x' holds infinities"),
    "svm": (
        {"x": [1, 2, 3, 4], "y": [1, 2, 1, 2]},
        {"algorithms": ["svm"], "metric": "log_loss"},
        "too few to estimate the probabilities",
    ),
}


@pytest.mark.parametrize(("columns", "parameters", "words"), BAD.values(), ids=BAD.keys())
def test_a_table_that_cannot_be_learned_from_is_refused_in_words(columns, parameters, words):
    with pytest.raises(InvalidInput, match=words) as refused:
        fit(pa.table(columns), **parameters)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"folds": 1}, "folds"),
        ({"metric": "r2"}, "metric"),
        ({"algorithms": []}, "algorithms"),
        ({"algorithms": ["svm", "svm"]}, "'svm' occurs twice"),
        ({"features": ["a", "a"]}, "'a' occurs twice"),
        ({"features": ["a", "y"]}, "cannot be a feature too"),
        ({"nope": 1}, "nope"),
    ],
)
def test_parameters_are_refused_before_anything_runs(parameters, words):
    with pytest.raises(ValidationError, match=words):
        recipe.Parameters.model_validate({**SMALL, **parameters})


cells = {
    "number": st.none() | st.floats(-1e6, 1e6),
    "whole": st.none() | st.integers(-1000, 1000),
    "truth": st.none() | st.booleans(),
    "text": st.none() | st.sampled_from(["a", "b", ""]),
}


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({**cells, "y": st.none() | st.sampled_from("pq")}), min_size=1, max_size=20))
def test_any_table_is_read_whole_or_refused(rows):
    kinds = {"number": pa.float64(), "whole": pa.int64(), "truth": pa.bool_(), "text": pa.string(), "y": pa.string()}
    table = pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items())))
    try:
        examples = read_examples(table, "y", None, 2)
    except InvalidInput:
        return
    labelled = [row for row in rows if row["y"] is not None]
    assert examples.target.tolist() == [row["y"] for row in labelled]
    assert examples.without_target == len(rows) - len(labelled)
    for name in cells:
        values = [None if pd.isna(value) else value for value in examples.features[name]]
        assert values == [row[name] for row in labelled]
