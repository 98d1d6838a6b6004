"""A platform as its users run it: `mops up` in a process of its own, on a free port and a temporary home."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelops.sdk.local import LocalPlatform as PlatformProcess

__all__ = ["PlatformProcess", "platform_process"]


@contextmanager
def platform_process(home: Path, **settings: str) -> Iterator[PlatformProcess]:
    """Run `mops up` for the length of the block."""
    platform = PlatformProcess(home, **settings)
    platform.start()
    try:
        yield platform
    finally:
        platform.stop()
