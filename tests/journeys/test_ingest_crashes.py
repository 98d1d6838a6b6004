"""`kill -9` of the platform during streams of batches: what was acknowledged is there once, and the latest values agree."""

import random
import signal
import threading
import time

import httpx
import pytest

from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

KILLS = 25
KEYS, STEPS = 3, 50


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_no_acknowledged_metric_is_lost_or_doubled(tmp_path, database, request):
    settings = {"database": request.getfixturevalue("postgres_database")} if database == "postgres" else {}
    luck = random.Random(20261121)
    with platform_process(tmp_path / "home", **settings) as platform:
        with platform.client() as client:
            token = client.rest.http.headers["authorization"]
            client.experiments.create_experiment("stream")
            shared = client.experiments.create_run("stream").id
            own = [client.experiments.create_run("stream").id for _ in range(2)]
        writers = [Writer(platform.url, token, run, number) for number, run in enumerate([shared, shared, *own])]
        for writer in writers:
            writer.start()
        for _ in range(KILLS):
            time.sleep(luck.uniform(0.05, 0.6))
            platform.process.send_signal(signal.SIGKILL)
            platform.process.wait()
            platform.start()
        for writer in writers:
            writer.stop()
        assert sum(writer.again for writer in writers) > KILLS // 5, "too few batches met a kill"
        with httpx.Client(base_url=platform.url, headers={"Authorization": token}, timeout=60) as http:
            for run in (shared, *own):
                check(http, run, [writer for writer in writers if writer.run_id == run])


class Writer(threading.Thread):
    """Sends batch after batch, each until it is acknowledged; alternately at MLflow's door and at our own."""

    def __init__(self, url, token, run_id, number):
        super().__init__(daemon=True)
        self.http = httpx.Client(base_url=url, headers={"Authorization": token}, timeout=20)
        self.run_id, self.number = run_id, number
        self.batches = self.again = 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.is_set():
            while not self.send(self.batches):
                self.again += 1
                time.sleep(0.05)
            self.batches += 1

    def stop(self):
        self.ended.set()
        self.join(60)
        assert not self.is_alive()
        self.http.close()

    def points(self, batch):
        return [
            (f"m{self.number}.{key}", batch * STEPS + step, (batch * STEPS + step) * (-1) ** key / 7)
            for step in range(STEPS)
            for key in range(KEYS)
        ]

    def send(self, batch):
        points = self.points(batch)
        if batch % 2:
            metrics = [{"key": k, "step": s, "value": v, "timestamp": stamp(s)} for k, s, v in points]
            path, body = f"/v1/runs/{self.run_id}/log", {"metrics": metrics}
        else:
            metrics = [{"key": k, "step": s, "value": v, "timestamp": 1_700_000_000_000 + s} for k, s, v in points]
            path, body = "/api/2.0/mlflow/runs/log-batch", {"run_id": self.run_id, "metrics": metrics}
        try:
            answer = self.http.post(path, json=body)
        except httpx.TransportError:
            return False
        assert answer.status_code == 200 or answer.status_code >= 500, answer.text
        return answer.status_code == 200


def stamp(step):
    seconds, milliseconds = divmod(1_700_000_000_000 + step, 1_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03d}Z"


def check(http, run, writers):
    wait_for(lambda: http.get("/readyz").status_code == 200)
    latest = http.get(f"/v1/runs/{run}").json()["metrics"]
    assert len(latest) == len(writers) * KEYS
    for writer in writers:
        sent = {}
        for batch in range(writer.batches):
            for key, step, value in writer.points(batch):
                sent.setdefault(key, []).append((step, value))
        for key, expected in sent.items():
            query = {"run_id": run, "metric_key": key}
            history = http.get("/api/2.0/mlflow/metrics/get-history", params=query).json()["metrics"]
            assert sorted((one["step"], one["value"]) for one in history) == sorted(expected)
            assert latest[key] == max(expected)[1]
