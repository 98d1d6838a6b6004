"""One story as it is told: its steps in their order, those that were kept first."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from modelops.adapters.dbos import values
from modelops.adapters.dbos.store import Claimed, Kept, Lost, Memory, Store
from modelops.contracts.errors import StorageFull, Unavailable
from modelops.contracts.schemas import Json
from modelops.kernel.workflows import StepFailed, Workflow

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0


class Left(BaseException):
    """This telling is over, though the story may go on elsewhere. Not an `Exception`: workflows must not go on after it."""


class Teller(Protocol):
    """What tells stories."""

    store: Store

    async def blocking(self, do: Callable[[], _T]) -> _T:
        """Run what blocks, off the loop."""
        ...

    async def allowed(self) -> None:
        """Return once this process is sure that its stories are its own."""
        ...


class Telling:
    """A story under way in this process; the `Story` of its workflow. Lives on the teller's loop."""

    def __init__(self, teller: Teller, claimed: Claimed, workflow: Workflow, memory: Memory | None) -> None:
        self._teller = teller
        self._workflow = workflow
        self._claimed = claimed
        self._memory = memory
        self._kept: dict[int, Kept] = {}
        self._number = 0
        self._left = False
        self._acting = 0

    @property
    def id(self) -> str:
        """Return the story's id."""
        return self._claimed.story

    @property
    def owner(self) -> str:
        """Return the token of this telling."""
        return self._claimed.owner

    def leave(self) -> bool:
        """Begin no further step. Returns whether nothing is done just now, so that the telling can be ended at once."""
        self._left = True
        return not self._acting

    async def tell(self) -> None:
        """Tell the story to its end, and keep how it ended."""
        memory, self._memory = self._memory, None
        if memory is None:
            memory = await _persist(self._teller, lambda: self._teller.store.recall(self.id))
        self._kept = dict(memory.kept)
        try:
            returned = await self._workflow(self, memory.argument)
            end = {"output": values.encode(returned, f"What story '{self.id}' returned")}
        except BaseException as wrong:
            if self._left:
                return
            if _ended_from_outside(wrong):
                raise
            log.warning(
                "a workflow failed", extra={"story": self.id, "workflow": self._claimed.workflow}, exc_info=wrong
            )
            end = {"failure": values.encode_failure(wrong)}
        if not self._left:
            await _persist(self._teller, lambda: self._teller.store.end(self.id, self.owner, **end))

    async def step(self, name: str, act: Callable[[], Awaitable[Json]]) -> Json:
        """Run `act` and keep its result, or return what was kept of it."""
        number = self._next()
        kept = self._recall(number, name)
        if kept is not None:
            return kept.value()
        began = _now_ms()
        self._acting += 1
        try:
            fresh = await self._act(name, act)
            await self._keep(number, fresh, began)
        finally:
            self._acting -= 1
        return fresh.value()

    async def pause(self, seconds: float) -> None:
        """Wait until so much time has passed since this was reached first."""
        number = self._next()
        kept = self._recall(number, "pause")
        if kept is None:
            await self._allowed()
            kept = Kept("pause", values.encode(time.time() + seconds, "A pause"), None)
            await self._keep(number, kept, _now_ms())
        until: Any = kept.value()
        # By the wall clock, which other processes have too, but never longer than was asked for.
        await asyncio.sleep(min(seconds, max(0.0, until - time.time())))
        if not self._kept:  # else it was passed before
            await _persist(self._teller, self._check)
        if self._left:
            raise Left

    def _check(self) -> None:
        if not self._teller.store.owns(self.id, self.owner):
            self._left = True

    async def _act(self, name: str, act: Callable[[], Awaitable[Json]]) -> Kept:
        wait = _FIRST_WAIT_S
        while True:
            await self._allowed()
            try:
                result = await act()
                return Kept(name, values.encode(result, f"What step '{name}' returned"), None)
            except Unavailable as wrong:
                log.info("a step waits for the world", extra={"story": self.id, "step": name, "why": wrong.detail})
                await asyncio.sleep(max(wait, wrong.retry_after_s))
                wait = min(2 * wait, _LONGEST_WAIT_S)
            except BaseException as wrong:
                if _ended_from_outside(wrong):
                    raise
                return Kept(name, None, values.encode_failure(wrong))

    async def _allowed(self) -> None:
        if self._left:
            raise Left
        await self._teller.allowed()
        if self._left:
            raise Left

    async def _keep(self, number: int, kept: Kept, began: int) -> None:
        ended = _now_ms()
        try:
            await _persist(
                self._teller,
                lambda: self._teller.store.keep(self.id, self.owner, number, kept, began, ended),
            )
        except Lost:
            self._left = True
            raise Left from None

    def _next(self) -> int:
        if self._left:
            raise Left
        self._number += 1
        return self._number

    def _recall(self, number: int, name: str) -> Kept | None:
        kept = self._kept.pop(number, None)
        if kept is not None and kept.name != name:
            raise StepFailed(
                f"The story '{self.id}' came to step '{name}' where it had come to '{kept.name}' before.",
                hint="A workflow must do the same each time that it is told: what depends on the world belongs in a step.",
                kind="Strayed",
            )
        return kept


def _ended_from_outside(wrong: BaseException) -> bool:
    """Tell whether it is the telling that ends: the process does, or the story was lost. It goes on elsewhere."""
    task = asyncio.current_task()
    canceled = isinstance(wrong, asyncio.CancelledError) and task is not None and task.cancelling() > 0
    return canceled or isinstance(wrong, Left)


async def _persist(teller: Teller, do: Callable[[], _T]) -> _T:
    """Do what must be done with the database, however long it is away."""
    wait = _FIRST_WAIT_S
    while True:
        try:
            return await teller.blocking(do)
        except (Unavailable, StorageFull) as wrong:
            log.debug("a story waits for the database: %s", wrong.detail)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)


def _now_ms() -> int:
    return int(time.time() * 1000)
