"""Models of MLlib's as numbers: the formulas are those of scikit-learn's models of the same kinds, and the document holds all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import flavour_for
from modelops.domains.models.flavours.mllib import flavour
from modelops.domains.models.mllib import MllibModel
from modelops.domains.models.mllib.inputs import NumberInput, Scaling, TextInput, encode
from modelops.domains.models.mllib.learners import (
    Centers,
    GaussianBayes,
    Linear,
    Mixture,
    Network,
    Tree,
    Trees,
    logistic,
    softmax,
)

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(60, 3))
Y = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def tree_of(fitted, values):
    inner = fitted.tree_
    return Tree(
        feature=inner.feature.tolist(),
        threshold=inner.threshold.tolist(),
        left=inner.children_left.tolist(),
        right=inner.children_right.tolist(),
        value=values(inner),
    )


def test_sums_with_each_link():
    several = LogisticRegression().fit(X, Y)
    softened = Linear(weights=several.coef_.tolist(), intercepts=several.intercept_.tolist(), link="softmax")
    np.testing.assert_allclose(softened.scores(X), several.predict_proba(X), **CLOSE)
    two = LogisticRegression().fit(X, Y > 0)
    shares = Linear(weights=two.coef_.tolist(), intercepts=two.intercept_.tolist(), link="logistic").scores(X)
    np.testing.assert_allclose(shares, two.predict_proba(X), **CLOSE)
    plain = Linear(weights=[[1.0, 2.0, 3.0]], intercepts=[4.0], link="identity")
    np.testing.assert_allclose(plain.scores(X)[:, 0], X @ [1, 2, 3] + 4, **CLOSE)
    sided = Linear(weights=[[1.0, 0.0, 0.0]], intercepts=[0.0], link="sign").scores(X)
    assert (sided.argmax(axis=1) == (X[:, 0] > 0)).all()


def test_trees_and_what_is_made_of_several():
    single = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X.astype(np.float32), Y)
    tree = tree_of(single, lambda inner: (inner.value[:, 0] / inner.value[:, 0].sum(axis=1, keepdims=True)).tolist())
    rows = X.astype(np.float32).astype(float)
    shares = Trees(trees=[tree], weights=[1.0], combine="shares").scores(rows)
    np.testing.assert_allclose(shares, single.predict_proba(X.astype(np.float32)), **CLOSE)
    grown = [DecisionTreeRegressor(max_depth=d, random_state=0).fit(X.astype(np.float32), X[:, 2]) for d in (2, 3)]
    trees = [tree_of(one, lambda inner: inner.value[:, 0].tolist()) for one in grown]
    first, second = (one.predict(X.astype(np.float32)) for one in grown)
    combined = {
        combine: Trees(trees=trees, weights=[1.0, 0.5], combine=combine).scores(rows)
        for combine in ("sum", "mean", "boosted")
    }
    np.testing.assert_allclose(combined["sum"][:, 0], first + second / 2, **CLOSE)
    np.testing.assert_allclose(combined["mean"][:, 0], (first + second / 2) / 1.5, **CLOSE)
    np.testing.assert_allclose(combined["boosted"][:, 1], logistic(2 * (first + second / 2)), **CLOSE)


def test_networks_bayes_and_mixtures():
    net = MLPClassifier((5,), activation="logistic", solver="lbfgs", alpha=1, max_iter=2_000, random_state=0).fit(X, Y)
    network = Network(weights=[w.T.tolist() for w in net.coefs_], biases=[b.tolist() for b in net.intercepts_])
    np.testing.assert_allclose(network.scores(X), net.predict_proba(X), **CLOSE)
    bayes = GaussianNB().fit(X, Y)
    known = GaussianBayes(
        log_priors=np.log(bayes.class_prior_).tolist(), means=bayes.theta_.tolist(), variances=bayes.var_.tolist()
    )
    np.testing.assert_allclose(known.scores(X), bayes.predict_proba(X), rtol=1e-9, atol=1e-12)
    mixed = GaussianMixture(2, random_state=0).fit(X)
    mixture = Mixture(
        weights=mixed.weights_.tolist(), means=mixed.means_.tolist(), covariances=mixed.covariances_.tolist()
    )
    np.testing.assert_allclose(mixture.scores(X), mixed.predict_proba(X), atol=1e-9)


def test_a_direction_without_spread_counts_for_nothing():
    flat = Mixture(
        weights=[0.5, 0.5],
        means=[[0.0, 7.0], [4.0, 7.0]],
        covariances=[[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]],
    )
    assert flat.scores(np.array([[0.0, 7.0], [4.0, 7.0]])).argmax(axis=1).tolist() == [0, 1]


def test_the_nearest_center_is_looked_for_flat_or_down_a_tree():
    flat = Centers(centers=[[0.0], [10.0]])
    assert flat.scores(np.array([[1.0], [9.0]])).argmax(axis=1).tolist() == [0, 1]
    # The leaf at 6 is nearest to 5.9, and lies behind the branch at 10, which is farther than the one at 2.
    down = Centers(
        centers=[[5.0], [2.0], [10.0], [6.0], [14.0]],
        children=[[1, 2], [], [3, 4], [], []],
        cluster=[-1, 0, -1, 1, 2],
    )
    assert down.scores(np.array([[5.9], [6.1], [13.0]])).argmax(axis=1).tolist() == [0, 1, 2]


INPUTS = [TextInput(name="colour", levels=["red", "green"]), NumberInput(name="size", fill=2.5)]


def test_rows_become_vectors_with_gaps_and_new_texts_in_places_of_their_own():
    columns = {"size": [1.0, np.nan, None], "colour": ["green", None, "violet"]}
    expected = [[1.0, 0, 1, 0], [2.5, 0, 0, 1], [2.5, 0, 0, 1]]
    rows = {name: np.array(values, dtype=object) for name, values in columns.items()}
    assert encode(rows, INPUTS, None).tolist() == expected
    assert encode(np.array([["green", 1], [None, None]], dtype=object), INPUTS, None).tolist() == expected[:2]
    scaled = encode(rows, INPUTS, Scaling(center=[1.0, 0, 0, 0], factor=[2.0, 1, 1, 0]))
    assert scaled[:2].tolist() == [[0.0, 0, 1, 0], [3.0, 0, 0, 0]]


def model(**changes):
    facts = {
        "task": "classification",
        "algorithm": "LogisticRegression",
        "spark": "4.1.4",
        "inputs": INPUTS,
        "scaling": None,
        "learner": Linear(weights=[[1.0, 0.5, -0.5, 0.0]], intercepts=[0.25], link="logistic"),
        "classes": ["no", "yes"],
        "calibrated": True,
    }
    return MllibModel(**{**facts, **changes})


def test_a_model_is_kept_as_numbers_without_code_and_says_the_same_again(tmp_path):
    made = model()
    assert flavour_for(made) is flavour
    assert flavour.save(made, tmp_path) == ["model.json"]
    again = flavour.load(tmp_path)
    assert again.model == made
    assert (again.feature_names, again.wants_columns, again.classes) == (["colour", "size"], True, ["no", "yes"])
    rows = np.array([["red", 1.0], ["green", -3.0]], dtype=object)
    assert again.predict(rows).tolist() == ["yes", "no"]
    said, shares = again.answer(rows)
    assert (said.tolist(), shares.tolist()) == (["yes", "no"], again.predict_proba(rows).tolist())
    assert [name.partition("==")[0] for name in flavour.requirements(made)] == ["numpy"]
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InvalidInput, match="no model of MLlib's"):
        flavour.load(tmp_path)


def test_what_is_no_probability_is_not_given_as_one(tmp_path):
    flavour.save(model(calibrated=False), tmp_path)
    assert flavour.load(tmp_path).classes is None
    assert flavour.load(tmp_path).predict_proba(np.array([["red", 1.0]], dtype=object)) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_shares_are_shares_however_far_out(values):
    shares = logistic(np.array(values))
    assert ((shares >= 0) & (shares <= 1)).all()
    assert softmax(np.array([values])).sum() == pytest.approx(1)
