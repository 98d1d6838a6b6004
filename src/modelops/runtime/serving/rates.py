"""How fast one caller may ask: the generic cell rate algorithm (ITU-T I.371, "virtual scheduling")."""

import time
from collections.abc import Callable

from modelops.contracts.errors import RateLimited

_MOST_CALLERS = 10_000


class Rates:
    """Holds one time a caller: when the requests so far would have come, had they come evenly. Belongs to one loop.

    Args:
        per_s: The rate that holds in the long run; None for no limit.
        burst: How many requests may come at once after a pause.
    """

    def __init__(self, per_s: float | None, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / per_s if per_s else 0.0
        self.hold = per_s is not None
        """Whether there is a limit."""
        self._tolerance = self._interval * (burst - 1)
        self._clock = clock
        self._due: dict[str, float] = {}

    def check(self, caller: str) -> None:
        """Count a request.

        Raises:
            RateLimited: it comes too early; it is not counted then.
        """
        if not self._interval:
            return
        now = self._clock()
        due = max(self._due.get(caller, now), now)
        if due - now > self._tolerance + 1e-9:
            wrong = RateLimited(
                f"The caller asks this replica more often than its limit of {1 / self._interval:g} requests a second."
            )
            wrong.retry_after_s = due - now - self._tolerance
            raise wrong
        if caller not in self._due and len(self._due) >= _MOST_CALLERS:
            self._forget(now)
        self._due[caller] = due + self._interval

    def _forget(self, now: float) -> None:
        """Forget whom the limit does not touch any more; where that is nobody, all."""
        kept = {caller: due for caller, due in self._due.items() if due > now}
        self._due = kept if len(kept) < _MOST_CALLERS else {}
