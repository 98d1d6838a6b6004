"""From raw scores to answers, by the same functions in the same order as the libraries use."""

from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import Any

import numpy as np


class Link(Enum):
    """What a raw score stands for."""

    IDENTITY = auto()
    EXPONENTIAL = auto()
    SHARES = auto()
    LOGISTIC = auto()
    SOFTMAX = auto()
    ONE_AGAINST_REST = auto()
    MARGIN = auto()


@dataclass(frozen=True)
class Scores:
    """What becomes of raw scores.

    Attributes:
        link: `IDENTITY` and `EXPONENTIAL` give numbers, and without classes all others do; `SHARES` has the classes'
            shares times `divisor`; `LOGISTIC` the score of the second of two classes; `SOFTMAX` one a class;
            `ONE_AGAINST_REST` one a class, each logistic, brought to the sum of 1; `MARGIN` tells labels as `LOGISTIC` or
            `SOFTMAX` does, and gives no probabilities.
        classes: The labels, shape (classes,); None for numbers.
        divisor: What shares and numbers are divided by.
        positive_at_zero: Whether a logistic score of exactly 0 is of the second class.
        by_share: Whether labels go by the greater probability, also where the scores differ by less than it can hold.
    """

    link: Link
    classes: Any
    divisor: int = 1
    positive_at_zero: bool = False
    by_share: bool = False

    def answer(self, raw: Any) -> tuple[Any, Any]:
        """Return predictions, shape (rows,), and probabilities, shape (rows, classes), or None.

        Args:
            raw: Shape (rows, columns); the answers are in floats of the same width.
        """
        if self.classes is None:
            return self._numbers(raw), None
        shares = self._shares(raw)
        if self.link is Link.SHARES or self.by_share:
            chosen = shares.argmax(axis=1)
        elif raw.shape[1] > 1:
            chosen = raw.argmax(axis=1)
        else:
            chosen = (raw[:, 0] >= 0 if self.positive_at_zero else raw[:, 0] > 0).astype(np.int64)
        return self.classes.take(chosen), shares

    def _numbers(self, raw: Any) -> Any:
        if self.link is Link.EXPONENTIAL:
            raw = np.exp(raw)
        elif self.link is Link.LOGISTIC:
            raw = _expit()(raw)
        elif self.link is Link.SOFTMAX:
            raw = self._shares(raw)
        numbers = raw if self.divisor == 1 else raw / self.divisor
        return numbers[:, 0] if numbers.shape[1] == 1 else numbers

    def _shares(self, raw: Any) -> Any:
        if self.link is Link.SHARES:
            return raw / self.divisor
        if self.link is Link.LOGISTIC:
            shares = np.empty((len(raw), 2), dtype=raw.dtype)
            shares[:, 1] = _expit()(raw[:, 0])
            np.subtract(1.0, shares[:, 1], out=shares[:, 0])
            return shares
        if self.link is Link.SOFTMAX:
            shares = np.exp(raw - raw.max(axis=1, keepdims=True))
            return shares / shares.sum(axis=1, keepdims=True)
        if self.link is Link.ONE_AGAINST_REST:
            shares = _expit()(raw)
            sums = shares.sum(axis=1, keepdims=True)
            return np.where(sums == 0, 1.0 / raw.shape[1], shares / np.where(sums == 0, 1.0, sums))
        return None


@cache
def _expit() -> Any:
    # Who registers a model without classes need not have SciPy.
    from scipy.special import expit

    return expit
