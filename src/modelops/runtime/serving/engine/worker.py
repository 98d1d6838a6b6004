"""The one thread that slow models are asked on."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue

from modelops.runtime.serving.engine.asks import Ask
from modelops.runtime.serving.engine.batches import Batcher, Results
from modelops.runtime.serving.engine.pace import Watch

Back = Callable[[Results, float], None]
_Work = tuple[list[Ask], Back]


class Worker:
    """Works on one batch at a time, and calls back on the loop with the results and what it took.

    A daemon: a model that never comes back must not keep the process from ending.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, batcher: Batcher) -> None:
        self._loop, self._batcher = loop, batcher
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        threading.Thread(target=self._run, name="predict", daemon=True).start()

    def give(self, batch: list[Ask], back: Back) -> None:
        """Hand over a batch."""
        self._queue.put((batch, back))

    def close(self) -> None:
        """End after what was handed over."""
        self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            batch, back = work
            watch = Watch()
            results = self._batcher.work(batch)
            seconds = watch.seconds()
            with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
                self._loop.call_soon_threadsafe(back, results, seconds)
