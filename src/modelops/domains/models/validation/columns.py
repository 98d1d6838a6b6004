"""Tables of any kind as columns, and columns as a model takes them."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature

Column = NDArray[Any]

NUMERIC = frozenset({FeatureType.NUMBER, FeatureType.INTEGER})


def as_columns(data: Any) -> dict[str, Column]:
    """Return a table as arrays of shape (rows,) by name.

    Args:
        data: A pandas or Polars frame, an Arrow table, a mapping of columns, or a list of records.

    Raises:
        InvalidInput: it is none of these, is empty, or its columns differ in length.
    """
    table = data.to_arrow() if hasattr(data, "to_arrow") else data
    if hasattr(table, "column_names") and hasattr(table, "schema"):
        found = {str(name): _arrow(table.column(index)) for index, name in enumerate(table.column_names)}
    elif hasattr(table, "columns") and hasattr(table, "dtypes"):
        found = {str(name): table.iloc[:, index].to_numpy() for index, name in enumerate(table.columns)}
    elif isinstance(table, Mapping):
        found = {str(name): _plain_column(values) for name, values in table.items()}
    elif isinstance(table, list) and table and all(isinstance(row, Mapping) for row in table):
        names = dict.fromkeys(name for row in table for name in row)
        found = {str(name): objects([row.get(name) for row in table]) for name in names}
    else:
        raise InvalidInput(
            "The data is no table with named columns.", hint="Give a frame, an Arrow table, records, or columns."
        )
    if not found or any(column.ndim != 1 for column in found.values()) or len({*map(len, found.values())}) != 1:
        raise InvalidInput("The data's columns must be one-dimensional and equally long.")
    if not len(next(iter(found.values()))):
        raise InvalidInput("The data has no rows.")
    return found


def digest_of_columns(columns: Mapping[str, Column]) -> str:
    """Return a digest of a table's names and values, whatever order its columns are in."""
    found = hashlib.sha256()
    for name in sorted(columns):
        column = columns[name]
        found.update(f"{len(name)}:{name}\n".encode())
        if column.dtype.kind in "fiub":
            found.update(column.astype("<f8").tobytes())
        else:
            for value in column:
                cell = repr(plain(value)).encode()
                found.update(b"%d:%b" % (len(cell), cell))
    return f"sha256:{found.hexdigest()}"


def inputs_of(signature: ModelSignature, columns: Mapping[str, Column], wants_columns: bool) -> Any:
    """Return what a predictor takes: float64 of shape (rows, features), or columns where some are no numbers.

    Raises:
        InvalidInput: a feature is missing from the table, or holds what its type cannot.
    """
    missing = [feature.name for feature in signature.inputs if feature.name not in columns]
    if missing:
        raise InvalidInput(
            f"The data lacks {len(missing)} of the model's features, such as '{missing[0]}'.",
            hint=f"It takes: {', '.join(feature.name for feature in signature.inputs[:20])}.",
        )
    numeric = all(feature.type in NUMERIC for feature in signature.inputs)
    if numeric and not wants_columns:
        return np.column_stack([floats(feature.name, columns[feature.name]) for feature in signature.inputs])
    return {feature.name: _typed(feature, columns[feature.name]) for feature in signature.inputs}


def floats(name: str, column: Column) -> NDArray[np.float64]:
    """Return a column as float64; what is missing is NaN.

    Raises:
        InvalidInput: a value is no number.
    """
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    try:
        return np.array([math.nan if (cell := plain(value)) is None else float(cell) for value in column])
    except (TypeError, ValueError):
        raise InvalidInput(f"The column '{name}' holds what is no number.") from None


def objects(values: list[Any]) -> Column:
    """Return values as an array of shape (rows,), whatever they are."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def plain(value: Any) -> Any:
    """Return a cell as a Python value; every way to write that it is missing as None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def _typed(feature: Feature, column: Column) -> Column:
    if feature.type in NUMERIC:
        numbers = floats(feature.name, column)
        whole = feature.type is FeatureType.INTEGER and feature.required
        return numbers.astype(np.int64) if whole else numbers
    values = [plain(value) for value in column]
    if feature.type is FeatureType.BOOLEAN and feature.required:
        return np.array(values, dtype=np.bool_)
    return objects([math.nan if value is None else value for value in values])


def _arrow(column: Any) -> Column:
    if str(column.type).startswith(("int", "uint", "double", "float", "halffloat")):
        found: Column = column.to_numpy()
        return found
    return objects(column.to_pylist())


def _plain_column(values: Any) -> Column:
    column = np.asarray(values)
    return objects(list(values)) if column.dtype.kind in "USO" and column.ndim == 1 else column
