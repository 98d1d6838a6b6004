"""Forms that a prediction can be asked for in. Each reads a body into rows, and writes what the model says of them."""

from typing import Any, Protocol

from modelops.runtime.serving.engine.asks import Render
from modelops.runtime.serving.parsing import Parser
from modelops.runtime.serving.replies import PlainReplies

QUICK_BYTES = 64 * 1024
"""Reading a longer body takes some milliseconds."""

Body = bytes | memoryview
"""What a request brought; only such with tensors behind their JSON come as anything but bytes."""

Prepared = tuple[Any, int, bool, Render]
"""A body that was read: rows, their number, whether they are lists of numbers still, and how to answer them."""


class Form(Protocol):
    """A form. `label` stands for its path in metrics. Thread-safe."""

    label: str

    def is_quick(self, body: Body, json_length: int | None) -> bool:
        """Tell whether a body can be read without keeping others waiting."""
        ...

    def prepare(self, body: Body, json_length: int | None) -> Prepared:
        """Read a body; `json_length` is how much of it is JSON, where the request's head says so.

        Raises:
            InvalidInput: it is not of this form, or its rows do not fit the signature.
        """
        ...


class PlainForm:
    """`{"instances": …}` in, `Predictions` out."""

    label = "/predict"

    def __init__(self, parser: Parser, replies: PlainReplies) -> None:
        self._parser, self._replies = parser, replies

    def is_quick(self, body: Body, json_length: int | None) -> bool:
        """Tell whether a body is short."""
        return len(body) <= QUICK_BYTES

    def prepare(self, body: Body, json_length: int | None) -> Prepared:
        """Read a body; this form has no parts that are not JSON."""
        rows, count, listed = self._parser.parse(bytes(body))
        return rows, count, listed, self._replies
