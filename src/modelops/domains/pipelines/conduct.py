"""The workflow of a run: turn by turn, what ended decides what may begin.

It is told anew after a crash: the kept results of its turns bring the planner to where it was, and the turn that was cut short
is done again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from modelops.contracts.errors import MLOpsError, StorageFull, Unavailable
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.beginning import digests_to_read
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.planning import Outcome, Planner, Turn
from modelops.domains.pipelines.rows import document_of
from modelops.domains.pipelines.schemas import RunState, StepState
from modelops.domains.pipelines.tables import PipelineRunRow
from modelops.domains.pipelines.turns import (
    Look,
    Orders,
    Told,
    end_overdue,
    end_run,
    lay_out,
    look,
    spoil,
    write_orders,
)
from modelops.domains.pipelines.values import read_json
from modelops.domains.pipelines.waking import Bell, Wakes, ends_of
from modelops.kernel.context import Context
from modelops.kernel.work import Workplace
from modelops.kernel.workflows import Story, Workflow

NAME = "pipelines.run"
"""The workflow's name. It never means anything else."""

T = TypeVar("T")

_LOOK_EVERY_S = 1.0
_LONGEST_PAUSE_S = 10.0
_INLINE_BYTES = 4_096
"""A value that decides what comes next is kept with its turn up to this size; of a larger one, where it lies."""

log = logging.getLogger(__name__)


def conductor(place: Workplace) -> Workflow:
    """Return the workflow that conducts runs. Its argument is `{"run": id}`."""

    async def conduct(story: Story, argument: Json) -> Json:
        run_id = str(argument["run"]) if isinstance(argument, dict) else ""
        return await _Conducting(place, story, run_id).conduct()

    return conduct


