"""From a table to what a classifier learns from; what it cannot learn from is refused in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelops.contracts.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_NAMED = 20


@dataclass(frozen=True)
class Examples:
    """What to learn from.

    Attributes:
        features: One row each; numbers and truth values as they are, texts as objects with None where one is missing.
        target: The classes, in the same order.
        without_target: How many rows of the table were left out, for want of a class.
    """

    features: "pd.DataFrame"
    target: "pd.Series[Any]"
    without_target: int


def read_examples(table: "pa.Table", target: str, features: Sequence[str] | None, folds: int) -> Examples:
    """Return features and target of a table.

    Args:
        table: What to learn from.
        target: The column with the classes.
        features: The columns to learn from; None means all others.
        folds: How many folds each class must fill.

    Raises:
        InvalidInput: the table cannot be learned from; the error names the column and what to do.
    """
    import pandas as pd

    wanted = list(features) if features is not None else [name for name in table.column_names if name != target]
    _check_columns(table, [target, *wanted])
    if not wanted:
        raise InvalidInput(f"The table has no column beside '{target}' to learn from.", hint="Add some features.")
    known = table.filter(table.column(target).is_valid())
    classes = _classes(known, target, folds)
    frame = pd.DataFrame({name: _feature(known, name) for name in wanted})
    return Examples(frame, classes, table.num_rows - known.num_rows)


def text_columns(features: "pd.DataFrame") -> list[str]:
    """Return the columns that hold texts."""
    return [name for name in features.columns if _holds_texts(features[name])]


def _check_columns(table: "pa.Table", names: Sequence[str]) -> None:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        known = ", ".join(table.column_names[:_NAMED]) + (", …" if len(table.column_names) > _NAMED else "")
        raise InvalidInput(f"The table has no column '{missing[0]}'.", hint=f"It has: {known}.")


def _classes(table: "pa.Table", name: str, folds: int) -> "pd.Series[Any]":
    """Return the target, whole numbers and texts as such; a class of fewer rows than folds cannot be judged."""
    import pyarrow as pa

    column = _plain(table, name)
    if not (_is_number(column.type) or _is_text(column.type)):
        raise InvalidInput(f"The target '{name}' holds {column.type}, which names no classes.", hint="Choose another.")
    target: pd.Series[Any] = column.to_pandas()
    if pa.types.is_floating(column.type):
        target = _whole(target, name)
    elif _is_text(column.type):
        target = target.astype(object)
    counts = target.value_counts()
    if len(counts) < 2:
        found = "one class only" if len(counts) else "no values"
        raise InvalidInput(f"The target '{name}' has {found}; there is nothing to learn.", hint="Choose another.")
    if counts.iloc[-1] < folds:
        rows = "1 row" if counts.iloc[-1] == 1 else f"{counts.iloc[-1]} rows"
        raise InvalidInput(
            f"The class '{counts.index[-1]}' of the target '{name}' has {rows}, fewer than the {folds} folds.",
            hint="Use fewer folds, leave the class out, or choose a target that holds labels rather than measurements.",
        )
    return target.rename(name)


def _whole(target: "pd.Series[Any]", name: str) -> "pd.Series[Any]":
    """Return floats as integers: a CSV column of labels with gaps was read as floats."""
    if not ((target.abs() < 2**53) & (target % 1 == 0)).all():
        raise InvalidInput(
            f"The target '{name}' holds fractions: measurements, not classes.",
            hint="Choose a column of labels, or make texts or whole numbers of it first.",
        )
    return target.astype("int64")


def _feature(table: "pa.Table", name: str) -> "pd.Series[Any]":
    import numpy as np
    import pyarrow as pa

    column = _plain(table, name)
    kind = column.type
    if column.null_count == len(column):
        raise InvalidInput(f"The column '{name}' has no values.", hint="Name the `features` to use, without it.")
    if _is_text(kind):
        texts: pd.Series[Any] = column.to_pandas().astype(object)
        return texts.where(texts.notna(), None)
    if not _is_number(kind):
        raise InvalidInput(
            f"The column '{name}' holds {kind}, which this recipe does not learn from.",
            hint="Name the `features` to use, or make numbers or texts of it first (of a date, say, the days since another).",
        )
    numbers: pd.Series[Any] = column.to_pandas()
    if pa.types.is_floating(kind) and np.isinf(numbers).any():
        raise InvalidInput(
            f"The column '{name}' holds infinities.", hint="Replace them by a number, or leave them empty."
        )
    return numbers


def _plain(table: "pa.Table", name: str) -> Any:
    """Return a column without encodings: categories as their values, decimals as floats."""
    import pyarrow as pa

    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _holds_texts(column: "pd.Series[Any]") -> bool:
    return column.dtype == object and any(isinstance(value, str) for value in column)
