"""The messages of `inference.GRPCInferenceService`, described here and made by protobuf's runtime: no generated code.

Names and numbers are those of the Open Inference Protocol's gRPC binding (KServe, Triton).
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_PARAMETERS = "parameters: map InferParameter"
_MESSAGES: dict[str, list[str]] = {
    "ServerLiveRequest": [],
    "ServerLiveResponse": ["1 live: bool"],
    "ServerReadyRequest": [],
    "ServerReadyResponse": ["1 ready: bool"],
    "ModelReadyRequest": ["1 name: string", "2 version: string"],
    "ModelReadyResponse": ["1 ready: bool"],
    "ServerMetadataRequest": [],
    "ServerMetadataResponse": ["1 name: string", "2 version: string", "3 extensions: repeated string"],
    "ModelMetadataRequest": ["1 name: string", "2 version: string"],
    "ModelMetadataResponse": [
        "1 name: string",
        "2 versions: repeated string",
        "3 platform: string",
        "4 inputs: repeated TensorMetadata",
        "5 outputs: repeated TensorMetadata",
    ],
    "ModelMetadataResponse.TensorMetadata": ["1 name: string", "2 datatype: string", "3 shape: repeated int64"],
    "InferParameter": [
        "1 bool_param: oneof bool",
        "2 int64_param: oneof int64",
        "3 string_param: oneof string",
        "4 double_param: oneof double",
        "5 uint64_param: oneof uint64",
    ],
    "InferTensorContents": [
        "1 bool_contents: repeated bool",
        "2 int_contents: repeated int32",
        "3 int64_contents: repeated int64",
        "4 uint_contents: repeated uint32",
        "5 uint64_contents: repeated uint64",
        "6 fp32_contents: repeated float",
        "7 fp64_contents: repeated double",
        "8 bytes_contents: repeated bytes",
    ],
    "ModelInferRequest": [
        "1 model_name: string",
        "2 model_version: string",
        "3 id: string",
        f"4 {_PARAMETERS}",
        "5 inputs: repeated InferInputTensor",
        "6 outputs: repeated InferRequestedOutputTensor",
        "7 raw_input_contents: repeated bytes",
    ],
    "ModelInferRequest.InferInputTensor": [
        "1 name: string",
        "2 datatype: string",
        "3 shape: repeated int64",
        f"4 {_PARAMETERS}",
        "5 contents: InferTensorContents",
    ],
    "ModelInferRequest.InferRequestedOutputTensor": ["1 name: string", f"2 {_PARAMETERS}"],
    "ModelInferResponse": [
        "1 model_name: string",
        "2 model_version: string",
        "3 id: string",
        f"4 {_PARAMETERS}",
        "5 outputs: repeated InferOutputTensor",
        "6 raw_output_contents: repeated bytes",
    ],
    "ModelInferResponse.InferOutputTensor": [
        "1 name: string",
        "2 datatype: string",
        "3 shape: repeated int64",
        f"4 {_PARAMETERS}",
        "5 contents: InferTensorContents",
    ],
}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


def _described() -> Any:
    """Return the protocol's file of messages, as protobuf describes one."""
    file = descriptor_pb2.FileDescriptorProto(name="modelops/open_inference.proto", package=PACKAGE, syntax="proto3")
    found: dict[str, Any] = {}
    for name, lines in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = (found[outer].nested_type if outer else file.message_type).add(name=inner)
        found[name] = message
        for line in lines:
            _add_field(name, message, line)
    return file


def _add_field(owner: str, message: Any, line: str) -> None:
    numbered, kind = line.split(": ")
    number, name = numbered.split(" ")
    *words, of = kind.split(" ")
    repeated = "repeated" in words or "map" in words
    field = message.field.add(
        name=name, number=int(number), label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    )
    if "oneof" in words:
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if "map" in words:
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
        entry.field.add(
            name="value",
            number=2,
            label=_Field.LABEL_OPTIONAL,
            type=_Field.TYPE_MESSAGE,
            type_name=f".{PACKAGE}.{of}",
        )
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{owner}.{entry.name}"
    elif of in _SCALARS:
        field.type = _SCALARS[of]
    else:
        nested = f"{owner}.{of}"
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{nested if nested in _MESSAGES else of}"


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()  # one of our own: a caller's library may bring the same names
    pool.Add(_described())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _MESSAGES
        if "." not in name
    }


MESSAGES = _classes()
"""The message classes by name."""
