"""LightGBM: boosters and scikit-learn's face of them, in LightGBM's own text, which holds no code."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import pickling
from modelops.domains.models.flavours.rows import categories, frame, is_of, matrix
from modelops.domains.models.schemas import Feature, ModelSignature

FILE, FACTS = "model.lgb", "flavour.json"

_BOOSTER, _MODEL, _CLASSIFIER = "Booster", "LGBMModel", "LGBMClassifier"


class LightGBMPredictor:
    """A booster. Where it was a classifier, its predictions are labels; else they are what the objective gives.

    Args:
        model: A `lightgbm.Booster`.
        classes: The labels by the order of the booster's classes, for a classifier.
    """

    def __init__(self, model: Any, classes: list[Any] | None = None) -> None:
        self.model, self.classes = model, classes
        names = model.feature_name()
        # LightGBM names columns itself where the data had no names.
        self.feature_names = None if names == [f"Column_{index}" for index in range(len(names))] else names
        self.wants_columns = bool(model.pandas_categorical)
        self._labels = None if classes is None else np.asarray(classes)

    def predict(self, rows: Any) -> Any:
        """Return predictions, shape (rows,) or (rows, outputs)."""
        if self._labels is None:
            return self._raw(rows)
        return self._labels[np.argmax(self.predict_proba(rows), axis=1)]

    def predict_proba(self, rows: Any) -> Any:
        """Return class probabilities, shape (rows, classes), or None."""
        if self._labels is None:
            return None
        raw = self._raw(rows)
        return np.column_stack([1.0 - raw, raw]) if raw.ndim == 1 else raw

    def _raw(self, rows: Any) -> Any:
        if not self.wants_columns:
            return self.model.predict(matrix(rows, self.feature_names))
        return self.model.predict(categories(frame(rows, self.feature_names)))


class LightGBMFlavour:
    """Saves `lightgbm.Booster` and the estimators of `lightgbm.sklearn`."""

    name = "lightgbm"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is a booster or an estimator of LightGBM."""
        return is_of(model, "lightgbm", _BOOSTER, _MODEL)

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write `model.lgb` up to the best iteration, and a classifier's labels."""
        booster, labels = _booster(model), None
        if is_of(model, "lightgbm", _CLASSIFIER):
            if callable(model.objective):
                raise InvalidInput("A LightGBM classifier with an objective of its own gives no probabilities.")
            labels = model.classes_.tolist()
        booster.save_model(folder / FILE)
        (folder / FACTS).write_text(json.dumps({"classes": labels}), encoding="utf-8")
        return [FACTS, FILE]

    def load(self, folder: Path) -> LightGBMPredictor:
        """Load the booster, with its labels."""
        try:
            classes = json.loads((folder / FACTS).read_text(encoding="utf-8"))["classes"]
        except (OSError, ValueError, TypeError, KeyError) as wrong:
            raise InvalidInput(f"The package's {FACTS} does not tell the classes: {wrong!r}.") from wrong
        return read(folder / FILE, classes)

    def requirements(self, model: Any) -> list[str]:
        """Return LightGBM and NumPy, and pandas where there are categories."""
        needed = {"lightgbm", "numpy", "scipy"}
        return pickling.pinned(needed | {"pandas"} if _booster(model).pandas_categorical else needed)

    def signature(self, model: Any) -> ModelSignature | None:
        """Return the features that the booster was trained with; None where some are categories, which it does not name."""
        booster = _booster(model)
        if booster.pandas_categorical:
            return None
        names = LightGBMPredictor(booster).feature_names or [f"x{index}" for index in range(booster.num_feature())]
        return ModelSignature(inputs=[Feature(name=name) for name in names])


def read(path: Path, classes: list[Any] | None = None) -> LightGBMPredictor:
    """Load a file that LightGBM wrote.

    Raises:
        InvalidInput: it holds no booster.
    """
    import lightgbm

    try:
        booster = lightgbm.Booster(model_file=path)
    except (lightgbm.basic.LightGBMError, ValueError, TypeError) as wrong:
        raise InvalidInput(f"The file '{path.name}' holds no booster: {str(wrong)[:300]}.") from wrong
    if classes is not None and len(classes) != max(booster.num_model_per_iteration(), 2):
        raise InvalidInput(f"The booster in '{path.name}' does not tell {len(classes)} classes apart.")
    return LightGBMPredictor(booster, classes)


def _booster(model: Any) -> Any:
    if is_of(model, "lightgbm", _BOOSTER):
        return model
    if not getattr(model, "fitted_", False):
        raise InvalidInput(f"The {type(model).__name__} is not fitted.", hint="Call `fit` before saving it.")
    return model.booster_


flavour = LightGBMFlavour()
