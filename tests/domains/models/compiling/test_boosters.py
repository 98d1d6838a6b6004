"""LightGBM and XGBoost: their trees, where they go for what is missing, and what becomes of the scores."""

import importlib
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelops.domains.models.compiling import compile_model, compiler
from modelops.domains.models.compiling.graphs import forest_graph
from modelops.domains.models.compiling.plans import plan_of
from modelops.domains.models.compiling.sessions import Session
from modelops.domains.models.compiling.trees import NumpyTrees
from modelops.domains.models.flavours import flavour_for
from modelops.domains.models.flavours.sklearn import SklearnPredictor
from modelops.domains.models.schemas import CompiledForm, Feature, ModelSignature, ServingSpeed


def needed(name):
    """Import a library; where it is missing, skip, but not in CI."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{name} is not installed")


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(compiler, "measure", lambda *_: [ServingSpeed(rows=1, plain_us=9.0, compiled_us=1.0)])


@pytest.fixture
def loaded(tmp_path):
    """Save a model and load it, as a runtime has it."""
    count = iter(range(1_000))

    def there(model):
        folder = tmp_path / str(next(count))
        folder.mkdir()
        kind = flavour_for(model)
        kind.save(model, folder)
        return kind.load(folder)

    return there


def data(seed, *, missing=False, classes=2):
    chance = np.random.default_rng(seed)
    rows = np.round(chance.normal(size=(120, 3)) * 4) / 3
    target = np.clip(np.digitize(rows[:, 0] + chance.normal(size=120), [0.0, 1.0][: classes - 1]), 0, classes - 1)
    target[:classes] = np.arange(classes)
    if missing:
        rows[chance.random(rows.shape) < 0.2] = np.nan
    return rows, target


def hold(predictor, rows):
    """Hold both engines to the model at every threshold and next to it, and return the plan."""
    plan = plan_of(predictor, rows.shape[1])
    forest = plan.forest
    inner = np.flatnonzero(forest.feature >= 0)
    parts = [rows]
    for toward in (None, np.inf, -np.inf):
        for kind in (np.float64, np.float32):
            with np.errstate(over="ignore"):  # a split that only tells what is missing has the greatest threshold
                limits = forest.threshold[inner].astype(kind)
                limits = limits if toward is None else np.nextafter(limits, kind(toward))
            part = rows[np.arange(len(inner)) % len(rows)].copy()
            part[np.arange(len(inner)), forest.feature[inner]] = limits
            parts.append(part[np.abs(limits) < 1e38])
    there = np.concatenate(parts)
    wanted = predictor.predict(there)
    for engine in (
        lambda rows: Session(forest_graph(forest, rows.shape[1]).SerializeToString())(rows)[0],
        NumpyTrees(forest),
    ):
        said, shares = plan.scores.answer(engine(there))
        assert (said.dtype.kind, said.shape) == (wanted.dtype.kind, wanted.shape)
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(
                said, wanted, rtol=1e-6 if forest.short else 1e-13, atol=1e-7 if forest.short else 0
            )
        else:
            np.testing.assert_array_equal(said, wanted)
        if predictor.classes is not None:
            np.testing.assert_allclose(
                shares, predictor.predict_proba(there), rtol=1e-6 if forest.short else 1e-13, atol=1e-7
            )
    return plan


SEEDS = st.integers(0, 2**31)


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "missing"])
@given(seed=SEEDS, classes=st.sampled_from([2, 3]))
@settings(max_examples=6, deadline=None)
def test_lightgbm_s_classifiers(missing, seed, classes):
    lightgbm = needed("lightgbm")
    rows, target = data(seed, missing=missing, classes=classes)
    model = lightgbm.LGBMClassifier(n_estimators=4, min_child_samples=3, verbose=-1, n_jobs=1).fit(rows, target)
    predictor = lightgbm_predictor(model)
    assert not hold(predictor, rows).forest.short
    # What was whole in training may be missing later.
    hold(predictor, np.where(np.random.default_rng(seed).random(rows.shape) < 0.3, np.nan, rows))


def lightgbm_predictor(model):
    from modelops.domains.models.flavours.lightgbm import LightGBMPredictor

    return LightGBMPredictor(model.booster_, model.classes_.tolist())


@pytest.mark.parametrize("objective", ["regression", "regression_l1", "poisson", "binary"])
def test_lightgbm_s_boosters(loaded, objective):
    lightgbm = needed("lightgbm")
    rows, target = data(1)
    settings = {"objective": objective, "verbose": -1, "min_data_in_leaf": 3, "num_threads": 1}
    hold(loaded(lightgbm.train(settings, lightgbm.Dataset(rows, target), 4)), rows)


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "regression", "zero_as_missing": True},
        {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"objective": "regression", "reg_sqrt": True},
        {"objective": "multiclassova", "num_class": 2},
        {"objective": "regression", "max_cat_to_onehot": 4},
    ],
    ids=["zero is missing", "forest", "roots", "one against all", "categories"],
)
def test_what_of_lightgbm_is_not_known_is_left_alone(loaded, settings):
    lightgbm = needed("lightgbm")
    rows, target = data(1)
    rows[:, 0] = np.arange(120) % 7
    base = {"verbose": -1, "min_data_in_leaf": 3, "min_data_per_group": 3, "num_threads": 1}
    kinds = [0] if "max_cat_to_onehot" in settings else []
    table = lightgbm.Dataset(rows, target, categorical_feature=kinds)
    predictor = loaded(lightgbm.train({**base, **settings}, table, 3))
    assert plan_of(predictor, 3).forest is None


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "missing"])
@given(seed=SEEDS, classes=st.sampled_from([2, 3]))
@settings(max_examples=6, deadline=None)
def test_xgboost_s_classifiers(missing, seed, classes):
    xgboost = needed("xgboost")
    rows, target = data(seed, missing=missing, classes=classes)
    model = xgboost.XGBClassifier(n_estimators=4, n_jobs=1).fit(rows, target)
    from modelops.domains.models.flavours.xgboost import XGBoostPredictor

    predictor = XGBoostPredictor(model)
    assert hold(predictor, rows).forest.short
    hold(predictor, np.where(np.random.default_rng(seed).random(rows.shape) < 0.3, np.nan, rows))


@pytest.mark.parametrize(
    "objective", ["reg:squarederror", "reg:absoluteerror", "count:poisson", "reg:gamma", "binary:logistic"]
)
def test_xgboost_s_boosters(loaded, objective):
    xgboost = needed("xgboost")
    rows, target = data(1)
    target = target + 1 if objective == "reg:gamma" else target
    hold(loaded(xgboost.train({"objective": objective, "nthread": 1}, xgboost.DMatrix(rows, target), 4)), rows)


def test_xgboost_stops_at_the_best_iteration(loaded):
    xgboost = needed("xgboost")
    rows, target = data(3, classes=3)
    model = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=2, n_jobs=1)
    model.fit(rows[:80], target[:80], eval_set=[(rows[80:], target[80:])], verbose=False)
    assert len(hold(loaded(model), rows).forest.roots) == 3 * (model.best_iteration + 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"booster": "dart"},
        {"booster": "gblinear"},
        {"objective": "reg:logistic"},
        {"objective": "multi:softmax", "num_class": 2},
    ],
    ids=["dart", "linear", "logistic regression", "classes as numbers"],
)
def test_what_of_xgboost_is_not_known_is_left_alone(loaded, settings):
    xgboost = needed("xgboost")
    rows, target = data(1)
    model = xgboost.train({"nthread": 1, **settings}, xgboost.DMatrix(rows, target), 3)
    assert plan_of(loaded(model), 3).forest is None


def test_another_sign_for_missing_is_left_alone():
    xgboost = needed("xgboost")
    rows, target = data(1)
    model = xgboost.XGBClassifier(n_estimators=2, missing=-1.0, n_jobs=1).fit(rows, target)
    assert plan_of(SklearnPredictor(make_pipeline(StandardScaler(), model).fit(rows, target)), 3).forest is None


@pytest.mark.parametrize("library", ["xgboost.XGBClassifier", "lightgbm.LGBMClassifier"])
def test_behind_the_steps_of_a_pipeline(library):
    module, _, name = library.rpartition(".")
    rows, target = data(2, classes=3)
    model = make_pipeline(StandardScaler(), getattr(needed(module), name)(n_estimators=3, n_jobs=1)).fit(rows, target)
    signature = ModelSignature(inputs=[Feature(name=name) for name in "abc"])
    found = compile_model(SklearnPredictor(model), signature, rows.tolist())
    short = library.startswith("xgboost")
    assert found.record.runs is (CompiledForm.ONNX_SINGLE if short else CompiledForm.ONNX), found.record
    assert found.predictor.predict(rows).tolist() == model.predict(rows).tolist()
