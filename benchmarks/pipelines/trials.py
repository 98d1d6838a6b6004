"""Trials a second through the study API, against Optuna on its own SQLite storage.

The same sampler chooses in the same way on both sides, in one process, one trial after the other. Ours goes over HTTP to a
`mops up` in a process of its own, which keeps SQLite's `synchronous=FULL` and makes each trial a run.
"""

import json
import statistics
import subprocess
import sys
from itertools import count
from pathlib import Path

from benchmarks.environments import ROOT
from benchmarks.figures import Figure, larger_is_better
from modelops.testing.process import platform_process

PROGRAM = Path(__file__).parent / "programs" / "trials.py"
SHAPES = {
    "random sampler": ("random", 0),
    "TPE": ("tpe", 0),
    "TPE, 10 reports to a median pruner": ("tpe", 10),
}
TRIALS, ROUNDS = 60, 3
PEER = "Optuna 5.0 on SQLite"


def measure(folder: Path) -> list[Figure]:
    numbers, found = count(), []
    with platform_process(folder / "home") as platform, platform.client() as client:
        token = client.identity.create_api_key("bench").secret
        for shape, (sampler, reports) in SHAPES.items():
            rounds = []
            for _ in range(ROUNDS):  # in turn, so that the machine's moods hit both
                mine = _run("ours", platform.url, token, sampler, reports)
                theirs = _run("optuna", str(folder / f"{next(numbers)}.db"), "-", sampler, reports)
                rounds.append((mine, theirs))
            mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
            found.append(larger_is_better(f"trials, {shape}", 1 / mine, 1 / theirs, PEER, "trials/s"))
            unkept = _run("optuna", "memory", "-", sampler, reports)  # what the choice of points takes
            print(
                f"{shape}: {1 / mine:.1f} against {1 / theirs:.1f} trials a second;"
                f" Optuna in memory, where nothing is kept: {1 / unkept:.1f}",
                flush=True,
            )
    return found


def _run(side: str, where: str, token: str, sampler: str, reports: int) -> float:
    command = [sys.executable, str(PROGRAM), side, where, token, sampler, str(TRIALS), str(reports)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{side} failed: {done.stderr.strip()[-500:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1]))
