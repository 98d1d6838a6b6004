"""Whether a model is fast enough to be asked on the event loop itself."""

import time
from collections import deque

_FIXED_S, _EACH_S = 200e-6, 4e-6
"""A batch may take so long there, and so much more for each request in it: reading and writing cost as much anyway."""

_FEWEST, _WINDOW = 4, 16
_WEIGHT = 0.1
_SMALL_ROWS, _LONGEST_S = 256, 1e-3


class Pace:
    """The measure of a model's time a batch, from which follows where the next batch goes.

    A model that runs users' code may hang whatever was measured, so it never is for the loop. Of the others the time follows
    from the rows; where a batch took longer than those around it, the machine was busy elsewhere. So the fastest of the last
    few counts. Until some were measured a model is taken for slow.
    """

    def __init__(self, *, may_suit: bool = True) -> None:
        self.may_suit = may_suit
        self._ratios: deque[float] = deque(maxlen=_WINDOW)
        self._fast = False
        self._row_s = 0.0

    def suits_loop(self, rows: int) -> bool:
        """Tell whether a batch of so many rows may run on the loop."""
        return self.may_suit and self._fast and (rows <= _SMALL_ROWS or rows * self._row_s < _LONGEST_S)

    def observe(self, seconds: float, requests: int, rows: int) -> None:
        """Take what a batch took."""
        self._row_s += _WEIGHT * (seconds / rows - self._row_s)
        if rows <= _SMALL_ROWS:
            self._ratios.append(seconds / (_FIXED_S + _EACH_S * requests))
            self._fast = len(self._ratios) >= _FEWEST and min(self._ratios) <= 1


class Watch:
    """Measures what one batch takes on this thread, from when it is made: the processor's time.

    The clock on the wall also counts other processes' turns, and the waits of threads that share the interpreter; those say
    nothing of the model. What may sleep is never for the loop, so its time does not matter.
    """

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = time.thread_time()

    def seconds(self) -> float:
        """Return the processor seconds since then."""
        return time.thread_time() - self._began
