"""Long work in short turns, so that predictions come in between.

Python runs one thread at a time, and a numerical library may hold on to that right for a whole call. So long work is cut
into calls of some milliseconds, and between two of them it gives way.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from modelops.contracts.errors import Unavailable
from modelops.runtime.serving.failures import DeadlineExceeded

_TURN_S = 2e-3
_LONGEST_PAUSE_S = 0.05
_MOST_ITEMS = 4096

T = TypeVar("T")


class Turns:
    """What the parts of one long work share. Belongs to the thread that works, but for `end`.

    Args:
        is_busy: Tells whether somebody waits for the processor.
    """

    def __init__(self, is_busy: Callable[[], bool] = lambda: False) -> None:
        self._is_busy = is_busy
        self._ended = False
        self.deadline: float | None = None
        """When nobody wants the result any more, in seconds of `time.perf_counter`."""

    def end(self) -> None:
        """Have the work stop at its next turn. For any thread."""
        self._ended = True

    def give_way(self, worked_s: float) -> None:
        """Let others have as much time as the last turn took, if they want it.

        Raises:
            DeadlineExceeded: nobody waits for the result.
            Unavailable: the process ends.
        """
        if self._ended:
            raise Unavailable("The replica ends.", hint="Ask again: another replica answers.")
        if self.deadline is not None and time.perf_counter() >= self.deadline:
            raise DeadlineExceeded("The explanation took longer than the request's time limit.")
        time.sleep(min(worked_s, _LONGEST_PAUSE_S) if self._is_busy() else 0)


class Pace:
    """How many items of one kind of work make a turn.

    A turn takes some 2 ms, but at most half of it should be what a call costs however few items it has.
    """

    def __init__(self, items: int = 1) -> None:
        self._items = items
        self._least_s = float("inf")

    def run(self, turns: Turns, count: int, work: Callable[[int, int], T]) -> list[T]:
        """Call `work(start, stop)` over `count` items, a turn at a time, and return what it gave."""
        found, start = [], 0
        while start < count:
            stop = min(count, start + self._items)
            began = time.perf_counter()
            found.append(work(start, stop))
            took = time.perf_counter() - began
            self._learn(stop - start, took)
            turns.give_way(took)
            start = stop
        return found

    def _learn(self, items: int, took: float) -> None:
        self._least_s = min(self._least_s, took)
        fitting = items * max(_TURN_S, 2 * self._least_s) / max(took, 1e-9)
        grown = int(np.clip(fitting, self._items // 2, 2 * self._items))
        self._items = min(max(grown, 1), _MOST_ITEMS)
