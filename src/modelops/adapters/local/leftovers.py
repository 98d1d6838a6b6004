"""What a process leaves running when its supervisor is killed: children of its own, which nobody adopted."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from modelops.adapters.local import supervisor

VARIABLE = "MODELOPS_WORKDIR"
"""The environment variable that tells a process its working directory, and marks it and its children as its own."""


def end(work: Path) -> None:
    """End every process that was started, directly or not, in this working directory."""
    mark = f"{VARIABLE}={work}".encode()
    for pid in supervisor.all_processes():
        started = supervisor.start_time(pid)
        if mark in _environment(pid) and supervisor.start_time(pid) == started:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
