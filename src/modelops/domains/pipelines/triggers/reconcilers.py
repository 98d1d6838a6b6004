"""Reads the project's stream of events for triggers: each event counts once for each, whatever is killed when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from modelops.contracts.events import Event, matches
from modelops.domains.pipelines.beginnings.beginning import depth_of
from modelops.domains.pipelines.beginnings.owners import as_platform
from modelops.domains.pipelines.triggers.facts import facts_of, fits
from modelops.domains.pipelines.triggers.firing import fire
from modelops.domains.pipelines.triggers.tables import TriggerRow
from modelops.kernel import outbox
from modelops.kernel.context import Context

_EVENTS_A_STEP = 500
_SKIP_FROM = 200
_OWN = ["modelops.pipelines.trigger_*", "modelops.pipelines.schedule_*", "modelops.pipelines.beginning_*"]
"""What tells of triggers themselves triggers nothing."""
_THINGS = ("prn_", "job_", "run_")


@dataclass(frozen=True)
class _Read:
    """Events of a stream: those that count, and the places between which they were found."""

    revision: int
    after: int
    until: int
    events: tuple[Event, ...]


class Listener:
    """Lets each event that fits a trigger begin what the trigger says."""

    name = "pipelines.listener"

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return the triggers that have not seen the newest event."""
        behind = TriggerRow.position < outbox.newest(ctx.session)
        return list(ctx.session.scalars(select(TriggerRow.id).where(~TriggerRow.paused, ~TriggerRow.hook, behind)))

    def load(self, ctx: Context, key: str) -> _Read | None:
        """Return what happened since; nothing where that is little and none of it counts."""
        row = ctx.session.get(TriggerRow, key)
        if row is None or row.paused:
            return None
        seen = outbox.stream(ctx.session, row.project_id, row.position, _EVENTS_A_STEP)
        wanted = tuple(event for event in seen if _counts(row, event))
        if not wanted and len(seen) < _SKIP_FROM:
            return None
        return _Read(row.revision, row.position, seen[-1].sequence or row.position, wanted)

    def act(self, ports: Mapping[type, Any], state: _Read) -> _Read:
        """There is nothing to do in the world."""
        return state

    def apply(self, ctx: Context, key: str, seen: _Read) -> None:
        """Begin what follows, and write how far the stream was read."""
        row = ctx.session.get(TriggerRow, key, with_for_update=True, populate_existing=True)
        if row is None or row.paused or row.revision != seen.revision or row.position != seen.after:
            return
        inside = as_platform(ctx, row.project_id)
        for event in seen.events:
            fire(inside, row, event.id, event.time, facts_of(event), depth=depth_of(inside, _things(event)))
        row.position = seen.until


def _counts(row: TriggerRow, event: Event) -> bool:
    if not matches(row.events or [], event.type) or matches(_OWN, event.type):
        return False
    return fits(row.condition, facts_of(event))


def _things(event: Event) -> list[str]:
    """Return the ids of what an event is about, and of who caused it."""
    named = [value for value in event.data.values() if isinstance(value, str) and value.startswith(_THINGS)]
    return [event.subject, *([event.actor] if event.actor else []), *named]
