"""XGBoost: boosters and scikit-learn's face of them, in XGBoost's own UBJSON, which holds no code."""

import json
from pathlib import Path
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import pickling
from modelops.domains.models.flavours.rows import categories, frame, is_of, matrix
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature

FILE, FACTS = "model.ubj", "flavour.json"

_WRAPPERS = ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")
_BOOSTER = "Booster"


class XGBoostPredictor:
    """A booster, or an estimator around one. A booster's predictions are what its objective gives."""

    def __init__(self, model: Any) -> None:
        self.model = model
        booster = _booster(model)
        self.feature_names: list[str] | None = booster.feature_names
        self.classes = _classes(model)
        # Categories are told apart by a frame's columns only.
        self.wants_columns = "c" in (booster.feature_types or [])
        self._is_booster = booster is model

    def predict(self, rows: Any) -> Any:
        """Return predictions, shape (rows,) or (rows, outputs)."""
        table = self._table(rows)
        if not self._is_booster:
            return self.model.predict(table)
        import xgboost

        names = None if hasattr(table, "columns") else self.feature_names
        return self.model.predict(xgboost.DMatrix(table, feature_names=names, enable_categorical=self.wants_columns))

    def predict_proba(self, rows: Any) -> Any:
        """Return class probabilities, shape (rows, classes), or None."""
        return None if self.classes is None else self.model.predict_proba(self._table(rows))

    def _table(self, rows: Any) -> Any:
        if not self.wants_columns:
            return matrix(rows, self.feature_names)
        return categories(frame(rows, self.feature_names))


class XGBoostFlavour:
    """Saves `xgboost.Booster` and the estimators of `xgboost.sklearn`."""

    name = "xgboost"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is a booster or an estimator of XGBoost."""
        return is_of(model, "xgboost", _BOOSTER, *_WRAPPERS)

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write `model.ubj`, and what kind of model it is."""
        _booster(model)
        kind = next(base.__name__ for base in type(model).__mro__ if base.__name__ in (_BOOSTER, *_WRAPPERS))
        model.save_model(folder / FILE)
        (folder / FACTS).write_text(json.dumps({"kind": kind}), encoding="utf-8")
        return [FACTS, FILE]

    def load(self, folder: Path) -> XGBoostPredictor:
        """Load the model."""
        try:
            kind = json.loads((folder / FACTS).read_text(encoding="utf-8"))["kind"]
        except (OSError, ValueError, TypeError, KeyError) as wrong:
            raise InvalidInput(f"The package's {FACTS} does not name the kind of model: {wrong!r}.") from wrong
        return read(folder / FILE, kind)

    def requirements(self, model: Any) -> list[str]:
        """Return XGBoost and NumPy, and scikit-learn for an estimator."""
        needed = {"xgboost", "numpy", "scipy"}
        if not is_of(model, "xgboost", _BOOSTER):
            needed.add("sklearn")
        if XGBoostPredictor(model).wants_columns:
            needed.add("pandas")
        return pickling.pinned(needed)

    def signature(self, model: Any) -> ModelSignature:
        """Return the features that the booster was trained with; categories are texts."""
        booster = _booster(model)
        names = booster.feature_names or [f"x{index}" for index in range(booster.num_features())]
        types = booster.feature_types or [""] * len(names)
        kinds = [FeatureType.STRING if kind == "c" else FeatureType.NUMBER for kind in types]
        return ModelSignature(inputs=[Feature(name=name, type=kind) for name, kind in zip(names, kinds, strict=True)])


def read(path: Path, kind: str) -> XGBoostPredictor:
    """Load a file that XGBoost wrote (UBJSON or JSON) as a model of a kind, such as `Booster` or `XGBClassifier`.

    Raises:
        InvalidInput: there is no such kind, or the file holds none.
    """
    import xgboost

    if kind not in (_BOOSTER, *_WRAPPERS):
        raise InvalidInput(f"XGBoost has no kind of model '{kind[:100]}'.")
    model = getattr(xgboost, kind)()
    try:
        model.load_model(path)
    except (xgboost.core.XGBoostError, ValueError, TypeError) as wrong:
        raise InvalidInput(f"The file '{path.name}' holds no {kind}: {str(wrong)[:300]}.") from wrong
    return XGBoostPredictor(model)


def _booster(model: Any) -> Any:
    if is_of(model, "xgboost", _BOOSTER):
        return model
    if not model.__sklearn_is_fitted__():
        raise InvalidInput(f"The {type(model).__name__} is not fitted.", hint="Call `fit` before saving it.")
    return model.get_booster()


def _classes(model: Any) -> list[Any] | None:
    if not is_of(model, "xgboost", "XGBClassifier", "XGBRFClassifier"):
        return None
    classes: list[Any] = model.classes_.tolist()
    return classes


flavour = XGBoostFlavour()
