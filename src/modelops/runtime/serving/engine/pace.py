"""Whether a model is fast enough to be asked on the event loop itself."""

import resource
import time

_FIXED_S, _EACH_S = 200e-6, 4e-6
"""A batch may take so long there, and so much more for each request in it: reading and writing cost as much anyway."""

_WEIGHT, _MOST = 0.1, 4.0
_FEWEST, _LONGEST = 4, 4096
_STEADY = 1000
_SMALL_ROWS, _LONGEST_S = 256, 1e-3
_HANGING_S = 10e-3
"""Beyond this it is not for the loop, whatever else was measured."""

_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)


class Pace:
    """A moving measure of a model's time a batch, from which follows where the next batch goes.

    A model that runs users' code may hang whatever was measured, so it never is for the loop. Until it is measured a model is
    taken for slow. One that was fast and turns slow leaves the loop after a few batches;
    each time it must be fast for twice as many to come back, until it has been steady for long.
    """

    def __init__(self, *, may_suit: bool = True) -> None:
        self.may_suit = may_suit
        self._fast = False
        self._ratio = 0.0
        self._row_s = 0.0
        self._good = 0
        self._needed = _FEWEST

    def suits_loop(self, rows: int) -> bool:
        """Tell whether a batch of so many rows may run on the loop."""
        return self.may_suit and self._fast and (rows <= _SMALL_ROWS or rows * self._row_s < _LONGEST_S)

    def observe(self, seconds: float, requests: int, rows: int) -> None:
        """Take what a batch took."""
        self._row_s += _WEIGHT * (seconds / rows - self._row_s)
        if rows > _SMALL_ROWS:
            return
        ratio = seconds / (_FIXED_S + _EACH_S * requests)
        ratio = ratio / _WEIGHT if seconds > _HANGING_S else min(ratio, _MOST)
        self._good = self._good + 1 if ratio <= 1 else 0
        if not self._fast:
            if self._good >= self._needed:
                self._fast, self._ratio, self._good = True, ratio, 0
            return
        self._ratio += _WEIGHT * (ratio - self._ratio)
        if self._ratio > 1:
            self._fast, self._needed = False, min(2 * self._needed, _LONGEST)
        elif self._good >= _STEADY:
            self._needed, self._good = _FEWEST, 0


class Watch:
    """Measures what one batch takes on this thread, from when it is made.

    On a busy machine the clock on the wall also counts other processes' turns, and, beside an event loop that works, the
    loop's; those say nothing of the model. So where a thread did not wait, its processor time counts. Where the system does
    not tell whether it did, the wall's clock has to do.
    """

    __slots__ = ("_cpu", "_waits", "_wall")

    def __init__(self) -> None:
        self._waits = _waits()
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def on_loop(self) -> float:
        """Return the seconds of a batch on the loop: the processor's, but the wall's if the thread went to sleep."""
        cpu, wall = time.thread_time() - self._cpu, time.perf_counter() - self._wall
        return cpu if self._waits is not None and _waits() == self._waits else wall

    def beside_loop(self) -> float:
        """Return the seconds of a batch on a thread that shares the interpreter with the loop, and waits for it at times."""
        cpu, wall = time.thread_time() - self._cpu, time.perf_counter() - self._wall
        return cpu if wall < _HANGING_S else wall


def _waits() -> int | None:
    """Return how often this thread went to sleep by itself so far; None where the system does not tell."""
    return None if _THREAD is None else resource.getrusage(_THREAD).ru_nvcsw
