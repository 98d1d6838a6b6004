"""What becomes of moments that were missed, and how late each begins."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelops.domains.pipelines.schedules.schemas import CatchUp


@dataclass(frozen=True)
class Chosen:
    """Of the moments that are due: those that lead to something, and those that were missed."""

    begin: tuple[datetime, ...]
    missed: tuple[datetime, ...]


def choose(due: Sequence[datetime], now: datetime, policy: CatchUp, *, grace_s: float, most: int) -> Chosen:
    """Decide what becomes of moments that are due, in order.

    Usually that is one. After an absence, `none` takes the newest if it is no older than the grace, `latest` the newest
    however old, `all` the newest `most`.
    """
    if policy is CatchUp.NONE:
        count = 1 if due and now - due[-1] <= timedelta(seconds=grace_s) else 0
    else:
        count = most if policy is CatchUp.ALL else 1
    cut = max(0, len(due) - count)
    return Chosen(tuple(due[cut:]), tuple(due[:cut]))


def delay(schedule: str, moment: datetime, jitter_s: float) -> timedelta:
    """Return how long after its moment something begins: evenly spread, and the same whoever asks however often."""
    drawn = hashlib.sha256(f"{schedule} {moment.timestamp()}".encode()).digest()[:8]
    return timedelta(seconds=jitter_s * int.from_bytes(drawn, "big") / 2**64)
