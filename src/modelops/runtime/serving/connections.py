"""How many connections a process holds, and which of them go when there are more."""

import logging
import resource
import time
from collections.abc import Collection, Iterable
from typing import Any, Protocol

_RESERVE = 128
"""File descriptors that are no connections: the model's, telemetry's, libraries'."""

_MOST = 1_000_000
_AT_ONCE = 64
_QUIET_S = 5.0
"""A connection that said something so lately may have its next request on the way."""

_TOLD_EVERY_S = 10.0

_log = logging.getLogger(__name__)


class Connection(Protocol):
    """A connection, as this module sees it."""

    def quiet_since(self) -> float | None:
        """Return when it last said something, in seconds of `time.perf_counter`; None while it is owed an answer."""
        ...

    def end(self) -> None:
        """Close it."""
        ...


def raise_file_limit() -> int:
    """Let the process open as many files as it may, and return how many connections that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft == resource.RLIM_INFINITY or soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError) as wrong:
            _log.warning("the limit of open files stays at %d: %s", soft, wrong)
    return max(1, soft - min(_RESERVE, soft // 2))


class Room:
    """The room for connections in one process.

    Where it is full, those that have been quiet the longest go for who comes; where nobody is quiet, who comes is sent away.
    """

    def __init__(self, most: int) -> None:
        self._most, self._told_at = most, 0.0

    def has_place(self, connections: Collection[Any]) -> bool:
        """Tell whether the newest of `connections`, each a `Connection`, may stay, and end others for it."""
        if len(connections) <= self._most:
            return True
        quiet = _longest_quiet(connections, time.perf_counter())
        for connection in quiet:
            connection.end()
        now = time.perf_counter()
        if now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            _log.warning("there are %d connections, as many as the limit of open files allows", self._most)
        return bool(quiet)


def _longest_quiet(connections: Iterable[Connection], now: float) -> list[Connection]:
    told = [(since, index, one) for index, one in enumerate(connections) if (since := one.quiet_since()) is not None]
    return [one for since, _, one in sorted(told, key=lambda entry: entry[:2])[:_AT_ONCE] if now - since >= _QUIET_S]
