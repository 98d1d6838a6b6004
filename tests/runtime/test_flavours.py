"""Each kind of model from its library to a serving process: registered, scanned, loaded and served, and the same all the way."""

import importlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import flavour, flavour_for
from modelops.domains.models.flavours.mlmodel import describe_version, write_mlmodel
from modelops.sdk.registry import ModelRegistry

NAMES = ["a", "b", "c"]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
FRAME = pd.DataFrame(X, columns=NAMES)

# What libraries warn of in their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


def needed(name):
    """Import a library; where it is missing, skip, but not in CI."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{name} is not installed")


@pytest.fixture
def registry(sqlite_platform):
    with ModelRegistry(sqlite_platform.client()) as opened:
        yield opened


@pytest.fixture
def served(registry, bench, tmp_path):
    """Register a model, load it, serve it, and return the version, the loaded predictor and the process."""

    def all_the_way(model, rows=None, **facts):
        version = registry.register_model("m", model, **facts)
        assert version.scan.unsafe == []
        loaded = registry.load_model("m:1")
        folder = tmp_path / "downloaded"
        registry.download_model("m:1", folder)
        (folder / "model.sig").unlink()
        document = bench.document(bench.upload(folder), version.signature, version.flavour)
        return version, loaded, bench.serve(document)

    return all_the_way


def answers(process, rows):
    answer = process.predict(rows)
    assert answer.status_code == 200, answer.text
    return answer.json()


def check(version, loaded, process, predictions, probabilities=None, rows=X):
    """Hold what was loaded and what is served to what the model itself says."""
    given = rows if not loaded.wants_columns else {name: rows[:, i] for i, name in enumerate(NAMES)}
    np.testing.assert_allclose(loaded.predict(given), predictions, rtol=1e-6)
    by_name = [dict(zip(NAMES, row, strict=True)) for row in rows.tolist()]
    for instances in (rows.tolist(), by_name):
        said = answers(process, instances)
        np.testing.assert_allclose(said["predictions"], predictions, rtol=1e-6)
        if probabilities is not None:
            np.testing.assert_allclose(said["probabilities"], probabilities, rtol=1e-6)
    assert [feature.name for feature in version.signature.inputs] == NAMES
    assert version.requirements
    assert all("==" in line for line in version.requirements)


@pytest.mark.parametrize("target", [Y, THREE], ids=["two", "three"])
def test_xgboost_classifiers(served, target):
    xgboost = needed("xgboost")
    model = xgboost.XGBClassifier(n_estimators=5).fit(FRAME, target)
    version, loaded, process = served(model, sample=FRAME)
    assert (version.flavour, version.runs_code, loaded.classes) == ("xgboost", False, sorted(set(target.tolist())))
    assert {file.path for file in version.files} >= {"model.ubj", "flavour.json"}
    check(version, loaded, process, model.predict(FRAME), model.predict_proba(FRAME))


def test_an_xgboost_booster(served):
    xgboost = needed("xgboost")
    model = xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(FRAME, Y), num_boost_round=3)
    check(*served(model), model.predict(xgboost.DMatrix(FRAME)))


@pytest.mark.parametrize("library", ["xgboost.XGBRegressor", "lightgbm.LGBMRegressor", "pyod.models.iforest.IForest"])
def test_what_is_not_fitted_is_refused(registry, library):
    module, _, name = library.rpartition(".")
    with pytest.raises(InvalidInput, match="not fitted"):
        registry.register_model("m", getattr(needed(module), name)(), sample=FRAME)


def test_xgboost_with_categories(served):
    xgboost = needed("xgboost")
    frame = pd.DataFrame({"n": X[:, 0], "city": pd.Categorical(["oslo", "rome", "bern"] * 20)})
    model = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True).fit(frame, THREE)
    _, _, process = served(model, sample=frame)
    rows = frame.astype({"city": str}).to_dict("records")
    assert answers(process, rows)["predictions"] == model.predict(frame).tolist()
    assert answers(process, rows[:1])["predictions"] == model.predict(frame)[:1].tolist()


@pytest.mark.parametrize("labels", [["no", "yes"], ["x", "y", "z"]], ids=len)
def test_lightgbm_classifiers(served, labels):
    lightgbm = needed("lightgbm")
    target = np.array(labels)[Y if len(labels) == 2 else THREE]
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(FRAME, target)
    version, loaded, process = served(model, sample=FRAME)
    assert (version.flavour, loaded.classes) == ("lightgbm", labels)
    said = answers(process, X.tolist())
    assert said["predictions"] == model.predict(FRAME).tolist()
    np.testing.assert_allclose(said["probabilities"], model.predict_proba(FRAME))


def test_a_lightgbm_regressor_and_a_booster(served):
    lightgbm = needed("lightgbm")
    model = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(FRAME, X[:, 2])
    check(*served(model, sample=FRAME), model.predict(FRAME))
    assert flavour_for(model.booster_).name == "lightgbm"


def test_lightgbm_with_categories(served):
    lightgbm = needed("lightgbm")
    frame = pd.DataFrame({"n": X[:, 0], "city": pd.Categorical(["oslo", "rome", "bern"] * 20)})
    model = lightgbm.LGBMRegressor(n_estimators=5, min_child_samples=2, verbose=-1).fit(frame, THREE)
    _, _, process = served(model, sample=frame)
    rows = frame.astype({"city": str}).to_dict("records")
    np.testing.assert_allclose(answers(process, rows)["predictions"], model.predict(frame))
    np.testing.assert_allclose(answers(process, rows[:1])["predictions"], model.predict(frame)[:1])


@pytest.mark.parametrize("kind", ["iforest.IForest", "knn.KNN", "ecod.ECOD"])
def test_pyod_detectors(served, kind):
    module, _, name = kind.partition(".")
    model = getattr(needed(f"pyod.models.{module}"), name)().fit(X)
    version, loaded, process = served(model, sample=FRAME)
    assert (version.flavour, version.runs_code, loaded.classes) == ("pyod", False, [0, 1])
    check(version, loaded, process, model.predict(X), model.predict_proba(X))


def test_onnx_classifiers(served):
    needed("onnxruntime")
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X.astype(np.float32), THREE)
    to_onnx = needed("skl2onnx").to_onnx
    for options in ({}, {"zipmap": False}):
        graph = to_onnx(pipeline, X[:1].astype(np.float32), options={id(pipeline): options})
        assert flavour_for(graph).name == "onnx"
    version, loaded, process = served(graph, sample=FRAME)
    assert (version.flavour, version.runs_code, loaded.classes) == ("onnx", False, [0, 1, 2])
    said = answers(process, X.tolist())
    assert said["predictions"] == pipeline.predict(X).tolist()
    np.testing.assert_allclose(said["probabilities"], pipeline.predict_proba(X), atol=1e-5)


def test_an_onnx_graph_with_an_input_a_feature(served):
    needed("onnxruntime")
    skl2onnx = needed("skl2onnx")
    types = [(name, skl2onnx.common.data_types.FloatTensorType([None, 1])) for name in NAMES]
    columns = ColumnTransformer([("all", "passthrough", NAMES)])
    model = make_pipeline(columns, LogisticRegression()).fit(FRAME, Y)
    graph = skl2onnx.convert_sklearn(model, initial_types=types, options={"zipmap": False})
    _, _, process = served(graph, sample=FRAME)
    by_name = [dict(zip(reversed(NAMES), row[::-1], strict=True)) for row in X.tolist()]
    said = answers(process, by_name)
    assert said["predictions"] == model.predict(FRAME).tolist()
    np.testing.assert_allclose(said["probabilities"], model.predict_proba(FRAME), atol=1e-5)


def test_a_torch_module(served):
    torch = needed("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    version, loaded, process = served(model, sample=FRAME)
    assert model.training  # saving leaves it as it was
    with torch.no_grad():
        own = model.eval()(torch.from_numpy(X.astype(np.float32))).numpy()[:, 0]
    assert (version.flavour, version.runs_code) == ("pytorch", False)
    check(version, loaded, process, own)
    np.testing.assert_allclose(answers(process, X[:1].tolist())["predictions"], own[:1], rtol=1e-5)


def test_a_torch_module_needs_an_example(registry):
    torch = needed("torch")
    with pytest.raises(InvalidInput, match="sample"):
        registry.register_model("m", torch.nn.Linear(3, 1), feature_names=NAMES)

    class Fickle(torch.nn.Module):
        def forward(self, rows):
            return rows if rows.sum().item() > 0 else -rows

    with pytest.raises(InvalidInput, match="cannot be exported"):
        registry.register_model("m", Fickle(), sample=FRAME)


def test_a_keras_model(served):
    needed("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = needed("keras")
    layers = [keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential(layers)
    version, loaded, process = served(model, sample=FRAME)
    own = model(X.astype(np.float32), training=False).detach().numpy()
    assert (version.flavour, version.runs_code) == ("keras", False)
    check(version, loaded, process, own)


def test_a_keras_model_of_code_is_refused(registry):
    needed("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = needed("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda rows: rows * 2)])
    with pytest.raises(InvalidInput, match="Python code"):
        registry.register_model("m", model, sample=FRAME)


def test_a_function_runs_code_and_says_so(served):
    def add(rows):
        return np.asarray(rows).sum(axis=1)

    version, loaded, process = served(add, sample=FRAME)
    assert (version.flavour, version.runs_code) == ("callable", True)
    check(version, loaded, process, X.sum(axis=1))


# MLflow's folders


def save_sklearn(mlflow, folder, **how):
    model = LogisticRegression().fit(FRAME, Y)
    mlflow.sklearn.save_model(model, folder, pip_requirements=["scikit-learn==1.0"], **how)
    return model


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("form", ["pickle", "cloudpickle", "skops"])
def test_mlflow_s_sklearn_models(served, tmp_path, form):
    mlflow = needed("mlflow.sklearn") and needed("mlflow")
    signature = mlflow.models.infer_signature(FRAME, Y)
    model = save_sklearn(mlflow, tmp_path / "saved", serialization_format=form, signature=signature)
    version, loaded, process = served(tmp_path / "saved")
    assert (version.flavour, version.runs_code) == ("mlflow", False)
    assert type(loaded).__name__ == "SklearnPredictor"
    check(version, loaded, process, model.predict(FRAME), model.predict_proba(FRAME))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_mlflow_s_models_of_other_libraries(registry, tmp_path):
    mlflow, xgboost, lightgbm = needed("mlflow"), needed("xgboost"), needed("lightgbm")
    models = {
        "xgboost": xgboost.XGBClassifier(n_estimators=3).fit(FRAME, Y),
        "lightgbm": lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(FRAME, Y),
    }
    for number, (library, model) in enumerate(models.items(), 1):
        save = importlib.import_module(f"mlflow.{library}").save_model
        save(
            model, tmp_path / library, pip_requirements=["numpy==2"], signature=mlflow.models.infer_signature(FRAME, Y)
        )
        version = registry.register_model("m", Path(tmp_path / library), sample=FRAME)
        assert version.scan.unsafe == []
        loaded = registry.load_model(f"m:{number}")
        np.testing.assert_allclose(loaded.predict_proba(X), model.predict_proba(FRAME))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_s_own_kind_of_function(served, tmp_path):
    mlflow = needed("mlflow.pyfunc") and needed("mlflow")

    class Adds(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input.sum(axis=1)

    signature = mlflow.models.infer_signature(FRAME, X.sum(axis=1))
    mlflow.pyfunc.save_model(
        tmp_path / "saved", python_model=Adds(), pip_requirements=["pandas==2"], signature=signature
    )
    version, loaded, process = served(tmp_path / "saved")
    assert (version.flavour, version.runs_code) == ("mlflow", True)
    check(version, loaded, process, X.sum(axis=1))


def test_an_mlmodel_that_points_outside_is_refused(tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: {sklearn: {pickled_model: ../../etc/passwd}}")
    with pytest.raises(InvalidInput, match="not in the package"):
        flavour("mlflow").load(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["sklearn", "xgboost", "callable"])
def test_mlflow_loads_what_was_registered_here(registry, tmp_path, monkeypatch, kind):
    mlflow = needed("mlflow.pyfunc") and needed("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    model = {
        "sklearn": lambda: LogisticRegression().fit(FRAME, Y),
        "xgboost": lambda: needed("xgboost").XGBClassifier(n_estimators=3).fit(FRAME, Y),
        "callable": lambda: lambda rows: np.asarray(rows).sum(axis=1),
    }[kind]()
    version = registry.register_model("m", model, sample=FRAME)
    registry.download_model("m:1", tmp_path / "model")
    write_mlmodel(tmp_path / "model", describe_version(version))

    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    own = model(FRAME) if kind == "callable" else model.predict(FRAME)
    np.testing.assert_allclose(loaded.predict(FRAME), own)
    assert [column.name for column in loaded.metadata.get_input_schema()] == NAMES
    if kind == "sklearn":
        again = needed("mlflow.sklearn").load_model(str(tmp_path / "model"))
        np.testing.assert_array_equal(again.predict(FRAME), own)
