"""Each flavour, registered and in a replica: the plain form and the Open Inference Protocol say what the model says offline."""

import os

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.runtime.test_flavours import needed

from modelops.contracts import plugins
from modelops.domains.models.flavours import GROUP
from modelops.domains.models.mllib import MllibModel
from modelops.domains.models.mllib.inputs import NumberInput, Scaling
from modelops.domains.models.mllib.learners import Linear
from modelops.sdk.chains import ModelChain
from modelops.sdk.ensembles import ModelEnsemble
from modelops.sdk.registry import ModelRegistry

NAMES = ["a", "b", "c"]
X = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32).astype(float)  # which float32 holds exactly
Y = (X[:, 0] > X[:, 1]).astype(int)
FRAME = pd.DataFrame(X, columns=NAMES)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def line():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, Y)


def onnx():
    needed("onnxruntime")
    model = line().fit(X, Y)
    graph = needed("skl2onnx").to_onnx(model, X[:1].astype(np.float32), options={"zipmap": False})
    return graph, model.predict(X), model.predict_proba(X)


def torch():
    library = needed("torch")
    library.manual_seed(0)
    model = library.nn.Sequential(library.nn.Linear(3, 4), library.nn.Tanh(), library.nn.Linear(4, 1))
    with library.no_grad():
        return model, model(library.from_numpy(X.astype(np.float32))).numpy()[:, 0], None


def keras():
    needed("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    library = needed("keras")
    library.utils.set_random_seed(0)
    model = library.Sequential(
        [library.Input((3,)), library.layers.Dense(3, activation="tanh"), library.layers.Dense(1)]
    )
    return model, model(X.astype(np.float32), training=False).detach().numpy()[:, 0], None


def mlflow(folder):
    library, model = needed("mlflow.sklearn") and needed("mlflow"), line()
    signature = library.models.infer_signature(FRAME, Y)
    library.sklearn.save_model(model, folder, pip_requirements=["scikit-learn==1.0"], signature=signature)
    return folder, model.predict(FRAME), model.predict_proba(FRAME)


def classifier(model):
    return model, model.predict(FRAME), model.predict_proba(FRAME)


def sums(rows):
    return np.asarray(rows).sum(axis=1)


def chain():
    model = line()
    return ModelChain([model, sums], pass_on="probabilities"), model.predict_proba(FRAME).sum(axis=1), None


def transformer():
    scaler = StandardScaler().fit(FRAME)
    return scaler, scaler.transform(FRAME), None


def mllib():
    model = line().fit(X, Y)
    scaler, sums = model[0], model[1]
    made = MllibModel(
        task="classification",
        algorithm="LogisticRegression",
        spark="4.1.4",
        inputs=[NumberInput(name=name, fill=0.0) for name in NAMES],
        scaling=Scaling(center=scaler.mean_.tolist(), factor=(1 / scaler.scale_).tolist()),
        learner=Linear(weights=sums.coef_.tolist(), intercepts=sums.intercept_.tolist(), link="logistic"),
        classes=[0, 1],
        calibrated=True,
    )
    return made, model.predict(X), model.predict_proba(X)


MODELS = {
    "sklearn": lambda _: classifier(line()),
    "pyod": lambda _: classifier(needed("pyod.models.iforest").IForest(random_state=0).fit(FRAME)),
    "pytorch": lambda _: torch(),
    "keras": lambda _: keras(),
    "xgboost": lambda _: classifier(needed("xgboost").XGBClassifier(n_estimators=5).fit(FRAME, Y)),
    "lightgbm": lambda _: classifier(needed("lightgbm").LGBMClassifier(n_estimators=5, verbose=-1).fit(FRAME, Y)),
    "onnx": lambda _: onnx(),
    "mllib": lambda _: mllib(),
    "callable": lambda _: (sums, X.sum(axis=1), None),
    "mlflow": mlflow,
    "transformer": lambda _: transformer(),
    "ensemble": lambda _: classifier(
        ModelEnsemble([line(), needed("xgboost").XGBClassifier(n_estimators=5).fit(FRAME, Y)])
    ),
    "chain": lambda _: chain(),
}


def test_every_flavour_is_here():
    assert MODELS.keys() == plugins.discover(GROUP).keys()


@pytest.mark.parametrize("name", MODELS)
def test_a_flavour_says_what_its_model_says_in_both_forms(name, sqlite_platform, bench, tmp_path):
    model, predictions, probabilities = MODELS[name](tmp_path / "saved")
    with ModelRegistry(sqlite_platform.client()) as registry:
        version = registry.register_model("m", model, sample=FRAME)
        assert (version.flavour, version.scan.unsafe) == (name, [])
        registry.download_model("m", tmp_path / "downloaded")
    (tmp_path / "downloaded" / "model.sig").unlink()
    files = bench.upload(tmp_path / "downloaded")
    process = bench.serve(bench.document(files, version.signature, version.flavour))

    answer = process.predict(X.tolist())
    assert answer.status_code == 200, answer.text
    said = answer.json()
    np.testing.assert_allclose(said["predictions"], predictions, rtol=1e-5, atol=1e-6)

    tensor = {"name": "input", "shape": list(X.shape), "datatype": "FP64", "data": X.ravel().tolist()}
    by_name = [
        {"name": column, "shape": [len(X)], "datatype": "FP64", "data": FRAME[column].tolist()} for column in NAMES
    ]
    for inputs in ([tensor], by_name):
        answer = process.client.post("/v2/models/tumours/infer", json={"inputs": inputs})
        assert answer.status_code == 200, answer.text
        outputs = {one["name"]: np.reshape(one["data"], one["shape"]) for one in answer.json()["outputs"]}
        np.testing.assert_array_equal(outputs["predictions"], said["predictions"])
        if probabilities is not None:
            np.testing.assert_allclose(said["probabilities"], probabilities, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(outputs["probabilities"], said["probabilities"])
