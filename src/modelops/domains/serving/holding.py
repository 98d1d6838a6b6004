"""Requests that wait for a deployment that was scaled to zero, while it comes up.

They wait on the event loop: no thread and no database connection is theirs. One look-out for each deployment wakes it and
looks whether a replica is ready.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request

from modelops.contracts.errors import MLOpsError, NotFound
from modelops.domains.serving.errors import NoReplicaReady
from modelops.kernel.problems import BadRequest

_LOOK_EVERY_S = 0.1

_log = logging.getLogger(__name__)


class Awaited(Protocol):
    """What a look-out finds."""

    @property
    def decided(self) -> bool:
        """Tell whether there is nothing to wait for any more, well or ill."""
        ...


A = TypeVar("A", bound=Awaited)


@dataclass(eq=False)
class _Room(Generic[A]):
    """Who waits for one deployment, and the task that looks out for it."""

    waiting: set["asyncio.Future[A]"] = field(default_factory=set)
    lookout: "asyncio.Task[None] | None" = None


class Holding(Generic[A]):
    """Holds requests, so many and of so many bytes at once. Used by any event loop, each for itself."""

    def __init__(self) -> None:
        self._rooms: dict[tuple[asyncio.AbstractEventLoop, str], _Room[A]] = {}
        self._held: dict[str, int] = {}
        self._count = self._bytes = 0
        self._lock = threading.Lock()

    def held(self, deployment_id: str) -> int:
        """Return how many requests of a deployment are held."""
        with self._lock:
            return self._held.get(deployment_id, 0)

    @contextmanager
    def admitted(self, deployment_id: str, size: int, most: int, most_bytes: int) -> Iterator[None]:
        """Count a request of `size` bytes as held.

        Raises:
            NoReplicaReady: as many, or as many bytes, are held as may be.
        """
        with self._lock:
            if self._count >= most or self._bytes + size > most_bytes:
                raise NoReplicaReady(
                    f"The deployment is waking, and {self._count} requests wait already: no more are held.",
                    hint="Try again in a moment, or raise `max_held_requests` or `max_held_bytes`.",
                )
            self._count, self._bytes = self._count + 1, self._bytes + size
            self._held[deployment_id] = self._held.get(deployment_id, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._count, self._bytes = self._count - 1, self._bytes - size
                self._held[deployment_id] -= 1
                if not self._held[deployment_id]:
                    del self._held[deployment_id]

    async def until_decided(
        self, deployment_id: str, look: Callable[[], A], request: Request, deadline: float
    ) -> A | None:
        """Wait until a look finds that waiting is over, and return what it found; None at the deadline.

        Args:
            look: Wakes the deployment if need be and returns how it is. It may block; one at a time is asked for a
                deployment, whoever waits.
            request: Whose caller may go away meanwhile; its body was read.
            deadline: In seconds of `time.monotonic`.

        Raises:
            BadRequest: the caller went away.
            NotFound: the deployment is gone.
        """
        loop = asyncio.get_running_loop()
        room = self._rooms.setdefault((loop, deployment_id), _Room())
        found: asyncio.Future[A] = loop.create_future()
        room.waiting.add(found)
        if room.lookout is None:
            room.lookout = loop.create_task(self._look_out(room, deployment_id, look))
        gone = loop.create_task(_left(request))
        try:
            either: set[asyncio.Future[Any]] = {found, gone}
            patience_s = max(0.0, deadline - time.monotonic())
            await asyncio.wait(either, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if found.done():
                return found.result()
            if gone.done():
                raise BadRequest("The caller went away before its request could be answered.")
            return None
        finally:
            room.waiting.discard(found)
            gone.cancel()

    async def _look_out(self, room: _Room[A], deployment_id: str, look: Callable[[], A]) -> None:
        try:
            while room.waiting:
                await self._look_once(room, look)
                if room.waiting:
                    await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            self._rooms.pop((asyncio.get_running_loop(), deployment_id), None)

    async def _look_once(self, room: _Room[A], look: Callable[[], A]) -> None:
        try:
            seen = await run_in_threadpool(look)
        except NotFound as gone:
            _fail(room, gone)
        except MLOpsError as wrong:
            # The database may be busy for a moment; whoever waits has a deadline.
            _log.warning("cannot look whether a deployment is ready: %s", wrong)
        except Exception as defect:
            _fail(room, defect)
            raise
        else:
            if seen.decided:
                for future in _leaving(room):
                    future.set_result(seen)


def _fail(room: _Room[A], why: Exception) -> None:
    for future in _leaving(room):
        future.set_exception(why)


def _leaving(room: _Room[A]) -> list["asyncio.Future[A]"]:
    """Let everybody out and return whom to tell."""
    told = [future for future in room.waiting if not future.done()]
    room.waiting.clear()
    return told


async def _left(request: Request) -> None:
    """Return once the caller has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