class _Conducting:
    """One telling of a run's story. All that it knows comes from the kept results of the story's steps."""

    def __init__(self, place: Workplace, story: Story, run_id: str) -> None:
        self._place = place
        self._story = story
        self._run_id = run_id
        self._open_fan_outs: set[str] = set()

    async def conduct(self) -> Json:
        begun: Any = await self._story.step("begin", self._begin)
        if begun is None:
            return None
        document, parameters = await self._persist(self._read)
        planner = Planner(document, parameters)
        orders = self._orders(planner, planner.begin(), [])
        stopped = False
        while planner.ended is None:
            news: Any = await self._story.step("turn", partial(self._turn, orders, planner, stopped))
            if news is None:  # the run is gone, or was ended by another hand
                return None
            outcomes = [
                Outcome(key, StepState(state), await self._values(found)) for key, state, found in news["ended"]
            ]
            before = Turn()
            if news["stop"]:  # first, or what needs a cancelled step would be skipped for its sake
                stopped, before = True, planner.stop()
            following = planner.settle(outcomes)
            following.settled[:0] = before.settled
            orders = self._orders(planner, following, [outcome.key for outcome in outcomes])
        ended = planner.ended
        await self._story.step("end", partial(self._end, orders, ended))
        return ended

    def _orders(self, planner: Planner, turn: Turn, known: list[str]) -> Orders:
        """Return what a turn is to write, with the fan-outs that ended by it."""
        self._open_fan_outs |= {name for name, count in turn.members.items() if count}
        closed = [(name, planner.state(name)) for name in self._open_fan_outs if planner.state(name).final]
        self._open_fan_outs -= {name for name, _ in closed}
        return Orders(known, turn.ready, turn.settled, turn.members, closed)

    async def _begin(self) -> Json:
        def begin(ctx: Context) -> bool:
            return lay_out(ctx, self._run_id) is not None

        return {} if await self._persist(partial(self._work, begin)) else None

    def _read(self) -> tuple[PipelineDocument, Mapping[str, Json]]:
        with self._place.work(write=False) as ctx:
            run = ctx.session.get_one(PipelineRunRow, self._run_id)
            return document_of(ctx, run.version_id), run.parameters

    async def _turn(self, orders: Orders, planner: Planner, stopped: bool) -> Json:
        """Write what was decided, and wait until something ended or the run is to stop. Nothing begins while it is paused."""
        with self._place.ports[Wakes].bell(ends_of(self._run_id)) as bell:
            while True:
                seen = await self._look()
                if seen is None:
                    return None
                if seen.state is not RunState.PAUSED:
                    break
                await bell.wait(_LOOK_EVERY_S)
            await self._write(orders)
            seen = await self._until_news(bell, stopped)
        if seen is None:
            return None
        ended: list[Json] = [await self._news_of(told, planner.wanted(told.step)) for told in seen.ended]
        return {"ended": ended, "stop": seen.state is RunState.CANCELING and not stopped}

    async def _until_news(self, bell: Bell, stopped: bool) -> Look | None:
        while True:
            seen = await self._look()
            if seen is None or seen.ended or (seen.state is RunState.CANCELING and not stopped):
                return seen
            await bell.wait(_LOOK_EVERY_S)

    async def _look(self) -> Look | None:
        def once() -> Look | None:
            with self._place.work(write=False) as ctx:
                return look(ctx, self._run_id)

        seen = await self._persist(once)
        if seen is not None and seen.overdue:
            await self._persist(partial(self._work, partial(end_overdue, run_id=self._run_id)))
            return await self._look()
        return seen

    async def _write(self, orders: Orders) -> None:
        def write() -> None:
            lists = self._lists(orders)
            with self._place.work() as ctx:
                write_orders(ctx, self._run_id, orders, lists)

        await self._persist(write)
        if len(orders.ready) > 1:
            self._place.wake()  # more workers may be wanted

    def _lists(self, orders: Orders) -> dict[str, Json]:
        """Read, before the unit of work, what beginning the steps needs; what cannot be read is left out."""
        if not orders.ready:
            return {}
        with self._place.work(write=False) as ctx:
            run = ctx.session.get(PipelineRunRow, self._run_id)
            if run is None:
                return {}
            digests = digests_to_read(ctx, run, document_of(ctx, run.version_id), orders.ready)
        found = {}
        for digest in digests:
            try:
                found[digest] = read_json(self._place.ports[BlobStore], digest)
            except Unavailable:
                raise
            except MLOpsError as wrong:
                log.warning("a step's input cannot be read: %s", wrong)
        return found

    async def _news_of(self, told: Told, wanted: frozenset[str]) -> Json:
        """Return how a step ended, with those outputs that decide what comes next: in place, or where they lie."""
        found: dict[str, Json] = {}
        succeeded = told.state in (StepState.SUCCEEDED, StepState.CACHED)
        for name in sorted(wanted) if succeeded else ():
            ref = told.outputs.get(name)
            if ref is None or ref["digest"] is None:
                found[name] = {"value": ref["model_version_id"] if ref else None}
                continue
            try:
                value = await self._persist(partial(read_json, self._place.ports[BlobStore], ref["digest"]))
            except MLOpsError as wrong:
                await self._persist(partial(self._work, partial(spoil, run_id=self._run_id, key=told.key, why=wrong)))
                return [told.key, StepState.FAILED, {}]
            found[name] = {"value": value} if ref["size"] <= _INLINE_BYTES else {"digest": ref["digest"]}
        return [told.key, told.state, found]

    async def _values(self, found: Mapping[str, Any]) -> dict[str, Json]:
        """Return the values of a turn's news. Content that is named by its digest is the same whenever it is read."""
        store = self._place.ports[BlobStore]
        return {
            name: await self._persist(partial(read_json, store, where["digest"]))
            if "digest" in where
            else where["value"]
            for name, where in found.items()
        }

    async def _end(self, orders: Orders, state: RunState) -> Json:
        await self._write(orders)

        def end(ctx: Context) -> None:
            end_run(ctx, self._run_id, state)

        await self._persist(partial(self._work, end))
        return None

    def _work(self, act: Callable[[Context], T]) -> T:
        with self._place.work() as ctx:
            return act(ctx)

    async def _persist(self, act: Callable[[], T]) -> T:
        """Do something in a thread, as often as it takes: a database that is away for a while ends no run."""
        pause = 0.1
        while True:
            try:
                return await asyncio.to_thread(act)
            except (Unavailable, StorageFull) as away:
                log.warning("the run '%s' waits: %s", self._run_id, away)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
