"""Waiting for what will happen, instead of sleeping for as long as it might take."""

import time
from collections.abc import Callable
from typing import TypeVar

_Value = TypeVar("_Value")


def wait_for(condition: Callable[[], _Value | None], *, within_s: float = 60.0, every_s: float = 0.02) -> _Value:
    """Call `condition` until it returns something true, and return that.

    Raises:
        AssertionError: it did not within the time, which is generous because machines that run tests are busy.
    """
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Still {value!r} after {within_s:g} s.")
        time.sleep(every_s)
    return value
