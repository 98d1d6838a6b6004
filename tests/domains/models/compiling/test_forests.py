"""Trees, as ONNX and walked by NumPy: to the last bit what the library says, where it is hardest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn import ensemble, tree
from sklearn.datasets import load_iris

from modelops.domains.models.compiling.forests import grow, read_sklearn
from modelops.domains.models.compiling.graphs import forest_graph, shares_sum_exactly
from modelops.domains.models.compiling.sessions import Session
from modelops.domains.models.compiling.trees import NumpyTrees
from modelops.domains.models.flavours.onnx import open_session

CLASSIFIERS = [
    tree.DecisionTreeClassifier(max_depth=3),
    tree.ExtraTreeClassifier(),
    ensemble.RandomForestClassifier(7),
    ensemble.RandomForestClassifier(12, max_depth=2),
    ensemble.ExtraTreesClassifier(5, max_leaf_nodes=6),
    ensemble.GradientBoostingClassifier(n_estimators=4),
    ensemble.GradientBoostingClassifier(n_estimators=3, init="zero"),
    ensemble.HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=3),
]
REGRESSORS = [
    tree.DecisionTreeRegressor(max_depth=4),
    ensemble.RandomForestRegressor(6),
    ensemble.ExtraTreesRegressor(4),
    ensemble.GradientBoostingRegressor(n_estimators=5, loss="huber"),
    ensemble.HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=3),
    ensemble.HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=3, loss="poisson"),
]


def name_of(model):
    return type(model).__name__


def both(model, features):
    """Give each engine's answers: ONNX, and NumPy."""
    forest, scores = read_sklearn(model)
    session, walk = Session(forest_graph(forest, features).SerializeToString()), NumpyTrees(forest)
    return forest, [lambda rows: scores.answer(session(rows)[0]), lambda rows: scores.answer(walk(rows))]


def at_thresholds(forest, rows):
    """Put a cell of a row on each threshold, and on its neighbours in float64 and float32."""
    inner = np.flatnonzero(forest.feature >= 0)
    limits = forest.threshold[inner]
    short = limits.astype(np.float32)
    above, below = np.float32(np.inf), np.float32(-np.inf)
    parts = []
    for value in (
        limits,
        np.nextafter(limits, np.inf),
        np.nextafter(limits, -np.inf),
        short.astype(float),
        np.nextafter(short, above).astype(float),
        np.nextafter(short, below).astype(float),
    ):
        part = rows[np.arange(len(inner)) % len(rows)].copy()
        part[np.arange(len(inner)), forest.feature[inner]] = value
        parts.append(part[np.abs(value) < 1e38])  # beyond, the model itself refuses them
    return np.concatenate([rows, *parts])


