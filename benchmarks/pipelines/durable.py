"""What a durable step costs through our port, against DBOS as it comes, on the same database."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from benchmarks.environments import ROOT, PeerMissing
from benchmarks.figures import Figure, smaller_is_better
from benchmarks.pipelines.databases import make, postgres

PROGRAM = Path(__file__).parent / "programs" / "stories.py"
SHAPES = {"one story of 2,000 steps": (1, 2000), "100 stories of 20 steps at once": (100, 20)}
ROUNDS = 3
PEER = "raw DBOS 3.4"


def measure(folder: Path) -> list[Figure]:
    numbers = count()
    databases: dict[str, Callable[[], str]] = {}

    def file() -> str:
        (own := folder / str(next(numbers))).mkdir()
        return f"sqlite+pysqlite:///{own}/stories.db"

    databases["SQLite"] = file
    found = []
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres())
            databases["PostgreSQL"] = lambda: make(server, f"bench_{next(numbers)}")
        except PeerMissing as wrong:
            print(f"durable steps on PostgreSQL: not measured, since {wrong}", flush=True)
        for database, fresh in databases.items():
            for shape, (stories, steps) in SHAPES.items():
                found += _compare(f"durable step, {database}, {shape}", fresh, stories, steps)
    return found


def _compare(figure: str, fresh: Callable[[], str], stories: int, steps: int) -> list[Figure]:
    taken: dict[str, list[dict[str, float]]] = {"ours": [], "dbos": []}
    for _ in range(ROUNDS):  # in turn, so that the machine's moods hit both
        for side, seen in taken.items():
            seen.append(_run(side, fresh(), stories, steps))
    mine, theirs = ({unit: statistics.median(s[unit] for s in seen) for unit in seen[0]} for seen in taken.values())
    print(f"{figure}: wall {1000 * mine['wall']:.2f} ms, {PEER} {1000 * theirs['wall']:.2f} ms a step", flush=True)
    return [smaller_is_better(f"{figure}, CPU", 1000 * mine["cpu"], 1000 * theirs["cpu"], PEER, "ms")]


def _run(side: str, url: str, stories: int, steps: int) -> dict[str, float]:
    command = [sys.executable, str(PROGRAM), side, url, str(stories), str(steps)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{side} failed: {done.stderr.strip()[-500:]}")
    measured: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured
