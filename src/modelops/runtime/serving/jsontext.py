"""What models say, as JSON."""

from typing import Any

import msgspec
from pydantic_core import to_json

from modelops.runtime.serving.failures import ModelFailed

_encoder = msgspec.json.Encoder()


def encode_each(values: list[Any]) -> list[bytes]:
    """Return each of several values as JSON. Raises as `encode`."""
    try:
        return _encoder.encode_lines(values).split(b"\n")[:-1]  # a line break within a text is written as an escape
    except (TypeError, ValueError, OverflowError):
        return [encode(value) for value in values]


def encode(value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        ModelFailed: it is none.
    """
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        return to_json(value)  # it also writes integers of more than 64 bits
    except ValueError as wrong:
        raise ModelFailed(f"The model predicted what is no JSON value: {str(wrong)[:300]}.") from wrong
