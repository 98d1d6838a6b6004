"""Open-file-description locks (fcntl(2)): held by a process for as long as it lives, and tested without being taken.

flock(2) cannot be tested without taking it for a moment; a supervisor that starts in that moment would find the lock
taken and leave.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelops.adapters.local import supervisor


def is_held(path: Path) -> bool:
    """Tell whether anybody holds the lock; nobody does where the file is missing."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        question = supervisor.FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, question)
    finally:
        os.close(fd)
    return bool(supervisor.FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Hold the lock inside the block, where it is free; the value tells whether it was."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        yield supervisor.acquire(fd)
    finally:
        os.close(fd)
