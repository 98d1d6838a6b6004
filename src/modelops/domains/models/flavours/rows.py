"""Rows as libraries take them: matrices and frames, in the order of a model's own feature names."""

from typing import Any

import numpy as np


def matrix(rows: Any, names: list[str] | None, dtype: Any = np.float64) -> Any:
    """Return rows as an array of shape (rows, features); columns by name are put into the order of `names`."""
    if not isinstance(rows, dict):
        return np.asarray(rows, dtype=dtype)
    ordered = [rows[name] for name in names] if names is not None and set(names) == set(rows) else list(rows.values())
    return np.column_stack(ordered).astype(dtype, copy=False)


def frame(rows: Any, names: list[str] | None) -> Any:
    """Return rows as a pandas DataFrame with the model's names, in its order where it has the same ones."""
    import pandas as pd

    if not isinstance(rows, dict):
        return pd.DataFrame(rows, columns=names, copy=False)
    if names is None or set(names) != set(rows):
        return pd.DataFrame(rows, copy=False)
    return pd.DataFrame({name: rows[name] for name in names}, copy=False)


def categories(table: Any) -> Any:
    """Return a DataFrame whose columns of texts are categories."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    texts = [name for name in table.columns if not is_numeric_dtype(table[name]) and not is_bool_dtype(table[name])]
    return table.astype(dict.fromkeys(texts, "category"))


def one_a_row(outputs: Any) -> Any:
    """Return outputs as an array with one entry a row: a single column, shape (rows, 1), as shape (rows,)."""
    said = np.asarray(outputs)
    return said[:, 0] if said.ndim == 2 and said.shape[1] == 1 else said


def is_of(model: Any, module: str, *names: str) -> bool:
    """Tell whether a model's class, or one it inherits from, is one of `names` in a module or below it.

    The library is not imported: who has such an object has imported it.
    """
    return any(
        kind.__name__ in names and (kind.__module__ == module or kind.__module__.startswith(f"{module}."))
        for kind in type(model).__mro__
    )
