"""SHAP values, by the exact method where a model has one (Lundberg and Lee 2017; Lundberg et al. 2020 for trees).

All methods hold to one promise, which the caller checks: the base value plus a row's attributions is the model's output
for the row. Attributions are always for the original features: where a Pipeline scales or imputes each feature by itself
first, a feature's share is that of its transformed value.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from modelops.contracts.errors import DeploymentError
from modelops.domains.models.flavours import Predictor
from modelops.runtime.serving.explaining.turns import Pace, Turns

_ELEMENTWISE = frozenset(
    {
        "Binarizer",
        "MaxAbsScaler",
        "MinMaxScaler",
        "PowerTransformer",
        "QuantileTransformer",
        "RobustScaler",
        "SimpleImputer",
        "StandardScaler",
    }
)
_TREES = (
    "DecisionTree",
    "ExtraTree",
    "ExtraTrees",
    "GradientBoosting",
    "HistGradientBoosting",
    "RandomForest",
)


@dataclass(frozen=True)
class Attribution:
    """`base` has shape (outputs,), `values` (rows, outputs, features), and `outputs`, what they add up to, (rows, outputs).
    `errors`, the values' standard errors, has their shape; None where they are exact."""

    base: Any
    values: Any
    outputs: Any
    errors: Any = None


class Method(Protocol):
    """A way to explain one model. `explains` names the space of its outputs, `outputs` the outputs; `evaluations` is for
    how many rows the model is asked to explain one."""

    name: str
    explains: str
    outputs: list[str]
    max_rows: int
    evaluations: int

    def attribute(self, matrix: Any, turns: Turns) -> Attribution:
        """Explain the rows of a float64 matrix, shape (rows, features), in turns."""
        ...


@dataclass(frozen=True)
class Target:
    """What of a model is explained: `ask` takes a matrix and returns shape (rows, outputs)."""

    explains: str
    outputs: list[str]
    ask: Callable[[Any], Any]


class TreeShap:
    """Exact SHAP values of trees, by the paths that training data took (TreeExplainer, `tree_path_dependent`)."""

    name, max_rows, evaluations = "tree", 1_000, 1

    def __init__(self, predictor: Predictor) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its import draws in matplotlib, if that is there, by ways that warn
            from shap import TreeExplainer

        self._transform, final = _steps(predictor)
        self._target = _tree_target(predictor, final)
        self._explainer = TreeExplainer(final, feature_perturbation="tree_path_dependent")
        self.explains, self.outputs = self._target.explains, self._target.outputs
        self._pace = Pace()

    def attribute(self, matrix: Any, turns: Turns) -> Attribution:
        """Explain the rows."""

        def work(start: int, stop: int) -> tuple[Any, Any]:
            part = matrix[start:stop]
            raw = self._explainer.shap_values(self._transform(part), check_additivity=False)
            return _rows_outputs_features(raw), self._target.ask(part)

        values, outputs = zip(*self._pace.run(turns, len(matrix), work), strict=True)
        base = np.atleast_1d(np.asarray(self._explainer.expected_value, dtype=np.float64)).ravel()
        return Attribution(base, np.concatenate(values), np.concatenate(outputs))

    @staticmethod
    def suits(predictor: Predictor) -> bool:
        """Tell whether the model is a tree or a forest, perhaps behind steps that take each feature by itself."""
        final = _final(predictor)
        name = type(final).__name__.removesuffix("Classifier").removesuffix("Regressor")
        return name in _TREES and _is_sklearn(final) and _is_elementwise(predictor)


class LinearShap:
    """Exact SHAP values of linear models with independent features: weight times distance from the background's mean."""

    name, max_rows, evaluations = "linear", 1_000, 1

    def __init__(self, predictor: Predictor, background: Any) -> None:
        self._transform, final = _steps(predictor)
        self._target = _margin_target(predictor, final)
        self._weights = np.atleast_2d(np.asarray(final.coef_, dtype=np.float64))
        self._mean = self._transform(background).mean(axis=0)
        self._base = self._weights @ self._mean + np.atleast_1d(final.intercept_)
        self.explains, self.outputs = self._target.explains, self._target.outputs

    def attribute(self, matrix: Any, _turns: Turns) -> Attribution:
        """Explain the rows; all at once, which takes less than a turn."""
        distance = self._transform(matrix) - self._mean
        return Attribution(self._base, distance[:, None, :] * self._weights[None, :, :], self._target.ask(matrix))

    @staticmethod
    def suits(predictor: Predictor) -> bool:
        """Tell whether the model has weights, perhaps behind steps that take each feature by itself."""
        final = _final(predictor)
        return hasattr(final, "coef_") and hasattr(final, "intercept_") and _is_elementwise(predictor)


