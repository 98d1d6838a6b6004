"""Faults of the machine: a full disk, a locked database, a database that is away. The platform says so, and goes on."""

import os
import sqlite3
import threading

import psycopg
import pytest

from modelops.contracts.errors import StorageFull, Unavailable
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

NOW = "2026-01-01T00:00:00Z"
POINT = {"key": "loss", "value": 0.5, "step": 9, "timestamp": NOW}


@pytest.mark.slow
def test_a_full_disk_is_told_nothing_is_half_done_and_it_recovers(small_disk):
    disk = small_disk("48m")
    with platform_process(disk / "home") as platform:
        with platform.client() as client:
            client.rest.retry_for_s = 0
            client.data.create_dataset("d")
            client.experiments.create_experiment("stream")
            run = client.experiments.create_run("stream").id
            before = client.data.list_artifacts().total
            with pytest.raises(StorageFull) as full:
                client.data.upload_artifact(os.urandom(64 * 1024 * 1024))
            assert full.value.hint
            assert client.data.list_artifacts().total == before
            assert client.data.upload_artifact(b"small").size == 5
            ballast = disk / "ballast"
            _fill(ballast)
            with pytest.raises((StorageFull, Unavailable)):
                _write_until_refused(client)
            logged = _log_until_full(client, run)
            assert client.platform.get_version().version
            ballast.unlink()
            wait_for(lambda: _works(client))
            assert client.experiments.get_metric_history(run, "loss").total in (logged, logged + 1_000)
            assert _log_at_mlflows_door(client, run, logged) == 200
            kept = {e.name for e in client.experiments.list_experiments(limit=1000).items}
        platform.kill()
        platform.start()
        with platform.client() as client:
            assert {e.name for e in client.experiments.list_experiments(limit=1000).items} == kept


def _write_until_refused(client):
    for number in range(2000):
        client.experiments.create_experiment(f"e{number}")


def _log_until_full(client, run):
    """Log natively until the disk is full, find MLflow's door as full, and return how many points were acknowledged."""
    logged = 0
    try:
        while logged < 10_000_000:
            steps = range(logged, logged + 1_000)
            points = [{"key": "loss", "value": step / 7, "step": step, "timestamp": NOW} for step in steps]
            client.experiments.log_batch(run, metrics=points)
            logged += 1_000
    except StorageFull:
        pass
    assert _log_at_mlflows_door(client, run, logged) == 507
    return logged


def _log_at_mlflows_door(client, run, start):
    metrics = [
        {"key": "loss", "value": s / 7, "step": s, "timestamp": 1_767_225_600_000} for s in range(start, start + 1_000)
    ]
    answer = client.rest.http.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "metrics": metrics})
    return answer.status_code


def _fill(path):
    try:
        with path.open("wb") as file:
            while True:
                file.write(b"\0" * 65536)
                file.flush()
    except OSError:
        pass


def _works(client):
    try:
        return client.experiments.create_experiment("after").name == "after"
    except (StorageFull, Unavailable):
        return False


@pytest.mark.slow
def test_a_locked_database_is_waited_for_and_then_told(tmp_path):
    with platform_process(tmp_path / "home") as platform, platform.client(request_timeout_s=60) as client:
        client.rest.retry_for_s = 0
        other = sqlite3.connect(tmp_path / "home" / "modelops.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert client.data.list_datasets().total == 0
        outcome = []

        def write():
            try:
                outcome.append(client.data.create_dataset("d"))
            except Unavailable as told:
                outcome.append(told)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(timeout=60)
        assert isinstance(outcome[0], Unavailable)
        assert "busy" in outcome[0].detail
        other.execute("ROLLBACK")
        other.close()
        assert client.data.create_dataset("d").name == "d"


@pytest.mark.slow
def test_a_database_that_goes_away_is_told_and_used_again_when_it_is_back(tmp_path, postgres, postgres_database):
    server = postgres.format(name="postgres").replace("+psycopg", "")
    name = postgres_database.split("?")[0].rsplit("/", 1)[1]
    with platform_process(tmp_path / "home", database=postgres_database) as platform, platform.client() as client:
        client.rest.retry_for_s = 0
        client.data.create_dataset("before")
        client.experiments.create_experiment("stream")
        run = client.experiments.create_run("stream").id
        assert _log_at_mlflows_door(client, run, 0) == 200
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            with pytest.raises(Unavailable, match="does not answer"):
                client.data.create_dataset("during")
            with pytest.raises(Unavailable, match="does not answer"):
                client.experiments.log_batch(run, metrics=[POINT])
            assert _log_at_mlflows_door(client, run, 1_000) == 503
            assert platform.process.poll() is None
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        wait_for(lambda: _answers(client))
        assert {dataset.name for dataset in client.data.list_datasets().items} == {"before"}
        client.data.create_dataset("after")
        client.experiments.log_batch(run, metrics=[POINT])
        assert _log_at_mlflows_door(client, run, 1_000) == 200
        assert client.experiments.get_metric_history(run, "loss").total == 2_001
        wait_for(
            lambda: "modelops.data.dataset_created" in [e.type for e in client.platform.stream_events(follow=False)]
        )


def _answers(client):
    try:
        return client.data.list_datasets().total == 1
    except Unavailable:
        return False
