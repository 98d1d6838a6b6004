"""From the protocol's messages to the body that the HTTP port takes, and from its reply back."""

import struct
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.runtime.serving.engine.asks import Framed
from modelops.runtime.serving.openinference.tensors import NUMBERS
from modelops.runtime.serving.rpc.messages import MESSAGES

_TYPED = {
    "BOOL": ("bool_contents", "?"),
    "INT8": ("int_contents", "<i1"),
    "INT16": ("int_contents", "<i2"),
    "INT32": ("int_contents", "<i4"),
    "INT64": ("int64_contents", "<i8"),
    "UINT8": ("uint_contents", "<u1"),
    "UINT16": ("uint_contents", "<u2"),
    "UINT32": ("uint_contents", "<u4"),
    "UINT64": ("uint64_contents", "<u8"),
    "FP32": ("fp32_contents", "<f4"),
    "FP64": ("fp64_contents", "<f8"),
    "BYTES": ("bytes_contents", ""),
}
"""Where a datatype's values lie when they are not raw, and as what they are written; FP16 is only ever raw."""


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}


class _Reply(msgspec.Struct):
    model_name: str
    model_version: str
    outputs: list[_Output]
    id: str = ""
    parameters: dict[str, str] = {}


_reply_of = msgspec.json.Decoder(_Reply)
_json = msgspec.json.Encoder()


def body_of(request: Any) -> tuple[bytes, int]:
    """Return a `ModelInferRequest` as the HTTP port takes it: JSON with the tensors' bytes behind it, and the JSON's length.

    Raises:
        InvalidInput: the tensors are neither all raw nor all typed, or values do not fit their datatype.
    """
    raw: list[bytes] = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise InvalidInput(
            f"There are {len(request.inputs)} inputs and {len(raw)} raw contents.",
            hint="Send all inputs in `raw_input_contents`, in their order, or none.",
        )
    if raw and any(tensor.HasField("contents") for tensor in request.inputs):
        raise InvalidInput(
            "There are `raw_input_contents`, and an input has `contents`, too.", hint="Send one of both."
        )
    parts = raw or [_bytes_of(tensor) for tensor in request.inputs]
    inputs = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": tensor.datatype,
            "parameters": {"binary_data_size": len(part)},
        }
        for tensor, part in zip(request.inputs, parts, strict=True)
    ]
    head: dict[str, Any] = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    if request.id:
        head["id"] = request.id
    if request.outputs:
        head["outputs"] = [{"name": output.name} for output in request.outputs]
    text = _json.encode(head)
    return b"".join([text, *parts]), len(text)


def reply_of(reply: Framed, *, raw: bool) -> Any:
    """Return the HTTP port's reply as a `ModelInferResponse`, its tensors raw or typed as those of the request were."""
    told, start = _reply_of.decode(reply.body[: reply.json_length]), reply.json_length
    response = MESSAGES["ModelInferResponse"](model_name=told.model_name, model_version=told.model_version, id=told.id)
    for name, value in told.parameters.items():
        response.parameters[name].string_param = value
    for output in told.outputs:
        size = output.parameters.pop("binary_data_size")
        part, start = reply.body[start : start + size], start + size
        tensor = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        for name, value in output.parameters.items():
            tensor.parameters[name].string_param = _json.encode(value).decode()
        if raw:
            response.raw_output_contents.append(part)
        else:
            field, kind = _TYPED[output.datatype]
            values = np.frombuffer(part, kind).tolist() if kind else _texts(part)
            getattr(tensor.contents, field).extend(values)
    return response


def _bytes_of(tensor: Any) -> bytes:
    field, kind = _TYPED.get(tensor.datatype, ("", ""))
    given = [one.name for one, _ in tensor.contents.ListFields()]
    if given and given != [field]:
        known = ", ".join([*NUMBERS, "BOOL", "BYTES"])
        raise InvalidInput(
            f"The input '{tensor.name[:100]}' of type '{tensor.datatype[:40]}' has its values in `{given[0]}`.",
            hint=f"They belong in `{field}`." if field else f"Known types are {known}; FP16 is sent raw.",
        )
    values = getattr(tensor.contents, field) if field else []
    if not kind:
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    try:
        return np.array(values, dtype=kind).tobytes()
    except OverflowError as wrong:
        raise InvalidInput(f"The input '{tensor.name[:100]}' has a value beyond its type {tensor.datatype}.") from wrong


def _texts(part: bytes) -> Iterable[bytes]:
    start = 0
    while start < len(part):
        (length,) = struct.unpack_from("<I", part, start)
        yield part[start + 4 : start + 4 + length]
        start += 4 + length
