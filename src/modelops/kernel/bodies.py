"""JSON bodies, decoded into typed structures."""

import json
from typing import TypeVar

import msgspec

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a body; bare `NaN` and `Infinity`, which JSON lacks and many programs write, are read as these texts.

    Raises:
        msgspec.MsgspecError: it is no JSON, or has not the form.
    """
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        if b"NaN" not in body and b"Infinity" not in body:
            raise
        try:
            repaired = json.dumps(json.loads(body, parse_constant=str))
        except (ValueError, RecursionError):
            repaired = None
        if repaired is None:
            raise
        return decoder.decode(repaired)
