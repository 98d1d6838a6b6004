"""An executor: a loop on which this process's stories are told, and a thread that keeps them its own."""

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

from modelops.adapters.dbos.store import Claimed, Memory, Store
from modelops.adapters.dbos.telling import Telling
from modelops.adapters.dbos.tenure import Tenure
from modelops.contracts.clock import Clock
from modelops.contracts.errors import Unavailable
from modelops.kernel.workflows import Workflow

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_LOOK_S = 1.0
_FORGET_EVERY_S = 3600.0
_ENDING_S = 10.0
"""How long steps may take to end when the executor is closed."""
_THREADS = 16
"""For what steps do off the loop."""
_UNSURE_S = 0.1
_REGAIN_S = 5.0


class Executor:
    """Tells stories until it is closed. Made with the lease held; thread-safe."""

    def __init__(
        self, store: Store, tenure: Tenure, clock: Clock, workflows: Mapping[str, Workflow], keep_s: float, threads: int
    ) -> None:
        self.store = store
        self._tenure = tenure
        self._clock = clock
        self._workflows = workflows
        self._keep_s = keep_s
        self._forget_at = 0.0
        self._untold: set[tuple[str, str]] = set()
        self._tellings: dict[str, tuple[Telling, asyncio.Task[None]]] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._blocking = ThreadPoolExecutor(threads, "workflows-database")
        self._acting = ThreadPoolExecutor(_THREADS, "workflows-steps")
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(self._acting)
        self._threads = [
            threading.Thread(target=self._run_loop, name="workflows-loop", daemon=True),
            threading.Thread(target=self._watch, name="workflows-watch", daemon=True),
        ]

    def open(self) -> None:
        """Begin, with what others that ended had under way."""
        for thread in self._threads:
            thread.start()

    def begin(self, claimed: Claimed, memory: Memory) -> None:
        """Begin to tell a story that was written down as this executor's just now."""
        self._soon(self._tell, claimed, memory)

    def leave(self, story: str) -> None:
        """Look at once at a story that was canceled."""
        self._soon(self._leave, story)

    def sure(self) -> bool:
        """Tell whether this executor holds its lease; one that may have it again is waited for."""
        deadline = time.monotonic() + _REGAIN_S
        while not self._tenure.sure() and time.monotonic() < deadline and not self._stop.is_set():
            self._wake.set()
            time.sleep(0.02)
        return self._tenure.sure()

    def close(self) -> None:
        """Stop, and hand what is under way to whoever comes next."""
        self._stop.set()
        self._wake.set()
        self._threads[1].join()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._threads[0].join()
        self._blocking.shutdown(cancel_futures=True)
        self._acting.shutdown(wait=False, cancel_futures=True)
        try:
            if self._tenure.sure():
                self.store.release(self.store.executor)
            self._tenure.give_back()
        except Exception as wrong:  # the lease runs out by itself
            log.warning("workflows were closed while the database was away: %s", wrong)

    async def blocking(self, do: Callable[[], _T]) -> _T:
        """Run what blocks, off the loop."""
        return await self._loop.run_in_executor(self._blocking, do)

    async def allowed(self) -> None:
        """Return once this process is sure that its stories are its own."""
        while not self._tenure.sure():
            await asyncio.sleep(_UNSURE_S)

    def _soon(self, do: Callable[..., object], *given: object) -> None:
        with contextlib.suppress(RuntimeError):  # it was closed just now: whoever executes next finds the story
            self._loop.call_soon_threadsafe(do, *given)

    # On the loop

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _tell(self, claimed: Claimed, memory: Memory | None = None) -> None:
        before = self._leave(claimed.story, at_once=True)
        telling = Telling(self, claimed, self._workflows[claimed.workflow], memory)
        task = self._loop.create_task(self._after(before, telling), name=claimed.story)
        self._tellings[claimed.story] = telling, task
        task.add_done_callback(lambda _: self._forget(telling))

    async def _after(self, before: "asyncio.Task[None] | None", telling: Telling) -> None:
        if before is not None:
            await asyncio.wait([before], timeout=_ENDING_S)
        await telling.tell()

    def _forget(self, telling: Telling) -> None:
        held = self._tellings.get(telling.id)
        if held is not None and held[0] is telling:
            del self._tellings[telling.id]
            if not held[1].cancelled() and (wrong := held[1].exception()) is not None:
                log.error("a story could not be told", extra={"story": telling.id}, exc_info=wrong)

    def _leave(self, story: str, owner: str | None = None, *, at_once: bool = False) -> "asyncio.Task[None] | None":
        if story not in self._tellings:
            return None
        telling, task = self._tellings[story]
        if owner not in (None, telling.owner):
            return None
        if telling.leave() or at_once:
            task.cancel()
        return task

    async def _end(self) -> None:
        tasks = [task for _, task in self._tellings.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING_S)

    # On the watching thread

    def _watch(self) -> None:
        away = False
        while not self._stop.is_set():
            try:
                self._look()
                away = False
            except Unavailable as wrong:
                if not away:
                    log.warning("workflows wait for the database: %s", wrong.detail)
                away = True
            except Exception:
                log.exception("looking after workflows failed")
            self._wake.wait(min(_LOOK_S, self._tenure.ttl_s / 5))
            self._wake.clear()

    def _look(self) -> None:
        if self._tenure.due and not self._tenure.renew():
            self._lapse()
        if not self._tenure.sure():
            return
        self._compare()
        for executor in self.store.executors() - {self.store.executor}:
            self._take_over(executor)
        while claimed := self.store.claim(self._workflows):
            for one in claimed:
                self._soon(self._tell, one)
        if self._clock.monotonic() >= self._forget_at:
            before = (self._clock.now() - timedelta(seconds=self._keep_s)).timestamp()
            if not self.store.forget(int(before * 1000)):
                self._forget_at = self._clock.monotonic() + _FORGET_EVERY_S

    def _compare(self) -> None:
        """Leave the stories that are others' now, and let claim what is this executor's but told nowhere.

        The latter are few: those whose first word to the database was heard, but not its answer.
        """
        told = {story: telling.owner for story, (telling, _) in self._tellings.copy().items()}
        mine = self.store.mine()  # after what is told was looked at: a story is written down before it is told
        for story, owner in told.items():
            if mine.get(story) != owner:
                self._soon(self._leave, story, owner)
        untold = {(story, owner) for story, owner in mine.items() if told.get(story) != owner}
        for story, _ in untold & self._untold:
            self.store.release(self.store.executor, story)
        self._untold = untold

    def _lapse(self) -> None:
        """Give up what is told here: others may have taken it. What they did not take is told again from its kept steps."""
        log.warning("the lease of this executor ran out: its workflows are told again by whoever claims them")
        for story in self._tellings.copy():
            self._soon(functools.partial(self._leave, story, at_once=True))
        if self._tenure.sure():
            self.store.release(self.store.executor)

    def _take_over(self, executor: str) -> None:
        try:
            lease = self._tenure.take(executor)
        except Unavailable:  # whoever holds its row was frozen
            return
        if lease is None:
            return
        released = self.store.release(executor)
        self._tenure.give_back(lease)
        log.info(
            "workflows of an executor that ended were taken over", extra={"executor": executor, "stories": released}
        )
