"""From what a model saw and said to the sketches that monitoring counts."""

from typing import Any

import numpy as np

from modelops.domains.models.schemas import ModelSignature
from modelops.domains.monitoring.schemas import ColumnSketch, Reference
from modelops.domains.monitoring.sketches import Sketcher
from modelops.runtime.serving.predicting import Answer


class Observer:
    """Sketches rows and answers against a reference; without one, only counts rows. Belongs to one thread."""

    def __init__(self, signature: ModelSignature, reference: Reference | None) -> None:
        self._signature = signature
        self._sketcher: Sketcher | None = None
        self._rows = 0
        if reference is not None:
            self._sketcher = Sketcher(reference)

    def add(self, rows: Any, answer: Answer, count: int) -> None:
        """Add `count` rows, as a predictor took them, and what it said."""
        if self._sketcher is None:
            self._rows += count
            return
        self._sketcher.add(_matrix(rows), np.asarray(answer.values))

    def take(self) -> tuple[list[ColumnSketch], list[ColumnSketch], int]:
        """Return the sketches of inputs and outputs and the rows in them, and begin anew."""
        if self._sketcher is None:
            rows, self._rows = self._rows, 0
            return [], [], rows
        inputs, outputs, rows = self._sketcher.take()
        return inputs, outputs, rows


def _matrix(rows: Any) -> Any:
    """Return rows as (rows, features): float64, or objects where a feature is not a number."""
    if not isinstance(rows, dict):
        return rows
    return np.column_stack([column.astype(object) for column in rows.values()])
