"""Callers' rows, checked against a model's signature.

This stands in the path of every prediction. Rows of plain numbers are converted in one go; only where that is not
possible does each cell get looked at, which also finds the words to refuse it with.
"""

import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Never

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature

EXACT_INTEGERS = 2**53 - 1
"""Integers beyond this are refused: models get float64, in which greater ones cannot be told from their neighbours."""

_NUMERIC = frozenset({FeatureType.NUMBER, FeatureType.INTEGER})
_PLAIN: frozenset[type] = frozenset({float, int})
_PLAIN_OR_NULL = _PLAIN | {type(None)}


def check_instances(
    signature: ModelSignature, instances: Any, max_rows: int | None = None, *, columns: bool = False
) -> Any:
    """Check rows against a signature and return them as a predictor takes them.

    Args:
        signature: Its inputs say how many features there are, in which order, of which type, and which may be null.
        instances: A list of rows; each a list of values in the signature's order, or an object by feature name, where
            features that may be null may also be left out.
        max_rows: How many rows are taken at most.
        columns: Return columns even where every feature is a number.

    Returns:
        Where every feature is a number or an integer, and `columns` is false: a float64 array of shape
        (rows, features). Else a dict of one-dimensional arrays by feature name, in the signature's order: float64 for
        numbers, and for integers that may be null; int64 for integers; bool for booleans; object for strings and for
        booleans that may be null. Null is NaN in all of them.

    Raises:
        InvalidInput: names the first bad row (counted from 0), the feature, what was expected and what came.
    """
    _check_count(instances, max_rows)
    if all(feature.type in _NUMERIC for feature in signature.inputs):
        matrix = _all_numeric(signature, instances)
        if matrix is None:
            matrix = _matrix(_cell_by_cell(signature, instances))
        return _as_columns(signature, matrix) if columns else matrix
    return _columns(signature, _cell_by_cell(signature, instances))


def _check_count(instances: Any, max_rows: int | None) -> None:
    if not isinstance(instances, list):
        raise InvalidInput(f"The instances must be a list of rows, not {_kind(instances)}.")
    if not instances:
        raise InvalidInput("The instances are empty.", hint="Send at least one row.")
    if max_rows is not None and len(instances) > max_rows:
        raise InvalidInput(
            f"There are {len(instances):,} rows in the request; at most {max_rows:,} are taken at once.",
            hint="Send them in several requests.",
            extra={"max_rows": max_rows},
        )


def _all_numeric(signature: ModelSignature, instances: list[Any]) -> Any:
    """Convert rows that hold nothing but proper numbers; None where a closer look is needed."""
    import numpy as np

    rows = _as_lists(signature, instances)
    if rows is None or not _only(rows, _PLAIN if _all_required(signature) else _PLAIN_OR_NULL):
        return None
    try:
        matrix = np.array(rows, dtype=np.float64)  # None becomes NaN; strings and bools were kept out above
    except (ValueError, TypeError, OverflowError):
        return None
    if matrix.ndim != 2 or matrix.shape[1] != len(signature.inputs):
        return None
    return matrix if _values_fit(signature, matrix, rows) else None


def _as_lists(signature: ModelSignature, instances: list[Any]) -> list[Any] | None:
    kinds = set(map(type, instances))
    if kinds == {list}:
        return instances
    if kinds != {dict} or set(map(len, instances)) != {len(signature.inputs)}:
        return None
    wanted = [feature.name for feature in signature.inputs]
    pick: Callable[[Any], Any] = itemgetter(*wanted) if len(wanted) > 1 else lambda row: (row[wanted[0]],)
    try:
        return list(map(pick, instances))
    except KeyError:
        return None


def _only(rows: Sequence[Any], allowed: frozenset[type]) -> bool:
    # Types are compared, not instances: a bool is an int to `isinstance` and to NumPy, and no number to a caller.
    found: set[type] = set()
    for row in rows:
        found.update(map(type, row))
    return found <= allowed


def _all_required(signature: ModelSignature) -> bool:
    return all(feature.required for feature in signature.inputs)


def _values_fit(signature: ModelSignature, matrix: Any, rows: Sequence[Any]) -> bool:
    import numpy as np

    if not np.isfinite(matrix).all() and not _only_nulls(signature, matrix, rows):
        return False
    whole = [index for index, feature in enumerate(signature.inputs) if feature.type is FeatureType.INTEGER]
    if not whole:
        return True
    part = matrix[:, whole]
    return bool(np.all((np.abs(part) <= EXACT_INTEGERS) & (np.floor(part) == part) | np.isnan(part)))


def _only_nulls(signature: ModelSignature, matrix: Any, rows: Sequence[Any]) -> bool:
    """Tell whether what is not finite came from nulls, all of them in features that may be null."""
    import numpy as np

    missing = np.isnan(matrix)
    required = [index for index, feature in enumerate(signature.inputs) if feature.required]
    if np.isinf(matrix).any() or missing[:, required].any():
        return False
    nulls: int = sum(row.count(None) for row in rows)
    return int(missing.sum()) == nulls


