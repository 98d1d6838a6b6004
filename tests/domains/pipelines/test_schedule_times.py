"""When schedules are due: read against croniter and against a brute force over every minute of a zone."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelops.domains.pipelines.schedules.cron import NoCron, read_cron
from modelops.domains.pipelines.schedules.policies import choose, delay
from modelops.domains.pipelines.schedules.schemas import CatchUp
from modelops.domains.pipelines.schedules.when import Every, NoTime, Times, read_when, read_zone

MINUTE = timedelta(minutes=1)
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia",
    "Asia/Kathmandu", "Africa/Casablanca", "Europe/Dublin", "America/St_Johns",
]  # fmt: skip


def times(text, zone="UTC", anchor=datetime(2024, 1, 1, tzinfo=UTC)):
    return Times(read_when(text), read_zone(zone), anchor)


def locally(text, zone, after, count):
    found = islice(times(text, zone).after(after), count)
    return [moment.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M %z") for moment in found]


def numbers(least, most):
    one = st.integers(least, most).map(str)
    ends = st.tuples(st.integers(least, most), st.integers(least, most)).filter(lambda p: p[0] != p[1])
    span = ends.map(lambda p: f"{min(p)}-{max(p)}")  # of one number alone, croniter has a reading of its own
    step = st.tuples(span | st.just("*"), st.integers(1, max(1, most // 2))).map(lambda p: f"{p[0]}/{p[1]}")
    return st.just("*") | st.lists(one | span | step, min_size=1, max_size=3).map(",".join)


crons = st.tuples(numbers(0, 59), numbers(0, 23), numbers(1, 28), numbers(1, 12), numbers(0, 6)).map(" ".join)
starts = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1))


@settings(max_examples=150, deadline=None)
@given(crons, starts)
def test_readings_are_those_that_croniter_finds(text, start):
    start = start.replace(second=0, microsecond=0)
    # Of a week that is written out, croniter sometimes says that it narrows nothing; POSIX says so of an asterisk alone.
    assume(text.endswith("*") or len(read_cron(text).weekdays) < 7)
    found = list(islice(read_cron(text).readings(start + MINUTE), 20))
    other = croniter(text, start)
    assert found == [other.get_next(datetime) for _ in range(20)]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("@daily", "0 0 * * *"), ("@hourly", "0 * * * *"), ("0 0 * JAN-mar Mon", "0 0 * 1-3 1"),
        ("0 0 * * 7", "0 0 * * 0"), ("0 0 * * 5-7", "0 0 * * 5,6,0"), ("5/20 * * * *", "5,25,45 * * * *"),
        ("@Yearly", "0 0 1 1 *"), ("  0   0 * *  *", "@midnight"),
    ],
)  # fmt: skip
def test_names_and_steps_say_the_same_as_numbers(text, same):
    assert read_cron(text) == read_cron(same)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 fields"), ("* * * *", "4 fields"), ("* * * * * *", "6 fields"), ("60 * * * *", "minute '60'"),
        ("* 24 * * *", "hour '24'"), ("* * 0 * *", "day '0'"), ("* * * 13 *", "month '13'"), ("* * * * 8", "weekday '8'"),
        ("*/0 * * * *", "step"), ("*/x * * * *", "step"), ("5-1 * * * *", "ends before"), ("1,,2 * * * *", "minute ''"),
        ("* * * jam *", "month 'jam'"), ("-1 * * * *", "minute '-1'"), ("٣ * * * *", "minute"), ("0 0 30 2 *", "names no day"),
        ("0 0 31 4,6,9,11 *", "names no day"), ("@reboot", "1 fields"), ("* * ? * *", "day"), ("H * * * *", "minute"),
    ],
)  # fmt: skip
def test_what_is_no_cron_is_refused_and_the_field_named(text, said):
    with pytest.raises(NoCron, match=said.replace("?", r"\?")):
        read_cron(text)


def test_leap_days_and_last_days_are_found():
    leap = times("0 0 29 2 *").after(datetime(2095, 1, 1, tzinfo=UTC))
    assert [moment.year for moment in islice(leap, 3)] == [2096, 2104, 2108]  # 2100 is none
    last = islice(times("0 12 L * *").after(datetime(2024, 1, 15, tzinfo=UTC)), 3)
    assert [(moment.month, moment.day) for moment in last] == [(1, 31), (2, 29), (3, 31)]
    assert read_cron("0 0 15,L * *").last_day


def test_a_narrowed_day_or_weekday_is_enough():
    found = islice(times("0 0 13 * 5").after(datetime(2024, 9, 1, tzinfo=UTC)), 5)
    assert [moment.day for moment in found] == [6, 13, 20, 27, 4]


def test_in_spring_what_falls_into_the_gap_is_due_an_hour_later_and_nothing_is_lost():
    eve = datetime(2025, 3, 29, 12, tzinfo=UTC)
    assert locally("30 2 * * *", "Europe/Berlin", eve, 2) == ["03-30 03:30 +0200", "03-31 02:30 +0200"]
    assert locally("0,30 2,3 * * *", "Europe/Berlin", eve, 3) == [
        "03-30 03:00 +0200", "03-30 03:30 +0200", "03-31 02:00 +0200",
    ]  # fmt: skip


def test_in_autumn_nothing_is_due_twice_but_what_names_every_hour():
    eve = datetime(2025, 10, 25, 12, tzinfo=UTC)
    assert locally("30 2 * * *", "Europe/Berlin", eve, 2) == ["10-26 02:30 +0200", "10-27 02:30 +0100"]
    assert locally("0 */2 * * *", "Europe/Berlin", eve + timedelta(hours=9), 3) == [
        "10-26 00:00 +0200", "10-26 02:00 +0200", "10-26 04:00 +0100",
    ]  # fmt: skip
    assert locally("30 * * * *", "Europe/Berlin", eve + timedelta(hours=11), 4) == [
        "10-26 01:30 +0200", "10-26 02:30 +0200", "10-26 02:30 +0100", "10-26 03:30 +0100",
    ]  # fmt: skip


def test_a_day_that_a_zone_left_out_is_due_the_day_after():
    eve = datetime(2011, 12, 29, tzinfo=UTC)
    found = islice(times("0 9 * * *", "Pacific/Apia").after(eve), 3)
    assert [moment.astimezone(ZoneInfo("Pacific/Apia")).day for moment in found] == [29, 31, 1]


def expected(text, zone, after, until):
    """Walk every minute that passes, and every reading that a gap swallows."""
    cron, zone = read_cron(text), ZoneInfo(zone)
    start, shown = after - timedelta(days=2), set()
    due, moment = set(), start
    while moment <= until:
        reading = moment.astimezone(zone).replace(tzinfo=None)
        before = (moment - MINUTE).astimezone(zone).replace(tzinfo=None)
        while before + MINUTE < reading:  # the clock was put forward: what it left out is as far behind the change
            before += MINUTE
            if names(cron, before):
                due.add(moment + (before - ((moment - MINUTE).astimezone(zone).replace(tzinfo=None) + MINUTE)))
        if names(cron, reading) and (reading not in shown or cron.every_hour):
            due.add(moment)
        shown.add(reading)
        moment += MINUTE
    return sorted(moment for moment in due if after < moment <= until)


def names(cron, reading):
    return next(cron.readings(reading), None) == reading


changes = {
    "Europe/Berlin": [(2025, 3, 30), (2025, 10, 26)], "America/New_York": [(2025, 3, 9), (2025, 11, 2)],
    "Australia/Lord_Howe": [(2025, 4, 6), (2025, 10, 5)], "America/Havana": [(2025, 3, 9), (2025, 11, 2)],
    "Africa/Casablanca": [(2025, 2, 23), (2025, 4, 6)], "America/St_Johns": [(2010, 3, 14), (2010, 11, 7)],
    "Pacific/Apia": [(2011, 12, 30), (2012, 4, 1)], "Asia/Kathmandu": [(2025, 5, 5)], "UTC": [(2024, 2, 29)],
}  # fmt: skip
around_changes = st.sampled_from([(zone, day) for zone, days in changes.items() for day in days])
daily = st.tuples(numbers(0, 59), numbers(0, 23)).map(lambda two: f"{two[0]} {two[1]} * * *")


@settings(max_examples=60, deadline=None)
@given(daily, around_changes, st.integers(0, 48 * 60), st.integers(1, 30 * 60))
def test_due_moments_are_those_that_a_walk_over_every_minute_finds(text, place, offset, length):
    zone, day = place
    after = datetime(*day, tzinfo=UTC) - timedelta(days=1) + offset * MINUTE
    until = after + length * MINUTE
    found, complete = times(text, zone).newest(after, until, 100_000)
    assert complete
    assert found == expected(text, zone, after, until)


@settings(max_examples=60, deadline=None)
@given(crons, st.sampled_from(ZONES), starts, st.lists(st.integers(0, 3 * 86_400), max_size=6))
def test_however_often_one_looks_each_moment_is_seen_once(text, zone, start, pauses):
    of = times(text, zone)
    looked, seen = start.replace(tzinfo=UTC), []
    began = looked
    for pause in pauses:
        now = looked + timedelta(seconds=pause)
        seen += of.newest(looked, now, 100_000)[0]
        looked = now
    assert seen == of.newest(began, looked, 100_000)[0]
    assert seen == sorted(set(seen))


@given(st.integers(1, 10**6), starts, starts)
def test_an_interval_keeps_to_its_anchor(seconds, anchor, moment):
    anchor, moment = anchor.replace(tzinfo=UTC), moment.replace(tzinfo=UTC)
    of = Times(Every(seconds), read_zone("UTC"), anchor)
    first, second = islice(of.after(moment), 2)
    assert first > moment
    assert (first - anchor) % timedelta(seconds=seconds) == timedelta()
    assert second - first == timedelta(seconds=seconds)
    assert first == anchor or first - timedelta(seconds=seconds) <= moment


@pytest.mark.parametrize(
    ("text", "seconds"), [("every 15m", 900), ("every 1h 30m", 5400), ("EVERY 2 d", 172_800), ("every 1w", 604_800)]
)
def test_intervals_are_read(text, seconds):
    assert read_when(text) == Every(seconds)


def test_a_single_moment_is_due_once_in_its_zone():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert list(times("at 2026-06-01T12:00", "Europe/Berlin").after(start)) == [datetime(2026, 6, 1, 10, tzinfo=UTC)]
    assert list(times("at 2026-06-01T12:00Z", "Europe/Berlin").after(start)) == [datetime(2026, 6, 1, 12, tzinfo=UTC)]
    assert list(times("at 2025-06-01T12:00").after(start)) == []


@pytest.mark.parametrize(
    "text", ["every", "every 0s", "every 15", "every 367d", "every -1m", "at", "at noon", "at 9999-01-01", "every 1.5h"]
)
def test_what_says_no_time_is_refused(text):
    with pytest.raises((NoTime, NoCron)):
        read_when(text)


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../etc/passwd", "/etc/localtime", "Europe", "a" * 300, "\0"])
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(NoTime, match="no time zone"):
        read_zone(name)


def test_a_year_of_absence_costs_no_more_than_what_is_made_up_for():
    now = datetime(2025, 1, 1, tzinfo=UTC)
    found, complete = times("* * * * *").newest(now - timedelta(days=365), now, 100)
    assert (len(found), found[-1], complete) == (100, now, False)


@given(st.integers(0, 300), st.sampled_from(list(CatchUp)), st.integers(1, 50), st.integers(0, 120))
def test_missed_moments_are_made_up_for_as_the_policy_says(count, policy, most, late):
    now = datetime(2025, 1, 1, tzinfo=UTC)
    due = [now - timedelta(seconds=late) - MINUTE * back for back in range(count)][::-1]
    chosen = choose(due, now, policy, grace_s=60, most=most)
    assert [*chosen.missed, *chosen.begin] == due
    wanted = {CatchUp.NONE: 1 if late <= 60 else 0, CatchUp.LATEST: 1, CatchUp.ALL: most}[policy]
    assert len(chosen.begin) == min(count, wanted)


@given(st.text("ab", max_size=5), starts, st.floats(0, 86_400))
def test_jitter_is_within_its_bound_and_always_the_same(schedule, moment, jitter):
    moment = moment.replace(tzinfo=UTC)
    assert timedelta() <= delay(schedule, moment, jitter) <= timedelta(seconds=jitter)
    assert delay(schedule, moment, jitter) == delay(schedule, moment, jitter)


def test_jitter_is_spread():
    delays = [delay("s", datetime(2025, 1, 1, tzinfo=UTC) + MINUTE * n, 100).total_seconds() for n in range(200)]
    assert min(delays) < 10
    assert max(delays) > 90
    assert 40 < sum(delays) / 200 < 60
