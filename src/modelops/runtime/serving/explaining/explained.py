"""Explanations that were made, by row: callers ask for the same rows again."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from modelops.runtime.serving.explaining.attributions import Attribution, Method

_MOST_ROWS = 10_000
_MOST_NUMBERS = 2**22
"""Some 32 MiB of values."""


class RowCache:
    """The latest rows' explanations, by method. Belongs to one thread."""

    def __init__(self) -> None:
        self._rows: OrderedDict[tuple[str, int, bytes], Attribution] = OrderedDict()
        self._numbers = 0

    def through(self, method: Method, keys: list[bytes], explain: Callable[[list[int]], Attribution]) -> Attribution:
        """Return the explanation of all rows; `explain` makes those of the rows, by index, that are not known."""
        known = {key: found for key in keys if (found := self._known(method, key)) is not None}
        first: dict[bytes, int] = {key: index for index, key in reversed(list(enumerate(keys))) if key not in known}
        if first:
            fresh = explain(list(first.values()))
            for place, key in enumerate(first):
                known[key] = _row(fresh, place)
                self._keep(method, key, known[key])
        return _together([known[key] for key in keys])

    def _known(self, method: Method, key: bytes) -> Attribution | None:
        place = (method.name, method.evaluations, key)
        found = self._rows.get(place)
        if found is not None:
            self._rows.move_to_end(place)
        return found

    def _keep(self, method: Method, key: bytes, found: Attribution) -> None:
        self._rows[method.name, method.evaluations, key] = found
        self._numbers += found.values.size
        while len(self._rows) > _MOST_ROWS or (self._numbers > _MOST_NUMBERS and len(self._rows) > 1):
            _, oldest = self._rows.popitem(last=False)
            self._numbers -= oldest.values.size


def row_keys(rows: Any) -> list[bytes]:
    """Return a digest of each row, of rows as predictors take them."""
    if not isinstance(rows, dict):
        return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in np.ascontiguousarray(rows)]
    columns = [column.tolist() for column in rows.values()]
    return [hashlib.blake2b(repr(row).encode(), digest_size=16).digest() for row in zip(*columns, strict=True)]


def _row(all_rows: Attribution, index: int) -> Attribution:
    errors = all_rows.errors
    return Attribution(
        all_rows.base,
        all_rows.values[index].copy(),
        all_rows.outputs[index],
        None if errors is None else errors[index].copy(),
    )


def _together(rows: list[Attribution]) -> Attribution:
    return Attribution(
        rows[0].base,
        np.stack([row.values for row in rows]),
        np.stack([row.outputs for row in rows]),
        None if rows[0].errors is None else np.stack([row.errors for row in rows]),
    )
