"""One answer of several: labels aligned, probabilities averaged, votes counted."""

from collections.abc import Sequence
from typing import Any

import numpy as np

_TIE = 1e-12
"""Votes whose weights differ by no more, as a part of all weights, are a tie: sums of floats are not exact."""


def all_labels(classes: Sequence[Sequence[Any]]) -> list[Any]:
    """Return every label of several lists once, in order: numbers and booleans by value, then texts, then what else."""
    return sorted(dict.fromkeys(label for labels in classes for label in labels), key=_rank)


def label_array(labels: Sequence[Any]) -> Any:
    """Return labels as an array, shape (labels,), whose type changes none of them."""
    kinds = {type(label) for label in labels}
    if len(kinds) == 1 and kinds <= {int, float, bool, str}:
        return np.asarray(list(labels))
    array = np.empty(len(labels), dtype=object)
    array[:] = list(labels)
    return array


def aligned(shares: Any, own: Sequence[Any], labels: Sequence[Any]) -> Any:
    """Return probabilities, shape (rows, own), as columns of `labels`, shape (rows, labels); 0 for one that is not in `own`."""
    if list(own) == list(labels):
        return shares
    place = {label: index for index, label in enumerate(labels)}
    spread = np.zeros((len(shares), len(labels)))
    spread[:, [place[label] for label in own]] = shares
    return spread


def mean(parts: Sequence[Any], weights: Sequence[float]) -> Any:
    """Return the weighted mean of arrays of one shape."""
    total = weights[0] * np.asarray(parts[0], dtype=np.float64)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total += weight * np.asarray(part, dtype=np.float64)
    total /= sum(weights)
    return total


def voted(votes: Sequence[Sequence[Any]], weights: Sequence[float]) -> Any:
    """Return for each row the label with the most weight, shape (rows,); of several, the one that `all_labels` has first.

    Args:
        votes: Each voter's labels, as Python values.
    """
    labels = all_labels(votes)
    place = {label: index for index, label in enumerate(labels)}
    rows = np.arange(len(votes[0]))
    totals = np.zeros((len(rows), len(labels)))
    for said, weight in zip(votes, weights, strict=True):
        totals[rows, [place[label] for label in said]] += weight
    leading = totals >= totals.max(axis=1, keepdims=True) - _TIE * sum(weights)
    return label_array(labels).take(leading.argmax(axis=1))


def _rank(label: Any) -> tuple[int, Any]:
    if isinstance(label, int | float):
        return 0, label
    return (1, label) if isinstance(label, str) else (2, repr(label))
