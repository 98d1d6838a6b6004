import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from modelops.contracts import plugins
from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import Flavour, Predictor, flavour_for
from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.flavours import sklearn as estimators
from modelops.domains.models.signatures import check_instances, infer_signature

X, Y = load_breast_cancer(return_X_y=True)


def roundtrip(flavour, model, folder):
    assert flavour.detect(model)
    assert flavour.save(model, folder) == ["model.pkl"]
    predictor = flavour.load(folder)
    assert isinstance(flavour, Flavour)
    assert isinstance(predictor, Predictor)
    return predictor


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(5, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
        LinearSVC(),
        LinearRegression(),
        IsolationForest(n_estimators=5, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_an_estimator_predicts_the_same_from_its_package(model, tmp_path):
    model.fit(X, Y)
    predictor = roundtrip(estimators.flavour, model, tmp_path)

    np.testing.assert_array_equal(predictor.predict(X), model.predict(X))
    if hasattr(model, "predict_proba"):
        assert predictor.classes == [0, 1]
        np.testing.assert_array_equal(predictor.predict_proba(X), model.predict_proba(X))
    else:
        assert predictor.classes is None
        assert predictor.predict_proba(X) is None


def test_a_pipeline_fitted_on_a_mixed_table(tmp_path):
    table = pd.DataFrame(
        {"city": ["a", "b", "a", "b"], "size": [1.0, 2.0, 3.0, 4.0], "new": [True, False, False, True]}
    )
    prepare = make_column_transformer((OneHotEncoder(), ["city", "new"]), (StandardScaler(), ["size"]))
    model = make_pipeline(prepare, LogisticRegression()).fit(table, ["yes", "no", "yes", "no"])
    predictor = roundtrip(estimators.flavour, model, tmp_path)
    rows = check_instances(infer_signature(table), table.to_dict("records"))

    assert predictor.feature_names == ["city", "size", "new"]
    assert predictor.classes == ["no", "yes"]
    np.testing.assert_array_equal(predictor.predict(rows), model.predict(table))
    assert any(line.startswith("pandas==") for line in estimators.flavour.requirements(model))


def test_a_matrix_for_a_model_fitted_on_a_frame(tmp_path):
    frame, target = load_diabetes(return_X_y=True, as_frame=True)
    model = LinearRegression().fit(frame, target)
    predictor = roundtrip(estimators.flavour, model, tmp_path)

    np.testing.assert_array_equal(predictor.predict(frame.to_numpy()), model.predict(frame))


def test_what_cannot_be_served_is_not_saved(tmp_path):
    with pytest.raises(InvalidInput, match="not fitted"):
        estimators.flavour.save(LogisticRegression(), tmp_path)
    with pytest.raises(InvalidInput, match="cannot predict"):
        estimators.flavour.save(StandardScaler().fit(X), tmp_path)
    with pytest.raises(InvalidInput, match="cannot be saved"):
        functions.flavour.save(HoldsAFile(tmp_path / "open"), tmp_path)
    assert not (tmp_path / "model.pkl").exists()


class HoldsAFile:
    def __init__(self, path):
        self.file = path.open("w")

    def __call__(self, rows):
        self.file.close()
        return rows

    def __del__(self):
        self.file.close()


def test_requirements_are_pinned():
    needed = estimators.flavour.requirements(LogisticRegression())

    assert {line.split("==")[0] for line in needed} == {"cloudpickle", "numpy", "scikit-learn", "scipy"}
    assert all("==" in line for line in needed)


def test_a_package_that_holds_something_else(tmp_path):
    (tmp_path / "model.pkl").write_bytes(cloudpickle.dumps(None))

    with pytest.raises(InvalidInput, match="no fitted estimator"):
        estimators.flavour.load(tmp_path)
    with pytest.raises(InvalidInput, match="nothing to call"):
        functions.flavour.load(tmp_path)


def test_a_function_gets_an_array_or_objects_as_it_asks(tmp_path):
    def of_rows(rows: list[dict[str, float]]):
        return [row["a"] + row["b"] for row in rows]

    records = roundtrip(functions.flavour, of_rows, tmp_path)
    assert records.wants_columns
    assert records.predict({"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])}) == [4.0, 6.0]
    array = roundtrip(functions.flavour, lambda rows: rows.sum(axis=1), tmp_path)
    assert not array.wants_columns
    np.testing.assert_array_equal(array.predict(np.ones((2, 3))), [3.0, 3.0])
    text = np.array(["x"], dtype=object)
    assert roundtrip(functions.flavour, lambda rows: [rows[0]["s"]], tmp_path).predict({"s": text}) == ["x"]


OWN = """
from own_helpers_for_test import shift
import numpy as np

class Model:
    def __call__(self, rows):
        return local(rows)

def local(rows):
    return np.asarray(rows)[:, 0] + shift()

def plus_one(column):
    return column + 1
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_model_for_test.py").write_text(OWN)
    (tmp_path / "own_helpers_for_test.py").write_text("def shift():\n    return 10\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("own_model_for_test")
    for name in ("own_model_for_test", "own_helpers_for_test"):
        sys.modules.pop(name, None)


def _elsewhere(folder, kind):
    """Predict [[1.0]] in a process that does not have the author's modules."""
    code = (
        f"from modelops.domains.models.flavours import {kind} as m; from pathlib import Path; import numpy as np\n"
        f"print(float(m.flavour.load(Path({str(folder)!r})).predict(np.ones((1, 1)))[0]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_the_author_s_own_code_goes_along(own_module, tmp_path):
    for model in (own_module.local, own_module.Model()):
        functions.flavour.save(model, tmp_path)
        assert _elsewhere(tmp_path, "callable") == 11.0
    pipeline = make_pipeline(FunctionTransformer(own_module.plus_one), LinearRegression())
    pipeline.fit(np.arange(4.0).reshape(-1, 1), np.arange(4.0))
    estimators.flavour.save(pipeline, tmp_path)
    assert _elsewhere(tmp_path, "sklearn") == pytest.approx(1.0)
    assert cloudpickle.list_registry_pickle_by_value() == set()


@pytest.fixture
def installed(monkeypatch):
    group = "modelops.flavours"
    here = "modelops.domains.models.flavours"
    points = {name: EntryPoint(name, f"{here}.{name}:flavour", group) for name in ("callable", "sklearn")}
    plugins.load.cache_clear()
    monkeypatch.setattr(plugins, "discover", lambda _group: points)
    yield
    plugins.load.cache_clear()


def test_the_flavour_is_found_by_asking(installed):
    class CallableEstimator(LinearRegression):
        def __call__(self, rows):
            return rows

    assert flavour_for(LinearRegression()).name == "sklearn"
    assert flavour_for(CallableEstimator()).name == "sklearn"
    assert flavour_for(len).name == "callable"
    with pytest.raises(InvalidInput, match=r"builtins\.int"):
        flavour_for(5)


def test_importing_the_interface_imports_no_library():
    code = (
        "import sys, modelops.domains.models.flavours, modelops.domains.models.signatures, modelops.runtime\n"
        "import modelops.domains.models.packages\n"
        "print([m for m in ('numpy', 'sklearn', 'pandas', 'sqlalchemy', 'fastapi') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
