"""What a benchmark reports, and how processes are measured."""

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One figure: `ratio` above 1 means ours is better."""

    figure: str
    ours: float
    peer: float
    peer_name: str
    ratio: float
    unit: str


def smaller_is_better(figure: str, ours: float, peer: float, peer_name: str, unit: str) -> Figure:
    return Figure(figure, round(ours, 4), round(peer, 4), peer_name, round(peer / ours, 2), unit)


def larger_is_better(figure: str, ours: float, peer: float, peer_name: str, unit: str) -> Figure:
    return Figure(figure, round(ours, 4), round(peer, 4), peer_name, round(ours / peer, 2), unit)


def cpu_of(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Run a command to its end and return the CPU seconds of its process tree."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment or dict(os.environ)
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def wall_of(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def alternate(ours: Callable[[], float], peer: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Measure both in turn, so that the machine's moods hit both, and return the medians."""
    ours(), peer()  # the first run of each reads its files from disk
    pairs = [(ours(), peer()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
