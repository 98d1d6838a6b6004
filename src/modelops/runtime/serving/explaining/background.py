"""Rows as matrices of numbers, for methods that mix the values of several rows, and back."""

import math
from typing import Any

import numpy as np

from modelops.domains.models.schemas import FeatureType, ModelSignature


class Encoder:
    """Turns rows as predictors take them into float64 matrices and back; the two are exact inverses.

    Strings, and booleans that may be null, become their position in a list of those seen, null becomes NaN. The list
    holds the background's values, and those of the rows encoded last: callers' strings do not pile up.
    """

    def __init__(self, signature: ModelSignature) -> None:
        self._signature = signature
        self._seen: dict[str, list[Any]] = {
            feature.name: []
            for feature in signature.inputs
            if feature.type is FeatureType.STRING or (feature.type is FeatureType.BOOLEAN and not feature.required)
        }
        self._kept = dict.fromkeys(self._seen, 0)
        self._as_columns = False

    def encode_background(self, rows: Any) -> Any:
        """Return rows as a matrix whose values stay known."""
        matrix = self.encode(rows)
        self._kept = {name: len(seen) for name, seen in self._seen.items()}
        return matrix

    def encode(self, rows: Any) -> Any:
        """Return rows as a matrix, shape (rows, features)."""
        if not isinstance(rows, dict):
            return rows
        self._as_columns = True
        return np.column_stack([self._codes(name, column) for name, column in rows.items()])

    def decode(self, matrix: Any) -> Any:
        """Return a matrix as the rows that `encode` was given rows like."""
        if not self._as_columns:
            return matrix
        return {feature.name: self._values(index, matrix) for index, feature in enumerate(self._signature.inputs)}

    def _codes(self, name: str, column: Any) -> Any:
        if name not in self._seen:
            return column.astype(np.float64)
        seen = self._seen[name]
        del seen[self._kept[name] :]
        for value in column:
            if not _is_null(value) and value not in seen:
                seen.append(value)
        return np.array([math.nan if _is_null(value) else float(seen.index(value)) for value in column])

    def _values(self, index: int, matrix: Any) -> Any:
        feature, column = self._signature.inputs[index], matrix[:, index]
        if feature.name in self._seen:
            seen = self._seen[feature.name]
            values = np.empty(len(column), dtype=object)
            values[:] = [math.nan if math.isnan(code) else seen[int(code)] for code in column]
            return values
        if feature.type is FeatureType.BOOLEAN:
            return column.astype(np.bool_)
        if feature.type is FeatureType.INTEGER and feature.required:
            return column.astype(np.int64)
        return column


def _is_null(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
