"""From what a model said to a reply's tensors."""

from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.runtime.serving.engine.asks import Answers, Framed
from modelops.runtime.serving.jsontext import encode
from modelops.runtime.serving.openinference.messages import InferReply, InferRequest, OutputTensor
from modelops.runtime.serving.openinference.tensors import to_bytes, to_typed

PREDICTIONS, PROBABILITIES = "predictions", "probabilities"


class Reply:
    """How one request wants its answer. Called by the engine."""

    __slots__ = ("_classes", "_id", "_model", "_told", "_version", "_wanted")

    def __init__(
        self, model: str, version: str, classes: list[Any] | None, told: dict[str, str], request: InferRequest
    ) -> None:
        self._model, self._version, self._classes, self._id = model, version, classes, request.id
        self._told = told
        known = (PREDICTIONS,) if classes is None else (PREDICTIONS, PROBABILITIES)
        as_bytes = request.parameters.get("binary_data_output") is True
        if not request.outputs:
            self._wanted = dict.fromkeys(known, as_bytes)
            return
        self._wanted = {}
        for output in request.outputs:
            if output.name not in known:
                raise InvalidInput(f"The model has no output '{output.name[:100]}'; it has {', '.join(known)}.")
            self._wanted[output.name] = output.parameters.get("binary_data", as_bytes) is True

    def __call__(self, answers: Answers, start: int, stop: int) -> bytes | Framed:
        """Write the reply for some rows of a batch."""
        outputs, parts = [], []
        for name, as_bytes in self._wanted.items():
            output, part = self._output(name, answers, start, stop, as_bytes=as_bytes)
            outputs.append(output)
            if part is not None:
                parts.append(part)
        text = encode(InferReply(self._model, self._version, outputs, self._id, self._told))
        return Framed(b"".join([text, *parts]), len(text)) if parts else text

    def _output(
        self, name: str, answers: Answers, start: int, stop: int, *, as_bytes: bool
    ) -> tuple[OutputTensor, bytes | None]:
        parameters: dict[str, Any] = {}
        if name == PROBABILITIES:
            datatype, values = "FP64", answers.answer.probabilities[start:stop]
            parameters["classes"] = self._classes
        else:
            datatype, values = to_typed(answers.answer.values[start:stop])
        shape = list(values.shape) if isinstance(values, np.ndarray) else [len(values)]
        if as_bytes:
            part = to_bytes(values)
            return OutputTensor(name, datatype, shape, {**parameters, "binary_data_size": len(part)}), part
        data = values.ravel().tolist() if isinstance(values, np.ndarray) else values
        return OutputTensor(name, datatype, shape, parameters, data), None
