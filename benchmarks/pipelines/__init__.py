"""Pipelines, workflows, studies and jobs, each against what it is measured by.

`make bench NAME=pipelines ONLY=durable` runs some steps, and writes their figures in their places. A step is a module of this
folder with `measure(folder) -> list[Figure]`, which is given a folder of its own.
"""

import importlib
import os
import pkgutil
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.environments import PeerMissing
from benchmarks.figures import Figure

PEERS: dict[str, list[str]] = {}
"""None that all need: each is installed when its turn comes, and one that cannot be is named."""

STEPS_ALONE = bool(os.environ.get("ONLY"))


def steps() -> list[str]:
    """Return the names of the steps."""
    modules = [name for _, name, package in pkgutil.iter_modules(__path__) if not package]
    return [name for name in modules if hasattr(importlib.import_module(f"{__name__}.{name}"), "measure")]


def measure(_: dict[str, Path]) -> list[Figure]:
    known = steps()
    chosen = [name for name in os.environ.get("ONLY", "").split(",") if name] or known
    if unknown := set(chosen) - set(known):
        raise SystemExit(f"There is no step {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the processes are ended, too
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        for name in chosen:
            own = Path(folder) / name
            own.mkdir(mode=0o755)
            try:
                figures += importlib.import_module(f"{__name__}.{name}").measure(own)
            except PeerMissing as wrong:
                print(f"{name}: not measured, since {wrong}", flush=True)
    return figures