def target_of(predictor: Predictor, decode: Callable[[Any], Any]) -> Target:
    """Return what of any model is explained: probabilities, else the decision function, else the predictions."""
    if predictor.classes is not None:
        return Target("probability", _names(predictor.classes), lambda matrix: predictor.predict_proba(decode(matrix)))
    margin = getattr(predictor.model, "decision_function", None)
    table = getattr(predictor, "table", None)
    if margin is not None and table is not None:
        outputs = _margin_names(predictor.model)
        return Target("raw", outputs, lambda matrix: _two_dimensional(margin(table(decode(matrix)))))
    return Target("prediction", ["prediction"], lambda matrix: _numbers(predictor.predict(decode(matrix))))


def _tree_target(predictor: Predictor, final: Any) -> Target:
    if hasattr(final, "classes_") and "Boosting" in type(final).__name__:
        return _margin_target(predictor, final)
    return target_of(predictor, lambda matrix: matrix)


def _margin_target(predictor: Predictor, final: Any) -> Target:
    if not hasattr(final, "classes_"):
        return target_of(predictor, lambda matrix: matrix)
    table = predictor.table  # type: ignore[attr-defined]  # only scikit-learn's predictor comes here
    is_log_odds = hasattr(final, "predict_proba") and len(final.classes_) == 2
    return Target(
        "log_odds" if is_log_odds else "raw",
        _margin_names(final),
        lambda matrix: _two_dimensional(predictor.model.decision_function(table(matrix))),
    )


def _margin_names(model: Any) -> list[str]:
    classes = getattr(model, "classes_", None)
    if classes is None:
        return ["decision"]
    return _names(classes[1:] if len(classes) == 2 else classes)


def _names(classes: Any) -> list[str]:
    return [str(name) for name in classes]


def _numbers(predictions: Any) -> Any:
    try:
        return _two_dimensional(np.asarray(predictions, dtype=np.float64))
    except (ValueError, TypeError) as wrong:
        raise DeploymentError(
            "The model's predictions are not numbers, so shares of them cannot be computed.",
            hint="Models that give probabilities, a decision function or numbers can be explained.",
        ) from wrong


def _two_dimensional(outputs: Any) -> Any:
    outputs = np.asarray(outputs, dtype=np.float64)
    return outputs.reshape(len(outputs), -1)


def _rows_outputs_features(values: Any) -> Any:
    """Bring SHAP's values to (rows, outputs, features): versions give (rows, features), (rows, features, outputs), lists."""
    if isinstance(values, list):
        return np.stack([np.asarray(part, dtype=np.float64) for part in values], axis=1)
    values = np.asarray(values, dtype=np.float64)
    return values[:, None, :] if values.ndim == 2 else values.transpose(0, 2, 1)


def _parts(predictor: Predictor) -> list[Any]:
    steps = getattr(predictor.model, "steps", None)
    return [predictor.model] if steps is None else [step for _, step in steps]


def _final(predictor: Predictor) -> Any:
    return _parts(predictor)[-1]


def _is_sklearn(model: Any) -> bool:
    return type(model).__module__.startswith("sklearn.")


def _is_elementwise(predictor: Predictor) -> bool:
    before = _parts(predictor)[:-1]
    known = all(step in (None, "passthrough") or type(step).__name__ in _ELEMENTWISE for step in before)
    return known and not any(getattr(step, "add_indicator", False) for step in before)


def _steps(predictor: Predictor) -> tuple[Callable[[Any], Any], Any]:
    """Return the steps before the model as a function of a matrix, and the model."""
    final = _final(predictor)
    if final is predictor.model:
        return lambda matrix: matrix, final
    before, table = predictor.model[:-1], predictor.table  # type: ignore[attr-defined]
    return lambda matrix: np.asarray(before.transform(table(matrix)), dtype=np.float64), final
