"""Lanes: how many explanations are asked for at once, and on how many threads they are made."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from modelops.contracts.errors import Unavailable

T = TypeVar("T")


class Lane:
    """A bounded number of requests on a bounded number of threads. Belongs to one event loop.

    Args:
        name: Names its threads.
        threads: How many requests are worked on at once.
        capacity: How many are taken at once, working and waiting; more are refused.
    """

    def __init__(self, name: str, threads: int, capacity: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._name, self._capacity = name, capacity
        self.taken = 0

    def __enter__(self) -> None:
        """Take a place.

        Raises:
            Unavailable: every place is taken.
        """
        if self.taken >= self._capacity:
            raise Unavailable(
                f"The replica is full: {self._capacity} requests at once are its limit for '{self._name}'.",
                hint="Try again after the time in `Retry-After`, or give the deployment more replicas.",
            )
        self.taken += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the place back."""
        self.taken -= 1

    async def run(self, work: Callable[..., T], *given: Any) -> T:
        """Run `work(*given)` on a thread of the lane. Call it inside `with lane:`."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *given)

    def close(self) -> None:
        """End the threads; what waits is not run."""
        self._executor.shutdown(wait=False, cancel_futures=True)
