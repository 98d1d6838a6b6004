"""The load: `wrk`, the same for all, which costs little. What it counts is set against the CPU time of the server."""

import itertools
import json
import shutil
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from benchmarks.serving.servers import Server

SCRIPT = Path(__file__).with_name("load.lua")
SAMPLES_PER_S = 10


class WrongAnswer(Exception):
    """A server answered with a wrong label."""


@dataclass(frozen=True)
class Cell:
    """What a load did to a server. `failed`: statuses that are no success, and broken connections."""

    connections: int
    requests: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def per_cpu(self) -> float:
        """Requests per CPU-second of the server."""
        return self.requests / self.cpu_s

    @property
    def per_second(self) -> float:
        """Requests per second of wall time."""
        return self.requests / self.seconds


def median(cells: list[Cell]) -> Cell:
    """Return the cell in the middle by requests per CPU-second, with the medians of the times and the most failures of all."""
    middle = sorted(cells, key=lambda cell: cell.per_cpu)[(len(cells) - 1) // 2]
    p50, p99 = (statistics.median(times) for times in zip(*((cell.p50_ms, cell.p99_ms) for cell in cells), strict=True))
    return replace(middle, p50_ms=p50, p99_ms=p99, failed=max(cell.failed for cell in cells))


@dataclass(frozen=True)
class Rows:
    """The rows of the requests, `size` in each, and the labels that are right."""

    rows: list[list[float]]
    labels: list[int]
    size: int = 1

    def requests(self) -> list[tuple[list[list[float]], list[int]]]:
        """Return rows and labels of each request."""
        starts = range(0, len(self.rows) - self.size + 1, self.size)
        return [(self.rows[at : at + self.size], self.labels[at : at + self.size]) for at in starts]


@dataclass
class Checks:
    """Answers that were checked beside a load."""

    right: int = 0
    failures: list[Exception] = field(default_factory=list)


def require_wrk() -> None:
    """Raise a message to people where wrk is not installed."""
    if shutil.which("wrk") is None:
        raise SystemExit("The load is made by wrk, which is not installed: apt-get install wrk")


def measure_cell(server: Server, rows: Rows, connections: int, seconds: float, warm_s: float) -> Cell:
    """Load a server, while other requests check the labels of its answers.

    Raises:
        WrongAnswer: a label is wrong.
    """
    with prepared(server, rows) as folder:
        with httpx.Client(timeout=60) as http:
            for request, right in rows.requests()[:4]:
                check(server, http, request, right)
        finish(begin(server, folder, connections, warm_s))
        server.settle()
        with checking(server, rows) as checks:
            cpu = server.cpu()
            counted = finish(begin(server, folder, connections, seconds))
            cpu = server.cpu() - cpu
    if checks.failures:
        raise checks.failures[0]
    failed = counted["status"] + counted["broken"]
    requests = counted["requests"] - counted["status"] + checks.right
    return Cell(connections, requests, counted["seconds"], cpu, counted["p50_ms"], counted["p99_ms"], failed)


def begin(server: Server, folder: Path, connections: int, seconds: float) -> subprocess.Popen:
    """Begin to load a server with the requests in a folder; SIGINT ends it before its time."""
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "-s", str(SCRIPT)]
    return subprocess.Popen(
        ["wrk", *options, server.url, "--", server.path, str(folder)], stdout=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> dict:
    """Wait for the end of a load, and return what it counted."""
    output = process.communicate()[0]
    if process.returncode or "{" not in output:
        raise RuntimeError(f"wrk ended with {process.returncode}: {output[-300:]}")
    return json.loads(output.strip().splitlines()[-1])


@contextmanager
def prepared(server: Server, rows: Rows) -> Iterator[Path]:
    """Write the requests for wrk's script."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.joinpath("headers").write_text("".join(f"{name}: {value}\n" for name, value in server.headers.items()))
        for number, (request, _) in enumerate(rows.requests()):
            place.joinpath(str(number)).write_bytes(server.prepare(request))
        yield place


@contextmanager
def checking(server: Server, rows: Rows) -> Iterator[Checks]:
    """Ask a few times a second beside the load, and check each answer's labels."""
    ended, checks = threading.Event(), Checks()

    def ask() -> None:
        with httpx.Client(timeout=60) as http:
            for request, right in itertools.cycle(rows.requests()):
                if ended.wait(1 / SAMPLES_PER_S):
                    return
                try:
                    check(server, http, request, right)
                    checks.right += 1
                except (httpx.HTTPError, RuntimeError, ValueError, KeyError, WrongAnswer) as wrong:
                    checks.failures.append(wrong)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield checks
    finally:
        ended.set()
        thread.join()


def check(server: Server, http: httpx.Client, rows: list[list[float]], right: list[int]) -> None:
    """Ask once, and compare the labels."""
    found = [int(label) for label in server.ask(http, rows)]
    if found != right:
        raise WrongAnswer(f"{server.name} answered {found[:5]}, and {right[:5]} is right")
