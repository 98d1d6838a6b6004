"""Predictions with an interval from few, noisy measurements: robust regression on the logarithms.

What a training takes grows with a power of the data's size, and its noise with the size too; so logarithms of what is
predicted are regressed on logarithms of what it depends on.

- *What matters* is chosen forward by the leave-one-out error of least squares (Allen's PRESS, 1974), which needs no refits.
- *The fit* is Huber's M-estimator (1964) by iteratively reweighted least squares, with the scale from the median absolute
  deviation: a job that a busy machine slowed down ten times does not turn the line.
- *The interval* is the one of Student's t for a new observation: it widens away from what was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

METHOD = "Huber regression on logarithms, with a Student t prediction interval"
SOURCE = "Huber (1964), Robust Estimation of a Location Parameter; Allen (1974) for the choice of what matters"

_HUBER = 1.345
_MAD_TO_DEVIATION = 1.4826
_OF_NORMAL = 0.8209
"""The mean of weight x residual^2 of a standard normal residual under those weights: what the scale is divided by."""
_ROUNDS = 50
_WORTH_IT = 0.9
"""Another feature must bring the leave-one-out error below this share of what it was."""
_LEAST_DEVIATION = log(1.02)
"""No measurement of a training is exact: of a few equal ones, chance made them so."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A prediction: what is likely (the median), and between what the truth lies with the confidence asked for."""

    likely: float
    low: float
    high: float


def choose(features: Floats, values: Floats) -> list[int]:
    """Return the columns that matter, in the order in which they help most.

    Args:
        features: (n, k), of logarithms.
        values: (n,), of logarithms.
    """
    chosen: list[int] = []
    error = _leave_one_out(features[:, chosen], values)
    while len(chosen) < max(1, (len(values) - 2) // 3):
        left = [column for column in range(features.shape[1]) if column not in chosen]
        errors = {column: _leave_one_out(features[:, [*chosen, column]], values) for column in left}
        best = min(errors, key=errors.__getitem__, default=None)
        if best is None or errors[best] > _WORTH_IT * error:
            return chosen
        chosen.append(best)
        error = errors[best]
    return chosen


def predict(features: Floats, values: Sequence[float], asked: Floats, confidence: float) -> Interval:
    """Predict the value at `asked`.

    Args:
        features: (n, k), logarithms of what the value depends on; k may be 0.
        values: n measured values above 0, n of at least k + 2.
        asked: (k,), where to predict.
        confidence: How sure the interval is to be, between 0 and 1.
    """
    from scipy.special import stdtrit

    x = _with_constant(features)
    y = np.log(np.asarray(values, float))
    weights = np.ones(len(y))
    coefficients = np.zeros(x.shape[1])
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)[:, None]
        fitted, *_ = np.linalg.lstsq(x * root, y * root[:, 0], rcond=None)
        residuals = y - x @ fitted
        scale = max(_MAD_TO_DEVIATION * float(np.median(np.abs(residuals))), _LEAST_DEVIATION)
        weights = np.minimum(1.0, _HUBER * scale / np.maximum(np.abs(residuals), 1e-12))
        if np.allclose(fitted, coefficients, rtol=1e-9, atol=1e-12):
            break
        coefficients = fitted
    freedom = max(1, len(y) - x.shape[1])
    deviation = max(sqrt(float(np.sum(weights * residuals**2)) / _OF_NORMAL / freedom), _LEAST_DEVIATION)
    at = _with_constant(asked[None, :])[0]
    leverage = float(at @ np.linalg.pinv(x.T @ (x * weights[:, None])) @ at)
    middle = float(at @ fitted)
    half = float(stdtrit(freedom, 0.5 + confidence / 2)) * deviation * sqrt(1.0 + leverage)
    return Interval(*(exp(min(value, 700.0)) for value in (middle, middle - half, middle + half)))


def _with_constant(features: Floats) -> Floats:
    return np.column_stack([np.ones(len(features)), features])


def _leave_one_out(features: Floats, values: Floats) -> float:
    """Return the mean absolute error of each value predicted from the others, by least squares."""
    x = _with_constant(features)
    hat = x @ np.linalg.pinv(x)
    residuals = values - hat @ values
    return float(np.mean(np.abs(residuals) / np.maximum(1.0 - np.diag(hat), 1e-9)))
