"""The bodies of predictions, in the plain form."""

from typing import Any

from pydantic_core import to_json

from modelops.domains.serving.schemas import VariantDocument
from modelops.runtime.serving.engine.asks import Answers


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
        self._tail = b"]," + to_json({"classes": classes, **origin})[1:]
        self._tail_without = b'],"probabilities":null,' + to_json({"classes": None, **origin})[1:]

    def each(self, answers: Answers) -> list[bytes]:
        """Return a reply for each row of a batch. Raises as a call does."""
        values, probabilities = answers.values, answers.probabilities
        if probabilities is None:
            tail = self._tail_without
            return [b"".join((b'{"predictions":[', value, tail)) for value in values]
        tail, between = self._tail, b'],"probabilities":['
        return [
            b"".join((b'{"predictions":[', value, between, shares, tail))
            for value, shares in zip(values, probabilities, strict=True)
        ]

    def __call__(self, answers: Answers, start: int, stop: int) -> bytes:
        """Return the reply for some rows of a batch.

        Raises:
            ModelFailed: something in the predictions is no JSON value.
        """
        values, probabilities = answers.values, answers.probabilities
        one = stop - start == 1
        predictions = values[start] if one else b",".join(values[start:stop])
        if probabilities is None:
            return b"".join((b'{"predictions":[', predictions, self._tail_without))
        shares = probabilities[start] if one else b",".join(probabilities[start:stop])
        return b"".join((b'{"predictions":[', predictions, b'],"probabilities":[', shares, self._tail))
