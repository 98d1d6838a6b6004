"""scikit-learn: estimators and Pipelines that classify, regress, cluster or find outliers."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import pickling
from modelops.domains.models.flavours.rows import frame, is_of

_FILE = "model.pkl"

# Of these, scikit-learn takes the label from the probabilities.
_BY_SHARES = ("DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier", "RandomForestClassifier")


class SklearnPredictor:
    """A fitted estimator. Rows go in as the DataFrame it was fitted with, where it kept feature names."""

    wants_columns = False

    def __init__(self, model: Any) -> None:
        self.model = model
        self.feature_names = _feature_names(model)
        self.classes = _classes(model)
        last = model.steps[-1][1] if is_of(model, "sklearn", "Pipeline") else model
        known = type(last).__module__.startswith("sklearn.") and type(last).__name__ in _BY_SHARES
        self._by_shares = known and self.classes is not None

    def predict(self, rows: Any) -> Any:
        """Return the estimator's predictions, shape (rows,) or (rows, outputs)."""
        return self.model.predict(self.table(rows))

    def predict_proba(self, rows: Any) -> Any:
        """Return class probabilities, shape (rows, classes), or None."""
        return None if self.classes is None else self.model.predict_proba(self.table(rows))

    def answer(self, rows: Any) -> tuple[Any, Any]:
        """Return predictions and probabilities; where the first follow from the second, the estimator is asked once."""
        table = self.table(rows)
        if self._by_shares:
            shares = self.model.predict_proba(table)
            return self.model.classes_.take(shares.argmax(axis=1)), shares
        return self.model.predict(table), None if self.classes is None else self.model.predict_proba(table)

    def table(self, rows: Any) -> Any:
        """Return rows as the estimator was fitted with them: a DataFrame, or the array as it is."""
        if isinstance(rows, dict) or self.feature_names is not None:
            return frame(rows, self.feature_names)
        return rows


class SklearnFlavour:
    """Saves anything that is a `BaseEstimator` and predicts."""

    name = "sklearn"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is an estimator, fitted or not."""
        return isinstance(model, BaseEstimator) and not isinstance(model, type)

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write `model.pkl`. An estimator that cannot predict, or was not fitted, is refused."""
        _check_usable(model)
        pickling.dump(model, folder / _FILE)
        return [_FILE]

    def load(self, folder: Path) -> SklearnPredictor:
        """Load the estimator."""
        model = pickling.load(folder / _FILE)
        if not self.detect(model):
            raise InvalidInput(f"The package's {_FILE} holds no fitted estimator but a {type(model).__name__}.")
        return SklearnPredictor(model)

    def requirements(self, model: Any) -> list[str]:
        """Return scikit-learn, NumPy, SciPy, cloudpickle and whatever the steps come from."""
        needed = {"sklearn", "numpy", "scipy", "cloudpickle", *_modules(model)}
        if _feature_names(model) is not None:
            needed.add("pandas")
        return pickling.pinned(needed)


def _check_usable(model: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if not hasattr(model, "predict"):
        raise InvalidInput(f"A {type(model).__name__} cannot predict, so it cannot be served.")
    try:
        check_is_fitted(model)
    except NotFittedError as wrong:
        raise InvalidInput(f"The {type(model).__name__} is not fitted.", hint="Call `fit` before saving it.") from wrong


def _modules(model: Any) -> set[str]:
    parts = [model, *model.get_params(deep=True).values()]
    parts += [item for part in parts if isinstance(part, list | tuple) for item in part]
    named = {getattr(part, "__module__", None) or type(part).__module__ for part in parts}
    return {name for name in named if isinstance(name, str) and name != "builtins"}


def _feature_names(model: Any) -> list[str] | None:
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _classes(model: Any) -> list[Any] | None:
    # An estimator of several outputs has a list of arrays here, which no one table of probabilities can show.
    classes = getattr(model, "classes_", None)
    if not isinstance(classes, np.ndarray) or not hasattr(model, "predict_proba"):
        return None
    plain: list[Any] = classes.tolist()
    return plain


flavour = SklearnFlavour()
