"""Cron expressions: five fields, and the readings of a clock on the wall that they name.

The fields and their meaning are those of POSIX `crontab`, with steps, names of months and weekdays, 7 for Sunday, `L` for
the last day of a month, and names such as `@daily`. A reading is a naive datetime: which moment it is, is a zone's business.
"""

from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from modelops.contracts.errors import InvalidInput

LAST_YEAR = 2199
"""No schedule reaches beyond it."""

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_WEEKDAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_LAST = "l"


class NoCron(InvalidInput):
    """The expression cannot be read; the detail names the field."""

    code, title = "pipelines.no_cron", "That is no cron expression"


@dataclass(frozen=True)
class Cron:
    """An expression that was read: what it names, in ascending order. `last_day` is the `L` among the days.

    `either`: days and weekdays are both narrowed, so that a day is named by one of them, as POSIX has it.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: tuple[int, ...]
    weekdays: frozenset[int]
    last_day: bool
    either: bool

    @property
    def every_hour(self) -> bool:
        """Tell whether it names all hours of a day."""
        return len(self.hours) == 24

    def readings(self, start: datetime) -> Iterator[datetime]:
        """Yield the readings at or after a naive one, in order, up to the end of `LAST_YEAR`."""
        for day in self._days(start.date()):
            for hour in self.hours:
                for minute in self.minutes:
                    reading = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 - a reading has no zone
                    if reading >= start:
                        yield reading

    def _days(self, start: date) -> Iterator[date]:
        for year in range(start.year, LAST_YEAR + 1):
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                length = monthrange(year, month)[1]
                first = start.day if (year, month) == (start.year, start.month) else 1
                for number in range(first, length + 1):
                    day = date(year, month, number)
                    if self._names(day, length):
                        yield day

    def _names(self, day: date, length: int) -> bool:
        by_day = day.day in self.days or (self.last_day and day.day == length)
        by_weekday = day.isoweekday() % 7 in self.weekdays
        return (by_day or by_weekday) if self.either else (by_day and by_weekday)


def read_cron(text: str) -> Cron:
    """Read an expression.

    Raises:
        NoCron: it has not five fields, a field is not of the grammar, or no day is ever named.
    """
    whole = _NAMED.get(text.strip().lower(), text).lower().split()
    if len(whole) != 5:
        names = ", ".join(_NAMED)
        raise NoCron(
            f"'{text[:100]}' has {len(whole)} fields, not five.",
            hint=f"Write minute, hour, day, month and weekday, such as `30 2 * * 1-5`; or one of {names}.",
        )
    minutes = _field(whole[0], "minute", 0, 59)
    hours = _field(whole[1], "hour", 0, 23)
    parts = whole[2].split(",")
    numbered = [part for part in parts if part != _LAST]
    days = _field(",".join(numbered), "day", 1, 31) if numbered else ()
    months = _field(whole[3], "month", 1, 12, _MONTHS)
    weekdays = frozenset(day % 7 for day in _field(whole[4], "weekday", 0, 7, _WEEKDAYS))
    narrowed = whole[2] != "*", whole[4] != "*"
    found = Cron(minutes, hours, frozenset(days), months, weekdays, _LAST in parts, all(narrowed))
    if next(found._days(date(2000, 1, 1)), None) is None:
        raise NoCron(f"'{text[:100]}' names no day that any month has.", hint="Look at its days and months.")
    return found


def _field(text: str, what: str, least: int, most: int, names: Mapping[str, int] | None = None) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and not (step.isascii() and step.isdigit() and 0 < int(step) <= most):
            raise NoCron(f"The {what} '{part[:50]}' has no step from 1 to {most} behind the slash.")
        first, dash, last = span.partition("-")
        low = least if span == "*" else _number(first, part, what, least, most, names)
        high = most if span == "*" or (slash and not dash) else low
        if dash:
            high = _number(last, part, what, least, most, names)
        if high < low:
            raise NoCron(f"The {what} '{part[:50]}' ends before it begins.", hint="Write two ranges, with a comma.")
        found.update(range(low, high + 1, int(step) if slash else 1))
    return tuple(sorted(found))


def _number(text: str, part: str, what: str, least: int, most: int, names: Mapping[str, int] | None) -> int:
    if names and text in names:
        return names[text]
    if not (text.isascii() and text.isdigit() and len(text) < 4 and least <= int(text) <= most):
        also = f", or {', '.join(names)}" if names else ""
        raise NoCron(f"The {what} '{part[:50]}' is not within {least} to {most}.", hint=f"Such as {least}{also}, or *.")
    return int(text)
