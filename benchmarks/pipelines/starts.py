"""How soon a job runs: from the request that submits it to its process, and to the first line of its recipe.

`make bench NAME=pipelines ONLY=starts`, on an idle machine.
"""

import json
import statistics
import time
from pathlib import Path

from benchmarks.figures import Figure, smaller_is_better
from modelops.testing.process import platform_process

JOBS = 20
REACH_S = 0.15
"""From the request to the process, median."""

_FUNCTION = "modelops.testing.tasks:tell_time"


def measure(folder: Path) -> list[Figure]:
    with platform_process(folder / "home") as platform, platform.client() as client:
        rounds = [one(platform.home, client) for _ in range(JOBS)]
    processes, lines = (sorted(times) for times in zip(*rounds[1:], strict=True))  # the first imports what all need
    print(
        f"to the process: {processes[0]:.3f} to {processes[-1]:.3f} s; to the first line: {lines[0]:.3f} to {lines[-1]:.3f} s"
    )
    print(f"to the first line, median: {statistics.median(lines):.3f} s")
    return [
        smaller_is_better("job submitted to process started", statistics.median(processes), REACH_S, "reach", "s wall")
    ]


def one(home: Path, client) -> tuple[float, float]:
    """Submit a job, and return when its process was there and when its recipe's first line ran, in seconds."""
    began = time.time()
    job = client.training.submit_job("python-function", parameters={"function": _FUNCTION})
    job = client.training.wait_for_job(job.id, within_s=60)
    assert job.state == "succeeded", job.reason
    state = home / "jobs" / f"{job.id}-1" / "state.json"  # written last when the process is there, with its pid
    assert json.loads(state.read_bytes())["pid"]
    return state.stat().st_mtime - began, job.result.metrics["time"] - began
