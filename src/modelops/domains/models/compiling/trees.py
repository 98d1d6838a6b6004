"""Trees walked by NumPy alone: all trees for all rows at once, a level a step."""

from typing import Any

import numpy as np

from modelops.domains.models.compiling.forests import Forest

_MOST_PLACES = 1 << 20


class NumpyTrees:
    """Walks a forest. Its scores are those of the library to the last bit: they are summed in the same order."""

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        self._is_leaf = forest.feature < 0
        # A leaf leads to itself, so that a walk that has ended stays where it is.
        nodes = np.arange(len(forest.feature))
        self._left = np.where(self._is_leaf, nodes, forest.left)
        self._right = np.where(self._is_leaf, nodes, forest.right)
        self._feature = np.where(self._is_leaf, 0, forest.feature)
        self._chunk = max(1, _MOST_PLACES // len(forest.roots))

    def __call__(self, rows: Any) -> Any:
        """Return raw scores, shape (rows, columns), for rows of shape (rows, features), float64."""
        parts = [self._walk(rows[start : start + self._chunk]) for start in range(0, len(rows), self._chunk)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _walk(self, rows: Any) -> Any:
        forest = self._forest
        if forest.single:
            with np.errstate(over="ignore"):
                rows = rows.astype(np.float32).astype(np.float64)
        numbers = np.arange(len(rows))
        at = np.broadcast_to(forest.roots[:, None], (len(forest.roots), len(rows)))
        while not self._is_leaf[at].all():
            cells = rows[numbers, self._feature[at]]
            limits = forest.threshold[at]
            to_left = cells < limits if forest.strict else cells <= limits
            to_left |= np.isnan(cells) & forest.missing_left[at]
            at = np.where(to_left, self._left[at], self._right[at])
        return self._sums(forest.values[at], len(rows))

    def _sums(self, values: Any, count: int) -> Any:
        forest = self._forest
        sums = np.tile(forest.base.astype(np.float32 if forest.short else np.float64), (count, 1))
        # One tree after the other: NumPy's own sums go by pairs, which differs in the last bit.
        if forest.targets is None:
            for added in values:
                sums += added
        else:
            for added, column in zip(values, forest.targets, strict=True):
                sums[:, column] += added[:, 0]
        return sums
