"""From tensors to rows: one matrix for all features, or a column for each."""

import math
from typing import Any

import msgspec
import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.instances import check_instances
from modelops.domains.models.schemas import FeatureType, ModelSignature
from modelops.runtime.serving.openinference.messages import InferRequest, InputTensor
from modelops.runtime.serving.openinference.tensors import FLOATS, NUMBERS, from_bytes, from_json
from modelops.runtime.serving.parsing import Parser

MATRIX = "input"
"""What the one input of a model whose features are all numbers is called; any other name does as well."""


class Inputs:
    """Reads requests' tensors against one signature. Thread-safe."""

    def __init__(self, signature: ModelSignature, parser: Parser, max_rows: int, *, columns: bool) -> None:
        self._signature, self._parser, self._max_rows = signature, parser, max_rows
        self._names = [feature.name for feature in signature.inputs]
        self._optional = {feature.name for feature in signature.inputs if not feature.required}
        self._columns = columns
        self.as_matrix = takes_matrix(signature)

    def rows(self, request: InferRequest, binary: memoryview) -> tuple[Any, int, bool]:
        """Return rows, their number, and whether they are lists of numbers still, as `Parser.parse` does.

        Raises:
            InvalidInput: tensors and signature do not fit.
        """
        parts = _binary_parts(request.inputs, binary)
        if self.is_matrix(request):
            return self._matrix(request.inputs[0], parts[0])
        return self._by_name(request.inputs, parts)

    def is_matrix(self, request: InferRequest) -> bool:
        """Tell whether a request has one tensor for all features."""
        if not self.as_matrix or len(request.inputs) != 1:
            return False
        tensor = request.inputs[0]
        return len(tensor.shape) == 2 and tensor.shape[1] == len(self._names) and tensor.datatype in NUMBERS

    def _matrix(self, tensor: InputTensor, part: memoryview | None) -> tuple[Any, int, bool]:
        count, width = self._count(tensor), len(self._names)
        values = _values(tensor, part, count * width)
        if tensor.datatype in FLOATS and isinstance(values, list) and not self._columns and None not in values:
            return [values[start : start + width] for start in range(0, len(values), width)], count, True
        try:
            # A model may write into its rows, and libraries compiled for aligned numbers want such.
            matrix = np.require(values, np.float64, ["C", "A", "W"]).reshape(count, width)
        except OverflowError as wrong:
            raise InvalidInput(f"The input '{tensor.name[:100]}' has a number too large for a 64-bit float.") from wrong
        is_clean = np.isfinite(matrix).all() or (self._optional and not np.isinf(matrix).any())
        if is_clean and not self._columns and self._parser.fits(matrix):
            return matrix, count, False
        listed = [[_or_null(value) for value in row] for row in matrix.tolist()]
        return check_instances(self._signature, listed, columns=self._columns), count, False

    def _by_name(self, tensors: list[InputTensor], parts: list[memoryview | None]) -> tuple[Any, int, bool]:
        given: dict[str, list[Any]] = {}
        counts = set()
        for tensor, part in zip(tensors, parts, strict=True):
            if tensor.name not in self._names or tensor.name in given:
                raise InvalidInput(
                    f"The input '{tensor.name[:100]}' is twice there, or is no feature of the model.",
                    hint=self._hint(),
                )
            count = self._count(tensor)
            if math.prod(tensor.shape) != count:
                raise InvalidInput(
                    f"The input '{tensor.name[:100]}' has the shape {tensor.shape}; a column has [rows] or [rows, 1].",
                    hint=self._hint(),
                )
            counts.add(count)
            values = _values(tensor, part, count)
            given[tensor.name] = [
                _or_null(value) for value in (values if isinstance(values, list) else values.tolist())
            ]
        missing = [name for name in self._names if name not in given and name not in self._optional]
        if missing or len(counts) != 1:
            wrong = f"The input '{missing[0]}' is missing." if missing else "The inputs differ in their number of rows."
            raise InvalidInput(wrong, hint=self._hint())
        count = counts.pop()
        columns = [given.get(name) or [None] * count for name in self._names]
        listed = [list(row) for row in zip(*columns, strict=True)]
        return check_instances(self._signature, listed, self._max_rows, columns=self._columns), count, False

    def _count(self, tensor: InputTensor) -> int:
        if not tensor.shape or min(tensor.shape) < 1:
            raise InvalidInput(f"The input '{tensor.name[:100]}' has the shape {tensor.shape[:10]}, without a row.")
        count = tensor.shape[0]
        if count > self._max_rows:
            raise InvalidInput(
                f"There are {count:,} rows in the request; at most {self._max_rows:,} are taken at once.",
                hint="Send them in several requests.",
                extra={"max_rows": self._max_rows},
            )
        return count

    def _hint(self) -> str:
        if self.as_matrix:
            return f"Send one input of shape [rows, {len(self._names)}], or one of shape [rows] by each feature's name."
        return "Send one input of shape [rows] by each feature's name; `GET /v2/models/…` lists them."


def takes_matrix(signature: ModelSignature) -> bool:
    """Tell whether a model's rows may come as one tensor: all of its features are numbers."""
    return all(feature.type in (FeatureType.NUMBER, FeatureType.INTEGER) for feature in signature.inputs)


def _binary_parts(tensors: list[InputTensor], binary: memoryview) -> list[memoryview | None]:
    """Cut what follows the JSON into the tensors' bytes, in their order; None for a tensor with its data in JSON."""
    parts: list[memoryview | None] = []
    start = 0
    for tensor in tensors:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            parts.append(None)
            continue
        if type(size) is not int or size < 0 or start + size > len(binary):
            raise InvalidInput(
                f"The input '{tensor.name[:100]}' should have {size!r} bytes behind the JSON, which are not there."
            )
        parts.append(binary[start : start + size])
        start += size
    if start != len(binary):
        raise InvalidInput(f"{len(binary) - start:,} bytes behind the JSON are of no input.")
    return parts


def _values(tensor: InputTensor, part: memoryview | None, count: int) -> Any:
    if part is not None:
        return from_bytes(tensor.name, tensor.datatype, part, count)
    if isinstance(tensor.data, msgspec.UnsetType):
        raise InvalidInput(f"The input '{tensor.name[:100]}' has neither `data` nor the parameter `binary_data_size`.")
    return from_json(tensor.name, tensor.datatype, bytes(tensor.data), count)


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
