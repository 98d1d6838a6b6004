"""Linear models, and the scaling before them, as NumPy does them: the same products in the same order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelops.domains.models.compiling.scores import Link, Scores

Scaling = Callable[[Any], Any]
"""From rows to rows, float64 of shape (rows, features)."""

_REGRESSORS = frozenset(
    {
        "BayesianRidge",
        "ElasticNet",
        "ElasticNetCV",
        "HuberRegressor",
        "Lasso",
        "LassoCV",
        "LinearRegression",
        "LinearSVR",
        "Ridge",
        "RidgeCV",
        "SGDRegressor",
    }
)
_LOGARITHMIC = frozenset({"PoissonRegressor", "GammaRegressor"})
_MARGINS = frozenset({"LinearSVC", "RidgeClassifier", "RidgeClassifierCV", "Perceptron"})
_LOGISTIC = frozenset({"LogisticRegression", "LogisticRegressionCV"})


@dataclass(frozen=True)
class Linear:
    """Scores that are sums of products.

    Attributes:
        weights: Shape (features,), or (features, columns), laid out as the library has it.
        intercept: A number, or shape (columns,).
    """

    weights: Any
    intercept: Any

    def __call__(self, rows: Any) -> Any:
        """Return raw scores, shape (rows, columns), for rows of shape (rows, features), float64."""
        raw = rows @ self.weights + self.intercept
        return raw.reshape(-1, 1) if raw.ndim == 1 else raw


def read_linear(model: Any) -> tuple[Linear, Scores] | None:
    """Return a linear estimator's weights, and what becomes of the scores; None where it is none that is known here."""
    scores = _scores(model) if type(model).__module__.startswith("sklearn.") else None
    if scores is None:
        return None
    weights = np.asarray(model.coef_)
    if weights.dtype != np.float64 or hasattr(model.coef_, "tocsr"):
        return None
    return Linear(weights.T, model.intercept_), scores


def _scores(model: Any) -> Scores | None:
    kind = type(model).__name__
    if kind in _REGRESSORS:
        return Scores(Link.IDENTITY, None)
    if kind in _LOGARITHMIC:
        return Scores(Link.EXPONENTIAL, None)
    classes = getattr(model, "classes_", None)
    if not isinstance(classes, np.ndarray):
        return None
    many = len(classes) > 2
    if kind in _LOGISTIC:
        each = getattr(model, "multi_class", None) == "ovr" or model.solver == "liblinear"
        return Scores(_many(each=each) if many else Link.LOGISTIC, classes)
    if kind == "SGDClassifier":
        if model.loss == "modified_huber":
            return None
        return Scores(
            (_many(each=True) if many else Link.LOGISTIC) if model.loss == "log_loss" else Link.MARGIN, classes
        )
    return Scores(Link.MARGIN, classes) if kind in _MARGINS else None


def _many(*, each: bool) -> Link:
    return Link.ONE_AGAINST_REST if each else Link.SOFTMAX


def read_scaling(steps: Sequence[Any]) -> Scaling | None:
    """Return what a Pipeline's steps do to rows of numbers; None where one of them is not known here."""
    parts = [_step(step) for step in steps if step is not None and step != "passthrough"]
    known = [part for part in parts if part is not None]
    return _Chain(known) if len(known) == len(parts) else None


class _Chain:
    def __init__(self, parts: list[Scaling]) -> None:
        self._parts = parts

    def __call__(self, rows: Any) -> Any:
        for part in self._parts:
            rows = part(rows)
        return rows


def _step(step: Any) -> Scaling | None:
    if not type(step).__module__.startswith("sklearn."):
        return None
    kind = type(step).__name__
    if kind == "StandardScaler":
        return _moved(step.mean_ if step.with_mean else None, step.scale_ if step.with_std else None)
    if kind == "RobustScaler" and not step.unit_variance:
        return _moved(step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None)
    if kind == "MaxAbsScaler" and not getattr(step, "clip", False):
        return _moved(None, step.scale_)
    if kind == "MinMaxScaler" and not step.clip:
        return lambda rows: rows * step.scale_ + step.min_
    if kind == "SimpleImputer":
        return _imputed(step)
    return None


def _moved(center: Any, scale: Any) -> Scaling:
    def moved(rows: Any) -> Any:
        rows = rows if center is None else rows - center
        return rows if scale is None else rows / scale

    return moved


def _imputed(step: Any) -> Scaling | None:
    fill = step.statistics_
    plain = fill.dtype == np.float64 and not np.isnan(fill).any()
    if (
        step.add_indicator
        or not plain
        or not isinstance(step.missing_values, float)
        or not np.isnan(step.missing_values)
    ):
        return None
    return lambda rows: np.where(np.isnan(rows), fill, rows)
