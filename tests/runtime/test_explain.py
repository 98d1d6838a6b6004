"""Explanations of real models: they add up, and they are Shapley values."""

import itertools
import math
import time

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from modelops.contracts.errors import DeploymentError, InvalidInput, Unavailable
from modelops.domains.models.flavours.callable import CallablePredictor
from modelops.domains.models.flavours.lightgbm import LightGBMPredictor
from modelops.domains.models.flavours.sklearn import SklearnPredictor
from modelops.domains.models.flavours.xgboost import XGBoostPredictor
from modelops.domains.models.signatures import infer_signature
from modelops.domains.serving.schemas import ExplainMethod
from modelops.runtime.serving.explaining.explain import Explainer
from modelops.runtime.serving.explaining.turns import Pace, Turns
from modelops.runtime.serving.explaining.wishes import Wish, wish_of
from modelops.runtime.serving.failures import DeadlineExceeded

CANCER, TUMOUR = load_breast_cancer(return_X_y=True)
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
IRIS, SPECIES = load_iris(return_X_y=True)


def explained(model, data, rows=4, sample=True):
    predictor = SklearnPredictor(model) if hasattr(model, "get_params") else CallablePredictor(model)
    explainer = Explainer(predictor, infer_signature(data), data[::8].tolist() if sample else None)
    return explainer.explain(data[:rows].tolist())


def totals(answer):
    return np.array(answer["base_values"]) + np.array(answer["attributions"]).sum(axis=2)


CASES = [
    (RandomForestClassifier(20, random_state=0), CANCER, TUMOUR, "tree", "probability"),
    (RandomForestClassifier(20, random_state=0), IRIS, SPECIES, "tree", "probability"),
    (DecisionTreeClassifier(random_state=0), CANCER, TUMOUR, "tree", "probability"),
    (make_pipeline(StandardScaler(), RandomForestClassifier(9, random_state=0)), IRIS, SPECIES, "tree", "probability"),
    (GradientBoostingClassifier(n_estimators=20, random_state=0), CANCER, TUMOUR, "tree", "log_odds"),
    (HistGradientBoostingClassifier(max_iter=20), CANCER, TUMOUR, "tree", "log_odds"),
    (RandomForestRegressor(20, random_state=0), DIABETES, PROGRESS, "tree", "prediction"),
    (RandomForestRegressor(9, random_state=0), DIABETES, np.column_stack([PROGRESS] * 2), "tree", "prediction"),
    (ExtraTreesRegressor(20, random_state=0), DIABETES, PROGRESS, "tree", "prediction"),
    (GradientBoostingRegressor(n_estimators=20, random_state=0), DIABETES, PROGRESS, "tree", "prediction"),
    (HistGradientBoostingRegressor(max_iter=20), DIABETES, PROGRESS, "tree", "prediction"),
    (LinearRegression(), DIABETES, PROGRESS, "linear", "prediction"),
    (LinearRegression(), DIABETES, np.column_stack([PROGRESS, -PROGRESS]), "linear", "prediction"),
    (make_pipeline(StandardScaler(), Ridge()), DIABETES, PROGRESS, "linear", "prediction"),
    (make_pipeline(StandardScaler(), LogisticRegression()), CANCER, TUMOUR, "linear", "log_odds"),
    (LogisticRegression(max_iter=900), IRIS, SPECIES, "linear", "raw"),
    (LinearSVC(), IRIS, SPECIES, "linear", "raw"),
    (PoissonRegressor(), DIABETES, PROGRESS, "exact", "prediction"),
    (make_pipeline(PolynomialFeatures(2), Ridge()), DIABETES, PROGRESS, "exact", "prediction"),
    (KNeighborsClassifier(), IRIS, SPECIES, "exact", "probability"),
    (SVC(), IRIS, SPECIES, "exact", "raw"),
    (IsolationForest(n_estimators=5, random_state=0), IRIS, None, "exact", "raw"),
    (KNeighborsClassifier(), CANCER, TUMOUR, "permutation", "probability"),
]


