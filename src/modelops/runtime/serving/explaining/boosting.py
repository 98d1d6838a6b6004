"""SHAP values of XGBoost's and LightGBM's boosters, which compute them themselves, by the paths that training data took."""

from collections.abc import Callable
from typing import Any

import numpy as np

from modelops.domains.models.flavours import Predictor
from modelops.domains.models.flavours.rows import is_of
from modelops.runtime.serving.explaining.attributions import Attribution
from modelops.runtime.serving.explaining.turns import Pace, Turns

_XGBOOST = ("Booster", "XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")

_ROUNDING = 1e-5

Told = Callable[[Any], tuple[Any, Any]]
"""Gives, of a matrix, contributions with the base value last, (rows, outputs, features + 1), and raw scores, (rows, outputs)."""


class BoosterShap:
    """Exact values in the space of raw scores, which a booster's trees add up to."""

    name, max_rows, evaluations = "tree", 1_000, 1

    def __init__(self, predictor: Predictor, features: int) -> None:
        self._told = _of_xgboost(predictor) if is_of(predictor.model, "xgboost", *_XGBOOST) else _of_lightgbm(predictor)
        self._pace = Pace()
        classes = predictor.classes
        if classes is None:
            is_prediction = _is_prediction(predictor, self._told, features)
            self.explains, self.outputs = ("prediction", ["prediction"]) if is_prediction else ("raw", ["score"])
        elif len(classes) == 2:
            self.explains, self.outputs = "log_odds", [str(classes[1])]
        else:
            self.explains, self.outputs = "raw", [str(name) for name in classes]

    def attribute(self, matrix: Any, turns: Turns) -> Attribution:
        """Explain the rows."""
        parts = self._pace.run(turns, len(matrix), lambda start, stop: self._told(matrix[start:stop]))
        told = np.concatenate([contributions for contributions, _ in parts]).astype(np.float64)
        outputs = np.concatenate([scores for _, scores in parts]).astype(np.float64)
        base = told[0, :, -1]
        return Attribution(base, _settled(told[:, :, :-1], base, outputs), outputs)

    @staticmethod
    def suits(predictor: Predictor) -> bool:
        """Tell whether the model is such a booster, of numbers alone."""
        model = predictor.model
        return not predictor.wants_columns and (
            is_of(model, "xgboost", *_XGBOOST) or is_of(model, "lightgbm", "Booster")
        )


def _settled(values: Any, base: Any, outputs: Any) -> Any:
    """Return values, shape (rows, outputs, features), that add up to the outputs in double precision.

    XGBoost counts in single precision. What a sum is off by for that reason is spread by the values' sizes, which changes
    none in the digits that it had; more than that is left for the caller to find.
    """
    off = outputs - base - values.sum(axis=2)
    sizes = np.abs(values)
    total = sizes.sum(axis=2)
    is_rounding = (np.abs(off) <= _ROUNDING * np.maximum(1.0, np.abs(outputs) + total)) & (total > 0)
    return values + sizes * np.where(is_rounding, off / np.where(total > 0, total, 1.0), 0.0)[:, :, None]


def _is_prediction(predictor: Predictor, told: Told, features: int) -> bool:
    """Tell whether raw scores are what the model predicts, as with the usual objectives of regressions."""
    probe = np.ones((1, features))
    predicted = np.asarray(predictor.predict(probe), dtype=np.float64).ravel()
    scores = np.asarray(told(probe)[1], dtype=np.float64).ravel()
    return predicted.shape == scores.shape and bool(np.allclose(predicted, scores, rtol=1e-5, atol=1e-6))


def _of_xgboost(predictor: Predictor) -> Told:
    import xgboost

    model = predictor.model
    booster = model if is_of(model, "xgboost", "Booster") else model.get_booster()
    best = booster.attributes().get("best_iteration") if booster is not model else None
    span = (0, 0) if best is None else (0, int(best) + 1)

    def told(matrix: Any) -> tuple[Any, Any]:
        rows = xgboost.DMatrix(matrix, feature_names=booster.feature_names)
        contributions = booster.predict(rows, pred_contribs=True, iteration_range=span)
        scores = booster.predict(rows, output_margin=True, iteration_range=span)
        return (
            contributions[:, None, :] if contributions.ndim == 2 else contributions,
            scores.reshape(len(matrix), -1),
        )

    return told


def _of_lightgbm(predictor: Predictor) -> Told:
    booster = predictor.model

    def told(matrix: Any) -> tuple[Any, Any]:
        scores = booster.predict(matrix, raw_score=True).reshape(len(matrix), -1)
        contributions = booster.predict(matrix, pred_contrib=True)
        return contributions.reshape(len(matrix), scores.shape[1], -1), scores

    return told
