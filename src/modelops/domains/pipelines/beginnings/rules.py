"""Whether something may begin while an earlier one of the same cause is under way."""

from enum import StrEnum

from modelops.domains.pipelines.beginnings.schemas import Overlap

DEEPEST = 10
"""So many beginnings may each lead to the next; what the last of them leads to is refused."""


class Turn(StrEnum):
    """What becomes of one whose time has come."""

    BEGIN = "begin"
    SKIP = "skip"
    WAIT = "wait"
    TAKE_OVER = "take_over"


def decide(overlap: Overlap, *, running: bool, waiting: bool) -> Turn:
    """Decide for one whose time has come.

    Args:
        overlap: What its cause wants.
        running: One of its cause is under way.
        waiting: An earlier one of its cause waits for its turn.
    """
    if overlap is Overlap.ALLOW or not (running or waiting):
        return Turn.BEGIN
    if overlap is Overlap.SKIP:
        return Turn.SKIP
    if overlap is Overlap.QUEUE:
        return Turn.SKIP if waiting else Turn.WAIT
    return Turn.TAKE_OVER
