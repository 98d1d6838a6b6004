"""Choosing the form of a model: what is taken, what is refused, and the words for it."""

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from modelops.domains.models.compiling import compile_model, compiler
from modelops.domains.models.compiling.parity import Differs, check_parity
from modelops.domains.models.compiling.plans import plan_of
from modelops.domains.models.compiling.probes import MISSING, probes
from modelops.domains.models.flavours import AnswersAtOnce, Bounded, Predictor
from modelops.domains.models.flavours.callable import CallablePredictor
from modelops.domains.models.flavours.sklearn import SklearnPredictor
from modelops.domains.models.schemas import CompiledForm, Feature, ModelSignature, ServingSpeed

NAMES = ["a", "b", "c", "d"]
CHANCE = np.random.default_rng(1)
ROWS = CHANCE.normal(size=(80, 4))
LABELS = np.array(["no", "yes"])[(ROWS[:, 0] + ROWS[:, 1] > 0).astype(int)]
FRAME = pd.DataFrame(ROWS, columns=NAMES)
SAMPLE = ROWS.tolist()
SIGNATURE = ModelSignature(inputs=[Feature(name=name) for name in NAMES])

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Do not measure: what is taken must not depend on how busy this machine is."""
    taken = [ServingSpeed(rows=1, plain_us=100.0, compiled_us=1.0)]
    monkeypatch.setattr(compiler, "measure", lambda *_: taken)
    return taken


def compiled(model, sample=SAMPLE, signature=SIGNATURE):
    return compile_model(SklearnPredictor(model), signature, sample)


class Own(BaseEstimator, ClassifierMixin):
    """An estimator that no converter knows."""

    def fit(self, rows, labels):
        self.classes_, self.n_features_in_ = np.unique(labels), 4
        return self

    def predict(self, rows):
        return self.classes_[(np.asarray(rows)[:, 0] > 0).astype(int)]

    def predict_proba(self, rows):
        shares = (np.asarray(rows)[:, 0] > 0).astype(float)
        return np.column_stack([1 - shares, shares])


class Squares(BaseEstimator, TransformerMixin):
    """A step that no converter knows."""

    def fit(self, rows, labels=None):
        self.fitted_ = True
        return self

    def transform(self, rows):
        return np.asarray(rows) ** 2


@pytest.mark.parametrize(
    ("model", "form"),
    [
        (LogisticRegression(), CompiledForm.LINEAR),
        (make_pipeline(StandardScaler(), LogisticRegression()), CompiledForm.LINEAR),
        (make_pipeline(PCA(2), LogisticRegression()), CompiledForm.ONNX),
        (ensemble.RandomForestClassifier(5), CompiledForm.ONNX),
        (make_pipeline(StandardScaler(), ensemble.RandomForestClassifier(5)), CompiledForm.ONNX),
        (make_pipeline(PCA(3), ensemble.HistGradientBoostingClassifier(max_iter=3)), CompiledForm.ONNX),
        (GaussianNB(), CompiledForm.ONNX),
        (MLPClassifier(max_iter=3), CompiledForm.ONNX),
    ],
    ids=["linear", "scaled", "pca", "forest", "scaled forest", "pca forest", "bayes", "network"],
)
def test_what_is_taken_says_what_the_model_says(model, form):
    model.fit(ROWS, LABELS)
    found = compiled(model)
    assert (found.record.runs, found.graph is None) == (form, form is CompiledForm.LINEAR)
    assert found.record.rows_compared > 500
    assert found.record.speed[0].rows == 1
    assert isinstance(found.predictor, Predictor)
    assert isinstance(found.predictor, AnswersAtOnce)
    assert isinstance(found.predictor, Bounded)
    more = np.random.default_rng(2).normal(size=(50, 4))
    assert found.predictor.predict(more).tolist() == model.predict(more).tolist()
    np.testing.assert_allclose(found.predictor.predict_proba(more), model.predict_proba(more), rtol=1e-12)
    by_name = {name: more[:, index] for index, name in enumerate(NAMES)}
    assert found.predictor.predict(by_name).tolist() == model.predict(more).tolist()
    assert (found.predictor.classes, found.predictor.model) == (["no", "yes"], model)


def test_trees_behind_a_scaling_are_held_to_their_thresholds_too():
    model = make_pipeline(StandardScaler(), ensemble.RandomForestClassifier(5, random_state=0)).fit(ROWS, LABELS)
    plan = plan_of(SklearnPredictor(model), 4)
    groups = dict(probes(plan, ROWS, [], ties=100))
    there = plan.scaling(groups["rows at the trees' thresholds"])
    assert np.isin(there, plan.forest.threshold).any(axis=1).sum() > 20
    assert compiled(model).record.rows_compared > 700


def test_steps_that_name_their_columns():
    steps = ColumnTransformer([("one", StandardScaler(), ["c", "a"]), ("two", MinMaxScaler(clip=True), ["b"])])
    for last in (LogisticRegression(), ensemble.ExtraTreesClassifier(4)):
        model = make_pipeline(steps, last).fit(FRAME, LABELS)
        found = compiled(model)
        assert found.record.runs is CompiledForm.ONNX, found.record
        assert found.predictor.predict(ROWS).tolist() == model.predict(FRAME).tolist()
        assert found.predictor.feature_names == NAMES


def test_an_encoder_is_held_to_what_it_can_be_asked():
    rows = np.column_stack([np.arange(60) % 3, ROWS[:60, 0]])
    steps = ColumnTransformer([("kind", OneHotEncoder(), [0])], remainder="passthrough")
    model = make_pipeline(steps, LogisticRegression()).fit(rows, LABELS[:60])
    signature = ModelSignature(inputs=[Feature(name="kind", type="integer"), Feature(name="size")])
    found = compiled(model, rows.tolist(), signature)
    assert found.record.runs is CompiledForm.ONNX, found.record
    with pytest.raises(ValueError, match="unknown categories"):
        model.predict([[7.0, 0.0]])


def test_without_a_sample_rows_are_made_up():
    model = ensemble.RandomForestRegressor(5).fit(ROWS, ROWS[:, 0])
    found = compiled(model, None)
    assert (found.record.runs, found.record.rows_compared > 500) == (CompiledForm.ONNX, True)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Own(), "The converter refuses it"),
        (make_pipeline(Squares(), LogisticRegression()), "The converter refuses it"),
        (make_pipeline(Squares(), ensemble.RandomForestClassifier(3)), "The converter refuses it"),
        (ensemble.AdaBoostClassifier(n_estimators=3), "onnx-float64"),
    ],
    ids=["own estimator", "own step", "own step before trees", "adaboost"],
)
def test_what_is_not_converted_runs_plain_and_says_why(model, why):
    model.fit(ROWS, LABELS)
    plain = SklearnPredictor(model)
    found = compile_model(plain, SIGNATURE, SAMPLE)
    assert (found.record.runs, found.predictor, found.graph) == (CompiledForm.PLAIN, plain, None)
    assert why in found.record.why or any(why in one.why for one in found.record.refused)


def test_what_is_not_faster_is_not_taken(fast):
    fast[0] = ServingSpeed(rows=1, plain_us=3.0, compiled_us=3.0)
    found = compiled(LinearRegression().fit(ROWS, ROWS[:, 0]))
    assert found.record.runs is CompiledForm.PLAIN
    assert "not faster: 3.0 us for one row, and 3.0 us plain" in found.record.why


def test_without_the_libraries_of_onnx_numpy_walks_the_trees(monkeypatch):
    model = make_pipeline(StandardScaler(), ensemble.RandomForestClassifier(5)).fit(ROWS, LABELS)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("onnx", "skl2onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "modelops.domains.models.compiling.converting", raising=False)
    monkeypatch.delitem(sys.modules, "modelops.domains.models.compiling.graphs", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    found = compiled(model)
    assert found.record.runs is CompiledForm.TREES
    assert [one.form for one in found.record.refused] == [CompiledForm.ONNX]
    assert "'onnx', which is not installed" in found.record.refused[0].why
    assert found.predictor.predict(ROWS).tolist() == model.predict(ROWS).tolist()


@pytest.mark.parametrize(
    ("predictor", "signature", "why"),
    [
        (
            SklearnPredictor(LogisticRegression().fit(ROWS, LABELS)),
            ModelSignature(inputs=[Feature(name="a", type="string")]),
            "'a' is not",
        ),
        (
            SklearnPredictor(LogisticRegression().fit(ROWS, LABELS)),
            ModelSignature(inputs=[]),
            "does not tell the inputs",
        ),
        (CallablePredictor(lambda rows: rows[:, 0]), SIGNATURE, "no faster form"),
    ],
    ids=["texts", "no inputs", "a function"],
)
def test_what_has_no_form_but_its_own(predictor, signature, why):
    found = compile_model(predictor, signature, None)
    assert found.predictor is predictor
    assert why in found.record.why


def test_missing_values_must_go_where_the_model_takes_them():
    optional = ModelSignature(inputs=[Feature(name=name, required=False) for name in NAMES])
    refused = compiled(LogisticRegression().fit(ROWS, LABELS), SAMPLE, optional)
    assert refused.record.runs is CompiledForm.PLAIN
    assert f"The model itself fails on {MISSING}" in refused.record.why
    holes = np.where(CHANCE.random(ROWS.shape) < 0.2, np.nan, ROWS)
    taken = compiled(ensemble.HistGradientBoostingClassifier(max_iter=4).fit(holes, LABELS), SAMPLE, optional)
    assert taken.record.runs is CompiledForm.ONNX


class Leaning:
    """Says what a model says, but for one threshold: exactly on it, the other label."""

    def __init__(self, plain, at):
        self._plain, self._at = plain, at

    def __call__(self, rows):
        said, shares = self._plain.answer(rows)
        return np.where((rows == self._at).any(axis=1), "other", said), shares


def test_the_gate_finds_one_threshold_and_tells_the_row():
    plain = SklearnPredictor(ensemble.RandomForestClassifier(5, random_state=0).fit(ROWS, LABELS))
    plan = plan_of(plain, 4)
    at = plan.forest.threshold[np.flatnonzero(plan.forest.feature >= 0)[7]]
    with pytest.raises(
        Differs, match=r"thresholds, row \d+: the model's prediction .* compiled 'other'; the row is \["
    ):
        check_parity(plain, Leaning(plain, at), probes(plan, ROWS, [], ties=500))


def test_the_gate_tells_other_numbers_shapes_and_failures():
    plain = SklearnPredictor(LogisticRegression().fit(ROWS, LABELS))
    said, shares = plain.answer(ROWS)
    groups = [("rows", ROWS)]

    def broken(rows):
        raise RuntimeError("no")

    for answer, why in (
        (lambda rows: (said, shares + 1e-9), "probabilities"),
        (lambda rows: (said, None), "Only one of the two"),
        (lambda rows: (said[:3], shares), "shape"),
        (lambda rows: (np.arange(len(rows)), shares), "prediction"),
        (broken, "fails: RuntimeError: no"),
    ):
        with pytest.raises(Differs, match=why):
            check_parity(plain, answer, groups)


def test_a_sample_on_which_the_model_fails_proves_nothing():
    model = LogisticRegression().fit(ROWS[:, :2], LABELS)
    found = compiled(model)
    assert found.record.runs is CompiledForm.PLAIN
    assert "The model itself fails on the sample" in found.record.why
