"""Blocks: trials that are quickly run are asked for and told many at a time.

A block lasts for a moment. Whatever takes longer is told at once by a thread that looks on: what has ended, that the trial
under way goes on, and that the rest is not begun.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modelops.contracts.errors import MLOpsError
from modelops.domains.tuning.schemas import TrialEnd

log = logging.getLogger(__name__)

WINDOW_S = 0.05
"""How long a block lasts at most."""

_MOST, _VALUES, _GROWTH = 50, 10_000, 4
_MEMORY = 0.7
_REFUSED_S = 1.0


@dataclass(slots=True)
class Told:
    """How a trial ended, as it will be told, and when by this program's clock."""

    fields: dict[str, Any]
    began: float | None
    ended: float

    def as_end(self, now: float) -> TrialEnd:
        """Return it in seconds before now."""
        return TrialEnd(
            **self.fields,
            began_s=None if self.began is None else max(0.0, now - self.began),
            ended_s=max(0.0, now - self.ended),
        )


class Block:
    """What is left of a block, what of it is still to be told, and how large the next should be. Not thread-safe."""

    def __init__(self) -> None:
        self.allowed = False
        self.unbegun: deque[int] = deque()
        self.ended: list[Told] = []
        self.opened = 0.0
        self._values = 0
        self._size = 1
        self._pace: float | None = None
        self._refused = 0.0

    @property
    def is_over(self) -> bool:
        """Tell whether what it holds is due to be told."""
        return time.monotonic() - self.opened >= WINDOW_S or self._values >= _VALUES

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing of it is left."""
        return not self.unbegun and not self.ended

    def add(self, told: Told, seconds: float) -> None:
        """Keep how a trial ended that took so long, its choice included."""
        if self.is_empty:
            self.opened = max(self.opened, told.began or told.ended)
        self.ended.append(told)
        self._values += len(told.fields["intermediate"])
        self._pace = seconds if self._pace is None else _MEMORY * self._pace + (1 - _MEMORY) * seconds

    def next_size(self, most: int | None) -> int:
        """Return how many trials to ask for: as many as fit into the window, and not many more than the last time."""
        if not self.allowed or self._pace is None or time.monotonic() < self._refused:
            return 1
        fitting = int(WINDOW_S / max(self._pace, 1e-6))
        wanted = min(fitting, self._size * _GROWTH, _MOST)
        return max(1, wanted if most is None else min(wanted, most))

    def take_told(self) -> tuple[list[Told], list[int]]:
        """Return what has ended and what is not begun; `put_back` what could not be sent."""
        taken = self.ended, list(self.unbegun)
        self.ended, self._values = [], 0
        self.unbegun.clear()
        return taken

    def put_back(self, ended: Sequence[Told], unbegun: Sequence[int]) -> None:
        """Take back what could not be sent."""
        self.ended[:0] = ended
        self.unbegun.extend(unbegun)

    def open(self, numbers: Sequence[int]) -> None:
        """Take new trials."""
        self.unbegun.extend(numbers)
        self.opened = time.monotonic()
        self._size = len(numbers)

    def refuse(self) -> None:
        """Note that the platform gives none for now."""
        self._refused = time.monotonic() + _REFUSED_S
        self._size = 1


class Lookout:
    """A thread that looks on while blocks are open, and has told what is due. `close` it.

    Args:
        look: Tells what is due, and returns whether more may become due.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._open, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Look on from now."""
        if not self._open.is_set():
            self._open.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="modelops-blocks", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._open.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        while self._open.wait() and not self._closed.wait(WINDOW_S / 2):
            self._open.clear()
            try:
                goes_on = self._look()
            except MLOpsError as away:
                log.warning("the platform was not told how trials ended, and will be: %s", away)
                goes_on = True
                self._closed.wait(_REFUSED_S)
            if goes_on:
                self._open.set()
