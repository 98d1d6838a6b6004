"""Explanations of real models: they add up, and they are Shapley values."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
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

from modelops.contracts.errors import DeploymentError, InvalidInput
from modelops.domains.models.flavours.callable import CallablePredictor
from modelops.domains.models.flavours.sklearn import SklearnPredictor
from modelops.domains.models.signatures import infer_signature
from modelops.runtime.serving.explain import Explainer

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