@pytest.mark.parametrize(
    ("model", "data", "target", "method", "space"), CASES, ids=lambda value: type(value).__name__[:20]
)
def test_attributions_add_up_to_the_model_s_output(model, data, target, method, space):
    model.fit(data, target)
    answer = explained(model, data)

    assert (answer["method"], answer["explains"]) == (method, space)
    outputs = {"probability": "predict_proba", "prediction": "predict"}.get(space, "decision_function")
    expected = np.asarray(getattr(model, outputs)(data[:4]), dtype=float).reshape(4, -1)
    assert len(answer["outputs"]) == expected.shape[1]
    assert np.shape(answer["attributions"]) == (4, expected.shape[1], data.shape[1])
    np.testing.assert_allclose(totals(answer), expected, atol=1e-6)


def shapley(function, row, background):
    """Shapley values by their definition: a feature's mean contribution over all orders of arrival."""
    count = len(row)

    def worth(present):
        mixed = background.copy()
        mixed[:, list(present)] = row[list(present)]
        return function(mixed).mean()

    values = np.zeros(count)
    for feature in range(count):
        others = [other for other in range(count) if other != feature]
        for size in range(count):
            share = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for group in itertools.combinations(others, size):
                values[feature] += share * (worth((*group, feature)) - worth(group))
    return values


@pytest.mark.parametrize(
    "model",
    [KNeighborsClassifier(), make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())],
    ids=["exact", "linear"],
)
def test_they_are_shapley_values_by_definition(model):
    model.fit(IRIS, SPECIES == 1)
    answer = explained(model, IRIS)
    ask = model.decision_function if answer["method"] == "linear" else lambda rows: model.predict_proba(rows)[:, 1]

    expected = [shapley(ask, row, IRIS[::8]) for row in IRIS[:4]]

    np.testing.assert_allclose(np.array(answer["attributions"])[:, -1], expected, atol=1e-9)
    assert answer["outputs"][-1] == "True"


def test_a_function_is_explained():
    answer = explained(lambda rows: rows[:, 0] * rows[:, 1], IRIS)

    np.testing.assert_allclose(totals(answer)[:, 0], IRIS[:4, 0] * IRIS[:4, 1], atol=1e-9)
    np.testing.assert_allclose(np.array(answer["attributions"])[:, 0, 2:], 0, atol=1e-9)
    assert answer["outputs"] == ["prediction"]


def test_the_same_rows_get_the_same_explanation():
    model = KNeighborsClassifier().fit(CANCER, TUMOUR)
    explainer = Explainer(SklearnPredictor(model), infer_signature(CANCER), CANCER[::20].tolist())

    first = explainer.explain(CANCER[:1].tolist())

    assert explainer.explain(CANCER[:1].tolist()) == first


def test_a_mixed_table_is_explained_by_its_own_columns():
    table = pd.DataFrame({"city": list("abab") * 5, "size": np.arange(20.0), "new": [True, False] * 10})
    prepare = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city", "new"]), (StandardScaler(), ["size"])
    )
    model = make_pipeline(prepare, LogisticRegression()).fit(table, table["size"] > 9)
    rows = table.astype(object).to_numpy().tolist()
    explainer = Explainer(SklearnPredictor(model), infer_signature(table), rows)

    answer = explainer.explain([*rows[:2], ["unseen", 3.0, False]])

    assert answer["feature_names"] == ["city", "size", "new"]
    asked = pd.concat([table[:2], pd.DataFrame({"city": ["unseen"], "size": [3.0], "new": [False]})])
    np.testing.assert_allclose(totals(answer), model.predict_proba(asked), atol=1e-6)


def test_without_a_sample_only_trees_are_explained():
    forest = RandomForestClassifier(5, random_state=0).fit(IRIS, SPECIES)
    assert explained(forest, IRIS, sample=False)["method"] == "tree"
    for model in (LogisticRegression(max_iter=900), KNeighborsClassifier()):
        with pytest.raises(DeploymentError, match=r"no `sample\.json`"):
            explained(model.fit(IRIS, SPECIES), IRIS, sample=False)


