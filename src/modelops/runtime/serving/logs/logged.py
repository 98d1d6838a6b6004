"""What of a batch of predictions is logged, on its way from the event loop to the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from modelops.domains.models.schemas import ModelSignature
from modelops.runtime.serving.predicting import Answer


@dataclass(frozen=True)
class About:
    """Whose predictions are logged, and what of them.

    Attributes:
        facts: What a file tells of itself: deployment, revision, variant and model version.
        classes: What the columns of probabilities stand for; None where there are none.
    """

    facts: dict[str, Any]
    signature: ModelSignature
    classes: list[Any] | None
    inputs: bool
    outputs: bool
    share: float
    file_bytes: int


class Asked(Protocol):
    """A request that was answered: the id under which it is logged, if any, its rows, and when it came."""

    logged: str | None
    count: int
    began: float


class Entry(NamedTuple):
    """A request in a batch: its id, where its rows begin, how many they are, and when it came (`time.perf_counter`)."""

    request_id: str
    start: int
    length: int
    began: float


@dataclass(frozen=True)
class Logged:
    """What a model saw and said at once, and which requests of that are logged."""

    about: About
    rows: Any
    answer: Answer
    entries: Sequence[Entry]
    answered: float
