"""The writer: one thread that writes what many requests bring, as many as wait in one transaction.

A commit waits for the disk. Requests that come meanwhile gather, and the next commit takes them all (group commit), so a busy
platform waits for the disk once per group and not once per request. Each write is a savepoint: one that fails takes no
other with it. Whoever asked for it hears of it after the commit alone.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

import psycopg

from modelops.contracts.errors import RateLimited, StorageFull, Unavailable
from modelops.kernel.database import Database, Raw
from modelops.kernel.failures import DATABASE_ERRORS, translate

T = TypeVar("T")

_WAITING, _WAITING_BYTES = 4_096, 64 * 1024 * 1024
_GROUP, _GROUP_BYTES = 512, 8 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Write:
    run: Callable[[Raw], Any]
    order: str
    size: int
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    failure: BaseException | None = None


class Writer:
    """Writes to a database in groups. Thread-safe; `close` it.

    Its thread begins with the first write.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: SimpleQueue[_Write | None] = SimpleQueue()
        self._count = self._bytes = 0  # of what waits
        self._counting = threading.Lock()
        self._next: _Write | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    async def write(self, run: Callable[[Raw], T], *, order: str = "", size: int = 0) -> T:
        """Run a write and return what it returned, after its commit.

        Args:
            run: Writes with the statements of one `Raw`; it may be run again when the database asks for that.
            order: Writes of a group are run in this order, those of one order as they came. Naming the row that is locked
                keeps two platforms from waiting for each other.
            size: About how many bytes it holds while it waits.

        Raises:
            RateLimited: too much waits already.
            Unavailable: the database does not answer, or the platform ends.
            StorageFull: its disk is full.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._put(_Write(run, order, size, future, loop))
        return await future  # type: ignore[no-any-return]

    def close(self) -> None:
        """Write what waits, then take no more."""
        with self._counting:
            self._closed = True
            self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    def _put(self, write: _Write) -> None:
        with self._counting:
            if self._closed:
                raise Unavailable("The platform is ending.")
            if self._count >= _WAITING or self._bytes + write.size > _WAITING_BYTES:
                raise RateLimited(
                    "More is logged at this moment than the database can take.",
                    hint="Send it again in a moment; batches of many values cost less than many requests.",
                    extra={"retry_after": 1},
                )
            self._count += 1
            self._bytes += write.size
            self._waiting.put(write)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="modelops-writer", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while group := self._gather():
            try:
                self._write(group)
            except (
                BaseException
            ) as wrong:  # whatever it is, those who wait must hear of it, and those after them be served
                log.exception("the writer failed")
                _fail(group, wrong if isinstance(wrong, Exception) else Unavailable("The platform is ending."))
            _tell(group)

    def _gather(self) -> list[_Write]:
        """Return the writes of the next transaction; none when the writer is closed and nothing waits."""
        write = self._next or self._waiting.get()
        group: list[_Write] = []
        size = 0
        while write is not None and len(group) < _GROUP and (not group or size + write.size <= _GROUP_BYTES):
            group.append(write)
            size += write.size
            write = None if self._waiting.empty() else self._waiting.get()
            if write is None and self._closed:
                self._waiting.put(None)  # it is read again when this group is written
                break
        self._next = write
        with self._counting:
            self._count -= len(group)
            self._bytes -= size
        group.sort(key=lambda write: write.order)
        return group

    def _write(self, group: list[_Write]) -> None:
        try:
            with self._database.raw(write=True) as raw:
                for write in group:
                    _attempt(raw, write, alone=len(group) == 1)
        except DATABASE_ERRORS as wrong:
            if len(group) > 1 and _may_pass(wrong):
                for write in group:
                    write.failure = None
                    self._write([write])
                return
            _fail(group, translate(wrong))
        except Exception as wrong:
            _fail(group, wrong)


def _attempt(raw: Raw, write: _Write, *, alone: bool) -> None:
    """Run one write of a group in a savepoint, so that it fails for itself; a failure of the database ends the group."""
    if alone:
        write.result = write.run(raw)
        return
    raw.execute("SAVEPOINT one")
    try:
        write.result = write.run(raw)
    except Exception as wrong:
        known = translate(wrong) if isinstance(wrong, DATABASE_ERRORS) else wrong
        if isinstance(wrong, DATABASE_ERRORS) and (isinstance(known, StorageFull | Unavailable) or _may_pass(wrong)):
            raise
        raw.execute("ROLLBACK TO SAVEPOINT one")
        write.failure = known
    raw.execute("RELEASE SAVEPOINT one")


def _may_pass(wrong: Exception) -> bool:
    """Tell whether PostgreSQL gave this transaction up for another's sake: a deadlock, or a conflict."""
    wrong = getattr(wrong, "orig", None) or wrong
    return isinstance(wrong, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure)


def _fail(group: list[_Write], wrong: Exception) -> None:
    for write in group:
        if write.failure is None:
            write.failure = wrong


def _tell(group: list[_Write]) -> None:
    """Answer everybody of a group, waking each event loop once."""
    loops: dict[asyncio.AbstractEventLoop, list[_Write]] = {}
    for write in group:
        loops.setdefault(write.loop, []).append(write)
    for loop, writes in loops.items():
        try:
            loop.call_soon_threadsafe(_settle_all, writes)
        except RuntimeError:  # the loop has ended, and whoever waited in it with it
            continue


def _settle_all(writes: list[_Write]) -> None:
    for write in writes:
        if not write.future.done():
            _settle(write)


def _settle(write: _Write) -> None:
    if write.failure is None:
        write.future.set_result(write.result)
    else:
        write.future.set_exception(write.failure)
