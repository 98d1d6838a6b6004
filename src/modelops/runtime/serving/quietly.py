"""Work that takes long, beside an event loop that must not be held up by it."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_SWITCH_S, _USUAL_SWITCH_S = 0.0005, sys.getswitchinterval()
_NICENESS = 10


_at_work: set[asyncio.Future[Any]] = set()


async def quietly(name: str, work: Callable[[], T]) -> T:
    """Run work on a thread of its own, which lets the event loop go first.

    A daemon: a model that never comes to an end of loading must not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def told(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            _step_back()
            result = work()
        except Exception as wrong:
            error = wrong
        except SystemExit as wrong:
            error = RuntimeError(f"it ended with SystemExit: {wrong}")
        with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(told, result, error)

    _at_work.add(future)
    sys.setswitchinterval(_SWITCH_S)
    try:
        threading.Thread(target=run, name=name, daemon=True).start()
        return await future
    finally:
        _at_work.discard(future)
        if not _at_work:
            sys.setswitchinterval(_USUAL_SWITCH_S)


def _step_back() -> None:
    """Have the system prefer other threads to this one, where it can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
