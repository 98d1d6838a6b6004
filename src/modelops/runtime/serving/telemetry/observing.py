"""From what a model saw and said to the sketches that monitoring counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput
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

    def add(self, batches: Sequence[tuple[Any, Answer, int]]) -> None:
        """Add batches: the rows of each, as a predictor took them, what it said, and how many they are.

        Raises:
            InvalidInput: they do not fit the reference, or each other; nothing was counted.
        """
        if self._sketcher is None:
            self._rows += sum(count for _, _, count in batches)
            return
        rows, said = [_matrix(rows) for rows, _, _ in batches], [np.asarray(answer.values) for _, answer, _ in batches]
        self._sketcher.add(_joined(rows), _joined(said))

    def take(self) -> tuple[list[ColumnSketch], list[ColumnSketch], int]:
        """Return the sketches of inputs and outputs and the rows in them, and begin anew."""
        if self._sketcher is None:
            rows, self._rows = self._rows, 0
            return [], [], rows
        inputs, outputs, rows = self._sketcher.take()
        return inputs, outputs, rows


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if len({part.dtype.kind for part in parts}) > 1:
        raise InvalidInput("The batches have values of different kinds.")
    return np.concatenate(parts)


def _matrix(rows: Any) -> Any:
    """Return rows as (rows, features): float64, or objects where a feature is not a number."""
    if not isinstance(rows, dict):
        return rows
    return np.column_stack([column.astype(object) for column in rows.values()])
