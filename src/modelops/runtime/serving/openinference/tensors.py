"""The protocol's data types, in JSON and in bytes."""

import struct
from typing import Any

import msgspec
import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.runtime.serving.jsontext import encode

NUMBERS = {
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""Datatypes of numbers, as NumPy writes them; the protocol's bytes are little-endian."""

FLOATS = frozenset({"FP16", "FP32", "FP64"})
_MOST_DIMENSIONS = 8
_flat_floats = msgspec.json.Decoder(list[float | None])
_flat_whole = msgspec.json.Decoder(list[int | None])
_flat_bools = msgspec.json.Decoder(list[bool | None])
_flat_texts = msgspec.json.Decoder(list[str | None])
_nested = msgspec.json.Decoder(list[Any])


def from_json(name: str, datatype: str, data: bytes, count: int) -> list[Any]:
    """Return a tensor's values, flat, null as None.

    Raises:
        InvalidInput: they are not of the type, or not `count`.
    """
    decoder = _decoder_of(name, datatype)
    try:
        try:
            values: list[Any] = decoder.decode(data)
        except msgspec.ValidationError:
            values = decoder.decode(msgspec.json.encode(_flattened(_nested.decode(data))))
    except (msgspec.DecodeError, RecursionError, OverflowError) as wrong:
        raise InvalidInput(f"The data of the input '{name[:100]}' are not of type {datatype}: {wrong}.") from wrong
    _check_count(name, len(values), count)
    return values


def from_bytes(name: str, datatype: str, data: memoryview, count: int) -> Any:
    """Return a tensor's values, flat: an array of numbers or booleans, or a list of strings.

    Raises:
        InvalidInput: the bytes are not `count` values of the type.
    """
    if datatype == "BYTES":
        texts = _texts(name, data)
        _check_count(name, len(texts), count)
        return texts
    kind = "?" if datatype == "BOOL" else NUMBERS.get(datatype)
    if kind is None:
        raise _unknown(name, datatype)
    if len(data) != count * np.dtype(kind).itemsize:
        raise InvalidInput(
            f"The input '{name[:100]}' has {len(data):,} bytes; its shape and type {datatype} need "
            f"{count * np.dtype(kind).itemsize:,}."
        )
    return np.frombuffer(data, dtype=kind)


def to_typed(values: Any) -> tuple[str, Any]:
    """Return the datatype and the array, or the list of strings, that predictions are written as.

    What is neither numbers, booleans nor strings is written as strings of JSON.
    """
    array = values if isinstance(values, np.ndarray) else _as_array(values)
    if array is not None and array.dtype.kind == "b":
        return "BOOL", array
    if array is not None and array.dtype.kind in "iu":
        signed = array.dtype.kind == "i"
        return ("INT64", array.astype(np.int64)) if signed else ("UINT64", array.astype(np.uint64))
    if array is not None and array.dtype.kind == "f":
        return "FP64", array.astype(np.float64, copy=False)
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    return "BYTES", [value if isinstance(value, str) else encode(value).decode() for value in listed]


def to_bytes(values: Any) -> bytes:
    """Return an array's or strings' bytes."""
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values).tobytes()
    encoded = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)


def _decoder_of(name: str, datatype: str) -> msgspec.json.Decoder[Any]:
    if datatype in NUMBERS:
        return _flat_floats if datatype in FLOATS else _flat_whole
    if datatype == "BOOL":
        return _flat_bools
    if datatype == "BYTES":
        return _flat_texts
    raise _unknown(name, datatype)


def _unknown(name: str, datatype: str) -> InvalidInput:
    known = ", ".join([*NUMBERS, "BOOL", "BYTES"])
    return InvalidInput(f"The input '{name[:100]}' is of type '{datatype[:40]}'; known are {known}.")


def _flattened(values: list[Any]) -> list[Any]:
    for _ in range(_MOST_DIMENSIONS):
        if not any(isinstance(value, list) for value in values):
            break
        values = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return values


def _check_count(name: str, came: int, count: int) -> None:
    if came != count:
        raise InvalidInput(f"The input '{name[:100]}' has {came:,} values; its shape needs {count:,}.")


def _texts(name: str, data: memoryview) -> list[str]:
    texts, start = [], 0
    try:
        while start < len(data):
            (length,) = struct.unpack_from("<I", data, start)
            start += 4
            if start + length > len(data):
                raise ValueError("a string goes beyond the end")
            texts.append(bytes(data[start : start + length]).decode())
            start += length
    except (struct.error, ValueError) as wrong:
        raise InvalidInput(f"The bytes of the input '{name[:100]}' are not strings with lengths: {wrong}.") from wrong
    return texts


def _as_array(values: list[Any]) -> Any:
    if {type(value) for value in values} <= {int, float} or {type(value) for value in values} == {bool}:
        try:
            return np.asarray(values)
        except (ValueError, OverflowError):
            return None
    return None
