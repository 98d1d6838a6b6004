"""Sketches: live data as counts over the bins of a reference, which add up exactly whatever the batches were.

A numeric column's bins lie between reference quantiles, so that the reference fills them about equally and a comparison is
as fine where the data is dense; a column of few values gets a bin for each. A categorical column counts each of its
reference's categories, and everything else together.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelops.contracts.errors import InvalidInput
from modelops.domains.monitoring.schemas import ColumnKind, ColumnReference, ColumnSketch, Reference

EDGES = 256
CATEGORIES = 200
FEW = 20
_FLUSH_ROWS = 512

Floats = NDArray[np.float64]


def build_reference(
    inputs: Any, outputs: Any = None, *, input_names: Sequence[str] | None = None, output_name: str = "prediction"
) -> Reference:
    """Profile the data a model was trained on, and what it predicts there.

    Args:
        inputs: Shape (rows, features): an array, a frame, an Arrow table or records.
        outputs: Shape (rows,): labels (few distinct values or texts) or numbers.
        input_names: The features' names, where `inputs` has none.
        output_name: The output's name.

    Raises:
        InvalidInput: there are no rows, or the names do not fit.
    """
    names, columns = as_columns(inputs, input_names)
    rows = len(columns[0]) if columns else 0
    if rows == 0:
        raise InvalidInput("A reference needs at least one row.", hint="Give the data the model was trained on.")
    said = [] if outputs is None else [_profile(output_name, np.asarray(outputs).reshape(-1), labels=True)]
    profiles = [_profile(name, column) for name, column in zip(names, columns, strict=True)]
    return Reference(rows=rows, inputs=profiles, outputs=said)


class Sketcher:
    """Counts rows over the bins of a reference. Thread-safe; small batches are gathered, so that each row is cheap."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._lock = threading.Lock()
        self._held: list[tuple[Any, Any]] = []
        self._held_rows = 0
        self._reset()

    def add(self, inputs: Any, outputs: Any = None) -> None:
        """Add rows.

        Args:
            inputs: Shape (rows, features), in the reference's order; not changed later by the caller.
            outputs: Shape (rows,), where the reference has an output.
        """
        with self._lock:
            self._held.append((inputs, outputs))
            self._held_rows += len(inputs)
            if self._held_rows >= _FLUSH_ROWS:
                self._count_held()

    def take(self) -> tuple[list[ColumnSketch], list[ColumnSketch], int]:
        """Return the sketches of inputs and outputs and the number of rows in them, and begin anew."""
        with self._lock:
            self._count_held()
            taken = [c.sketch() for c in self._inputs], [c.sketch() for c in self._outputs], self._rows
            self._reset()
        return taken

    def _reset(self) -> None:
        self._inputs = [_counter(column) for column in self.reference.inputs]
        self._outputs = [_counter(column) for column in self.reference.outputs]
        self._rows = 0

    def _count_held(self) -> None:
        if not self._held_rows:
            self._held.clear()
            return
        held, self._held, self._held_rows = self._held, [], 0
        rows = np.concatenate([np.asarray(inputs) for inputs, _ in held])
        self._rows += len(rows)
        for index, counter in enumerate(self._inputs):
            counter.add(rows[:, index])
        said = [np.asarray(outputs).reshape(-1) for _, outputs in held if outputs is not None]
        if said and self._outputs:
            self._outputs[0].add(np.concatenate(said))


def merge(parts: Sequence[Sequence[ColumnSketch]]) -> list[ColumnSketch]:
    """Add up sketches of one reference, column by column. The order does not matter."""
    return [_merge_column(columns) for columns in zip(*parts, strict=True)]


def as_columns(data: Any, names: Sequence[str] | None = None) -> tuple[list[str], list[NDArray[Any]]]:
    """Return a table as named columns, whatever it is: array, frame, Arrow table or records.

    Raises:
        InvalidInput: it is no table, or `names` does not fit it.
    """
    if hasattr(data, "column_names"):
        found = {str(name): np.asarray(data.column(name).to_pylist(), dtype=object) for name in data.column_names}
    elif hasattr(data, "columns") and hasattr(data, "to_numpy"):
        found = {str(name): data[name].to_numpy() for name in data.columns}
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        found = {str(name): np.asarray([row.get(name) for row in data], dtype=object) for name in data[0]}
    else:
        table = np.asarray(data)
        if table.ndim != 2:
            raise InvalidInput(f"A table has rows and columns; this has the shape {table.shape}.")
        found = {f"x{index}": table[:, index] for index in range(table.shape[1])}
        if names is not None and len(names) == table.shape[1]:
            return list(names), list(found.values())
    if names is not None and list(names) != list(found):
        if not set(names) <= set(found):
            raise InvalidInput("The table does not have the columns named.", hint=f"It has: {', '.join(found)[:300]}.")
        return list(names), [found[name] for name in names]
    return list(found), list(found.values())


