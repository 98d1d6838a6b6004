"""Signatures: what a model takes and gives, read off example data.

Tables are recognised by what they offer, so that neither pandas nor Arrow is imported for callers who use neither.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.instances import check_instances
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature

__all__ = ["check_instances", "feature_names", "infer_signature"]

_BY_KIND = {"f": FeatureType.NUMBER, "i": FeatureType.INTEGER, "u": FeatureType.INTEGER, "b": FeatureType.BOOLEAN}
_ARROW_KINDS = {"int": "i", "uint": "u", "double": "f", "float": "f", "halffloat": "f", "bool": "b"}


def infer_signature(inputs: Any, outputs: Any = None, feature_names: Sequence[str] | None = None) -> ModelSignature:
    """Read a signature off example data.

    Args:
        inputs: A pandas DataFrame, an Arrow table, an array of shape (rows, features), a list of objects or of lists.
        outputs: What the model gave for them: any of these, or one-dimensional. None leaves the outputs open.
        feature_names: Names of the inputs, where the data has none (`x0`, `x1`, … otherwise), or other ones.

    Returns:
        A signature in the data's column order. A feature without a null or NaN in the data is required.

    Raises:
        InvalidInput: a column mixes types or has one that JSON cannot carry; the message names it.
    """
    columns = _columns(inputs, feature_names, prefix="x")
    if not columns:
        raise InvalidInput("The example data has no columns.", hint="Pass a table with at least one feature.")
    given = [] if outputs is None else _columns(_two_dimensional(outputs), None, prefix="prediction_")
    if len(given) == 1 and given[0].name == "prediction_0":
        given = [_Column("prediction", given[0].values, given[0].kind)]
    return ModelSignature(inputs=_features(columns), outputs=_features(given))


def feature_names(signature: ModelSignature) -> list[str]:
    """Return the names of the inputs, in order."""
    return [feature.name for feature in signature.inputs]


@dataclass(frozen=True)
class _Column:
    """A column. `values` are looked at only where `kind`, a NumPy type's, does not say it all; then so is `missing`."""

    name: str
    values: Iterable[Any]
    kind: str = "O"
    missing: bool = False


def _columns(data: Any, wanted: Sequence[str] | None, prefix: str) -> list[_Column]:
    if hasattr(data, "column_names") and hasattr(data, "schema"):
        columns = [_arrow(str(name), data.column(index)) for index, name in enumerate(data.column_names)]
    elif hasattr(data, "columns") and hasattr(data, "dtypes"):
        columns = [_pandas(str(name), data.iloc[:, index]) for index, name in enumerate(data.columns)]
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        columns = _records(data)
    else:
        columns = _array(data, prefix)
    return _renamed(columns, wanted)


def _renamed(columns: list[_Column], wanted: Sequence[str] | None) -> list[_Column]:
    if wanted is not None:
        if len(wanted) != len(columns):
            raise InvalidInput(f"There are {len(columns)} columns but {len(wanted)} feature names.")
        columns = [
            _Column(str(name), column.values, column.kind, column.missing)
            for name, column in zip(wanted, columns, strict=True)
        ]
    names = [column.name for column in columns]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise InvalidInput(f"The column name '{sorted(twice)[0]}' occurs more than once.")
    return columns


def _arrow(name: str, column: Any) -> _Column:
    kind = next((kind for word, kind in _ARROW_KINDS.items() if str(column.type).startswith(word)), "O")
    if kind == "O":
        return _Column(name, column.to_pylist())
    return _Column(name, (), kind, column.null_count > 0 or (kind == "f" and _any_nan(column.to_numpy())))


def _pandas(name: str, column: Any) -> _Column:
    if hasattr(column, "cat"):
        column = column.astype(column.cat.categories.dtype) if not column.isna().any() else column.astype(object)
    return _Column(name, column, getattr(column.dtype, "kind", "O"), bool(column.isna().any()))


def _records(rows: list[dict[str, Any]]) -> list[_Column]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [_Column(str(name), [row.get(name) for row in rows]) for name in names]


def _array(data: Any, prefix: str) -> list[_Column]:
    import numpy as np

    # A list keeps the types of its values only as an array of objects.
    array = np.array(data, dtype=object) if isinstance(data, list) else np.asarray(data)
    if array.ndim != 2:
        raise InvalidInput(f"The example data must have the shape (rows, features), not {array.shape}.")
    kind = array.dtype.kind
    return [
        _Column(f"{prefix}{index}", array[:, index], kind, kind == "f" and _any_nan(array[:, index]))
        for index in range(array.shape[1])
    ]


def _any_nan(values: Any) -> bool:
    import numpy as np

    return bool(np.isnan(values).any())


def _two_dimensional(outputs: Any) -> Any:
    if hasattr(outputs, "to_frame") and getattr(outputs, "ndim", 0) == 1:
        return outputs.to_frame(name="prediction" if outputs.name is None else outputs.name)
    if getattr(outputs, "ndim", 0) == 1:
        return outputs.reshape(-1, 1)
    if isinstance(outputs, list) and outputs and not isinstance(outputs[0], list | dict):
        return [[value] for value in outputs]
    return outputs


def _features(columns: list[_Column]) -> list[Feature]:
    return [_feature(column) for column in columns]


def _feature(column: _Column) -> Feature:
    if column.kind in _BY_KIND:
        return Feature(name=column.name, type=_BY_KIND[column.kind], required=not column.missing)
    values = [_plain(value) for value in column.values]
    present = [value for value in values if value is not None]
    return Feature(name=column.name, type=_type_of(column.name, present), required=len(present) == len(values))


def _plain(value: Any) -> Any:
    """Return the Python value of a cell; None for every way to write that it is missing."""
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def _type_of(name: str, values: list[Any]) -> FeatureType:
    kinds = {type(value) for value in values}
    if kinds <= {int, float} and kinds:
        return FeatureType.INTEGER if kinds == {int} else FeatureType.NUMBER
    if kinds == {bool}:
        return FeatureType.BOOLEAN
    if kinds and all(issubclass(kind, str) for kind in kinds):
        return FeatureType.STRING
    if not kinds:
        return FeatureType.NUMBER
    found = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InvalidInput(
        f"The column '{name}' holds {found}, which a signature cannot name.",
        hint="A column holds numbers, integers, strings or booleans; convert it before training (dates to days, say).",
    )
