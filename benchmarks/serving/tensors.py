"""Binary tensors of the Open Inference Protocol (its binary extension), for the requests and the answers."""

import json
from typing import Any

import numpy as np

TYPES = {"INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}


def header_of(size: int, features: int) -> bytes:
    """Return the JSON before a tensor of float64 of shape (size, features)."""
    parameters = {"binary_data_size": size * features * 8}
    tensor = {"name": "input-0", "shape": [size, features], "datatype": "FP64", "parameters": parameters}
    return json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()


def prepare(rows: list[list[float]]) -> bytes:
    """Return rows as JSON and the tensor after it."""
    return header_of(len(rows), len(rows[0])) + np.array(rows, dtype="<f8").tobytes()


def labels(body: bytes) -> list[Any]:
    """Return the first output of an answer, binary or not."""
    answer, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    first = answer["outputs"][0]
    if "data" in first:
        return list(first["data"])
    size = first["parameters"]["binary_data_size"]
    return list(np.frombuffer(body[end : end + size], TYPES[first["datatype"]]).tolist())
