"""Functions for jobs of the recipe `python-function`, as a test needs them: ones that work, crash, hang, flood and are tuned."""

import os
import signal
import sys
import time
from typing import Any


def work(job: Any, *, seconds: float = 0.5, steps: int = 5) -> dict[str, Any]:
    """Track a run for a while, and report its last loss."""
    with job.start_run("work", {"steps": steps}) as run:
        for step in range(steps):
            time.sleep(seconds / steps)
            run.log_metrics({"loss": 1.0 / (step + 1)}, step=step)
    return {"run_id": run.id, "metrics": {"loss": 1.0 / steps}}


def crash(job: Any, *, why: str = "no reason") -> None:
    """Raise in the middle of a run."""
    with job.start_run("crash", {}):
        raise RuntimeError(why)


def leave(job: Any, *, code: int = 3) -> None:
    """End the process at once, as a crash in native code does."""
    job.start_run("leave", {})
    os._exit(code)


def hang(job: Any) -> None:
    """Never end by itself."""
    with job.start_run("hang", {}):
        while True:
            time.sleep(60)


def flood(job: Any, *, mebibytes: int = 100) -> dict[str, Any]:
    """Write much output, then succeed."""
    block = "x" * 1023 + "\n"
    for _ in range(mebibytes):
        sys.stdout.write(block * 1024)
    return {}


def devour(job: Any, *, mebibytes: int = 2048) -> dict[str, Any]:
    """Take much memory, and use it."""
    held = [bytearray(os.urandom(1024)) * 1024 for _ in range(mebibytes)]
    return {"metrics": {"blocks": len(held)}}


def tell_time(job: Any) -> dict[str, Any]:
    """Report when this line was reached, in seconds since 1970."""
    return {"metrics": {"time": time.time()}}


def count_on(job: Any, *, until: int = 10, pause_s: float = 0.05) -> dict[str, Any]:
    """Count, with a checkpoint now and then, and go on from the last one."""
    last = job.restore()
    first = int(last.read()) if last else 0
    job.log(f"goes on from {first}")
    with job.start_run("count", {"first": first}):
        for number in range(first + 1, until + 1):
            time.sleep(pause_s)
            job.progress(number, until)
            if number % 10 == 0:
                job.checkpoint(str(number).encode(), number)
    return {"summary": {"first": first, "last": until}}


def burn(job: Any, *, seconds: float = 1.0) -> None:
    """Keep a CPU busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def ignore_sigterm(job: Any) -> None:
    """Never end, and be deaf to being told."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job.log("deaf")
    while True:
        time.sleep(60)


def parabola(trial: Any) -> float:
    """Be an objective that a job finds by its name; its least value is 0, where `x` is 1."""
    value: float = (trial["x"] - 1) ** 2
    return value


def compute_on_spark(job: Any) -> None:
    """Have Spark compute what takes hours, on the rows of the job's dataset."""
    rows = job.spark_table().count()
    job.log(f"computing with {rows} rows")
    job.spark.range(10**14).selectExpr("sum(id * id % 7)").collect()
