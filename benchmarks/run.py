"""`make bench NAME=startup`: run one benchmark, print its table and write `results/<name>.json`.

A benchmark is a module of this folder with `PEERS` (environment -> requirements) and `measure(peers) -> list[Figure]`.
A peer lives in an environment of its own below `.bench/`. Figures are ratios within one run on one machine; `ratio` above 1
means ours is better.
"""

import importlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.environments import environment  # noqa: E402
from benchmarks.figures import Figure  # noqa: E402


def main(name: str) -> None:
    benchmark = importlib.import_module(f"benchmarks.{name}")
    peers = {peer: environment(peer, requirements) for peer, requirements in benchmark.PEERS.items()}
    before = os.getloadavg()[0]
    figures: list[Figure] = benchmark.measure(peers)
    print(f"\nload of the machine before: {before:.2f}, after: {os.getloadavg()[0]:.2f}, cores: {os.cpu_count()}\n")
    if figures:
        table(figures)
    if getattr(benchmark, "PART", False):
        print("\nnot written: this was a part of the benchmark")
        return
    results = ROOT / "benchmarks" / "results" / f"{name}.json"
    results.parent.mkdir(exist_ok=True)
    found = [asdict(figure) for figure in figures]
    if getattr(benchmark, "STEPS_ALONE", False) and results.exists():
        found = with_new(json.loads(results.read_text()), found)
    results.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\nwritten to {results.relative_to(ROOT)}")


def with_new(known: list[dict], found: list[dict]) -> list[dict]:
    """Return the figures of an earlier run with those of steps that were run again in their places."""
    new = {figure["figure"]: figure for figure in found}
    return [new.pop(figure["figure"], figure) for figure in known] + list(new.values())


def table(figures: list[Figure]) -> None:
    width = max(len(figure.figure) for figure in figures)
    print(f"{'figure':<{width}}  {'ours':>10}  {'peer':>10}  {'unit':<12}  {'ratio':>6}  peer")
    for f in figures:
        print(f"{f.figure:<{width}}  {f.ours:>10.3f}  {f.peer:>10.3f}  {f.unit:<12}  {f.ratio:>5.2f}x  {f.peer_name}")


__all__ = ["main"]


if __name__ == "__main__":
    main(sys.argv[1])
