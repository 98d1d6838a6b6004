"""A schedule as plain values: when it is due, and what becomes of the moments that are."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile

from modelops.contracts.schemas import Json
from modelops.domains.pipelines.schedules.policies import Chosen, choose
from modelops.domains.pipelines.schedules.schemas import CatchUp
from modelops.domains.pipelines.schedules.tables import ScheduleRow
from modelops.domains.pipelines.schedules.when import Times, read_when, read_zone

MOST_AT_ONCE = 1_000
"""So many due moments are looked at, at once, the newest first; those before them were missed."""

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Plan:
    """When a schedule is due: from `starts_at` on (that included) up to and with `ends_at`."""

    times: Times
    starts_at: datetime | None
    ends_at: datetime | None
    catch_up: CatchUp
    catch_up_most: int
    grace_s: float

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the moments that are due after one."""
        if self.starts_at is not None:
            moment = max(moment, self.starts_at - _INSTANT)
        due = self.times.after(moment)
        ends_at = self.ends_at
        return due if ends_at is None else takewhile(lambda one: one <= ends_at, due)

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the next moment that is due, if one is to come."""
        return next(self.after(moment), None)

    def upcoming(self, moment: datetime, count: int) -> list[datetime]:
        """Return the next moments that are due."""
        return list(islice(self.after(moment), count))

    def look(self, cursor: datetime, now: datetime) -> tuple[Chosen, bool]:
        """Return what becomes of what is due after the cursor, and whether all of it was looked at."""
        until = now if self.ends_at is None else min(now, self.ends_at)
        after = cursor if self.starts_at is None else max(cursor, self.starts_at - _INSTANT)
        due, complete = self.times.newest(after, until, MOST_AT_ONCE) if after < until else ([], True)
        return choose(due, now, self.catch_up, grace_s=self.grace_s, most=self.catch_up_most), complete


def plan_of(row: ScheduleRow) -> Plan:
    """Return when a schedule is due."""
    return Plan(
        Times(read_when(row.when), read_zone(row.zone), row.anchor),
        row.starts_at,
        row.ends_at,
        CatchUp(row.catch_up),
        row.catch_up_most,
        row.grace_s,
    )


def given_parameters(row: ScheduleRow, moment: datetime) -> dict[str, Json]:
    """Return the parameter that a schedule gives for a moment: the moment, as the zone's clock shows it."""
    if row.moment_parameter is None:
        return {}
    return {row.moment_parameter: moment.astimezone(read_zone(row.zone)).isoformat()}
