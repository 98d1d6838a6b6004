"""Makes due moments into beginnings: each once, under the reconciler's lease, in the transaction that begins it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from modelops.domains.pipelines.beginnings.beginning import forget_early, record, record_missed, settle_due
from modelops.domains.pipelines.beginnings.targets import read_target, with_parameters
from modelops.domains.pipelines.schedules.plans import Plan, given_parameters, plan_of
from modelops.domains.pipelines.schedules.policies import Chosen, delay
from modelops.domains.pipelines.schedules.service import cause_of
from modelops.domains.pipelines.schedules.tables import ScheduleRow
from modelops.kernel.context import Context


@dataclass(frozen=True)
class _Due:
    """A schedule to be looked at. `set_back`: the clock shows a time before one that was considered."""

    revision: int
    plan: Plan
    cursor: datetime
    now: datetime
    set_back: bool


@dataclass(frozen=True)
class _Seen:
    due: _Due
    chosen: Chosen
    complete: bool
    next_at: datetime | None


class Timekeeper:
    """Looks at each schedule of which a moment has come."""

    name = "pipelines.timekeeper"

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the schedules that are due, and those considered at a time that is still to come."""
        now = ctx.clock.now()
        query = select(ScheduleRow.id).where(or_(ScheduleRow.next_at <= now, ScheduleRow.cursor > now))
        return list(ctx.session.scalars(query.where(~ScheduleRow.paused).order_by(ScheduleRow.next_at)))

    def load(self, ctx: Context, key: str) -> _Due | None:
        """Return what decides."""
        row = ctx.session.get(ScheduleRow, key)
        if row is None or row.paused:
            return None
        now = ctx.clock.now()
        return _Due(row.revision, plan_of(row), min(row.cursor, now), now, row.cursor > now)

    def act(self, ports: Mapping[type, Any], state: _Due) -> _Seen:
        """Decide what becomes of the moments that are due; that may take a while, after a long absence."""
        chosen, complete = state.plan.look(state.cursor, state.now)
        return _Seen(state, chosen, complete, state.plan.next_after(state.now))

    def apply(self, ctx: Context, key: str, seen: _Seen) -> None:
        """Write what became of each moment, and begin what may."""
        row = ctx.session.get(ScheduleRow, key, with_for_update=True, populate_existing=True)
        due = seen.due
        if row is None or row.paused or row.revision != due.revision or min(row.cursor, due.now) != due.cursor:
            return
        if due.set_back:
            forget_early(ctx, row.id, due.now)
        cause, target = cause_of(row), read_target(row.target)
        if seen.chosen.missed:
            count, last = len(seen.chosen.missed), seen.chosen.missed[-1]
            why = (
                f"{count}{'' if seen.complete else ' or more'} moments passed while nobody was there to begin anything."
            )
            record_missed(ctx, cause, f"missed {last.isoformat()}", seen.chosen.missed, target, why)
        for moment in seen.chosen.begin:
            given = with_parameters(target, given_parameters(row, moment))
            begins_at = moment + delay(row.id, moment, row.jitter_s)
            record(ctx, cause, moment.isoformat(), moment, given, begins_at=begins_at)
        row.cursor, row.next_at = due.now, seen.next_at
        settle_due(ctx, row.id)
