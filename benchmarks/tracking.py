"""Experiments at MLflow's door: the cost of logging, searching and reading, against `mlflow server` on SQLite.

Both keep SQLite's `synchronous=FULL`. Server CPU is that of the whole process tree, less what it takes when idle. What is
sent is the same; the first two figures differ in the path alone. Runs and versions are made by eight clients at once, and
one after the other. Wall figures run the unmodified client in processes of its own.
"""

import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.figures import Figure, smaller_is_better
from benchmarks.startup import answers, free_port

PEERS = {"mlflow": ["mlflow==3.17.*"]}
PEER = "mlflow server 3.17"
BATCHES, MADE, CLIENTS, SEARCHED, HISTORY = 40, 400, 8, 10_000, 100_000
MILLIONS = int(os.environ.get("MODELOPS_BENCH_MILLIONS", "10"))
MEMORY_LIMIT_MB = 300.0


@dataclass
class Server:
    process: psutil.Process
    url: str
    headers: dict[str, str]
    home: Path
    idle: float = 0.0

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, headers=self.headers, timeout=300)
        rates = [self._rate(), self._rate()]
        while abs(rates[-1] - rates[-2]) > 0.01 and len(rates) < 20:  # what starts in the background is not idleness
            rates.append(self._rate())
        self.idle = min(rates[-2:])

    def _rate(self) -> float:
        began, cpu = time.perf_counter(), self.cpu()
        time.sleep(2)
        return (self.cpu() - cpu) / (time.perf_counter() - began)

    def cpu(self) -> float:
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
        return total

    def cost(self, action: Callable[[], object]) -> float:
        """Return the CPU seconds that the server takes for an action, without its idle ones."""
        began, cpu = time.perf_counter(), self.cpu()
        action()
        return self.cpu() - cpu - self.idle * (time.perf_counter() - began)

    def post(self, path: str, body: object) -> dict:
        answer = self.http.post(path, content=body if isinstance(body, bytes) else json.dumps(body))
        if answer.status_code >= 300:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else {}

    def mlflow(self, path: str, body: object) -> dict:
        return self.post(f"/api/2.0/mlflow/{path}", body)

    def experiment(self) -> str:
        return self.mlflow("experiments/create", {"name": f"bench {time.time_ns()}"})["experiment_id"]

    def run(self, experiment: str) -> str:
        body = {"experiment_id": experiment, "start_time": 1_700_000_000_000}
        return self.mlflow("runs/create", body)["run"]["info"]["run_id"]


def measure(peers: dict[str, Path]) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        with ours(Path(folder) / "ours") as mine, mlflow_server(peers["mlflow"], Path(folder) / "mlflow") as theirs:
            for step in (batches, wall_of_clients, creations, versions, search, history):
                figures += step(mine, theirs, peers["mlflow"])
                for figure in figures[-2:]:
                    print(
                        f"{figure.figure}: {figure.ours} against {figure.peer} {figure.unit}, {figure.ratio}x",
                        flush=True,
                    )
        with ours(Path(folder) / "memory") as mine:
            figures += memory(mine)
    return figures


def batches(mine: Server, theirs: Server, _: Path) -> list[Figure]:
    """1,000 points of ten keys a batch, a hundred steps each."""

    def bodies(run: str, native: bool) -> Iterator[bytes]:
        for batch in range(BATCHES):
            points = [(f"metric {key}", batch * 100 + step, key + step / 7) for step in range(100) for key in range(10)]
            if native:
                metrics = [
                    {"key": k, "value": v, "step": s, "timestamp": f"2026-01-02T03:04:05.{s:06d}Z"}
                    for k, s, v in points
                ]
                yield json.dumps({"metrics": metrics}).encode()
            else:
                metrics = [{"key": k, "value": v, "step": s, "timestamp": 1_700_000_000_000 + s} for k, s, v in points]
                yield json.dumps({"run_id": run, "metrics": metrics}).encode()

    def per_metric(server: Server, native: bool = False) -> float:
        run = server.run(server.experiment())
        path = f"/v1/runs/{run}/log" if native else "/api/2.0/mlflow/runs/log-batch"
        prepared = list(bodies(run, native))
        server.post(path, prepared[0])
        cost = server.cost(lambda: [server.post(path, body) for body in prepared[1:]])
        return cost / ((BATCHES - 1) * 1_000) * 1e6

    rounds = [(per_metric(mine, native=True), per_metric(mine), per_metric(theirs)) for _ in range(3)]
    native, door, peer = (statistics.median(column) for column in zip(*rounds, strict=True))
    return [
        smaller_is_better("log_batch of 1,000, native path, server CPU", native, peer, PEER, "us/metric"),
        smaller_is_better("log_batch of 1,000, MLflow path, server CPU", door, peer, PEER, "us/metric"),
    ]


