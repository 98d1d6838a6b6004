"""How soon one can work: import, the first word of the command line, and the server's readiness, against MLflow."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from benchmarks.figures import Figure, alternate, cpu_of, smaller_is_better, wall_of

PEERS = {"mlflow": ["mlflow==3.17.*"]}
ROUNDS = 5


def measure(peers: dict[str, Path]) -> list[Figure]:
    ours, mlflow = Path(sys.prefix) / "bin", peers["mlflow"] / "bin"
    figures = []
    commands = {
        "import": ([str(ours / "python"), "-c", "import modelops"], [str(mlflow / "python"), "-c", "import mlflow"]),
        "import and use a client": (
            [str(ours / "python"), "-c", "from modelops import Client"],
            [str(mlflow / "python"), "-c", "from mlflow import MlflowClient"],
        ),
        "--help": ([str(ours / "mops"), "--help"], [str(mlflow / "mlflow"), "--help"]),
    }
    for name, (a, b) in commands.items():
        for unit, of in (("s CPU", cpu_of), ("s wall", lambda command: wall_of(lambda: cpu_of(command)))):
            mine, theirs = alternate(lambda a=a, of=of: of(a), lambda b=b, of=of: of(b), ROUNDS)
            figures.append(smaller_is_better(f"{name}, {unit}", mine, theirs, "mlflow 3.17", unit))
    mine, theirs = alternate(lambda: ready_ours(ours), lambda: ready_mlflow(mlflow), 3)
    figures.append(smaller_is_better("server to ready, s wall", mine, theirs, "mlflow server 3.17", "s wall"))
    return figures


def ready_ours(binaries: Path) -> float:
    with tempfile.TemporaryDirectory() as home:
        port = free_port()
        return until_ready(
            [str(binaries / "mops"), "--home", f"{home}/h", "up", "--port", str(port)],
            f"http://127.0.0.1:{port}/readyz",
        )


def ready_mlflow(binaries: Path) -> float:
    with tempfile.TemporaryDirectory() as home:
        port = free_port()
        store = ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", f"{home}/artifacts"]
        command = [str(binaries / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), *store]
        return until_ready(command, f"http://127.0.0.1:{port}/health")


def until_ready(command: list[str], url: str) -> float:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MODELOPS_", "MLFLOW_"))}
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=environment
    )
    try:
        while time.perf_counter() - began < 120:
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            if answers(url):
                return time.perf_counter() - began
            time.sleep(0.01)
        raise TimeoutError(url)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