def test_what_cannot_be_explained_says_why():
    with pytest.raises(DeploymentError, match="not numbers"):
        explained(lambda rows: ["a"] * len(rows), IRIS)
    with pytest.raises(InvalidInput, match="takes 100 at once"):
        explained(lambda rows: rows[:, 0], IRIS, rows=101)


def explainer_of(model, data, sample=None, turns=None):
    predictor = SklearnPredictor(model) if hasattr(model, "get_params") else CallablePredictor(model)
    rows = (data[::8] if sample is None else sample).tolist()
    return Explainer(predictor, infer_signature(data), rows, turns)


@pytest.mark.parametrize("method", [None, *ExplainMethod])
def test_a_method_can_be_chosen_among_those_that_fit(method):
    explainer = explainer_of(RandomForestClassifier(5, random_state=0).fit(IRIS, SPECIES), IRIS)

    if method is ExplainMethod.LINEAR:
        with pytest.raises(InvalidInput, match="'linear' is not for this model") as refused:
            explainer.explain(IRIS[:1].tolist(), Wish(method))
        assert refused.value.hint == "These are: tree, exact, permutation."
        return
    answer = explainer.explain(IRIS[:2].tolist(), Wish(method))

    assert answer["method"] == (method or "tree")
    np.testing.assert_allclose(totals(answer), explainer._predictor.predict_proba(IRIS[:2]), atol=1e-9)
    assert (answer["standard_errors"] is None) == (method is not ExplainMethod.PERMUTATION)


def test_estimates_are_as_far_off_as_they_say():
    """The errors, in standard errors, of many estimates: about one on average."""
    model = RandomForestClassifier(9, max_depth=4, random_state=0).fit(CANCER[:, :8], TUMOUR)
    explainer = explainer_of(model, CANCER[:, :8], CANCER[::16, :8])
    rows = CANCER[:12, :8].tolist()

    true = np.array(explainer.explain(rows, Wish(ExplainMethod.EXACT))["attributions"])[:, 1]
    answer = explainer.explain(rows, Wish(ExplainMethod.PERMUTATION, 14 * 50))
    off = np.array(answer["attributions"])[:, 1] - true
    errors = np.array(answer["standard_errors"])[:, 1]

    assert answer["evaluations"] == 700
    assert (errors > 0).all()
    assert 0.4 < np.sqrt(np.mean((off / errors) ** 2)) < 1.5
    better = explainer.explain(rows, Wish(ExplainMethod.PERMUTATION, 14 * 800))
    assert np.mean(better["standard_errors"]) < 0.4 * np.mean(answer["standard_errors"])


@given(
    features=st.integers(1, 5),
    rows=st.integers(1, 3),
    others=st.integers(1, 6),
    evaluations=st.integers(16, 200),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=60, deadline=None)
def test_any_function_s_shares_add_up_and_are_shapley_values(features, rows, others, evaluations, seed):
    generator = np.random.default_rng(seed)
    weights, data = generator.normal(size=(features, features)), generator.normal(size=(rows + others, features))

    def model(matrix):
        return np.einsum("ni,ij,nj->n", matrix, weights, np.sign(matrix)) + 3

    explainer = explainer_of(model, data, data[rows:])
    exact = explainer.explain(data[:rows].tolist(), Wish(ExplainMethod.EXACT))
    sampled = explainer.explain(data[:rows].tolist(), Wish(ExplainMethod.PERMUTATION, evaluations))

    np.testing.assert_allclose(totals(exact)[:, 0], model(data[:rows]), atol=1e-9)
    np.testing.assert_allclose(totals(sampled)[:, 0], model(data[:rows]), atol=1e-9)
    for row, found in zip(data[:rows], exact["attributions"], strict=True):
        np.testing.assert_allclose(found[0], shapley(model, row, data[rows:]), atol=1e-9)


