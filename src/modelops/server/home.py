"""The home folder's lock: one platform at a time runs controllers on it."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from modelops.contracts.errors import Conflict


class HomeLock:
    """An exclusive lock on a home folder, which the kernel gives back when its holder dies, however it dies."""

    def __init__(self, home: Path, name: str = "lock") -> None:
        self.path = home / name
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        self.describe({"pid": os.getpid()})
        return True

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            Conflict: another process has it; the error names it.
        """
        if not self.try_acquire():
            holder = self.holder()
            where = f" at {holder['url']}" if "url" in holder else ""
            raise Conflict(
                f"A platform runs on {self.path.parent} already (process {holder.get('pid', 'unknown')}){where}.",
                hint="Use that one, end it with `mops down`, or start another with `mops --home FOLDER up`.",
            )

    def describe(self, facts: dict[str, Any]) -> None:
        """Write into the lock's file who holds it, for others to read."""
        if self._descriptor is None:
            raise RuntimeError("The lock is not held.")
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(facts).encode(), 0)

    def holder(self) -> dict[str, Any]:
        """Return what the holder wrote; empty where nothing can be read."""
        try:
            facts = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
