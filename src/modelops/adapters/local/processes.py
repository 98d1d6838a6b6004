"""A supervised process and the folder that tells everything about it.

The folder is made whole before the process is started, and it alone says in which phase the process is. So any process
of the platform can start, watch and stop it, and a platform that comes back after `kill -9` finds it as it left it.
`modelops.adapters.local.supervisor` lists the files.
"""

import errno
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from modelops.adapters.local import durable, leftovers, locks, supervisor
from modelops.adapters.local.commands import Command, inherited_environment
from modelops.contracts.errors import Conflict, InvalidInput, StorageFull, Unavailable
from modelops.contracts.ports import EndedBy, Observation, Phase, UsageSample

STARTING_S = 15.0
"""Seconds after which a process that was never seen to start is given up."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class ProcessFolder:
    """One process, by its folder. Holds no state in memory: any number of these may look at one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.work = self.path / "work"

    def start(self, command: Command) -> None:
        """Start the process; do nothing where it was started before, in whatever way that ended.

        Raises:
            InvalidInput: the command, its environment or a file's name cannot be used.
            StorageFull: there is no room for the folder; nothing is kept of it.
        """
        if not self.path.exists():
            self._prepare(command)
        elif self._was_supervised():
            return
        else:
            # Whoever made the folder died, it seems, before a supervisor came up. Should one come up yet, the second
            # one leaves.
            os.utime(self.path / "spec.json")
        self._start_supervisor()

    def observe(self) -> Observation:
        """Return what is seen of the process."""
        if (ended := self._ending()) is not None:
            return ended
        if not self.path.exists():
            return Observation(Phase.ABSENT)
        state = _load(self.path / "state.json")
        if locks.is_held(self.path / "lock"):
            return _alive(state)
        if state is None and self._age() < STARTING_S:
            return Observation(Phase.STARTING)
        return self._give_up()

    def stop(self, grace_s: float, reason: str) -> None:
        """Ask the process to end, and have it ended by force after the grace. The supervisor sees it to the end."""
        if self.path.exists() and not self.observe().ended:
            request = {"grace_s": max(0.0, grace_s), "reason": reason[: supervisor.REASON_CHARACTERS]}
            with suppress(FileNotFoundError):  # it was removed, or on a full disk an earlier request stands
                self._request_stop(json.dumps(request).encode())

    def log(self, offset: int, limit: int) -> bytes:
        """Return up to `limit` bytes of its output from `offset`."""
        try:
            with open(self.path / "log", "rb") as file:
                file.seek(max(0, offset))
                return file.read(max(0, limit))
        except FileNotFoundError:
            return b""

    def usage(self) -> list[UsageSample]:
        """Return what its supervisor sampled; a sample that is just being written is left out."""
        try:
            data = (self.path / "usage").read_bytes()
        except FileNotFoundError:
            return []
        whole = data[: len(data) - len(data) % supervisor.SAMPLE.size]
        return [_sample(values) for values in supervisor.SAMPLE.iter_unpack(whole)]

    def notes(self) -> dict[str, int]:
        """Return the notes it was started with."""
        return _load(self.path / "notes.json") or {}

    def remove(self) -> None:
        """Delete the folder; nothing happens where there is none. Raises Conflict while the process has not ended."""
        phase = self.observe().phase
        if phase in (Phase.STARTING, Phase.RUNNING):
            raise Conflict(
                f"{self.path.name} is {phase}; it can be removed after it has ended.",
                hint="Stop it, and wait for its end.",
            )
        durable.delete_tree(self.path)

    def _prepare(self, command: Command) -> None:
        command.check()
        making = self.path.with_name(durable.temporary_name(".new"))
        try:
            with durable.full_disk_as_error(f"the files of {self.path.name}"):
                self._write_folder(making, command)
                self._take_name(making)
                durable.sync_folder(self.path.parent)
        finally:
            durable.delete_tree(making)

    def _take_name(self, making: Path) -> None:
        try:
            os.rename(making, self.path)
        except OSError as error:
            # Another was faster: then that one's folder counts.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    def _write_folder(self, folder: Path, command: Command) -> None:
        folder.mkdir(mode=0o700)
        work = folder / "work"
        work.mkdir(mode=0o700)
        for name, content in command.files.items():
            durable.write_new(work / name, content.encode())
        durable.write_new(folder / "spec.json", json.dumps(command.document(self.work)).encode())
        durable.write_new(folder / "notes.json", json.dumps(dict(command.notes)).encode())
        # Room for the last words, so that a disk that is full by then cannot take it.
        for name in ("exit.reserved", "stop.reserved"):
            durable.write_new(folder / name, b" " * supervisor.RESERVED_BYTES)
        for name in ("lock", "supervisor.log"):
            durable.write_new(folder / name, b"")
        durable.sync_folder(work)
        durable.sync_folder(folder)

    def _request_stop(self, request: bytes) -> None:
        try:
            with durable.full_disk_as_error("the request to stop"):
                durable.replace(self.path / "stop.json", request)
        except StorageFull:
            with open(self.path / "stop.reserved", "r+b") as file:
                file.write(request.ljust(supervisor.RESERVED_BYTES))
            os.rename(self.path / "stop.reserved", self.path / "stop.json")

    def _start_supervisor(self) -> None:
        """Start a supervisor and return when it holds the lock and has gone to the background (some 30 ms)."""
        argv = [sys.executable, "-I", "-S", supervisor.__file__, str(self.path)]
        with _as_unavailable(), open(self.path / "supervisor.log", "ab") as errors:
            subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=inherited_environment(),
                start_new_session=True,
                check=False,
            )

    def _was_supervised(self) -> bool:
        traces = ("state.json", "exit.json", "lost.json")
        return locks.is_held(self.path / "lock") or any((self.path / trace).exists() for trace in traces)

    def _age(self) -> float:
        try:
            return time.time() - (self.path / "spec.json").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _ending(self) -> Observation | None:
        document = _load(self.path / "exit.json")
        if document is not None:
            return _ended(Phase.EXITED, document, _load(self.path / "state.json") or {})
        document = _load(self.path / "lost.json")
        if document is not None:
            return _ended(Phase.LOST, document, _load(self.path / "state.json") or {})
        return None

    def _give_up(self) -> Observation:
        """Declare the process lost. The lock is held meanwhile, so that no late supervisor starts it after all."""
        with locks.hold(self.path / "lock") as held:
            if not held:
                return _alive(_load(self.path / "state.json"))
            if (ended := self._ending()) is not None:
                return ended
            state = _load(self.path / "state.json")
            document = {"reason": self._why_lost(state), "finished_at": time.time()}
            leftovers.end(self.work)
            # Without room the verdict is not kept, and the next look comes to the same one.
            with suppress(OSError):
                durable.replace(self.path / "lost.json", json.dumps(document).encode())
        return _ended(Phase.LOST, document, state or {})

    def _why_lost(self, state: dict[str, Any] | None) -> str:
        if state is not None and state["boot_id"] != supervisor.boot_id():
            return "was lost: the machine restarted while it ran"
        if state is not None:
            return "was lost: its supervisor was killed, and the process with it"
        last_words = (self.path / "supervisor.log").read_text(errors="replace").strip().rpartition("\n")[2]
        return "was never started: its supervisor did not come up" + (f" ({last_words})" if last_words else "")


