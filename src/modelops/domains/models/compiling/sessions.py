"""Graphs of this package, run by ONNX Runtime."""

from typing import Any

import numpy as np

from modelops.domains.models.flavours.onnx import open_session

ROWS, RAW, FEATURES = "rows", "raw", "features"
"""A graph's input; and its output, where these are scores, or what goes into a linear last step."""


class Session:
    """A graph with one input, a float64 matrix. May be called by several threads at once.

    Attributes:
        outputs: The names of what it gives.
    """

    def __init__(self, content: bytes) -> None:
        session = open_session(content)
        self.outputs = [one.name for one in session.get_outputs()]
        (only,) = session.get_inputs()
        self._input = only.name
        self._run = session.run

    def __call__(self, rows: Any) -> list[Any]:
        """Return what the graph gives for rows of shape (rows, features)."""
        found: list[Any] = self._run(self.outputs, {self._input: np.ascontiguousarray(rows, dtype=np.float64)})
        return found
