"""From checked rows to an answer, and what may go wrong inside a model."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelops.domains.models.flavours import AnswersAtOnce, Predictor
from modelops.runtime.serving.failures import ModelFailed


@dataclass(frozen=True)
class Answer:
    """What a model said for some rows.

    Attributes:
        values: What `predict` gave, one entry a row: an array, or a list of JSON values.
        probabilities: Shape (rows, classes), or None.
    """

    values: Any
    probabilities: Any


Asked = Callable[[Any], tuple[Any, Any]]
"""Gives predictions and probabilities for rows."""


def way_to_ask(predictor: Predictor) -> Asked:
    """Return how a predictor is asked; it is looked at once, and not for each batch."""
    if isinstance(predictor, AnswersAtOnce):
        return predictor.answer
    if predictor.classes is None:
        return lambda rows: (predictor.predict(rows), None)
    return lambda rows: (predictor.predict(rows), predictor.predict_proba(rows))


def ask(asked: Asked, classes: int | None, rows: Any, count: int) -> Answer:
    """Ask a model for `count` rows.

    Args:
        classes: How many columns its probabilities must have; None for no probabilities.

    NaN and infinities in `values` stay and become null on the wire, which has no number for them.

    Raises:
        ModelFailed: it raised, or gave another number of predictions, or probabilities that are none.
    """
    try:
        values, probabilities = asked(rows)
        values = values if isinstance(values, list) else np.asarray(values)
        probabilities = None if classes is None else np.asarray(probabilities, dtype=np.float64)
    except (Exception, SystemExit) as wrong:
        raise ModelFailed(f"The model raised {type(wrong).__name__}: {str(wrong)[:300]}.") from wrong
    _check(classes, values, probabilities, count)
    return Answer(values, probabilities)


def plain(values: Any) -> list[Any]:
    """Return predictions as JSON values; NaN and infinities as None.

    Raises:
        ModelFailed: something in them is no JSON value.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iub":
        listed: list[Any] = values.tolist()
        return listed
    if isinstance(values, np.ndarray) and values.dtype.kind == "f" and np.isfinite(values).all():
        finite: list[Any] = values.tolist()
        return finite
    return [_plain(value) for value in (values.tolist() if isinstance(values, np.ndarray) else values)]


def _check(classes: int | None, values: Any, probabilities: Any, count: int) -> None:
    length = len(values) if isinstance(values, list) or values.ndim else None
    if length != count:
        came = "a single value" if length is None else f"{length} predictions"
        raise ModelFailed(f"The model gave {came} for {count} rows.", hint="`predict` must give one entry a row.")
    if probabilities is None:
        return
    expected = (count, classes)
    if probabilities.shape != expected:
        raise ModelFailed(f"The model gave probabilities of shape {probabilities.shape}, not {expected}.")
    if not np.isfinite(probabilities).all():
        raise ModelFailed("The model gave probabilities that are not finite numbers.")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    raise ModelFailed(f"The model predicted a {type(value).__name__}, which is no JSON value.")
