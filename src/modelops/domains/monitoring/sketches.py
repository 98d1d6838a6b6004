"""Sketches: live data as counts over the bins of a reference, which add up exactly whatever the batches were.

A numeric column's bins lie between reference quantiles, so that the reference fills them about equally and a comparison is
as fine where the data is dense; a column of few values gets a bin for each. A categorical column counts each of its
reference's categories, and everything else together.

Every row is counted in each column once: `sum(counts) + missing` is the number of rows. What is no number in a numeric
column counts as missing. Infinite values (and finite ones beyond 1e100, whose squares could overflow) count in the outer
bins, enter the sums as the outermost edge on their side, and are left out of `low` and `high`.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from modelops.contracts.errors import InvalidInput, MissingExtra
from modelops.domains.monitoring.schemas import ColumnKind, ColumnReference, ColumnSketch, Reference

try:
    import numpy as np
    from numpy.typing import NDArray

    from modelops.domains.monitoring.binning import EdgeCounts
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "Monitoring's numerics need NumPy, which is not installed.", hint="Run `pip install 'modelops[sklearn]'`."
    ) from missing

EDGES = 256
CATEGORIES = 200
FEW = 20
_GATHER_ROWS = 1_000
_TAME = 1e100
_TWINS = {"True": "1", "False": "0", "1": "True", "0": "False"}
_ARROW_ARRAYS = ("int", "uint", "half", "float", "double", "timestamp", "date")

Floats = NDArray[np.float64]


def build_reference(
    inputs: Any, outputs: Any = None, *, input_names: Sequence[str] | None = None, output_name: str = "prediction"
) -> Reference:
    """Profile the data a model was trained on, and what it predicts there.

    Args:
        inputs: Shape (rows, features): an array, a frame, an Arrow table or records.
        outputs: Shape (rows,) or (rows, outputs): labels (texts, or few whole numbers) or numbers.
        input_names: The features' names, where `inputs` has none.
        output_name: The output's name; several are numbered from 0.

    Raises:
        InvalidInput: there are no rows, the names do not fit, or `outputs` has another number of rows.
    """
    names, columns = as_columns(inputs, input_names)
    rows = len(columns[0]) if columns else 0
    if rows == 0:
        raise InvalidInput("A reference needs at least one row.", hint="Give the data the model was trained on.")
    said = [] if outputs is None else _output_columns(outputs, rows)
    said_names = [output_name] if len(said) == 1 else [f"{output_name}_{index}" for index in range(len(said))]
    return Reference(
        rows=rows,
        inputs=[_profile(name, column) for name, column in zip(names, columns, strict=True)],
        outputs=[_profile(name, column, labels=True) for name, column in zip(said_names, said, strict=True)],
    )


class Sketcher:
    """Counts rows over the bins of a reference. Thread-safe; small batches are gathered, so that each row is cheap."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._lock = threading.Lock()
        self._reset()

    def add(self, inputs: Any, outputs: Any = None) -> None:
        """Add rows; they are copied, so the caller may use the arrays again.

        Args:
            inputs: Shape (rows, features), in the reference's order; or a mapping of the features' names to columns.
            outputs: Shape (rows,) or (rows, outputs), where the reference has outputs.

        Raises:
            InvalidInput: the shapes do not fit the reference; nothing was counted.
        """
        table = self._inputs.read(inputs)
        rows = table[0].shape[1]
        said = None
        if outputs is not None and self.reference.outputs:
            said = self._outputs.read(np.column_stack(_output_columns(outputs, rows)))
        with self._lock:
            self._rows += rows
            self._inputs.add(*table)
            if said is not None:
                self._outputs.add(*said)

    def take(self) -> tuple[list[ColumnSketch], list[ColumnSketch], int]:
        """Return the sketches of inputs and outputs and the number of rows in them, and begin anew."""
        with self._lock:
            inputs, outputs, rows = self._inputs, self._outputs, self._rows
            self._reset()
        return inputs.sketches(), outputs.sketches(), rows

    def _reset(self) -> None:
        self._inputs, self._outputs = _Counts(self.reference.inputs), _Counts(self.reference.outputs)
        self._rows = 0


