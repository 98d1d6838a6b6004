"""ONNX: graphs of any origin, run by ONNX Runtime on the processor."""

from pathlib import Path
from typing import Any

import numpy as np

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import pickling
from modelops.domains.models.flavours.rows import is_of, matrix, one_a_row

FILE = "model.onnx"

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
}


class OnnxPredictor:
    """A graph with one input of shape (rows, features), or with one of shape (rows, 1) or (rows,) for each feature.

    Its first output is the prediction. Where the graph is a classifier that names its classes, its second output is taken
    for their probabilities.
    """

    def __init__(self, model: Any, labels: list[Any] | None) -> None:
        self.model = model
        self._run = model.run
        self._inputs, self._outputs = model.get_inputs(), [output.name for output in model.get_outputs()]
        unknown = [one.type for one in self._inputs if one.type not in _DTYPES]
        if unknown or not self._inputs:
            raise InvalidInput(f"The graph takes {unknown or 'nothing'}, which rows of values cannot be turned into.")
        single = len(self._inputs) == 1 and len(self._inputs[0].shape) == 2
        self.wants_columns = not single
        self.feature_names: list[str] | None = None if single else [one.name for one in self._inputs]
        self.classes = labels if labels is not None and len(self._outputs) == 2 else None

    def predict(self, rows: Any) -> Any:
        """Return the first output, shape (rows,) or (rows, outputs)."""
        return one_a_row(self._run(self._outputs[:1], self._feed(rows))[0])

    def predict_proba(self, rows: Any) -> Any:
        """Return class probabilities, shape (rows, classes), or None."""
        if self.classes is None:
            return None
        return self._shares(self._run(self._outputs[1:2], self._feed(rows))[0])

    def answer(self, rows: Any) -> tuple[Any, Any]:
        """Return both in one go: predictions, and probabilities or None."""
        if self.classes is None:
            return self.predict(rows), None
        said, shares = self._run(self._outputs, self._feed(rows))
        return one_a_row(said), self._shares(shares)

    def _shares(self, found: Any) -> Any:
        if isinstance(found, list):  # a sequence of maps from class to probability, one a row
            return np.array([[row[label] for label in self.classes or ()] for row in found])
        return found

    def _feed(self, rows: Any) -> dict[str, Any]:
        if not self.wants_columns:
            only = self._inputs[0]
            return {only.name: matrix(rows, None, _DTYPES[only.type])}
        columns: dict[str, Any] = {
            one.name: np.asarray(rows[one.name]).astype(_DTYPES[one.type]) for one in self._inputs
        }
        return {
            one.name: columns[one.name].reshape(-1, 1) if len(one.shape) == 2 else columns[one.name]
            for one in self._inputs
        }


class OnnxFlavour:
    """Saves `onnx.ModelProto`."""

    name = "onnx"

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is a graph in memory."""
        return is_of(model, "onnx", "ModelProto")

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write `model.onnx`. A graph that keeps its weights in other files is refused."""
        import onnx

        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as wrong:
            raise InvalidInput(f"The graph is not valid: {str(wrong)[:300]}.") from wrong
        if any(weight.data_location == onnx.TensorProto.EXTERNAL for weight in model.graph.initializer):
            raise InvalidInput(
                "The graph's weights lie in other files.", hint="Load it with `onnx.load`, which brings them in."
            )
        (folder / FILE).write_bytes(model.SerializeToString())
        return [FILE]

    def load(self, folder: Path) -> OnnxPredictor:
        """Load the graph."""
        return read(folder / FILE)

    def requirements(self, model: Any) -> list[str]:
        """Return ONNX, its runtime and NumPy."""
        return pickling.pinned({"onnx", "onnxruntime", "numpy"})


def read(path: Path) -> OnnxPredictor:
    """Load a graph from a file.

    Raises:
        InvalidInput: it is none, or one that rows of values cannot be given to.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
        session = open_session(path)
    except (DecodeError, runtime.Fail, runtime.InvalidGraph, runtime.InvalidProtobuf, runtime.NotImplemented) as wrong:
        raise InvalidInput(f"ONNX Runtime cannot load '{path.name}': {str(wrong)[:300]}.") from wrong
    return OnnxPredictor(session, _labels(graph))


def open_session(source: Path | bytes) -> Any:
    """Return a session of ONNX Runtime that computes on the caller's thread alone.

    A replica has a process for each core, and threads of a session's own would spin while they wait for work.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised as well
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _labels(graph: Any) -> list[Any] | None:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "classlabels_int64s" or attribute.name == "classlabels_ints":
                return [int(label) for label in attribute.ints]
            if attribute.name == "classlabels_strings":
                return [label.decode() for label in attribute.strings]
    return None


flavour = OnnxFlavour()
