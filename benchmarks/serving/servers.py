"""Servers under load: started with all that belongs to them, asked, weighed by their CPU time, and ended to the last process."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.environments import PeerMissing

READY_S = 180


@dataclass
class Server:
    """A server, and how it is asked.

    Attributes:
        folder: Below it lies all that the server keeps; what has it in its environment belongs to the server.
        prepare: Makes a request's body of rows.
        labels: Reads the predicted labels in an answer's body.
        pid: Of its first process.
    """

    name: str
    url: str
    path: str
    folder: Path
    prepare: Callable[[list[list[float]]], bytes]
    labels: Callable[[bytes], list[int]]
    pid: int
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    def cpu(self) -> float:
        """Return the CPU seconds that its processes took until now, those of ended children included."""
        total = 0.0
        for process in processes_of(self.folder, self.pid):
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def ended(self) -> bool:
        """Tell whether its first process is no more."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def settle(self) -> None:
        """Wait until it has done with what an ended load left behind, ten seconds at most."""
        deadline, busy = time.monotonic() + 10, True
        while busy and time.monotonic() < deadline:
            before = self.cpu()
            time.sleep(0.3)
            busy = self.cpu() - before > 0.06

    def ask(self, http: httpx.Client, rows: list[list[float]]) -> list[int]:
        """Return the labels that it predicts for rows."""
        answer = http.post(self.url + self.path, content=self.prepare(rows), headers=self.headers)
        if answer.status_code != 200:
            raise RuntimeError(f"{self.name} answered {answer.status_code}: {answer.text[:300]}")
        return self.labels(answer.content)

    def await_answer(self, rows: list[list[float]]) -> None:
        """Wait until it predicts.

        Raises:
            PeerMissing: it ended, or does not within the time.
        """
        deadline, why = time.monotonic() + READY_S, ""
        with httpx.Client(timeout=10) as http:
            while time.monotonic() < deadline:
                if self.ended():
                    raise PeerMissing(f"{self.name} ended: {last_words(self.folder)}")
                try:
                    self.ask(http, rows)
                    return
                except (httpx.HTTPError, RuntimeError, ValueError, KeyError) as wrong:
                    why = str(wrong)
                    time.sleep(0.2)
        raise PeerMissing(f"{self.name} does not answer: {why} {last_words(self.folder)}")


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[int]:
    """Run a server's first process, and end all of its processes afterwards. Its output is in `output` of the folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MODELOPS_", "MLFLOW_", "RAY_"))}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
            env={**clean, "BENCH_FOLDER": str(folder), **environment},
        )
    try:
        yield process.pid
    finally:
        belonging = processes_of(folder, process.pid)
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=10)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            process.kill()
            process.wait()
        for other in {*belonging, *processes_of(folder, process.pid)}:
            _end(other)


def _end(process: psutil.Process) -> None:
    """Ask a process to end, and kill it where it does not."""
    try:
        process.terminate()
        process.wait(timeout=10)
    except psutil.TimeoutExpired:
        process.kill()
    except psutil.Error:
        return


def processes_of(folder: Path, pid: int) -> set[psutil.Process]:
    """Return the first process, those with the folder in their environment or command, and the children of all these."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            told = [*process.environ().values(), *process.cmdline()]
            if process.pid == pid or any(f"{folder}/" in f"{text}/" for text in told):
                found.update((process, *process.children(recursive=True)))
        except psutil.Error:
            continue
    return {process for process in found if process.pid != os.getpid()}


def last_words(folder: Path) -> str:
    """Return the end of what a server put out."""
    return (folder / "output").read_text(errors="replace").strip()[-600:]


def instances(rows: list[list[float]]) -> bytes:
    """Return rows as most of the servers take them."""
    return json.dumps({"instances": rows}).encode()


def predictions(body: bytes) -> list[Any]:
    """Return the labels where most of the servers give them."""
    return json.loads(body)["predictions"]
