"""What the engine is asked, and what it hands back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from modelops.contracts.errors import MLOpsError
from modelops.runtime.serving.jsontext import encode_each
from modelops.runtime.serving.predicting import Answer, plain


class Framed(NamedTuple):
    """A body that is JSON only up to `json_length`."""

    body: bytes
    json_length: int


Outcome = bytes | Framed | MLOpsError
"""The body of a reply, or why there is none."""


class Ask(msgspec.Struct, eq=False):
    """A request's rows on their way through the engine.

    Attributes:
        rows: A list of lists of numbers (`listed`), or rows as a predictor takes them: a float64 array of shape
            (rows, features), or equally long columns by feature name.
        listed: Whether `rows` are lists still; the engine turns those of a whole batch into one array.
        count: How many rows.
        size: The bytes that the request holds in memory while it waits, roughly.
        deadline: When nobody wants the reply any more, in seconds of `time.perf_counter`; infinite for never.
        began: When the request came, on the same clock.
        render: Makes the reply's body from the answers to a batch and the place of the own rows in it.
        done: Takes the outcome, on the event loop, exactly once unless `gone`.
        gone: Whether the caller has left: it is neither asked nor answered any more.
        outcome: What came of it, before `done` is told.
        logged: Under which id it is logged; None where it is not.
    """

    rows: Any
    count: int
    size: int
    render: "Render"
    done: Callable[[Outcome], None]
    listed: bool
    began: float
    deadline: float
    gone: bool = False
    outcome: Outcome | None = None
    logged: str | None = None


@dataclass(frozen=True)
class Seen:
    """What a model saw and said at once: rows as a predictor takes them, the answer, how many rows, and whose they are, in
    that order."""

    rows: Any
    answer: Answer
    count: int
    asks: "list[Ask]"


class Answers:
    """The answer to a batch, and the same as JSON, a text a row, which is made once for all of its requests.

    `asked` is when the model was asked and when it had answered, in seconds of `time.perf_counter`, where that is noted.
    """

    __slots__ = ("_probabilities", "_values", "answer", "asked")

    def __init__(self, answer: Answer, asked: tuple[float, float] | None = None) -> None:
        self.answer, self.asked = answer, asked
        self._values: list[bytes] | None = None
        self._probabilities: list[bytes] | None = None

    @property
    def values(self) -> list[bytes]:
        """Return the predictions as JSON.

        Raises:
            ModelFailed: something in them is no JSON value.
        """
        if self._values is None:
            self._values = encode_each(plain(self.answer.values))
        return self._values

    @property
    def probabilities(self) -> list[bytes] | None:
        """Return each row's probabilities as JSON; None where the model gives none."""
        if self._probabilities is None and self.answer.probabilities is not None:
            self._probabilities = encode_each(self.answer.probabilities.tolist())
        return self._probabilities


Render = Callable[[Answers, int, int], bytes | Framed]
"""Makes a reply's body from the answers to a batch and the place of the own rows in it. One that has `each` also makes those
for requests of a row each, all at once."""