def test_a_linear_function_is_estimated_without_error():
    weights = np.arange(30.0)
    explainer = explainer_of(lambda rows: rows @ weights, CANCER, CANCER[:64])

    answer = explainer.explain(CANCER[:2].tolist(), Wish(max_evaluations=58 * 64))

    assert answer["method"] == "permutation"
    expected = weights * (CANCER[:2] - CANCER[:64].mean(axis=0))
    np.testing.assert_allclose(np.array(answer["attributions"])[:, 0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("wish", [Wish(), Wish(ExplainMethod.PERMUTATION)])
def test_one_feature_has_it_all(wish):
    answer = explainer_of(lambda rows: rows[:, 0] ** 2, IRIS[:, :1]).explain([[3.0]], wish)

    assert answer["base_values"][0] + answer["attributions"][0][0][0] == pytest.approx(9.0)


def test_a_budget_that_is_too_small_says_so():
    explainer = explainer_of(KNeighborsClassifier().fit(IRIS, SPECIES), IRIS)

    assert explainer.explain([IRIS[0].tolist()], Wish(max_evaluations=100))["method"] == "permutation"
    with pytest.raises(InvalidInput, match="too few") as refused:
        explainer.explain([IRIS[0].tolist()], Wish(max_evaluations=11))
    assert "Allow 12 or more" in refused.value.hint
    with pytest.raises(InvalidInput, match="within these evaluations"):
        explainer.explain([IRIS[0].tolist()], Wish(ExplainMethod.EXACT, 100))


def test_a_row_is_explained_once():
    asked = []

    def model(rows):
        asked.append(len(rows))
        return rows[:, 0] * rows[:, 1]

    explainer = explainer_of(model, IRIS)
    first = explainer.explain(IRIS[:3].tolist())
    cost, _ = sum(asked), asked.clear()

    assert explainer.explain(IRIS[:3].tolist()) == first
    assert not asked
    again = explainer.explain(IRIS[[2, 5, 0, 5]].tolist())
    assert sum(asked) < cost / 2
    assert again["attributions"][0] == first["attributions"][2]
    assert again["attributions"][1] == again["attributions"][3]


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr("modelops.runtime.serving.explaining.explained._MOST_ROWS", 2)
    explainer = explainer_of(lambda rows: rows[:, 0], IRIS)

    explainer.explain(IRIS[:5].tolist())
    for budget in range(20, 40):
        explainer.explain(IRIS[:1].tolist(), Wish(ExplainMethod.PERMUTATION, budget))

    assert len(explainer._rows._rows) == 2
    assert len(explainer._methods) == 8


BOOSTERS = [
    (xgboost.XGBClassifier(n_estimators=30), CANCER, TUMOUR, "log_odds"),
    (xgboost.XGBClassifier(n_estimators=10), IRIS, SPECIES, "raw"),
    (xgboost.XGBRegressor(n_estimators=60), DIABETES, PROGRESS, "prediction"),
    (xgboost.XGBRegressor(n_estimators=10, objective="count:poisson"), DIABETES, PROGRESS, "raw"),
    (lightgbm.LGBMClassifier(n_estimators=30, verbose=-1), CANCER, TUMOUR, "log_odds"),
    (lightgbm.LGBMClassifier(n_estimators=10, verbose=-1), IRIS, SPECIES, "raw"),
    (lightgbm.LGBMRegressor(n_estimators=30, verbose=-1), DIABETES, PROGRESS, "prediction"),
]


@pytest.mark.parametrize(("model", "data", "target", "space"), BOOSTERS)
def test_boosters_explain_themselves(model, data, target, space):
    model.fit(data, target)
    if isinstance(model, xgboost.XGBModel):
        predictor = XGBoostPredictor(model)
        expected = model.predict(data[:4], output_margin=True)
    else:
        predictor = LightGBMPredictor(model.booster_, getattr(model, "classes_", None))
        expected = model.booster_.predict(data[:4], raw_score=True)
    answer = Explainer(predictor, infer_signature(data), None).explain(data[:4].tolist())

    assert (answer["method"], answer["explains"], answer["evaluations"]) == ("tree", space, 1)
    np.testing.assert_allclose(totals(answer), np.reshape(expected, (4, -1)), rtol=1e-6, atol=1e-6)
    assert len(answer["outputs"]) == totals(answer).shape[1]


def test_a_booster_s_values_are_those_of_its_trees():
    """A tree of one split: the feature's share is the leaf, less the mean of the leaves by training rows."""
    data = np.array([[0.0, 5.0], [0.0, 1.0], [0.0, 2.0], [1.0, 3.0]] * 10)
    model = lightgbm.LGBMRegressor(n_estimators=1, min_child_samples=1, verbose=-1, learning_rate=1.0)
    model.fit(data, np.array([0.0, 0.0, 0.0, 8.0] * 10))
    answer = Explainer(LightGBMPredictor(model.booster_), infer_signature(data), None).explain([[0.0, 9.0], [1.0, 9.0]])

    np.testing.assert_allclose(answer["base_values"], [2.0], atol=1e-9)
    np.testing.assert_allclose(np.array(answer["attributions"])[:, 0], [[-2.0, 0.0], [6.0, 0.0]], atol=1e-9)


def test_text_is_told_apart_in_what_is_kept():
    table = pd.DataFrame({"city": list("abcd") * 5, "size": np.arange(20.0)})
    explainer = Explainer(
        CallablePredictor(lambda rows: np.array([len(row["city"]) * row["size"] for row in rows])),
        infer_signature(table),
        table.to_numpy().tolist(),
    )

    answers = [explainer.explain([[city, 2.0]]) for city in ("long", "longer", "long")]

    assert [totals(answer)[0, 0] for answer in answers] == pytest.approx([8.0, 12.0, 8.0])
    assert answers[0] == answers[2]


def test_long_work_gives_way_and_ends_when_nobody_wants_it():
    waits = []
    turns = Turns(lambda: waits.append(len(waits)) is not None or False)
    explainer = explainer_of(KNeighborsClassifier().fit(CANCER, TUMOUR), CANCER, turns=turns)

    turns.deadline = time.perf_counter() - 1
    with pytest.raises(DeadlineExceeded):
        explainer.explain(CANCER[:1].tolist())
    turns.deadline = None
    explainer.explain(CANCER[:1].tolist())
    assert len(waits) > 10
    turns.end()
    with pytest.raises(Unavailable):
        explainer.explain(CANCER[1:2].tolist())


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_a_turn_is_short_where_its_items_cost_and_long_where_its_calls_do(monkeypatch, seconds):
    """A model of 20 us a row, and of so much a call besides."""
    now = [0.0]
    monkeypatch.setattr("modelops.runtime.serving.explaining.turns.time.perf_counter", lambda: now[0])
    sizes = []

    def work(start, stop):
        sizes.append(stop - start)
        now[0] += seconds + (stop - start) * 20e-6

    Pace(16).run(Turns(), 100_000, work)

    assert sum(sizes) == 100_000
    assert sizes[-2] in ((4096,) if seconds else (99, 100))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[1]", "object with the member"),
        (b'{"instances": [[1]], "depth": 3}', "object with the member"),
        (b'{"instances": [[1]], "method": "lime"}', "no method of explaining 'lime'"),
        (b'{"instances": [[1]], "method": 3}', "no method of explaining"),
        (b'{"instances": [[1]], "max_evaluations": 0}', "from 1 to 1,048,576"),
        (b'{"instances": [[1]], "max_evaluations": true}', "from 1 to 1,048,576"),
        (b'{"instances": ', "not JSON"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(body, said):
    with pytest.raises(InvalidInput, match=said):
        wish_of(body)


def test_a_wish_is_read():
    assert wish_of(b'{"instances": [[1]], "method": "tree", "max_evaluations": 5}') == ([[1]], Wish("tree", 5))
    assert wish_of(b'{"instances": [[1]], "method": null}') == ([[1]], Wish())
