"""A fan-out of a hundred steps that do nothing: from the start of a run to its end, as whoever started it sees it.

Each of the systems stands already, and knows the pipeline; ours is `mops up` with SQLite. Dagster is measured as it comes,
with a process for each step, and beside it with all steps in one process, which a step that crashes would end. Airflow is
measured as `airflow standalone` runs it.
"""

import os
import secrets
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.environments import PeerMissing, environment
from benchmarks.figures import Figure, smaller_is_better
from benchmarks.startup import free_port
from modelops.domains.pipelines.files import load_pipeline
from modelops.sdk.local import LocalPlatform

PROGRAMS = Path(__file__).parent / "programs"
WIDTH = 100
ROUNDS = 5
PEER_ROUNDS = {"multiprocess": 1, "in_process": 3}
"""A run of a process a step takes minutes."""

_AIRFLOW_WITHIN_S = 1800.0


def measure(folder: Path) -> list[Figure]:
    ours = statistics.median(_ours(folder / "home"))
    peers: dict[str, Callable[[], list[float]]] = {
        "Dagster, a process a step (its default)": lambda: _dagster(folder, "multiprocess"),
        "Dagster, all in one process": lambda: _dagster(folder, "in_process"),
        "Airflow standalone": lambda: _airflow(folder),
    }
    figures = []
    for peer, run in peers.items():
        try:
            theirs = statistics.median(run())
        except PeerMissing as wrong:
            print(f"fan-out by {peer}: not measured, since {wrong}", flush=True)
            continue
        print(f"fan-out: ours {ours:.2f} s, {peer} {theirs:.2f} s", flush=True)
        figures.append(smaller_is_better(f"fan-out of {WIDTH} no-op steps, wall", ours, theirs, peer, "s"))
    return figures


def _ours(home: Path) -> list[float]:
    platform = LocalPlatform(home)
    platform.start()
    try:
        with platform.client() as client:
            client.pipelines.register_pipeline(load_pipeline(PROGRAMS / "fan.py"))
            taken = []
            for _ in range(1 + ROUNDS):
                began = time.perf_counter()
                run = client.pipelines.start_run("fan", use_cache=False)
                ended = client.pipelines.wait_for_run(run.id, within_s=300)
                taken.append(time.perf_counter() - began)
                if ended.state != "succeeded" or client.pipelines.read_output(run.id, "total") != sum(range(WIDTH)):
                    raise SystemExit(f"our run failed: {ended.reason}")
            return taken[1:]
    finally:
        platform.stop()


def _dagster(folder: Path, how: str) -> list[float]:
    peer = environment("dagster", ["dagster>=1.12", "dagster-webserver"])
    home = folder / f"dagster-{how}"
    home.mkdir()
    command = [str(peer / "bin" / "python"), str(PROGRAMS / "dagster_fan.py"), how, str(PEER_ROUNDS[how])]
    facts = {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    done = subprocess.run(command, env=os.environ | facts, capture_output=True, text=True)
    if done.returncode:
        raise PeerMissing(f"it ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return [float(line) for line in done.stdout.splitlines()]


def _airflow(folder: Path) -> list[float]:
    peer = environment("airflow", ["apache-airflow>=3.0"])
    home = folder / "airflow"
    shutil.copytree(PROGRAMS / "airflow_dags", home / "dags")
    port = free_port()
    facts = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "PATH": f"{peer / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    with _standing([str(peer / "bin" / "airflow"), "standalone"], facts, home / "log"):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            return [_airflow_run(http)]


def _airflow_run(http: httpx.Client) -> float:
    deadline = time.monotonic() + _AIRFLOW_WITHIN_S
    while True:
        try:
            token = http.get("/auth/token").raise_for_status().json()["access_token"]
            http.headers["Authorization"] = f"Bearer {token}"
            http.get("/api/v2/dags/fan").raise_for_status()
            break
        except (httpx.HTTPError, ValueError, KeyError) as wrong:
            if time.monotonic() > deadline:
                raise PeerMissing(f"it does not answer: {wrong}") from wrong
            time.sleep(1.0)
    began = time.perf_counter()
    started = http.post("/api/v2/dags/fan/dagRuns", json={"logical_date": None}).raise_for_status().json()
    path = f"/api/v2/dags/fan/dagRuns/{started['dag_run_id']}"
    while (state := http.get(path).raise_for_status().json()["state"]) not in ("success", "failed"):
        if time.monotonic() > deadline:
            raise PeerMissing(f"its run is still {state} after {_AIRFLOW_WITHIN_S:.0f} s")
        time.sleep(0.5)
    if state == "failed":
        raise PeerMissing("its run failed")
    return time.perf_counter() - began


@contextmanager
def _standing(command: list[str], facts: dict[str, str], log: Path) -> Iterator[None]:
    """Run a command for the length of the block, and end all that it started."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=os.environ | facts, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        yield
    finally:
        import psutil

        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        for pid in family:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        process.wait()


if __name__ == "__main__":
    sys.exit("make bench NAME=pipelines ONLY=fanout")
