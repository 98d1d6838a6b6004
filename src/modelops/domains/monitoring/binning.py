"""How many of a column's values lie at or below each of its edges."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CELLS = 4096
MOST_IN_A_CELL = 8

Floats = NDArray[np.float64]


class EdgeCounts:
    """Counts the values of several columns at or below each of their edges; what is no number counts nowhere.

    Where a column's edges are spread widely enough, the place of a value is looked up: a table tells for each of equally wide
    cells how many edges lie in cells below, and those in the value's own cell are compared one after the other. Columns in
    which a cell would have many edges are sorted instead, and the edges are found among the values.

    Args:
        edges: Of each column, ascending. Infinite ones may be among them.
        tame: Beyond this on either side all values share the outermost cells.
    """

    def __init__(self, edges: Sequence[Floats], tame: float) -> None:
        self._edges = edges
        tables = [_Table.of(each, tame) for each in edges]
        self._quick = [place for place, table in enumerate(tables) if table.most <= MOST_IN_A_CELL]
        self._sorted = [place for place, table in enumerate(tables) if table.most > MOST_IN_A_CELL]
        self._upto = {place: np.zeros(len(edges[place]), dtype=np.int64) for place in self._sorted}
        chosen = [tables[place] for place in self._quick]
        lengths = [len(edges[place]) + 1 for place in self._quick]
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        # Behind a column's edges lies one that no value exceeds: there is always an edge to compare with.
        self._flat = np.concatenate([np.append(edges[place], np.inf) for place in self._quick] or [np.zeros(0)])
        self._counts = np.zeros(len(self._flat), dtype=np.int64)
        self._low = np.array([table.low for table in chosen]).reshape(-1, 1)
        self._scale = np.array([table.scale for table in chosen]).reshape(-1, 1)
        self._offsets = (np.arange(len(chosen), dtype=np.int32) * CELLS).reshape(-1, 1)
        below = [table.below + start for table, start in zip(chosen, self._starts[:-1], strict=True)]
        self._below = np.concatenate(below or [np.zeros(0)]).astype(np.int32)

    def add(self, numbers: Floats, *, whole: bool) -> None:
        """Count values of shape (columns, values); `whole` tells that each of them is a number."""
        for place in self._sorted:
            ordered = np.sort(numbers[place])  # NaN comes last
            known = len(ordered) if whole else len(ordered) - int(np.isnan(ordered).sum())
            self._upto[place] += np.searchsorted(ordered[:known], self._edges[place], side="right")
        if not self._quick:
            return
        values = numbers if not self._sorted else numbers[self._quick]
        if not whole:
            values = np.where(np.isnan(values), np.inf, values)
        with np.errstate(over="ignore"):
            cells = values - self._low
            cells *= self._scale
        np.clip(cells, 0, CELLS - 1, out=cells)
        at = cells.astype(np.int32)
        at += self._offsets
        found = self._below.take(at)
        above = values > self._flat.take(found)
        found += above
        self._go_on(values, found, above)
        self._counts += np.bincount(found.ravel(), minlength=len(self._flat))

    def upto(self, place: int) -> NDArray[np.int64]:
        """Return how many values of a column lie at or below each of its edges."""
        if place in self._upto:
            return self._upto[place]
        index = self._quick.index(place)
        return np.cumsum(self._counts[self._starts[index] : self._starts[index + 1] - 1])

    def _go_on(self, values: Floats, found: NDArray[np.int32], above: NDArray[np.bool_]) -> None:
        """Compare those that were above an edge with the next ones, until each is at or below one."""
        moved = np.flatnonzero(above)
        rest, places = values.ravel()[moved], found.ravel()[moved]
        while len(moved):
            above = rest > self._flat.take(places)
            moved, rest, places = moved[above], rest[above], places[above] + 1
            found.ravel()[moved] = places


class _Table:
    """The cells of one column. `below`: how many edges lie in cells below each; `most`: how many lie in one at most."""

    def __init__(self, low: float, scale: float, below: NDArray[np.int64], most: int) -> None:
        self.low, self.scale, self.below, self.most = low, scale, below, most

    @classmethod
    def of(cls, edges: Floats, tame: float) -> "_Table":
        """Return the cells between the outermost edges. A value's cell never lies below a smaller value's."""
        inner = np.clip(edges, -tame, tame)
        low, width = (float(inner[0]), float(inner[-1] - inner[0])) if len(inner) else (0.0, 0.0)
        scale = CELLS / width if width > 0 and np.isfinite(CELLS / width) else 1.0
        with np.errstate(over="ignore"):
            cells = np.clip((edges - low) * scale, 0, CELLS - 1).astype(np.int64)
        counts = np.bincount(cells, minlength=CELLS)
        return cls(low, scale, np.cumsum(counts) - counts, int(counts.max()))
