"""Linear models, and what scales their inputs: the same products in the same order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model, preprocessing
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from modelops.domains.models.compiling.linear import read_linear, read_scaling
from modelops.domains.models.compiling.plans import plan_of
from modelops.domains.models.compiling.predictors import answer_by
from modelops.domains.models.flavours.sklearn import SklearnPredictor
from modelops.domains.models.schemas import CompiledForm

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MODELS = [
    linear_model.LogisticRegression(max_iter=20),
    linear_model.SGDClassifier(loss="log_loss", max_iter=5),
    linear_model.SGDClassifier(max_iter=5),
    linear_model.RidgeClassifier(),
    linear_model.Perceptron(max_iter=5),
    LinearSVC(max_iter=20),
    linear_model.LinearRegression(),
    linear_model.Ridge(),
    linear_model.Lasso(0.01, max_iter=20),
    linear_model.PoissonRegressor(max_iter=10),
]
SCALERS = [
    None,
    preprocessing.StandardScaler(),
    preprocessing.StandardScaler(with_mean=False),
    preprocessing.MinMaxScaler(),
    preprocessing.MaxAbsScaler(),
    preprocessing.RobustScaler(),
    SimpleImputer(strategy="median"),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@given(st.sampled_from(SCALERS), st.integers(0, 2**31), st.integers(2, 4), st.integers(1, 6))
@settings(max_examples=10, deadline=None)
def test_they_say_what_the_estimator_says(model, scaler, seed, classes, width):
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(40, width)) * chance.choice([1e-3, 1.0, 50.0])
    target = chance.integers(classes, size=40)
    target[:classes] = np.arange(classes)
    fitted = make_pipeline(*([scaler] if scaler is not None else []), model).fit(rows, target)
    predictor = SklearnPredictor(fitted)
    answer = answer_by(CompiledForm.LINEAR, plan_of(predictor, width), None)
    for part in (rows, rows[:1], rows[7:8]):
        said, shares = answer(part)
        np.testing.assert_array_equal(said, fitted.predict(part))
        if predictor.classes is None:
            assert shares is None
        else:
            np.testing.assert_allclose(shares, fitted.predict_proba(part), rtol=1e-14, atol=1e-16)


def test_a_score_that_the_probabilities_cannot_hold_still_tells_the_label():
    model = linear_model.LogisticRegression().fit([[-1.0], [1.0]], ["no", "yes"])
    model.coef_, model.intercept_ = np.array([[1.0]]), np.array([0.0])
    rows = np.array([[1e-20], [0.0], [-1e-20]])
    said, shares = answer_by(CompiledForm.LINEAR, plan_of(SklearnPredictor(model), 1), None)(rows)
    assert said.tolist() == model.predict(rows).tolist() == ["yes", "no", "no"]
    assert (shares == 0.5).all()


def test_one_against_the_rest_where_no_class_has_a_share():
    rows, target = np.array([[-1.0], [0.0], [1.0]]), [0, 1, 2]
    model = linear_model.SGDClassifier(loss="log_loss", max_iter=5, random_state=0)
    model.fit(rows, target)
    model.coef_, model.intercept_ = np.array([[1.0], [1.0], [1.0]]), np.zeros(3)
    far = np.array([[-1e6], [2.0]])
    _, shares = answer_by(CompiledForm.LINEAR, plan_of(SklearnPredictor(model), 1), None)(far)
    np.testing.assert_allclose(shares, model.predict_proba(far))


@pytest.mark.parametrize(
    "step",
    [
        preprocessing.PolynomialFeatures(),
        preprocessing.MinMaxScaler(clip=True),
        SimpleImputer(add_indicator=True),
        SimpleImputer(missing_values=0.0),
        preprocessing.RobustScaler(unit_variance=True),
    ],
    ids=lambda step: type(step).__name__,
)
def test_steps_that_take_more_than_arithmetic_are_left_to_the_converter(step):
    assert read_scaling([step.fit([[1.0, 2.0], [3.0, 5.0]])]) is None


def test_estimators_of_others_are_left_alone():
    class Mine(linear_model.LogisticRegression):
        def predict(self, rows):
            return 1 - super().predict(rows)

    fitted = Mine().fit([[0.0], [1.0]], [0, 1])
    assert read_linear(fitted) is None
    short = linear_model.Ridge().fit(np.float32([[0.0], [1.0]]), np.float32([0, 1]))
    assert read_linear(short) is None
    hubered = linear_model.SGDClassifier(loss="modified_huber").fit([[0.0], [1.0]], [0, 1])
    assert read_linear(hubered) is None
