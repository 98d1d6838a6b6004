"""Who waits for a run in this process is woken when a unit of work that changed it has committed.

It is only a hint that makes things quick: whoever waits also looks at the database by itself, for what other processes do.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.orm import Session

from modelops.kernel.context import Context


class Bell:
    """Rings for one waiter, on its event loop; it stays rung until the waiter has waited."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:  # its loop is closed: nobody waits there any more
            return

    async def wait(self, seconds: float) -> bool:
        """Wait for the bell, at most so long, and tell whether it rang."""
        try:
            await asyncio.wait_for(self._rung.wait(), seconds)
        except TimeoutError:
            return False
        self._rung.clear()
        return True


class Wakes:
    """Bells by run. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: dict[str, set[Bell]] = {}

    @contextmanager
    def bell(self, topic: str) -> Iterator[Bell]:
        """Hang up a bell for a topic, on the running event loop."""
        bell = Bell()
        with self._lock:
            self._bells.setdefault(topic, set()).add(bell)
        try:
            yield bell
        finally:
            with self._lock:
                self._bells[topic].discard(bell)
                if not self._bells[topic]:
                    del self._bells[topic]

    def ring(self, topic: str) -> None:
        """Ring every bell of a topic."""
        with self._lock:
            bells = list(self._bells.get(topic, ()))
        for bell in bells:
            bell.ring()


def work_of(run: str) -> str:
    """Return the topic of those who wait for something to do in a run."""
    return f"{run}/work"


def ends_of(run: str) -> str:
    """Return the topic of those who wait for something in a run to end, or to be told of it."""
    return f"{run}/ends"


def wake(ctx: Context, *topics: str) -> None:
    """Ring the bells of topics once this unit of work has committed."""
    wakes = ctx.port(Wakes)

    def ring(_session: Session) -> None:
        for topic in topics:
            wakes.ring(topic)

    event.listen(ctx.session, "after_commit", ring, once=True)