def _cell_by_cell(signature: ModelSignature, instances: list[Any]) -> list[list[Any]]:
    """Return the rows as lists of checked values, null as None."""
    index = {feature.name: position for position, feature in enumerate(signature.inputs)}
    return [_row(signature, index, number, row) for number, row in enumerate(instances)]


def _row(signature: ModelSignature, index: dict[str, int], number: int, row: Any) -> list[Any]:
    if isinstance(row, dict):
        row = _by_name(signature, index, number, row)
    if not isinstance(row, list):
        _refuse(number, None, "must be a list of values or an object by feature name", f"it is {_kind(row)}")
    if len(row) != len(signature.inputs):
        _refuse(number, None, f"must have {len(signature.inputs)} values", f"it has {len(row)}")
    return [_cell(feature, number, value) for feature, value in zip(signature.inputs, row, strict=True)]


def _by_name(signature: ModelSignature, index: dict[str, int], number: int, row: dict[Any, Any]) -> list[Any]:
    unknown = [name for name in row if name not in index]
    if unknown:
        _refuse(number, unknown[0], "is not a feature of the model", f"its features are {_some(list(index))}")
    missing = [feature.name for feature in signature.inputs if feature.required and feature.name not in row]
    if missing:
        _refuse(number, missing[0], "is required", "it is not in the row")
    return [row.get(feature.name) for feature in signature.inputs]


def _cell(feature: Feature, number: int, value: Any) -> Any:
    if value is None:
        if feature.required:
            _refuse(number, feature.name, f"must be {_expected(feature)}", "it is null")
        return None
    fault = _FAULTS[feature.type](value)
    if fault:
        _refuse(number, feature.name, f"must be {_expected(feature)}", f"it is {fault}")
    return value


def _number_fault(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _kind(value)
    try:
        return None if math.isfinite(float(value)) else "not finite"
    except OverflowError:
        return "too large for a 64-bit float"


def _integer_fault(value: Any) -> str | None:
    fault = _number_fault(value)
    if fault or (float(value).is_integer() and abs(value) <= EXACT_INTEGERS):
        return fault
    return f"{value}" if isinstance(value, float) else "an integer beyond ±(2^53 - 1)"


def _string_fault(value: Any) -> str | None:
    return None if isinstance(value, str) else _kind(value)


def _boolean_fault(value: Any) -> str | None:
    return None if isinstance(value, bool) else _kind(value)


_FAULTS: dict[FeatureType, Callable[[Any], str | None]] = {
    FeatureType.NUMBER: _number_fault,
    FeatureType.INTEGER: _integer_fault,
    FeatureType.STRING: _string_fault,
    FeatureType.BOOLEAN: _boolean_fault,
}


def _refuse(number: int, feature: str | None, rule: str, came: str) -> Never:
    where = f"Row {number}" if feature is None else f"Row {number}, feature '{feature[:100]}'"
    extra = {"row": number} if feature is None else {"row": number, "feature": feature}
    raise InvalidInput(f"{where}: {rule}; {came}.", hint="Rows are counted from 0.", extra=extra)


def _expected(feature: Feature) -> str:
    kind = {"number": "a number", "integer": "an integer", "string": "a string", "boolean": "true or false"}[
        feature.type
    ]
    return kind if feature.required else f"{kind} or null"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return f"the string '{value[:40]}'"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return f"a {type(value).__name__}"


def _some(items: list[str]) -> str:
    shown = ", ".join(f"'{item}'" for item in items[:10])
    return shown if len(items) <= 10 else f"{shown} and {len(items) - 10} more"


def _matrix(rows: list[list[Any]]) -> Any:
    import numpy as np

    return np.array(rows, dtype=np.float64)


def _as_columns(signature: ModelSignature, matrix: Any) -> dict[str, Any]:
    return {
        feature.name: _typed(feature, matrix[:, position].tolist()) for position, feature in enumerate(signature.inputs)
    }


def _columns(signature: ModelSignature, rows: list[list[Any]]) -> dict[str, Any]:
    by_column = zip(*rows, strict=True)
    return {feature.name: _typed(feature, values) for feature, values in zip(signature.inputs, by_column, strict=True)}


def _typed(feature: Feature, values: Sequence[Any]) -> Any:
    import numpy as np

    if feature.type is FeatureType.NUMBER or (feature.type is FeatureType.INTEGER and not feature.required):
        return np.array(values, dtype=np.float64)
    if feature.type is FeatureType.INTEGER:
        return np.array(values).astype(np.int64)
    if feature.type is FeatureType.BOOLEAN and feature.required:
        return np.array(values, dtype=np.bool_)
    column = np.empty(len(values), dtype=object)
    column[:] = [math.nan if value is None else value for value in values]
    return column
