"""ONNX Runtime on one thread: a replica has a process for each core, and threads that wait for work burn them."""

from typing import Any

import numpy as np


class Session:
    """A graph with one input, a float64 matrix. May be called by several threads at once.

    Attributes:
        outputs: The names of what it gives.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.outputs = [one.name for one in self._session.get_outputs()]
        (only,) = self._session.get_inputs()
        self._input = only.name
        self._run = self._session.run

    def __call__(self, rows: Any) -> list[Any]:
        """Return what the graph gives for rows of shape (rows, features)."""
        found: list[Any] = self._run(self.outputs, {self._input: np.ascontiguousarray(rows, dtype=np.float64)})
        return found
