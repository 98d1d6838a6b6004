"""The peers: what each needs, how it is started at its best, and how it is asked."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.serving.servers import Server, instances, predictions, running
from benchmarks.startup import free_port

PROGRAMS = Path(__file__).with_name("programs")
CORES = os.cpu_count() or 1
SKLEARN = f"scikit-learn=={version('scikit-learn')}"
"""Ours, so that all read the same pickle."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MODEL_SETTINGS = {**ONE_THREAD, "SKLEARN_ASSUME_FINITE": "1"}
"""scikit-learn's own advice for single rows; ours goes without."""


@dataclass(frozen=True)
class Peer:
    """A peer.

    Attributes:
        settings: How it is set, for people.
        command: {bin}, {port}, {programs} and {cores} are filled in.
        path: Of predictions.
        write: Writes what it needs: its programs' folder, its own, the pickle, the port.
        prepare: Makes a request's body of rows.
        labels: Reads the labels in an answer's body.
    """

    label: str
    requirements: list[str]
    settings: str
    command: list[str]
    path: str = "/predict"
    environment: dict[str, str] = field(default_factory=dict)
    write: Callable[[Path, Path, Path, int], None] = lambda _binaries, _folder, _model, _port: None
    prepare: Callable[[list[list[float]]], bytes] = instances
    labels: Callable[[bytes], list[Any]] = predictions


@contextmanager
def serving(peer: Peer, binaries: Path, folder: Path, model: Path) -> Iterator[Server]:
    """Run a peer with a pickled model."""
    folder.mkdir()
    port = free_port()
    environment = {**MODEL_SETTINGS, "BENCH_MODEL": str(model), "BENCH_WORKERS": str(CORES), **peer.environment}
    environment["PATH"] = f"{binaries}:{os.environ['PATH']}"
    peer.write(binaries, folder, model, port)
    command = [part.format(bin=binaries, port=port, programs=PROGRAMS, cores=CORES) for part in peer.command]
    with running(command, folder, environment) as pid:
        url = f"http://127.0.0.1:{port}"
        yield Server(peer.label, url, peer.path, folder, peer.prepare, peer.labels, pid)


def _inputs(rows: list[list[float]]) -> bytes:
    return json.dumps({"inputs": rows}).encode()


def _tensor(rows: list[list[float]]) -> bytes:
    flat = [value for row in rows for value in row]
    tensor = {"name": "rows", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": flat}
    return json.dumps({"inputs": [tensor]}).encode()


def _write_mlserver(_binaries: Path, folder: Path, model: Path, port: int) -> None:
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "debug": False,
        "parallel_workers": 0,
        "metrics_endpoint": None,
    }
    batching = {"max_batch_size": 128, "max_batch_time": 0.005}
    served = {
        "name": "bench",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(folder / "model.joblib")},
        **batching,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(served))
    (folder / "model.joblib").write_bytes(model.read_bytes())


def _write_mlflow(binaries: Path, folder: Path, model: Path, _port: int) -> None:
    command = [str(binaries / "python"), str(PROGRAMS / "mlflow_save.py"), str(folder / "model")]
    environment = {**os.environ, "BENCH_MODEL": str(model)}
    subprocess.run(
        command, check=True, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


PEERS = {
    "fastapi": Peer(
        "FastAPI",
        ["fastapi==0.165.*", "uvicorn[standard]==0.54.*", SKLEARN],
        "uvicorn with httptools and uvloop, a worker per core, no log of accesses",
        [
            "{bin}/uvicorn",
            "fastapi_app:app",
            "--app-dir",
            "{programs}",
            "--port",
            "{port}",
            "--workers",
            "{cores}",
            "--http",
            "httptools",
            "--loop",
            "uvloop",
            "--no-access-log",
            "--log-level",
            "warning",
        ],
    ),
    "bentoml": Peer(
        "BentoML",
        ["bentoml==1.4.*", SKLEARN],
        "one worker (more make smaller batches), adaptive batching, no metrics and no log of accesses",
        ["{bin}/bentoml", "serve", "bento_service:Service", "--working-dir", "{programs}", "--port", "{port}"],
        environment={"BENTOML_DO_NOT_TRACK": "true", "BENCH_WORKERS": "1"},
        labels=lambda body: [row[0] for row in json.loads(body)],
    ),
    "litserve": Peer(
        "LitServe",
        ["litserve==0.2.*", SKLEARN],
        "one worker and one API process (more cost more), batches of up to 128 within 20 ms",
        ["{bin}/python", "{programs}/lit_server.py", "{port}"],
        environment={"BENCH_BATCH": "128", "BENCH_WAIT_S": "0.02", "BENCH_WORKERS": "1", "BENCH_API_SERVERS": "1"},
    ),
    "mlserver": Peer(
        "MLServer",
        ["mlserver==1.7.*", "mlserver-sklearn==1.7.*", SKLEARN],
        "no parallel workers (it ended with them in our trials), adaptive batching of up to 128 within 5 ms, no metrics",
        ["{bin}/mlserver", "start", "."],
        path="/v2/models/bench/infer",
        write=_write_mlserver,
        prepare=_tensor,
        labels=lambda body: json.loads(body)["outputs"][0]["data"],
    ),
    "mlflow-models": Peer(
        "mlflow models serve",
        ["mlflow==3.17.*", SKLEARN],
        "a worker per core, in its own environment",
        ["{bin}/mlflow", "models", "serve", "-m", "model", "-p", "{port}", "-w", "{cores}", "--env-manager", "local"],
        path="/invocations",
        write=_write_mlflow,
        prepare=_inputs,
    ),
    "ray": Peer(
        "Ray Serve",
        ["ray[serve]==2.60.*", SKLEARN],
        "HAProxy before one replica (its Python proxy costs 15 times as much), batches of up to 128 within 20 ms, its "
        "variable for throughput, no log of accesses",
        ["{bin}/python", "{programs}/ray_app.py", "{port}"],
        environment={
            "BENCH_BATCH": "128",
            "BENCH_WAIT_S": "0.02",
            "BENCH_WORKERS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
        },
    ),
}

RAW = {
    "raw": Peer(
        "raw protocol on uvloop",
        [],
        "a constant answer, a process per core",
        [sys.executable, "{programs}/raw.py", "{port}"],
    ),
    "uvicorn": Peer(
        "uvicorn, constant ASGI",
        [],
        "a constant answer, a worker per core",
        [
            sys.executable,
            "-m",
            "uvicorn",
            "raw:app",
            "--app-dir",
            "{programs}",
            "--port",
            "{port}",
            "--workers",
            "{cores}",
            "--http",
            "httptools",
            "--loop",
            "uvloop",
            "--no-access-log",
            "--log-level",
            "warning",
        ],
    ),
}
