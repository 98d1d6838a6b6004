"""The protocol's messages. Members that are not named here are passed over, as the protocol says of extensions."""

from typing import Any

import msgspec

from modelops.contracts.errors import InvalidInput


class InputTensor(msgspec.Struct):
    """A tensor of a request. Its values are in `data`, flat or nested, or behind the JSON, in as many bytes as the
    parameter `binary_data_size` says."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class WantedOutput(msgspec.Struct):
    """An output that a request names; the parameter `binary_data` asks for it in bytes."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """A request. Without `outputs`, all of them are wanted."""

    inputs: list[InputTensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[WantedOutput] | None = None


class OutputTensor(msgspec.Struct, omit_defaults=True):
    """A tensor of a reply."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET


class InferReply(msgspec.Struct, omit_defaults=True):
    """A reply."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None
    parameters: dict[str, str] = {}


_decoder = msgspec.json.Decoder(InferRequest)


def read_request(text: bytes) -> InferRequest:
    """Read a request's JSON.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise InvalidInput(
            f"The body is not a request of the Open Inference Protocol: {wrong}.",
            hint='Send {"inputs": [{"name": "input", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}.',
        ) from wrong
