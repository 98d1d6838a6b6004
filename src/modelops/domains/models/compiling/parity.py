"""The gate: a compiled model is taken only where it says what the model itself says."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from modelops.domains.models.compiling.probes import MISSING, SAMPLE
from modelops.domains.models.flavours import AnswersAtOnce, Predictor

TOLERANCE = 1e-12
"""How far a float64 may be off, as a part of it. Labels may not."""

_TINY = 1e-15
_SHORT = 1e-6
_SINGLES = 5

Answer = Callable[[Any], tuple[Any, Any]]
"""From rows, float64 of shape (rows, features), to predictions and probabilities (or None)."""


class Differs(Exception):
    """Says where a compiled model is not the model."""


def check_parity(plain: Predictor, compiled: Answer, groups: Iterable[tuple[str, Any]]) -> int:
    """Compare a compiled model with the model itself on groups of rows, and on some rows alone.

    A group on which the model itself fails is left out, such as categories that it never saw; but not the sample, and
    not missing values that its signature allows.

    Returns:
        How many rows were compared.

    Raises:
        Differs: it says otherwise; the message tells the first row.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of rows far outside, which are meant to be so
        return sum(_checked(plain, compiled, name, rows) for name, rows in groups)


def _checked(plain: Predictor, compiled: Answer, name: str, rows: Any) -> int:
    count = 0
    for part in (rows, *(rows[index : index + 1] for index in range(min(_SINGLES, len(rows))))):
        try:
            said, shares = answer_of(plain, part)
        except Exception as wrong:
            if name in (SAMPLE, MISSING):
                raise Differs(f"The model itself fails on {name}: {type(wrong).__name__}.") from wrong
            return count
        _compare(name, part, (said, shares), _asked(compiled, part))
        count += len(part)
    return count


def answer_of(predictor: Predictor, rows: Any) -> tuple[Any, Any]:
    """Ask a model for both: predictions, and probabilities (or None)."""
    if isinstance(predictor, AnswersAtOnce):
        return predictor.answer(rows)
    said = np.asarray(predictor.predict(rows))
    return said, None if predictor.classes is None else np.asarray(predictor.predict_proba(rows))


def _asked(compiled: Answer, rows: Any) -> tuple[Any, Any]:
    try:
        return compiled(rows)
    except Exception as wrong:
        raise Differs(f"The compiled model fails: {type(wrong).__name__}: {str(wrong)[:200]}.") from wrong


def _compare(name: str, rows: Any, expected: tuple[Any, Any], found: tuple[Any, Any]) -> None:
    for what, one, other in zip(("prediction", "probabilities"), expected, found, strict=True):
        if (one is None) != (other is None):
            raise Differs(f"Only one of the two gives {what}.")
        if one is None:
            continue
        if one.shape != other.shape:
            raise Differs(f"Its {what} have the shape {other.shape}, the model's {one.shape}.")
        same = _same(one, other)
        if not same.all():
            row = int(np.flatnonzero(~same)[0])
            raise Differs(
                f"On {name}, row {row}: the model's {what} {_short(one[row])}, compiled {_short(other[row])}; "
                f"the row is {_short(rows[row])}."
            )


def _same(one: Any, other: Any) -> Any:
    """Tell for each row whether two answers are the same, shape (rows,)."""
    if one.dtype.kind == "f" and other.dtype.kind == "f":
        # What a model itself says in float32 holds no finer difference.
        short = one.dtype == other.dtype == np.float32
        rtol, atol = (_SHORT, _SHORT / 10) if short else (TOLERANCE, _TINY)
        same = np.isclose(other, one, rtol=rtol, atol=atol, equal_nan=True)
    else:
        same = (one == other) & np.full(one.shape, one.dtype.kind == other.dtype.kind)
    return same.reshape(len(one), -1).all(axis=1)


def _short(value: Any) -> str:
    text = np.array2string(np.asarray(value), threshold=6, edgeitems=3, separator=", ", floatmode="unique")
    return " ".join(text.split())[:200]
