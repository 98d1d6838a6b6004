"""A clock that moves when it is told to."""

import threading
from datetime import UTC, datetime, timedelta

_START = datetime(2025, 1, 1, tzinfo=UTC)


class VirtualClock:
    """A `modelops.contracts.clock.Clock` that stands still between calls of `advance`. Safe for threads.

    Args:
        start: The time it shows first, aware.
    """

    def __init__(self, start: datetime = _START) -> None:
        if start.tzinfo is None:
            raise ValueError("The start of a clock needs a time zone.")
        self._start = start.astimezone(UTC)
        self._elapsed = timedelta()
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the time it shows, aware, in UTC."""
        with self._lock:
            return self._start + self._elapsed

    def monotonic(self) -> float:
        """Return the seconds it was moved in all."""
        with self._lock:
            return self._elapsed.total_seconds()

    def advance(self, seconds: float = 0.0, **units: float) -> datetime:
        """Move the clock forward, by seconds or the units of `timedelta` (`days=2`); return the time it then shows."""
        step = timedelta(seconds=seconds, **units)
        if step < timedelta():
            raise ValueError("A clock does not go backwards.")
        with self._lock:
            self._elapsed += step
            return self._start + self._elapsed