class _Numeric:
    def __init__(self, reference: ColumnReference) -> None:
        self.name = reference.name
        self.edges = np.asarray(reference.edges, dtype=np.float64)
        self.counts = np.zeros(len(self.edges) + 1, dtype=np.int64)
        self.missing = 0
        self.sum = self.sum_squares = 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: NDArray[Any]) -> None:
        numbers = _floats(values)
        known = numbers[~np.isnan(numbers)]
        self.missing += len(numbers) - len(known)
        if not len(known):
            return
        self.counts += np.bincount(np.searchsorted(self.edges, known, side="left"), minlength=len(self.counts))
        finite = known if np.isfinite(known).all() else known[np.isfinite(known)]
        if len(finite):
            # Infinite values are counted in the outermost bins and left out of the moments.
            self.sum += float(finite.sum())
            self.sum_squares += float(np.square(finite).sum())
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    def sketch(self) -> ColumnSketch:
        seen = self.low <= self.high
        return ColumnSketch(
            name=self.name,
            counts=self.counts.tolist(),
            missing=self.missing,
            sum=self.sum,
            sum_squares=self.sum_squares,
            low=self.low if seen else None,
            high=self.high if seen else None,
        )


class _Categorical:
    def __init__(self, reference: ColumnReference) -> None:
        self.name = reference.name
        self.place = {category: index for index, category in enumerate(reference.categories or ())}
        self.counts = [0] * (len(self.place) + 1)
        self.missing = 0

    def add(self, values: NDArray[Any]) -> None:
        for label, count in _labels(values).items():
            if label is None:
                self.missing += count
            else:
                self.counts[self.place.get(label, len(self.place))] += count

    def sketch(self) -> ColumnSketch:
        nothing = {"sum": 0.0, "sum_squares": 0.0, "low": None, "high": None}
        return ColumnSketch(name=self.name, counts=list(self.counts), missing=self.missing, **nothing)


def _counter(reference: ColumnReference) -> _Numeric | _Categorical:
    return _Numeric(reference) if reference.kind is ColumnKind.NUMERIC else _Categorical(reference)


def _profile(name: str, values: NDArray[Any], *, labels: bool = False) -> ColumnReference:
    numbers = None if _is_text(values) else _try_floats(values)
    few = labels and numbers is not None and len(np.unique(numbers[~np.isnan(numbers)])) <= FEW
    return _categorical(name, values) if numbers is None or few else _numeric(name, numbers)


def _numeric(name: str, numbers: Floats) -> ColumnReference:
    known = np.sort(numbers[~np.isnan(numbers)])
    finite = known[np.isfinite(known)]
    edges = _edges(finite)
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    some = len(finite) > 0
    return ColumnReference(
        name=name,
        kind=ColumnKind.NUMERIC,
        edges=edges.tolist(),
        categories=None,
        counts=counts.tolist(),
        count=len(numbers),
        missing=len(numbers) - len(known),
        mean=float(finite.mean()) if some else None,
        std=float(finite.std(ddof=1)) if len(finite) > 1 else (0.0 if some else None),
        min=float(finite[0]) if some else None,
        max=float(finite[-1]) if some else None,
    )


def _edges(values: Floats) -> Floats:
    """Return the inner bin boundaries: each value where they are few, else quantiles that values take."""
    if not len(values):
        return np.zeros(1)
    distinct = np.unique(values)
    if len(distinct) <= EDGES:
        return distinct
    return np.unique(np.quantile(values, np.linspace(0.0, 1.0, EDGES), method="inverted_cdf"))


def _categorical(name: str, values: NDArray[Any]) -> ColumnReference:
    found = _labels(values)
    missing = found.pop(None, 0)
    ranked = sorted(found.items(), key=lambda entry: (-entry[1], str(entry[0])))
    kept, rest = ranked[:CATEGORIES], ranked[CATEGORIES:]
    return ColumnReference(
        name=name,
        kind=ColumnKind.CATEGORICAL,
        edges=None,
        categories=[str(label) for label, _ in kept],
        counts=[*(count for _, count in kept), sum(count for _, count in rest)],
        count=len(values),
        missing=missing,
        mean=None,
        std=None,
        min=None,
        max=None,
    )


def _is_text(values: NDArray[Any]) -> bool:
    if values.dtype.kind in "US" or values.dtype.kind == "b":
        return True
    return values.dtype.kind == "O" and any(isinstance(value, str | bool | np.bool_) for value in values)


def _try_floats(values: NDArray[Any]) -> Floats | None:
    try:
        return _floats(values)
    except (TypeError, ValueError):
        return None


def _floats(values: NDArray[Any]) -> Floats:
    """Return numbers, NaN for what is missing or, in live data, no number."""
    if values.dtype.kind in "fiub":
        return values.astype(np.float64, copy=False)
    return np.asarray([_float(value) for value in values], dtype=np.float64)


def _float(value: Any) -> float:
    if value is None:
        return np.nan
    if isinstance(value, str):
        raise ValueError(value)
    return float(value)


def _labels(values: NDArray[Any]) -> "Counter[str | None]":
    return Counter(_label(value) for value in values.tolist())


def _label(value: Any) -> str | None:
    """Return a category's name: 1, 1.0 and NumPy's 1 are one category."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _merge_column(columns: Sequence[ColumnSketch]) -> ColumnSketch:
    lows = [column.low for column in columns if column.low is not None]
    highs = [column.high for column in columns if column.high is not None]
    if len({(column.name, len(column.counts)) for column in columns}) != 1:
        raise InvalidInput("These sketches are of different references and do not add up.")
    return ColumnSketch(
        name=columns[0].name,
        counts=np.sum([column.counts for column in columns], axis=0, dtype=np.int64).tolist(),
        missing=sum(column.missing for column in columns),
        sum=sum(column.sum for column in columns),
        sum_squares=sum(column.sum_squares for column in columns),
        low=min(lows, default=None),
        high=max(highs, default=None),
    )
