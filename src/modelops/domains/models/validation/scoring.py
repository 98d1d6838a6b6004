"""Figures of a model on a table, in NumPy alone.

| figure | source |
|---|---|
| `balanced_accuracy` | mean of the classes' recalls (Brodersen et al. 2010) |
| `f1_macro` | unweighted mean of the classes' F1; a class that is neither there nor predicted does not count |
| `roc_auc` | the Mann-Whitney statistic with mid-ranks (Hanley and McNeil 1982) |
| `log_loss`, `brier` | proper scores of probabilities, these clipped at 1e-15 for the first; `brier` is of two classes |
| `rmse`, `mae`, `r2` | as usual; `r2` is NaN where the target does not vary |
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelops.domains.models.validation.columns import plain

LOWER_IS_BETTER = frozenset({"rmse", "mae", "log_loss", "brier"})

Array = NDArray[Any]
_TINY = 1e-15


def higher_is_better(metric: str) -> bool:
    """Tell the direction of a figure."""
    return metric not in LOWER_IS_BETTER


def classification(truth: Array, said: Array, classes: Sequence[Any] | None, chances: Array | None) -> dict[str, float]:
    """Return the figures of a classifier.

    Args:
        truth: Labels, shape (rows,).
        said: Predicted labels, shape (rows,).
        classes: What the columns of `chances` stand for.
        chances: Probabilities, shape (rows, classes).
    """
    truth, said = alike(truth, said)
    found = {"accuracy": float(np.mean(truth == said)), **_by_class(truth, said)}
    if chances is not None and classes is not None:
        found |= _of_chances(truth, labels(list(classes), like=truth), chances)
    return found


def regression(truth: Array, said: Array) -> dict[str, float]:
    """Return the figures of a regressor; both of shape (rows,)."""
    error = said.astype(np.float64) - truth.astype(np.float64)
    spread = float(np.sum((truth - np.mean(truth)) ** 2))
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "r2": 1.0 - float(np.sum(error**2)) / spread if spread > 0 else float("nan"),
    }


def alike(truth: Array, said: Array) -> tuple[Array, Array]:
    """Return two arrays of labels so that equal labels are equal, whatever types they came as."""
    if truth.dtype.kind in "fiub" and said.dtype.kind in "fiub":
        return truth.astype(np.float64), said.astype(np.float64)
    return labels(list(truth), like=None), labels(list(said), like=None)


def labels(values: Sequence[Any], like: Array | None) -> Array:
    """Return labels as numbers where those they are compared with are, and as texts elsewhere."""
    if like is not None and like.dtype.kind == "f":
        try:
            return np.array([float(value) for value in values])
        except (TypeError, ValueError):
            return np.full(len(values), np.nan)
    return np.array([_text(plain(value)) for value in values], dtype=np.str_)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _by_class(truth: Array, said: Array) -> dict[str, float]:
    recalls, f1s = [], []
    for label in np.unique(np.concatenate([truth, said])):
        there, found = truth == label, said == label
        both = int(np.sum(there & found))
        if there.any():
            recalls.append(both / int(there.sum()))
        f1s.append(2 * both / (int(there.sum()) + int(found.sum())))
    return {"balanced_accuracy": float(np.mean(recalls)), "f1_macro": float(np.mean(f1s))}


def _of_chances(truth: Array, classes: Array, chances: Array) -> dict[str, float]:
    place = np.array([np.flatnonzero(classes == label)[0] if (classes == label).any() else -1 for label in truth])
    given = np.where(place >= 0, chances[np.arange(len(truth)), np.maximum(place, 0)], 0.0)
    found = {"log_loss": float(-np.mean(np.log(np.clip(given, _TINY, 1.0))))}
    if len(classes) == 2:
        positive, chance = place == 1, chances[:, 1]
        found["brier"] = float(np.mean((chance - positive) ** 2))
        if positive.any() and not positive.all():
            found["roc_auc"] = _auc(positive, chance)
    return found


def _auc(positive: Array, chance: Array) -> float:
    _, inverse, counts = np.unique(chance, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]
    ones = int(positive.sum())
    others = len(positive) - ones
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * others))