CLIENT = """
import sys, time
from mlflow import MlflowClient
from mlflow.entities import Metric
what, experiment, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = MlflowClient()
run = client.create_run(experiment).info.run_id
client.log_metric(run, "warm", 1.0)
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
for n in range(count):
    if what == "batch":
        client.log_batch(run, [Metric(f"m{i % 10}", i / 3, 1_700_000_000_000 + i, n * 100 + i // 10) for i in range(1000)])
    else:
        client.log_metric(run, "loss", n / 3, step=n)
print(time.perf_counter() - began)
"""


def wall_of_clients(mine: Server, theirs: Server, peer: Path) -> list[Figure]:
    def wall(server: Server, what: str, count: int, clients: int) -> float:
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": server.url,
            "MLFLOW_TRACKING_TOKEN": server.headers.get("Authorization", "Bearer none").partition(" ")[2],
        }
        command = [str(peer / "bin" / "python"), "-c", CLIENT, what, server.experiment(), str(count)]
        processes = [
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(clients)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        began = time.perf_counter()
        for process in processes:
            process.communicate("go\n", timeout=600)
            assert process.returncode == 0
        return time.perf_counter() - began

    found = []
    for name, what, count, clients in (
        ("log_batch of 1,000 through mlflow's client, wall", "batch", 30, 1),
        ("log_metric through mlflow's client, 4 at once, wall", "single", 150, 4),
    ):
        rounds = [(wall(mine, what, count, clients), wall(theirs, what, count, clients)) for _ in range(3)]
        a, b = (statistics.median(column) / (count * clients) * 1e3 for column in zip(*rounds, strict=True))
        found.append(smaller_is_better(name, a, b, PEER, "ms/call"))
    return found


def creations(mine: Server, theirs: Server, _: Path) -> list[Figure]:
    def body(server: Server) -> dict:
        tags = [{"key": f"mlflow.source.{n}", "value": "value"} for n in range(4)]
        return {
            "experiment_id": server.experiment(),
            "start_time": 1_700_000_000_000,
            "run_name": "a run",
            "tags": tags,
        }

    return made("runs created", "runs/create", body, mine, theirs)


def versions(mine: Server, theirs: Server, _: Path) -> list[Figure]:
    def body(server: Server) -> dict:
        name = f"model {time.time_ns()}"
        server.mlflow("registered-models/create", {"name": name})
        return {"name": name, "source": "s3://bucket/model", "tags": [{"key": "a", "value": "b"}]}

    return made("versions registered", "model-versions/create", body, mine, theirs)


def made(what: str, path: str, body: Callable[[Server], dict], mine: Server, theirs: Server) -> list[Figure]:
    """Make things one after the other, and with several clients at once."""

    def cost(server: Server, clients: int) -> float:
        sent = body(server)
        server.mlflow(path, sent)
        with ThreadPoolExecutor(clients) as pool:
            spent = server.cost(lambda: list(pool.map(lambda _: server.mlflow(path, sent), range(MADE))))
        return spent / MADE * 1e3

    found = []
    for how, clients in (("", CLIENTS), (", one after the other", 1)):
        rounds = [(cost(mine, clients), cost(theirs, clients)) for _ in range(3)]
        a, b = (statistics.median(column) for column in zip(*rounds, strict=True))
        found.append(smaller_is_better(f"{what}, server CPU{how}", a, b, PEER, "ms each"))
    return found


def search(mine: Server, theirs: Server, _: Path) -> list[Figure]:
    """10,000 runs with five metrics, five parameters and three tags; the best 1,000 of those above a bound."""

    def fill_ours() -> str:
        experiment = mine.experiment()
        for n in range(SEARCHED):
            run = mine.run(experiment)
            body = {
                "run_id": run,
                "metrics": [
                    {"key": f"m{i}", "value": (n * 7919 % 10_007) + i, "timestamp": 1, "step": 1} for i in range(5)
                ],
                "params": [{"key": f"p{i}", "value": str(n % (i + 2))} for i in range(5)],
                "tags": [{"key": f"t{i}", "value": "red"} for i in range(3)],
            }
            mine.mlflow("runs/log-batch", body)
        return experiment

    def fill_mlflow() -> str:
        """Fill its database directly: over HTTP it would take minutes."""
        experiment = theirs.experiment()
        with sqlite3.connect(theirs.home / "mlflow.db", timeout=60) as db:
            for n in range(SEARCHED):
                run = f"{n:032x}"
                db.execute(
                    "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
                    " lifecycle_stage, artifact_uri, experiment_id, source_version)"
                    " VALUES (?, 'a run', 'UNKNOWN', '', '', 'me', 'RUNNING', 1700000000000, 'active', 'x', ?, '')",
                    (run, experiment),
                )
                db.executemany(
                    "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, 1, 1, 0, ?)",
                    [(f"m{i}", (n * 7919 % 10_007) + i, run) for i in range(5)],
                )
                db.executemany(
                    "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)",
                    [(f"p{i}", str(n % (i + 2)), run) for i in range(5)],
                )
                db.executemany(
                    "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
                    [(name, "red", run) for name in ("mlflow.runName", "t0", "t1", "t2")],
                )
        return experiment

    def per_search(server: Server, experiment: str, times: int) -> float:
        body = {
            "experiment_ids": [experiment],
            "filter": "metrics.m0 > 2000 AND params.p1 = '1'",
            "order_by": ["metrics.m1 DESC"],
            "max_results": 1_000,
        }
        found = server.mlflow("runs/search", body)
        assert len(found["runs"]) == 1_000
        return server.cost(lambda: [server.mlflow("runs/search", body) for _ in range(times)]) / times * 1e3

    a, b = per_search(mine, fill_ours(), 30), per_search(theirs, fill_mlflow(), 5)
    return [smaller_is_better("search of 10K runs, metric filter and order, server CPU", a, b, PEER, "ms/search")]


def history(mine: Server, theirs: Server, _: Path) -> list[Figure]:
    def per_history(server: Server, times: int) -> float:
        run = server.run(server.experiment())
        for start in range(0, HISTORY, 1_000):
            metrics = [
                {"key": "loss", "value": step / 7, "step": step, "timestamp": 1_700_000_000_000 + step}
                for step in range(start, start + 1_000)
            ]
            server.mlflow("runs/log-batch", {"run_id": run, "metrics": metrics})

        def read() -> int:
            query = {"run_id": run, "metric_key": "loss"}
            return len(server.http.get("/api/2.0/mlflow/metrics/get-history", params=query).json()["metrics"])

        assert read() == HISTORY
        return server.cost(lambda: [read() for _ in range(times)]) / times * 1e3

    a, b = per_history(mine, 5), per_history(theirs, 2)
    return [smaller_is_better("history of 100K points, server CPU", a, b, PEER, "ms/read")]


def memory(mine: Server) -> list[Figure]:
    experiment = mine.experiment()
    before = mine.process.memory_info().rss / 1e6
    for _ in range(MILLIONS):
        run = mine.run(experiment)
        for start in range(0, 100_000, 1_000):
            metrics = [
                {"key": f"m{key}", "value": step / 7, "step": step, "timestamp": f"2026-01-02T03:04:05.{step:06d}Z"}
                for step in range(start, start + 1_000)
                for key in range(10)
            ]
            mine.post(f"/v1/runs/{run}/log", {"metrics": metrics})
    after = mine.process.memory_info().rss / 1e6
    print(f"memory of the server: {before:.0f} MB before, {after:.0f} MB after {MILLIONS}M metrics")
    return [smaller_is_better(f"memory after {MILLIONS}M metrics", after, MEMORY_LIMIT_MB, "the limit", "MB")]


@contextmanager
def ours(home: Path) -> Iterator[Server]:
    port = free_port()
    command = [str(Path(sys.prefix) / "bin" / "mops"), "--home", str(home), "up", "--port", str(port)]
    with started(command, f"http://127.0.0.1:{port}/readyz") as process:
        key = json.loads((home / "credentials.json").read_text())
        yield Server(process, f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {_secret(key)}"}, home)


@contextmanager
def mlflow_server(environment: Path, home: Path) -> Iterator[Server]:
    home.mkdir()
    port = free_port()
    store = ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", f"{home}/artifacts"]
    command = [str(environment / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), *store]
    with started(command, f"http://127.0.0.1:{port}/health") as process:
        yield Server(process, f"http://127.0.0.1:{port}", {"Content-Type": "application/json"}, home)


@contextmanager
def started(command: list[str], ready: str) -> Iterator[psutil.Process]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MODELOPS_", "MLFLOW_"))}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=environment
    )
    try:
        deadline = time.monotonic() + 120
        while not answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _secret(found: object) -> str:
    """Return the key in the credentials file, wherever in it."""
    if isinstance(found, str):
        return found if found.startswith("mops_") else ""
    if isinstance(found, dict):
        return next(filter(None, map(_secret, found.values())), "")
    return ""
