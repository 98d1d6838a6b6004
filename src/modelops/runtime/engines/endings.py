"""How the processes of a job ended: what each of them left in a folder, and which of them is the cause."""

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from modelops.contracts.errors import TrainingError
from modelops.domains.training.schemas import JobResult
from modelops.runtime.attempt import ran_out_of_memory, sentence_of

_TOLD_TO_END = (-signal.SIGTERM, 128 + signal.SIGTERM)
_LOST_PEER = ("connection closed by peer", "connection reset by peer", "connection refused", "broken pipe", "gloo::")


class ProcessFailed(TrainingError):
    """One of a job's processes failed."""

    code, title = "training.process_failed", "A process of the job failed"

    def __init__(self, detail: str, *, out_of_memory: bool = False) -> None:
        super().__init__(detail)
        self.out_of_memory = out_of_memory


@dataclass(frozen=True)
class Failure:
    """What a process says of its failure: when it was (seconds since 1970), and whether it only follows from the end of
    another process."""

    at: float
    reason: str
    out_of_memory: bool
    lost_peer: bool


class Endings:
    """What the processes of an attempt leave for the trainer, in a folder that all of them see."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self._kills = _kills_for_memory()
        folder.mkdir(exist_ok=True)

    def note_stop(self) -> None:
        """Note that the job was told to end."""
        (self.folder / "stop").touch()

    @property
    def is_stopping(self) -> bool:
        """Tell whether the job was told to end."""
        return (self.folder / "stop").exists()

    def succeed(self, result: JobResult) -> None:
        """Leave the result of the recipe."""
        self._write("result.json", result.model_dump_json())

    def fail(self, rank: int, failure: BaseException) -> None:
        """Leave why the recipe failed in a process."""
        told = Failure(time.time(), sentence_of(failure), ran_out_of_memory(failure), _follows_from_another(failure))
        self._write(f"failure-{rank}.json", json.dumps(asdict(told)))

    def result(self) -> JobResult:
        """Return the result of the recipe.

        Raises:
            ProcessFailed: the process that has it left none.
        """
        try:
            return JobResult.model_validate_json((self.folder / "result.json").read_bytes())
        except FileNotFoundError:
            raise ProcessFailed(f"Process 0 of {self.count} ended without a result.") from None

    def cause(self, seen: Mapping[int, tuple[int, float]]) -> ProcessFailed:
        """Return what failed first, given the exit code of each process that failed and when that was seen.

        A process that was told to end because of another is no cause, and one that lost its connection to another only
        where nothing else is known.
        """
        found: list[tuple[bool, float, ProcessFailed]] = []
        for rank, (code, at) in seen.items():
            whose = f"process {rank} of {self.count}"
            told = self._failure(rank)
            if told is not None:
                error = ProcessFailed(f"{told.reason} ({whose})", out_of_memory=told.out_of_memory)
                found.append((told.lost_peer, told.at, error))
            elif code not in _TOLD_TO_END:
                ran_out = code == -signal.SIGKILL and _kills_for_memory() > self._kills
                error = ProcessFailed(f"{whose.capitalize()} {_ended(code)}.", out_of_memory=ran_out)
                found.append((False, at, error))
        if not found:
            return ProcessFailed(f"One of {self.count} processes was told to end by somebody else.")
        return min(found, key=lambda each: each[:2])[2]

    def _failure(self, rank: int) -> Failure | None:
        try:
            return Failure(**json.loads((self.folder / f"failure-{rank}.json").read_bytes()))
        except FileNotFoundError:
            return None

    def _write(self, name: str, text: str) -> None:
        """Write a file that appears whole: a process may be killed at any time."""
        new = self.folder / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(self.folder / name)


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}; the log says more"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "a real-time signal"
    hint = "; the system does so when memory runs out" if code == -signal.SIGKILL else ""
    return f"was ended by signal {-code} ({name}{hint})"


def _follows_from_another(failure: BaseException) -> bool:
    """Tell whether a failure, or what it was raised from, is that of a connection between processes."""
    seen: BaseException | None = failure
    while seen is not None:
        text = str(seen).lower()
        if any(words in text for words in _LOST_PEER):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _kills_for_memory() -> int:
    """Return how many processes this machine has ended for want of memory since it started (proc(5), vmstat)."""
    try:
        with open("/proc/vmstat", "rb") as file:
            lines = [line for line in file if line.startswith(b"oom_kill ")]
    except OSError:
        return 0
    return int(lines[0].split()[1]) if lines else 0