def checked_name(name: str) -> str:
    """Return the name if it can be a folder's and cannot lead out of it; raise InvalidInput else."""
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name[:100]!r} cannot name a process.",
            hint="Use up to 200 letters, digits, dots, dashes and underscores; begin with a letter or a digit.",
        )
    return name


def folders(root: Path) -> list[Path]:
    """Return the complete folders below `root`, by name."""
    try:
        return sorted(path for path in root.iterdir() if not path.name.startswith(".") and path.is_dir())
    except FileNotFoundError:
        return []


def _alive(state: dict[str, Any] | None) -> Observation:
    if state is None or state["pid"] is None:
        return Observation(Phase.STARTING)
    return Observation(Phase.RUNNING, pid=state["pid"], started_at=_time(state["started_at"]))


def _ended(phase: Phase, document: dict[str, Any], state: dict[str, Any]) -> Observation:
    return Observation(
        phase,
        pid=state.get("pid"),
        exit_code=document.get("exit_code"),
        reason=document.get("reason"),
        started_at=_time(document.get("started_at", state.get("started_at"))),
        finished_at=_time(document.get("finished_at")),
        peak_memory_bytes=document.get("peak_memory_bytes"),
        cpu_seconds=document.get("cpu_seconds"),
        ended_by=EndedBy(document["ended_by"]) if document.get("ended_by") else None,
    )


def _sample(values: tuple[float, ...]) -> UsageSample:
    gpu = (None if math.isnan(value) else value for value in values[5:])
    return UsageSample(*values[:5], *gpu)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        return cast(dict[str, Any], json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"The system could not start a process: {error}.",
            hint="Try again in a moment, when less runs on this machine.",
        ) from error


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
