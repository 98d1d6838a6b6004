"""The runner's process, as its keeper holds it: started, spoken to, measured, and ended for good."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READ = 256 * 1024
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Ending:
    """How a runner's process ended, and what it used in all. `killed`: by SIGKILL, which no step's own mistake brings."""

    sentence: str
    killed: bool
    cpu_seconds: float
    peak_memory_bytes: int


class Child:
    """A runner.

    Args:
        python: The interpreter of the steps.
        path: Folders that are put before the interpreter's own modules.
        folder: Its working directory until the first step.
    """

    def __init__(self, python: str, path: list[Path], folder: Path) -> None:
        ours, theirs = socket.socketpair()
        self.control = ours
        self.output, sink = os.pipe()
        before = [str(one) for one in path]
        if inherited := os.environ.get("PYTHONPATH"):
            before.append(inherited)
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-m", "modelops.runtime.steps.runner", str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(before)},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(sink)
        self.pid = self._process.pid
        self.ready = False
        self.listens = self.writes = True
        self._buffer = b""
        self._ending: Ending | None = None
        os.set_blocking(self.output, False)

    def give(self, task: dict[str, Any]) -> None:
        """Send a task. A runner that is gone is noticed by `poll`."""
        with suppress(OSError):
            self.control.setblocking(True)
            self.control.sendall(json.dumps(task).encode() + b"\n")

    def hear(self) -> list[dict[str, Any]]:
        """Return what the runner said since."""
        self.control.setblocking(False)
        with suppress(BlockingIOError):
            while self.listens:
                piece = self._received()
                self._buffer += piece
                self.listens = bool(piece)
        *lines, self._buffer = self._buffer.split(b"\n")
        said = [json.loads(line) for line in lines]
        self.ready = self.ready or bool(said)
        return [one for one in said if "ready" not in one]

    def _received(self) -> bytes:
        try:
            return self.control.recv(_READ)
        except ConnectionError:
            return b""

    def read(self, most: int = _READ) -> bytes:
        """Return some of what the runner's code wrote; empty where there is nothing now."""
        try:
            piece = os.read(self.output, most)
        except BlockingIOError:
            return b""
        self.writes = bool(piece)
        return piece

    def used_bytes(self) -> int:
        """Return the resident memory of the runner and of what it started; 0 where this system does not tell."""
        return sum(_resident(pid) for pid in _family(self.pid))

    def terminate(self) -> None:
        """Ask it to end, and what it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it by force, with all that it started."""
        for pid in _family(self.pid)[1:]:  # what left its group
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def poll(self) -> Ending | None:
        """Return how it ended, or None while it runs."""
        if self._ending is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._process.returncode = code = os.waitstatus_to_exitcode(status)
                unit = 1 if sys.platform == "darwin" else 1024
                self._ending = Ending(
                    _sentence(code), code == -signal.SIGKILL, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit
                )
        return self._ending

    def close(self) -> None:
        """End it if it runs, and let go of it."""
        self.kill()
        while self.poll() is None:
            time.sleep(0.001)
        self.control.close()
        os.close(self.output)


def _sentence(code: int) -> str:
    if code >= 0:
        return f"The step ended its process with exit code {code}."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code == signal.SIGKILL:
        return "The step's process was killed (SIGKILL), as the system does where memory runs out."
    return f"The step's process was ended by {name}."


def _family(pid: int) -> list[int]:
    """Return a process and its descendants; itself alone where the system does not tell."""
    children: dict[int, list[int]] = {}
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                children.setdefault(_parent(name), []).append(int(name))
    family = [pid]
    for one in family:  # grows meanwhile
        family += children.get(one, [])
    return family


def _parent(pid: str) -> int:
    try:
        return int(Path("/proc", pid, "stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
