"""When something is due: `30 2 * * *`, `@daily`, `every 15m` or `at 2026-01-31T12:00`, in a time zone.

How readings of the wall clock become moments, where the clocks are changed (RFC 5545, section 3.3.5, has the same rules):

- A reading that does not exist, as the clock is put forward over it, counts with the offset that held before: what is due at
  02:30 is due at 03:30 that day. Where that moment is due anyway, it is due once.
- A reading that comes twice, as the clock is put back, counts the first time. Only an expression that names all hours,
  such as `*/15 * * * *`, counts both times: it speaks of the time that passes.
"""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.schedules.cron import LAST_YEAR, Cron, read_cron

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_EVERY = re.compile(r"every\s+((?:\d{1,6}\s*[smhdw]\s*)+)", re.IGNORECASE)
_AT = re.compile(r"at\s+(\S.*)", re.IGNORECASE)
_LONGEST_S = 366 * 86_400
_AROUND = timedelta(hours=26)
"""Wider than any change of a clock: one skipped a whole day."""


class NoTime(InvalidInput):
    """The text says no time, or the zone is none."""

    code, title = "pipelines.no_time", "That says no time"


@dataclass(frozen=True)
class Every:
    """At an anchor, and each time so much time has passed since."""

    seconds: int


@dataclass(frozen=True)
class Once:
    """At one moment, or one reading of the wall clock (naive)."""

    at: datetime


When = Cron | Every | Once


@dataclass(frozen=True)
class Times:
    """When something is due, in which zone, and since when an interval is counted (aware)."""

    when: When
    zone: ZoneInfo
    anchor: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the moments, in UTC and in order, that are due after one."""
        if isinstance(self.when, Every):
            yield from _each(self.when.seconds, self.anchor, moment)
        elif isinstance(self.when, Once):
            at = self.when.at if self.when.at.tzinfo else self.when.at.replace(tzinfo=self.zone)
            if at > moment:
                yield at.astimezone(UTC)
        else:
            yield from _by_the_wall(self.when, self.zone, moment)

    def newest(self, after: datetime, until: datetime, most: int) -> tuple[list[datetime], bool]:
        """Return the last moments due after one and not after another, and whether these are all of them.

        A long absence costs no more than `most` moments do.
        """
        span = timedelta(hours=1)
        while True:
            start = max(after, until - span)
            found = []
            for moment in self.after(start):
                if moment > until:
                    break
                found.append(moment)
            if len(found) > most or start == after:
                return found[-most:], start == after and len(found) <= most
            span *= 4


@lru_cache(maxsize=1024)
def read_when(text: str) -> When:
    """Read when something is due.

    Raises:
        NoTime, NoCron: the text is of no such form.
    """
    text = text.strip()
    if text.lower().startswith("every"):
        return _read_interval(text)
    if text.lower().startswith("at"):
        return _read_moment(text)
    return read_cron(text)


@lru_cache(maxsize=1024)
def read_zone(name: str) -> ZoneInfo:
    """Return a zone of the IANA database.

    Raises:
        NoTime: it has none of that name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise NoTime(
            f"There is no time zone '{name[:100]}'.", hint="Such as UTC, Europe/Berlin or America/New_York."
        ) from None


def _read_interval(text: str) -> Every:
    match = _EVERY.fullmatch(text)
    parts = re.findall(r"(\d+)\s*([smhdw])", match.group(1).lower()) if match else []
    seconds = sum(int(number) * _UNITS[unit] for number, unit in parts)
    if not 1 <= seconds <= _LONGEST_S:
        raise NoTime(
            f"'{text[:100]}' is no interval from a second to a year.", hint="Write `every 15m`, or `every 1h 30m`."
        )
    return Every(seconds)


def _read_moment(text: str) -> Once:
    match = _AT.fullmatch(text)
    try:
        at = datetime.fromisoformat(match.group(1) if match else "")
    except ValueError:
        at = None
    if at is None or not 1970 <= at.year <= LAST_YEAR:
        raise NoTime(
            f"'{text[:100]}' says no moment.", hint="Write `at 2026-01-31T12:00`; an offset such as Z may follow."
        )
    return Once(at)


def _each(seconds: int, anchor: datetime, moment: datetime) -> Iterator[datetime]:
    step = timedelta(seconds=seconds)
    due = anchor if anchor > moment else anchor + ((moment - anchor) // step + 1) * step
    while due.year <= LAST_YEAR:
        yield due.astimezone(UTC)
        due += step


def _by_the_wall(cron: Cron, zone: ZoneInfo, moment: datetime) -> Iterator[datetime]:
    """Yield moments in order. They are not in the order of their readings, so later readings are looked at first."""
    waiting: list[datetime] = []
    last = moment
    for reading in cron.readings(_first_reading(zone, moment)):
        one, other = _moments(reading, zone)
        while waiting and waiting[0] < min(one, other):
            due = heapq.heappop(waiting)
            if due > last:
                yield due
                last = due
        heapq.heappush(waiting, one)
        if other > one and cron.every_hour:
            heapq.heappush(waiting, other)


def _first_reading(zone: ZoneInfo, moment: datetime) -> datetime:
    """Return a reading before which none belongs to a later moment."""
    here = moment.astimezone(zone)
    around = {(moment + shift).astimezone(zone).utcoffset() for shift in (-_AROUND, _AROUND)}
    start = here if around == {here.utcoffset()} else here - _AROUND
    return start.replace(tzinfo=None, fold=0)


def _moments(reading: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return when a reading counts, and the other moment it may mean: a later one where it comes twice, an earlier one
    where it does not exist (no reading behind it comes before that)."""
    first = reading.replace(tzinfo=zone).astimezone(UTC)
    return first, reading.replace(tzinfo=zone, fold=1).astimezone(UTC)
