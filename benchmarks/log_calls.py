"""What `log_metric` costs the program that trains: CPU and wall time of a call, and CPU of the whole program until delivered.

Ours sends to `mops up`, MLflow to `mlflow server`, both on SQLite, each in a process of its own that is not counted. MLflow is
measured as it is by default (a request a call) and with its asynchronous logging.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure, smaller_is_better
from benchmarks.startup import answers, free_port

PEERS = {"mlflow": ["mlflow==3.17.*"]}
ROUNDS = 3
OURS_CALLS, SYNC_CALLS, ASYNC_CALLS = 20_000, 200, 2_000

MEASURE = """
import json, sys, time
calls = int(sys.argv[1])
def measured(log, deliver):
    for step in range(50):
        log(-50 + step)
    before = time.process_time()
    wall, cpu = time.perf_counter(), time.thread_time()
    for step in range(calls):
        log(step)
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    deliver()
    whole = time.process_time() - before
    print(json.dumps({name: value / calls * 1e6 for name, value in dict(wall=wall, cpu=cpu, whole=whole).items()}))
"""
OURS = """
from modelops import start_experiment
with start_experiment("bench") as run:
    measured(lambda step: run.log_metric("loss", 1 / (step + 51), step=step), lambda: run.flush(within_s=300))
"""
SYNC = """
import mlflow
with mlflow.start_run():
    measured(lambda step: mlflow.log_metric("loss", 1 / (step + 51), step=step), lambda: None)
"""
ASYNC = """
import mlflow
with mlflow.start_run():
    log = lambda step: mlflow.log_metric("loss", 1 / (step + 51), step=step, synchronous=False)
    measured(log, mlflow.flush_async_logging)
"""
UNITS = {"cpu": "µs CPU", "wall": "µs wall", "whole": "µs CPU"}
NAMES = {"cpu": "a call, its thread", "wall": "a call", "whole": "a call, whole program until delivered"}


def measure(peers: dict[str, Path]) -> list[Figure]:
    python = peers["mlflow"] / "bin" / "python"
    figures = []
    with tempfile.TemporaryDirectory() as folder, ours_up(Path(folder)) as ours, mlflow_up(peers["mlflow"]) as mlflow:
        rounds = [
            (
                run(Path(sys.executable), OURS, OURS_CALLS, ours),
                {
                    "a request a call": run(python, SYNC, SYNC_CALLS, mlflow),
                    "async": run(python, ASYNC, ASYNC_CALLS, mlflow),
                },
            )
            for _ in range(1 + ROUNDS)
        ][1:]  # the first run of each reads its files from disk
    for peer in ("a request a call", "async"):
        for kind, unit in UNITS.items():
            mine = statistics.median(own[kind] for own, _ in rounds)
            theirs = statistics.median(others[peer][kind] for _, others in rounds)
            figures.append(smaller_is_better(f"log_metric, {NAMES[kind]}", mine, theirs, f"mlflow 3.17, {peer}", unit))
    return figures


def run(python: Path, script: str, calls: int, environment: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [str(python), "-c", MEASURE + script, str(calls)], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[0])


@contextmanager
def ours_up(folder: Path) -> Iterator[dict[str, str]]:
    port, home = free_port(), folder / "home"
    command = [str(Path(sys.prefix) / "bin" / "mops"), "--home", str(home), "up", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with up(command, lambda: answers(f"{url}/readyz")):
        yield {**clean(), "MODELOPS_HOME": str(home), "MODELOPS_URL": url}


@contextmanager
def mlflow_up(environment: Path) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        store = [
            "--backend-store-uri",
            f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination",
            f"{folder}/artifacts",
        ]
        command = [str(environment / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), *store]
        with up(command, lambda: answers(f"{url}/health")):
            yield {**clean(), "MLFLOW_TRACKING_URI": url}


@contextmanager
def up(command: list[str], is_ready: Callable[[], bool]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=clean(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not come up")
            time.sleep(0.05)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("MODELOPS_", "MLFLOW_"))}