def merge(parts: Sequence[Sequence[ColumnSketch]]) -> list[ColumnSketch]:
    """Add up sketches of one reference, column by column. The order does not matter.

    Raises:
        InvalidInput: they are of different references.
    """
    if len({len(part) for part in parts}) > 1:
        raise InvalidInput("These sketches are of different references and do not add up.")
    return [_merge_column(columns) for columns in zip(*parts, strict=True)]


def as_columns(data: Any, names: Sequence[str] | None = None) -> tuple[list[str], list[NDArray[Any]]]:
    """Return a table as named columns, whatever it is: array, frame, Arrow table, mapping of columns or records.

    Times become seconds since 1970. With `names`, the columns are chosen and ordered by them; an array's are named by them.

    Raises:
        InvalidInput: it is no table, or `names` does not fit it.
    """
    found = _named_columns(data)
    if found is None:
        table = np.asarray(data)
        if table.ndim != 2:
            raise InvalidInput(
                f"A table has rows and columns; this has the shape {table.shape}.",
                hint="Give an array of shape (rows, features), a frame, an Arrow table or a list of records.",
            )
        if names is not None and len(names) != table.shape[1]:
            raise InvalidInput(f"The table has {table.shape[1]} columns; {len(names)} are expected.")
        chosen = list(names) if names is not None else [f"x{index}" for index in range(table.shape[1])]
        return chosen, [table[:, index] for index in range(table.shape[1])]
    chosen = list(found) if names is None else list(names)
    absent = [name for name in chosen if name not in found]
    if absent:
        raise InvalidInput(
            f"The table lacks the columns: {', '.join(absent)[:300]}.", hint=f"It has: {', '.join(found)[:300]}."
        )
    return chosen, [found[name] for name in chosen]


def _named_columns(data: Any) -> dict[str, NDArray[Any]] | None:
    if hasattr(data, "column_names"):
        return {str(name): _arrow_column(data.column(name)) for name in data.column_names}
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        return {str(name): _frame_column(data[name]) for name in data.columns}
    if isinstance(data, Mapping):
        return {str(name): _plain(np.asarray(column)) for name, column in data.items()}
    if isinstance(data, list | tuple) and data and isinstance(data[0], Mapping):
        keys = dict.fromkeys(key for row in data for key in row)
        return {str(key): np.asarray([row.get(key) for row in data], dtype=object) for key in keys}
    return None


def _arrow_column(column: Any) -> NDArray[Any]:
    if str(column.type).startswith(_ARROW_ARRAYS):
        return _plain(np.asarray(column.to_numpy(zero_copy_only=False)))
    return np.asarray(column.to_pylist(), dtype=object)


