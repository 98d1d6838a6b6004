from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from modelops.contracts.clock import Clock
from modelops.testing.clock import VirtualClock
from modelops.testing.waiting import wait_for


def test_it_stands_still_until_it_is_moved():
    clock: Clock = VirtualClock(datetime(2025, 6, 1, tzinfo=UTC))
    assert clock.now() == clock.now() == datetime(2025, 6, 1, tzinfo=UTC)
    assert clock.advance(1.5) == datetime(2025, 6, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    clock.advance(days=2)
    assert clock.now() == datetime(2025, 6, 3, 0, 0, 1, 500_000, tzinfo=UTC)
    assert clock.monotonic() == 2 * 86_400 + 1.5


def test_it_shows_utc_and_never_goes_back():
    clock = VirtualClock(datetime(2025, 6, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now().tzinfo is UTC
    assert clock.now() == datetime(2025, 6, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="time zone"):
        VirtualClock(datetime(2025, 6, 1))


def test_threads_lose_no_step():
    clock = VirtualClock()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: clock.advance(1), range(1000)))
    assert clock.monotonic() == 1000


def test_waiting_ends():
    values = iter([0, None, "there"])
    assert wait_for(lambda: next(values), every_s=0) == "there"
    with pytest.raises(AssertionError, match="Still False"):
        wait_for(lambda: False, within_s=0)
