"""From a body to rows: the plain form, `{"instances": …}`.

Lists of numbers, by far the most of what comes, are decoded straight into floats. Whatever that decoder does not take
goes the careful way, which also finds the words to refuse it with; both ways take the same bodies, and give the same rows.
"""

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from pydantic_core import from_json

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.instances import EXACT_INTEGERS, check_instances
from modelops.domains.models.schemas import FeatureType, ModelSignature

_NUMERIC = frozenset({FeatureType.NUMBER, FeatureType.INTEGER})


class _Numbers(msgspec.Struct, forbid_unknown_fields=True):
    instances: list[list[float]]


class _NumbersOrNull(msgspec.Struct, forbid_unknown_fields=True):
    instances: list[list[float | None]]


class Parser:
    """Reads bodies against one signature. Thread-safe.

    Args:
        columns: Whether rows should come as columns even where every feature is a number.
    """

    def __init__(self, signature: ModelSignature, max_rows: int, *, columns: bool) -> None:
        inputs = signature.inputs
        self._signature, self._max_rows, self._columns = signature, max_rows, columns
        self._width, self._widths = len(inputs), {len(inputs)}
        self._whole = [index for index, feature in enumerate(inputs) if feature.type is FeatureType.INTEGER]
        self._required = [index for index, feature in enumerate(inputs) if feature.required]
        self._pack = struct.Struct(f"{self._width}d").pack
        self._decode: Callable[[bytes], Any] | None = None
        if not columns and inputs and all(feature.type in _NUMERIC for feature in inputs):
            form = _Numbers if len(self._required) == len(inputs) else _NumbersOrNull
            self._decode = msgspec.json.Decoder(form).decode

    def parse(self, body: bytes) -> tuple[Any, int, bool]:
        """Return rows, their number, and whether they are lists of numbers still, whose values nobody has looked at.

        Raises:
            InvalidInput: the body is not of this form, or rows do not fit the signature.
        """
        if self._decode is not None:
            try:
                rows = self._decode(body).instances
            except (msgspec.DecodeError, UnicodeDecodeError):  # also what is JSON, and not of this form
                rows = ()
            count = len(rows)
            if count == 1 and len(rows[0]) == self._width:
                return rows, 1, True
            if 0 < count <= self._max_rows and set(map(len, rows)) == self._widths:
                return rows, count, True
        instances = instances_of(body)
        checked = check_instances(self._signature, instances, self._max_rows, columns=self._columns)
        return checked, len(instances), False

    def matrix(self, rows: list[list[float | None]]) -> Any:
        """Return listed rows as a float64 array of shape (rows, features)."""
        try:
            packed = bytearray().join([self._pack(*row) for row in rows])  # twice as fast as NumPy's way through lists
        except struct.error:  # there is null among them
            return np.array(rows, dtype=np.float64)
        return np.frombuffer(packed).reshape(len(rows), self._width)

    def fits(self, matrix: Any) -> bool:
        """Tell whether the values in what were lists of numbers, shape (rows, features), fit; null is NaN there."""
        if len(self._required) < self._width and np.isnan(matrix[:, self._required]).any():
            return False
        if not self._whole:
            return True
        part = matrix[:, self._whole]
        return bool(np.all((np.abs(part) <= EXACT_INTEGERS) & (np.floor(part) == part) | np.isnan(part)))

    def check(self, rows: list[Any]) -> Any:
        """Return listed rows as an array, each value looked at.

        Raises:
            InvalidInput: one does not fit.
        """
        return check_instances(self._signature, rows)


def instances_of(body: bytes) -> Any:
    """Return the member `instances` of a body.

    Raises:
        InvalidInput: the body is not JSON, or no object with this one member.
    """
    document = json_of(body)
    if not isinstance(document, dict) or set(document) != {"instances"}:
        raise InvalidInput('The body must be an object with the one member "instances", a list of rows.')
    return document["instances"]


def json_of(body: bytes) -> Any:
    """Return what a body holds.

    Raises:
        InvalidInput: it is not JSON.
    """
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as wrong:
        raise InvalidInput(
            f"The body is not JSON: {wrong}.",
            hint='Send {"instances": [[…], …]}; JSON has no NaN or Infinity, use null.',
        ) from wrong