def _frame_column(series: Any) -> NDArray[Any]:
    if series.dtype.kind in "Mm":
        return _plain(series.to_numpy(dtype=f"{'datetime64' if series.dtype.kind == 'M' else 'timedelta64'}[ns]"))
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "fiub":
        return np.asarray(series.to_numpy())
    return np.asarray(series.astype(object).where(series.notna(), None).to_numpy(), dtype=object)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return times as seconds, NaN for none; other columns as they are."""
    if values.dtype.kind not in "Mm":
        return values
    seconds = values.astype(f"{values.dtype.kind}8[us]").astype(np.int64) / 1e6
    return np.where(np.isnat(values), np.nan, seconds)


class _Counts:
    """Counts the rows of one table; not thread-safe. Numbers are gathered, since most of the work is for each time."""

    def __init__(self, columns: Sequence[ColumnReference]) -> None:
        self._columns = columns
        self._numeric = [index for index, column in enumerate(columns) if column.kind is ColumnKind.NUMERIC]
        self._labelled = [index for index, column in enumerate(columns) if column.kind is not ColumnKind.NUMERIC]
        width = len(self._numeric)
        self._numbers = np.empty((width, _GATHER_ROWS))
        self._labels = np.empty((len(self._labelled), _GATHER_ROWS), dtype=object)
        self._held = 0
        edges = [np.asarray(columns[index].edges, dtype=np.float64) for index in self._numeric]
        self._upto = EdgeCounts(edges, _TAME)
        self._known = np.zeros(width, dtype=np.int64)
        self._bounds = np.clip([[each[0], each[-1]] for each in edges], -_TAME, _TAME).reshape(width, 2)
        self._sums, self._squares = np.zeros(width), np.zeros(width)
        self._low, self._high = np.full(width, np.inf), np.full(width, -np.inf)
        self._places = [_places(columns[index].categories or []) for index in self._labelled]
        self._tallies = [np.zeros(len(columns[index].counts), dtype=np.int64) for index in self._labelled]
        self._rows = 0

    def read(self, data: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return a table's numbers and its labels, each of shape (columns, rows)."""
        if isinstance(data, Mapping):
            _, columns = as_columns(data, [column.name for column in self._columns])
        else:
            table = np.asarray(data)
            if table.ndim != 2 or table.shape[1] != len(self._columns):
                raise InvalidInput(f"Rows of {len(self._columns)} columns are expected, not an array of {table.shape}.")
            if not self._labelled and table.dtype.kind in "fiub":
                return table.T, self._labels[:, :0]
            columns = list(table.T)
        rows = {len(column) for column in columns}
        if len(rows) > 1:
            raise InvalidInput("The columns have different numbers of rows.")
        count = rows.pop() if rows else 0
        numbers, labels = np.empty((len(self._numeric), count)), np.empty((len(self._labelled), count), dtype=object)
        for place, index in enumerate(self._numeric):
            numbers[place] = _floats(columns[index])
        for place, index in enumerate(self._labelled):
            labels[place] = columns[index]
        return numbers, labels

    def add(self, numbers: NDArray[Any], labels: NDArray[Any]) -> None:
        """Gather rows, and count whenever there are many."""
        rows, start = numbers.shape[1] if self._numeric else labels.shape[1], 0
        self._rows += rows
        while start < rows:
            end = min(rows, start + _GATHER_ROWS - self._held)
            until = self._held + end - start
            self._numbers[:, self._held : until] = numbers[:, start:end]
            if self._labelled:
                self._labels[:, self._held : until] = labels[:, start:end]
            self._held, start = until, end
            if self._held == _GATHER_ROWS:
                self._count()

    def sketches(self) -> list[ColumnSketch]:
        """Return what was counted."""
        self._count()
        found = {index: self._numeric_sketch(place) for place, index in enumerate(self._numeric)}
        found |= {index: self._label_sketch(place) for place, index in enumerate(self._labelled)}
        return [found[index] for index in range(len(self._columns))]

    def _count(self) -> None:
        if not self._held:
            return
        held, self._held = self._held, 0
        numbers = self._numbers[:, :held]
        unknown = np.isnan(numbers)
        whole = not unknown.any()
        self._known += held if whole else held - unknown.sum(axis=1)
        self._upto.add(numbers, whole=whole)
        self._add_moments(numbers)
        for place, tally in enumerate(self._tallies):
            other = len(tally) - 1
            for label, count in _label_counts(self._labels[place, :held]).items():
                if label is not None:
                    tally[self._places[place].get(label, other)] += count

    def _add_moments(self, numbers: Floats) -> None:
        tame = np.abs(numbers) <= _TAME
        if tame.all():
            low, high = numbers, numbers
        else:
            low, high = np.where(tame, numbers, np.inf), np.where(tame, numbers, -np.inf)
            for wild, bound in ((numbers < -_TAME, self._bounds[:, 0]), (numbers > _TAME, self._bounds[:, 1])):
                self._sums += wild.sum(axis=1) * bound
                self._squares += wild.sum(axis=1) * bound * bound
            numbers = np.where(tame, numbers, 0.0)
        self._sums += numbers.sum(axis=1)
        self._squares += np.einsum("ij,ij->i", numbers, numbers)
        self._low = np.minimum(self._low, low.min(axis=1))
        self._high = np.maximum(self._high, high.max(axis=1))

    def _numeric_sketch(self, place: int) -> ColumnSketch:
        known, seen = int(self._known[place]), bool(self._low[place] <= self._high[place])
        return ColumnSketch(
            name=self._columns[self._numeric[place]].name,
            counts=np.diff(self._upto.upto(place), prepend=0, append=known).tolist(),
            missing=self._rows - known,
            sum=float(self._sums[place]),
            sum_squares=float(self._squares[place]),
            low=float(self._low[place]) if seen else None,
            high=float(self._high[place]) if seen else None,
        )

    def _label_sketch(self, place: int) -> ColumnSketch:
        counts: list[int] = self._tallies[place].tolist()
        return ColumnSketch(
            name=self._columns[self._labelled[place]].name,
            counts=counts,
            missing=self._rows - sum(counts),
            sum=0.0,
            sum_squares=0.0,
            low=None,
            high=None,
        )


