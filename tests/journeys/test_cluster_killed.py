"""Two APIs, three controllers and two agents on one PostgreSQL, killed at random while jobs flow."""

import os
import random
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from tests.journeys.cluster import ADMIN_KEY, Cluster

from modelops.contracts.rest import Rest
from modelops.sdk.client import Client
from modelops.testing.waiting import wait_for

JOBS = int(os.environ.get("MODELOPS_TEST_JOBS", "120"))
"""With 500 it takes seven minutes on two busy cores, and holds as well."""
QUICK = (sys.executable, str(Path(__file__).with_name("quick_agent.py")))
WITHIN_S = 900


class Killer(threading.Thread):
    """Kills one process after another while another of its kind lives, and starts each again, until it is stopped."""

    def __init__(self, processes, seed):
        super().__init__(daemon=True)
        self.processes, self.random, self.over = processes, random.Random(seed), threading.Event()
        self.kills = Counter()

    def run(self):
        while not self.over.wait(self.random.uniform(0.5, 2.0)):
            victim = self.random.choice(self.processes)
            kind = [process for process in self.processes if process.kind == victim.kind]
            if victim.probe() != 200 or sum(process.probe() == 200 for process in kind) < 2:
                continue  # those killed before have not come up yet
            victim.kill()
            self.kills[victim.kind] += 1
            victim.start(wait=False)

    def stop(self):
        self.over.set()
        self.join()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_each_job_runs_once_and_none_is_lost_whoever_is_killed(tmp_path, postgres_database):
    marks = tmp_path / "marks"
    cluster = Cluster(
        tmp_path, postgres_database, max_running_jobs="6", controller_interval_s="0.3", run_heartbeat_timeout_s="300"
    )
    cluster.variables["MARKS"] = str(marks)
    killer = None
    try:
        processes = [cluster.add("api", number, start=False) for number in (1, 2)]
        processes += [cluster.add("controller", number, start=False) for number in (1, 2, 3)]
        processes += [cluster.add("agent", number, start=False, command=QUICK) for number in (1, 2)]
        for process in processes:
            process.start(wait=False)
        for process in processes:
            wait_for(process.is_ready, within_s=120)
        killer = Killer(processes, seed=20261121)
        killer.start()
        with patient_client(cluster) as client, ThreadPoolExecutor(4) as pool:
            jobs = list(pool.map(lambda number: submitted(client, number), range(JOBS)))
        wait_for(lambda: under_way(postgres_database) == 0, within_s=WITHIN_S, every_s=0.5)
        killer.stop()
        assert {"api", "controller", "agent"} <= killer.kills.keys()
        for process in processes:
            wait_for(process.is_ready, within_s=120)
        with psycopg.connect(plain(postgres_database)) as connection:
            states = dict(connection.execute("SELECT id, state FROM jobs").fetchall())
            attempts = dict(connection.execute("SELECT id, attempt FROM jobs").fetchall())
            events = Counter(
                subject
                for (subject,) in connection.execute(
                    "SELECT subject FROM outbox_events WHERE type = 'modelops.training.job_ended'"
                )
            )
            live_grants = connection.execute("SELECT count(*) FROM grants WHERE revoked_at IS NULL").fetchone()[0]
        ran = Counter(line.split()[0] for line in marks.read_text().splitlines())
        assert len(set(jobs)) == JOBS
        assert states.keys() == set(jobs) == ran.keys()
        assert set(states.values()) == {"succeeded"}
        assert set(ran.values()) == set(attempts.values()) == set(events.values()) == {1}
        assert live_grants == 0
        wait_for(lambda: unsettled(postgres_database) == 0)
    finally:
        if killer is not None and killer.is_alive():
            killer.stop()
        cluster.close()


@contextmanager
def patient_client(cluster):
    """A client that waits while no API answers."""
    http = httpx.Client(base_url=cluster.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30)
    with Client.over(Rest(http, retry_for_s=120)) as client:
        yield client


def submitted(client, number):
    """Submit a job, and return its id."""
    return client.training.submit_job("container", parameters={"image": "none"}, name=f"job {number}").id


def plain(url):
    return url.replace("+psycopg", "")


def under_way(url):
    with psycopg.connect(plain(url)) as connection:
        states = ("succeeded", "failed", "canceled")
        query = "SELECT count(*) FROM jobs WHERE state <> ALL(%s)"
        return connection.execute(query, (list(states),)).fetchone()[0]


def unsettled(url):
    with psycopg.connect(plain(url)) as connection:
        return connection.execute("SELECT count(*) FROM agent_processes WHERE NOT ended").fetchone()[0]