def hold(model, rows):
    """Hold both engines to the model on rows, at its thresholds, and on each row alone."""
    forest, engines = both(model, rows.shape[1])
    there = at_thresholds(forest, rows)
    for part in (there, *(there[index : index + 1] for index in range(0, len(there), max(1, len(there) // 5)))):
        for answer in engines:
            said, shares = answer(part)
            np.testing.assert_array_equal(said, model.predict(part))
            assert said.dtype == model.predict(part).dtype
            if shares is not None:
                np.testing.assert_allclose(shares, model.predict_proba(part), rtol=1e-14, atol=1e-16)


@st.composite
def tables(draw, missing=False):
    """Rows that often share values, so that shares tie, in numbers that float32 does not hold."""
    seed, count, width = draw(st.integers(0, 2**31)), draw(st.integers(12, 60)), draw(st.integers(1, 5))
    chance = np.random.default_rng(seed)
    scale = draw(st.sampled_from([1.0, 1 / 3, 1e-8, 1e7]))
    rows = np.round(chance.normal(size=(count, width)) * 3) * scale
    if missing:
        rows[chance.random(rows.shape) < 0.2] = np.nan
        rows[0] = 1.0
    classes = draw(st.integers(2, 4))
    labels = chance.integers(classes, size=count)
    labels[:classes] = np.arange(classes)
    return rows, labels, seed


@pytest.mark.parametrize("model", CLASSIFIERS, ids=name_of)
@given(tables(), st.sampled_from([lambda x: x, lambda x: np.array(["a", "b", "c", "d"])[x], lambda x: x * 10 - 5]))
@settings(max_examples=8, deadline=None)
def test_classifiers_to_the_last_label(model, table, named):
    rows, labels, seed = table
    hold(model.set_params(random_state=seed).fit(rows, named(labels)), rows)


@pytest.mark.parametrize("model", REGRESSORS, ids=name_of)
@given(tables())
@settings(max_examples=8, deadline=None)
def test_regressors_to_the_last_bit(model, table):
    rows, target, seed = table
    hold(model.set_params(random_state=seed).fit(rows, target / 3 + 0.1), rows)


@pytest.mark.parametrize(
    "model",
    [
        ensemble.RandomForestClassifier(6),
        ensemble.HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=2),
        tree.DecisionTreeRegressor(),
    ],
    ids=name_of,
)
@given(tables(missing=True))
@settings(max_examples=8, deadline=None)
def test_what_is_missing_goes_where_the_trees_learned(model, table):
    rows, target, seed = table
    hold(model.set_params(random_state=seed).fit(rows, target), rows)


def test_float32_moves_labels_at_ties_and_float64_none():
    chance = np.random.default_rng(0)
    rows, more = chance.normal(size=(300, 4)), chance.normal(size=(2_000, 4))
    labels = (rows[:, 0] + chance.normal(size=300) > 0).astype(int)
    model = ensemble.RandomForestClassifier(20, random_state=0).fit(rows, labels)  # ten against ten is a tie
    wanted = model.predict(more)
    graph = to_onnx(
        model, initial_types=[("rows", FloatTensorType([None, 4]))], options={"zipmap": False}
    ).SerializeToString()
    by_float32 = open_session(graph).run(None, {"rows": more.astype(np.float32)})[0]
    assert (by_float32 != wanted).sum() > 10
    for answer in both(model, 4)[1]:
        assert (answer(more)[0] != wanted).sum() == 0


def test_the_shares_of_two_classes_are_summed_once_only_where_no_sum_is_rounded():
    rows, labels = load_iris(return_X_y=True)
    two = (labels > 0).astype(int)
    pure = ensemble.RandomForestClassifier(9, bootstrap=False, random_state=0).fit(rows, two)
    mixed = ensemble.RandomForestClassifier(9, max_depth=1, random_state=0).fit(rows[:, :1], two)
    many = ensemble.RandomForestClassifier(9, random_state=0).fit(rows, labels)
    assert [shares_sum_exactly(read_sklearn(model)[0]) for model in (pure, mixed, many)] == [True, False, False]
    for model in (pure, many):
        hold(model, rows)
    hold(mixed, rows[:, :1])


def test_a_tree_of_one_leaf():
    hold(tree.DecisionTreeClassifier().fit([[1.0], [2.0]], ["only", "only"]), np.array([[1.0], [5.0]]))
    hold(tree.DecisionTreeRegressor().fit([[1.0], [2.0]], [0.1, 0.1]), np.array([[1.0], [5.0]]))


@pytest.mark.parametrize(
    "model",
    [
        tree.DecisionTreeClassifier().fit([[0.0], [1.0]], [[0, 1], [1, 0]]),
        ensemble.GradientBoostingClassifier(loss="exponential", n_estimators=2).fit([[0.0], [1.0]], [0, 1]),
        ensemble.GradientBoostingRegressor(init=tree.DecisionTreeRegressor(), n_estimators=2).fit(
            [[0.0], [1.0]], [0, 1]
        ),
        ensemble.HistGradientBoostingClassifier(max_iter=2, categorical_features=[0], min_samples_leaf=1).fit(
            np.array([[0.0], [1.0]] * 30), [0, 1] * 30
        ),
        ensemble.IsolationForest(n_estimators=2).fit([[0.0], [1.0]]),
    ],
    ids=["several outputs", "exponential loss", "a first guess of its own", "categories", "no sums"],
)
def test_trees_that_are_not_known_are_left_alone(model):
    assert read_sklearn(model) is None


def test_no_trees_are_no_forest():
    assert grow([], base=[0.0], single=False) is None