def _places(categories: Sequence[str]) -> dict[str, int]:
    """Return each category's place; a yes or no that arrives as 1 or 0, or the other way round, has its twin's."""
    places = {category: index for index, category in enumerate(categories)}
    twins = {_TWINS[category]: index for category, index in places.items() if category in _TWINS}
    return twins | places


def _output_columns(outputs: Any, rows: int) -> list[NDArray[Any]]:
    said = np.asarray(outputs)
    if said.ndim not in (1, 2) or len(said) != rows:
        raise InvalidInput(f"There are {rows} rows of inputs, and outputs of shape {said.shape}.")
    return [said] if said.ndim == 1 else list(said.T)


def _profile(name: str, values: NDArray[Any], *, labels: bool = False) -> ColumnReference:
    numbers = None if _is_text(values) else _try_floats(values)
    if numbers is None or (labels and _are_labels(numbers)):
        return _categorical(name, values)
    return _numeric(name, numbers)


def _are_labels(numbers: Floats) -> bool:
    """Tell whether numbers name classes: few whole numbers that recur."""
    known = numbers[~np.isnan(numbers)]
    distinct = np.unique(known)
    few = len(distinct) <= min(FEW, max(2, len(known) // 2))
    return few and bool(np.isfinite(distinct).all() and (distinct == np.floor(distinct)).all())


def _numeric(name: str, numbers: Floats) -> ColumnReference:
    known = np.sort(numbers[~np.isnan(numbers)])
    finite = known[np.isfinite(known)]
    edges = _edges(finite)
    upto = np.searchsorted(known, edges, side="right")
    some = len(finite) > 0
    # As in a sketch: what is infinite enters the moments as the outermost edge.
    tame = np.clip(known, *np.clip(edges[[0, -1]], -_TAME, _TAME))
    return ColumnReference(
        name=name,
        kind=ColumnKind.NUMERIC,
        edges=edges.tolist(),
        categories=None,
        counts=np.diff(upto, prepend=0, append=len(known)).tolist(),
        count=len(numbers),
        missing=len(numbers) - len(known),
        mean=float(tame.mean()) if some else None,
        std=float(tame.std(ddof=1)) if len(tame) > 1 and some else (0.0 if some else None),
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
    found = _label_counts(values)
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
    if values.dtype.kind != "O":
        return values.dtype.kind in "USb"
    return any(isinstance(value, str | bool | np.bool_) for value in values)


def _try_floats(values: NDArray[Any]) -> Floats | None:
    try:
        return np.asarray(values.astype(np.float64))
    except (TypeError, ValueError):
        return None


def _floats(values: NDArray[Any]) -> Floats:
    """Return numbers, NaN for what is missing or no number."""
    found = _try_floats(values)
    return found if found is not None else np.asarray([_float(value) for value in values.tolist()], dtype=np.float64)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def _label_counts(values: NDArray[Any]) -> "Counter[str | None]":
    found: Counter[str | None] = Counter()
    for value, count in Counter(values.tolist()).items():
        found[_label(value)] += count
    return found


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
