"""Work that takes long, beside an event loop that must not be held up by it."""

import asyncio
import contextlib
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_SWITCH_S, _USUAL_SWITCH_S = 0.0005, sys.getswitchinterval()


_at_work: set[asyncio.Future[Any]] = set()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


async def quietly(name: str, work: Callable[[], T]) -> T:
    """Run work on a thread of its own, which lets the event loop go first.

    A daemon: a model that never comes to an end of loading must not keep the process from ending. It is not given a lower
    priority: a thread that waits for the processor with the interpreter's lock in its hand holds the loop up.
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
        thread = threading.Thread(target=run, name=name, daemon=True)
        _threads.add(thread)
        thread.start()
        return await future
    finally:
        _at_work.discard(future)
        if not _at_work:
            sys.setswitchinterval(_USUAL_SWITCH_S)


def is_at_work() -> bool:
    """Tell whether work goes on, though nobody may wait for it any more."""
    return any(thread.is_alive() for thread in _threads)
