"""Lanes: how many requests are taken at once, and on how many threads they run."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from modelops.contracts.errors import Unavailable
from modelops.runtime.serving.metrics import Metrics

T = TypeVar("T")


class Lane:
    """A bounded number of requests on a bounded number of threads. Belongs to one event loop.

    Args:
        name: Names its threads.
        threads: How many requests the model works on at once.
        capacity: How many are taken at once, working and waiting; more are refused.
        metrics: Where depth and waiting time are counted; None counts nothing.
    """

    def __init__(self, name: str, threads: int, capacity: int, metrics: Metrics | None = None) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._name, self._capacity, self._metrics = name, capacity, metrics
        self.taken = 0

    def __enter__(self) -> None:
        """Take a place.

        Raises:
            Unavailable: every place is taken.
        """
        if self.taken >= self._capacity:
            if self._metrics:
                self._metrics.rejected.inc()
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
        loop = asyncio.get_running_loop()
        if self._metrics is None:
            return await loop.run_in_executor(self._executor, work, *given)
        self._metrics.queue_depth.inc()
        return await loop.run_in_executor(self._executor, self._timed, self._metrics, time.perf_counter(), work, given)

    def close(self) -> None:
        """End the threads; what waits is not run."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _timed(metrics: Metrics, queued_at: float, work: Callable[..., T], given: tuple[Any, ...]) -> T:
        metrics.queue_depth.dec()
        metrics.queue_wait.observe(time.perf_counter() - queued_at)
        metrics.inflight.inc()
        try:
            return work(*given)
        finally:
            metrics.inflight.dec()
