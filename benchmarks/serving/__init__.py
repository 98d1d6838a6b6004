"""Serving against its peers, by requests per server CPU-second over the whole process tree; wall, p50 and p99 beside.

All serve the same RandomForest(100) and LogisticRegression on breast cancer, with authentication, routing and monitoring
on in ours. The load is `wrk`'s; server and load share the machine. Ours runs before and after the peers; of several
measurements the median counts.

`make bench NAME=serving PEERS=fastapi,ray ONLY=rows,swaps CELL_S=2` runs a part, and writes no results; with `ONLY` alone
the figures of those steps are written in their places. The steps: limits, rows, guards, tensors, swaps.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.serving.cells import Book
from benchmarks.serving.loads import require_wrk
from benchmarks.serving.models import train
from benchmarks.serving.steps import STEPS

PEERS: dict[str, list[str]] = {}
"""None that all need: each is installed when its turn comes, and one that cannot be is named."""

PART = any(os.environ.get(name) for name in ("PEERS", "CELL_S"))
STEPS_ALONE = bool(os.environ.get("ONLY"))


def measure(_: dict[str, Path]) -> list[Figure]:
    require_wrk()
    chosen = [name for name in os.environ.get("ONLY", "").split(",") if name] or list(STEPS)
    if unknown := set(chosen) - set(STEPS):
        raise SystemExit(f"There is no step {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}.")
    book = Book(float(os.environ.get("CELL_S") or 5))
    figures: list[Figure] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the servers are ended, too
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        forest, linear = train(Path(folder))
        for name in chosen:
            figures += STEPS[name](book, Path(folder), forest, linear)
    book.print()
    return figures
