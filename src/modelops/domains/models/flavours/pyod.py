"""PyOD: detectors of outliers. They have no format of their own, so they are pickled."""

from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import pickling
from modelops.domains.models.flavours.rows import is_of, matrix

_FILE = "model.pkl"


class PyODPredictor:
    """A fitted detector: 1 for an outlier and 0 else, with the probability of both by its scores in training."""

    wants_columns = False
    classes: list[Any] | None = [0, 1]

    def __init__(self, model: Any) -> None:
        self.model = model
        names = getattr(model, "feature_names_in_", None)
        self.feature_names = None if names is None else [str(name) for name in names]

    def predict(self, rows: Any) -> Any:
        """Return labels, shape (rows,)."""
        return self.model.predict(matrix(rows, self.feature_names))

    def predict_proba(self, rows: Any) -> Any:
        """Return the probabilities of inlier and outlier, shape (rows, 2)."""
        return self.model.predict_proba(matrix(rows, self.feature_names))


class PyODFlavour:
    """Saves the detectors of `pyod.models`."""

    name = "pyod"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is a detector."""
        return is_of(model, "pyod", "BaseDetector")

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write `model.pkl`."""
        if not hasattr(model, "threshold_"):
            raise InvalidInput(f"The {type(model).__name__} is not fitted.", hint="Call `fit` before saving it.")
        pickling.dump(model, folder / _FILE)
        return [_FILE]

    def load(self, folder: Path) -> PyODPredictor:
        """Load the detector."""
        model = pickling.load(folder / _FILE)
        if not self.detect(model):
            raise InvalidInput(f"The package's {_FILE} holds no detector but a {type(model).__name__}.")
        return PyODPredictor(model)

    def requirements(self, model: Any) -> list[str]:
        """Return PyOD, scikit-learn, NumPy, SciPy, cloudpickle and whatever the detector's parts come from."""
        parts = [model, *vars(model).values()]
        parts += [item for part in parts if isinstance(part, list | tuple) for item in part]
        return pickling.pinned(
            {"pyod", "sklearn", "numpy", "scipy", "cloudpickle", *(type(p).__module__ for p in parts)}
        )


flavour = PyODFlavour()
