"""Samples of training data: whatever table they come as, seen by column."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.schemas import Feature, FeatureType
from modelops.domains.models.signatures import infer_signature

_NUMERIC = frozenset({FeatureType.NUMBER, FeatureType.INTEGER})
_ARROW_NUMBERS = ("int", "uint", "double", "float", "halffloat")


class Sample:
    """A table of inputs.

    Args:
        data: Shape (rows, features): a pandas or Polars frame, an Arrow table, an array, a list of objects or of lists.
        names: The features' names, where `data` has none, or other ones.

    Raises:
        InvalidInput: it is no table, has no rows, or has a column that no signature can name.
    """

    def __init__(self, data: Any, names: Sequence[str] | None = None) -> None:
        table = data.to_arrow() if hasattr(data, "to_arrow") else data
        self.features = infer_signature(table, None, names).inputs
        self.names = [feature.name for feature in self.features]
        self._columns = _columns(table)
        self.rows = len(self._columns[0])
        if self.rows == 0:
            raise InvalidInput("The sample has no rows.", hint="Give some rows that the model was trained on.")

    def for_predictor(self, wants_columns: bool) -> Any:
        """Return all rows as a predictor takes them (as `check_instances` would give them)."""
        if self._all_numeric and not wants_columns:
            return self._matrix()
        return {feature.name: column for feature, column in self._typed()}

    def for_reference(self) -> Any:
        """Return all rows as monitoring sees live ones: float64, or objects where a feature is not a number."""
        if self._all_numeric:
            return self._matrix()
        table = np.empty((self.rows, len(self._columns)), dtype=object)
        for index, (_, column) in enumerate(self._typed()):
            table[:, index] = column
        return table

    def some(self, count: int) -> list[list[Any]]:
        """Return up to `count` rows as JSON values, evenly spread over the table; what is missing is None."""
        chosen = np.linspace(0, self.rows - 1, min(self.rows, count)).round().astype(int)
        return [[_plain(column[row]) for column in self._columns] for row in chosen.tolist()]

    @property
    def _all_numeric(self) -> bool:
        return all(feature.type in _NUMERIC for feature in self.features)

    def _matrix(self) -> Any:
        return np.column_stack([_floats(column) for column in self._columns])

    def _typed(self) -> list[tuple[Feature, Any]]:
        pairs = zip(self.features, self._columns, strict=True)
        return [(feature, _typed(feature, column)) for feature, column in pairs]


def has_names(data: Any) -> bool:
    """Tell whether a table names its columns."""
    if isinstance(data, list):
        return bool(data) and isinstance(data[0], Mapping)
    return hasattr(data, "columns") or hasattr(data, "column_names")


def plain_outputs(outputs: Any) -> Any:
    """Return outputs as a list, an array, or a pandas object; Arrow's and Polars' as lists.

    Raises:
        InvalidInput: they are a single value.
    """
    arrow = outputs.to_arrow() if hasattr(outputs, "to_arrow") else outputs
    said = arrow.to_pylist() if hasattr(arrow, "to_pylist") else arrow
    if not hasattr(said, "__len__") or getattr(said, "ndim", 1) == 0 or isinstance(said, str | bytes | Mapping):
        raise InvalidInput(
            f"The outputs are a single {type(said).__name__}.", hint="A model gives one output for each row."
        )
    return list(said) if isinstance(said, tuple) else said


def output_features(outputs: Any) -> list[Feature]:
    """Return what a signature says of outputs."""
    return infer_signature([[0.0]], outputs).outputs


def one_column(outputs: Any) -> Any:
    """Return outputs as one array, shape (rows,); None where a row's output is several values."""
    said = np.asarray(outputs) if not isinstance(outputs, list) else _objects(outputs)
    if said.ndim == 2 and said.shape[1] == 1:
        said = said[:, 0]
    several = said.ndim != 1 or (said.dtype == object and any(isinstance(one, list | tuple | dict) for one in said))
    return None if several else said


def _columns(table: Any) -> list[Any]:
    if hasattr(table, "column_names") and hasattr(table, "schema"):
        return [_arrow(table.column(index)) for index in range(len(table.column_names))]
    if hasattr(table, "columns") and hasattr(table, "dtypes"):
        return [table.iloc[:, index].to_numpy() for index in range(len(table.columns))]
    if has_names(table):
        names = dict.fromkeys(name for row in table for name in row)
        return [_objects([row.get(name) for row in table]) for name in names]
    array = np.array(table, dtype=object) if isinstance(table, list) else np.asarray(table)
    return [array[:, index] for index in range(array.shape[1])]


def _arrow(column: Any) -> Any:
    if str(column.type).startswith(_ARROW_NUMBERS):
        return column.to_numpy(zero_copy_only=False)
    return _objects(column.to_pylist())


def _typed(feature: Feature, column: Any) -> Any:
    if feature.type in _NUMERIC:
        numbers = _floats(column)
        return numbers.astype(np.int64) if feature.type is FeatureType.INTEGER and feature.required else numbers
    values = [_plain(value) for value in column]
    if feature.type is FeatureType.BOOLEAN and feature.required:
        return np.array(values, dtype=np.bool_)
    return _objects([math.nan if value is None else value for value in values])


def _floats(column: Any) -> Any:
    if column.dtype.kind in "fiu":
        return column.astype(np.float64)
    values = (_plain(value) for value in column)
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _objects(values: list[Any]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _plain(value: Any) -> Any:
    """Return a cell as a JSON value; every way to write that it is missing as None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(value, float) and math.isnan(value) else value
