"""The bodies of predictions, in the plain form."""

from typing import Any

import msgspec
from pydantic_core import to_json

from modelops.domains.serving.schemas import VariantDocument
from modelops.runtime.serving.engine.asks import Answers
from modelops.runtime.serving.failures import ModelFailed

_encode = msgspec.json.Encoder().encode


def origin_of(variant: VariantDocument, revision: int, replica: str) -> dict[str, Any]:
    """Return the members of a reply that tell who made it."""
    return {
        "model": variant.model,
        "version": variant.version,
        "variant": variant.name,
        "revision": revision,
        "replica": replica,
    }


class PlainReplies:
    """Writes the members of `Predictions`. What is the same in every reply is written once.

    Args:
        origin: Who makes the replies.
    """

    def __init__(self, origin: dict[str, Any], classes: list[Any] | None) -> None:
        self._tail = b"," + to_json({"classes": classes, **origin})[1:]
        self._tail_without = b',"probabilities":null,' + to_json({"classes": None, **origin})[1:]

    def render(self, answers: Answers, start: int, stop: int) -> bytes:
        """Return the reply for some rows of a batch.

        Raises:
            ModelFailed: something in the predictions is no JSON value.
        """
        predictions = encode(answers.values[start:stop])
        probabilities = answers.probabilities
        if probabilities is None:
            return b'{"predictions":' + predictions + self._tail_without
        return b"".join(
            (b'{"predictions":', predictions, b',"probabilities":', _encode(probabilities[start:stop]), self._tail)
        )


def encode(value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        ModelFailed: it is none.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        return to_json(value)  # it also writes integers of more than 64 bits
    except ValueError as wrong:
        raise ModelFailed(f"The model predicted what is no JSON value: {str(wrong)[:300]}.") from wrong
