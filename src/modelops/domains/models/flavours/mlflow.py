"""MLflow: model folders as `mlflow.<library>.save_model` writes them.

Where the folder's inner flavour is one of this package's own, it is loaded by that, and MLflow need not be installed; else
by MLflow's own `pyfunc`.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput, MissingExtra
from modelops.domains.models.flavours import Predictor, pickling
from modelops.domains.models.flavours.mlmodel import FILE, PYFUNC, MlModel, read_mlmodel
from modelops.domains.models.flavours.rows import frame
from modelops.domains.models.schemas import ModelSignature

_REQUIREMENTS = "requirements.txt"
_CODE = "code"


class PyfuncPredictor:
    """A model that MLflow loaded. Rows go in as a DataFrame with the columns and types that its signature names."""

    classes: list[Any] | None = None
    wants_columns = True

    def __init__(self, model: Any, described: MlModel) -> None:
        self.model = model
        signature = described.signature
        self.feature_names = None if signature is None else [feature.name for feature in signature.inputs]
        self._types = {str(one.get("name")): one.get("type") for one in described.inputs or []}
        tensors = [one for one in described.inputs or [] if one.get("type") == "tensor" and one.get("name") is None]
        self._dtype = tensors[0]["tensor-spec"]["dtype"] if tensors else None

    def predict(self, rows: Any) -> Any:
        """Return what the model returns for the rows, one entry a row."""
        table = frame(rows, self.feature_names)
        if self._dtype is not None:
            return _one_entry_a_row(self.model.predict(table.to_numpy(dtype=self._dtype)))
        for name, kind in self._types.items():
            if name in table.columns and kind in _PANDAS:
                table[name] = table[name].astype(_PANDAS[kind])
        return _one_entry_a_row(self.model.predict(table))

    def predict_proba(self, rows: Any) -> Any:
        """Return None: `pyfunc` has no probabilities."""
        return None


class MlflowFlavour:
    """Saves folders (as a `Path`) that hold an `MLmodel`."""

    name = "mlflow"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is the path of an MLflow model folder."""
        return isinstance(model, Path) and (model / FILE).is_file()

    def save(self, model: Any, folder: Path) -> list[str]:
        """Copy the folder as it is."""
        read_mlmodel(model)
        shutil.copytree(model, folder, dirs_exist_ok=True, symlinks=True)
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def load(self, folder: Path) -> Predictor:
        """Load the model natively where its inner flavour is known here, else by MLflow.

        Raises:
            MissingExtra: MLflow is needed, and not installed.
            InvalidInput: the folder is not as its `MLmodel` says.
        """
        described = read_mlmodel(folder)
        for name, read in _NATIVE.items():
            if name in described.flavors and not described.flavors[name].get(_CODE):
                found = read(folder, described.flavors[name])
                if found is not None:
                    return found
        if PYFUNC not in described.flavors:
            known = ", ".join(sorted(described.flavors)) or "none"
            raise InvalidInput(f"The model's flavours ({known}) are not known here, and it offers no {PYFUNC}.")
        return PyfuncPredictor(_by_mlflow(folder), described)

    def requirements(self, model: Any) -> list[str]:
        """Return what the folder's own `requirements.txt` asks for."""
        listed = model / _REQUIREMENTS
        lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
        return sorted({line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "-"))})

    def signature(self, model: Any) -> ModelSignature | None:
        """Return the signature that stands in the folder's `MLmodel`."""
        return read_mlmodel(model).signature


def inside(folder: Path, path: Any) -> Path:
    """Return the path of a file that an `MLmodel` names.

    Raises:
        InvalidInput: it lies outside of the folder, or is not there.
    """
    found = (folder / str(path)).resolve()
    if not isinstance(path, str) or not found.is_relative_to(folder.resolve()) or not found.exists():
        raise InvalidInput(f"The file '{str(path)[:200]}', which {FILE} names, is not in the package.")
    return found


def _sklearn(folder: Path, facts: dict[str, Any]) -> Predictor | None:
    from modelops.domains.models.flavours import sklearn

    model = _unpickled(inside(folder, facts.get("pickled_model")), facts)
    return sklearn.SklearnPredictor(model) if sklearn.flavour.detect(model) else None


def _xgboost(folder: Path, facts: dict[str, Any]) -> Predictor | None:
    from modelops.domains.models.flavours import xgboost

    kind = str(facts.get("model_class", "Booster")).rpartition(".")[2]
    return xgboost.read(inside(folder, facts.get("data")), kind)


def _lightgbm(folder: Path, facts: dict[str, Any]) -> Predictor | None:
    from modelops.domains.models.flavours import lightgbm, sklearn

    path = inside(folder, facts.get("data"))
    if str(facts.get("model_class", "Booster")).rpartition(".")[2] == "Booster":
        return lightgbm.read(path)
    model = _unpickled(path, facts)
    return sklearn.SklearnPredictor(model) if lightgbm.flavour.detect(model) else None


def _onnx(folder: Path, facts: dict[str, Any]) -> Predictor | None:
    from modelops.domains.models.flavours import onnx

    return onnx.read(inside(folder, facts.get("data")))


def _pytorch(folder: Path, facts: dict[str, Any]) -> Predictor | None:
    from modelops.domains.models.flavours import pytorch

    exported = inside(folder, facts.get("model_data")) / "model.pt2"
    # A module that was pickled whole goes by MLflow, which knows with which module.
    return pytorch.read(exported) if exported.is_file() else None


def _keras(folder: Path, facts: dict[str, Any]) -> Predictor | None:
    from modelops.domains.models.flavours import keras

    path = inside(folder, facts.get("data", "data")) / "model.keras"
    return keras.read(path) if path.is_file() else None


_NATIVE: dict[str, Callable[[Path, dict[str, Any]], Predictor | None]] = {
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "onnx": _onnx,
    "pytorch": _pytorch,
    "keras": _keras,
}

_PANDAS = {
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "boolean": "bool",
    "datetime": "datetime64[ns]",
}


def _unpickled(path: Path, facts: dict[str, Any]) -> Any:
    form = facts.get("serialization_format", "pickle")
    if form != "skops":
        return pickling.load(path)
    try:
        import skops.io
    except ModuleNotFoundError as missing:
        raise MissingExtra(
            "The model was saved with skops, which is not installed.", hint="Install it: pip install skops"
        ) from missing
    # Which types it holds was judged when the version was registered.
    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def _by_mlflow(folder: Path) -> Any:
    # MLflow asks for this word before it opens a pickle; here, the package's signature was verified before.
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    try:
        import mlflow.pyfunc
    except ModuleNotFoundError as missing:
        raise MissingExtra(
            "This model is loaded by MLflow, which is not installed here.",
            hint="Install it beside the runtime (pip install mlflow-skinny), or register the model in its own flavour.",
        ) from missing
    return mlflow.pyfunc.load_model(str(folder))


def _one_entry_a_row(said: Any) -> Any:
    if hasattr(said, "to_dict") and getattr(said, "ndim", 1) == 2:
        only = said.shape[1] == 1
        return said.iloc[:, 0].to_numpy() if only else said.to_dict("records")
    return said.to_numpy() if hasattr(said, "to_numpy") else said


flavour = MlflowFlavour()
