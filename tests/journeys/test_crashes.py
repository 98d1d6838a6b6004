"""`kill -9` of the platform, of jobs and of runtimes at random moments, twenty times: nothing acknowledged is lost, nothing
is done twice, and everything reaches a true end."""

import random
import signal
import threading
import time
from collections import Counter

import numpy as np
import psutil
import pytest
from sklearn.linear_model import LogisticRegression

from modelops.contracts.errors import MLOpsError
from modelops.contracts.rest import Rest
from modelops.domains.models.packages import statement_of, verify_statement
from modelops.domains.serving.schemas import DeploymentState
from modelops.domains.training.schemas import JobState
from modelops.sdk.client import Client
from modelops.sdk.registry import ModelRegistry
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

KILLS = 20
ROWS = np.array([[n, n % 3] for n in range(60)], dtype=float)
CSV = b"a,target\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(60))
WORK = {"function": "modelops.testing.tasks:work", "arguments": {"seconds": 1.0}}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_nothing_is_lost_or_doubled_by_twenty_kills(tmp_path, database, request):
    settings = {"controller_interval_s": "0.1", "lease_ttl_s": "2"}
    if database == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    luck = random.Random(20261120)
    with platform_process(tmp_path / "home", **settings) as platform:
        with platform.client() as client:
            prepare(client)
        scribe = Scribe(platform)
        scribe.start()
        jobs, killed = [], Counter()
        for _ in range(KILLS if database == "sqlite" else KILLS // 2):
            jobs.append(submit(platform))
            time.sleep(luck.uniform(0.0, 1.2))
            victim = luck.choice(["platform", "platform", "job", "runtime"])
            killed[victim] += strike(platform, victim, luck)
        written = scribe.stop()
        with platform.client() as client:
            check_jobs(client, jobs)
            check_deployment(client, platform)
            check_writes(client, written)
        assert killed["platform"] > 0
        assert killed["job"] + killed["runtime"] > 0
    wait_for(lambda: not children_of(platform))


def prepare(client):
    client.data.create_dataset("d")
    client.data.create_dataset_version("d", CSV, format="csv")
    client.experiments.create_experiment("scribe")
    model = LogisticRegression(max_iter=1000).fit(ROWS, ROWS[:, 0] > 30)
    ModelRegistry(client).register_model("m", model, sample=ROWS)
    client.serving.create_deployment("live", "m:1", replicas=2)
    wait_for(lambda: client.serving.get_deployment("live").state is DeploymentState.READY)


def submit(platform):
    """Submit a job as a patient client does: again under its key until it is acknowledged."""
    with patient(platform) as client:
        return client.training.submit_job("python-function", "d", parameters=WORK).id


def patient(platform):
    client = platform.client()
    client.rest.retry_for_s = 60
    assert isinstance(client.rest, Rest)
    return client


def strike(platform, victim, luck):
    if victim == "platform":
        platform.kill()
        platform.start()
        return 1
    word = {"job": "train", "runtime": "serve"}[victim]
    found = [process for process in children_of(platform) if word in process.cmdline()]
    if not found:
        return 0
    luck.choice(found).send_signal(signal.SIGKILL)
    return 1


def children_of(platform):
    """Return the jobs and runtimes of a platform's home, whoever their parent is now."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(platform.home) in process.environ().get("MODELOPS_WORKDIR", ""):
                process.cmdline()
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


class Scribe(threading.Thread):
    """Writes all the time, and remembers exactly what was acknowledged."""

    def __init__(self, platform):
        super().__init__(daemon=True)
        self.platform = platform
        self.acknowledged = {"runs": {}, "versions": [], "artifacts": []}
        self._end = threading.Event()

    def run(self):
        number = 0
        client = Client(self.platform.url, home=self.platform.home)
        client.rest.retry_for_s = 0
        while not self._end.is_set():
            number += 1
            try:
                self.write(client, number)
            except MLOpsError:
                time.sleep(0.05)
        client.close()

    def write(self, client, number):
        run = client.experiments.create_run("scribe", name=f"r{number}")
        self.acknowledged["runs"][run.id] = 0
        points = [{"key": "x", "value": float(step), "step": step} for step in range(50)]
        client.experiments.log_batch(run.id, metrics=points)
        self.acknowledged["runs"][run.id] = 50
        digest = client.data.upload_artifact(b"artifact %d" % number).digest
        self.acknowledged["artifacts"].append(digest)
        if number % 20 == 0:
            version = ModelRegistry(client).register_model(
                "scribe", LogisticRegression().fit(ROWS, ROWS[:, 0] > 9), sample=ROWS
            )
            self.acknowledged["versions"].append(version.version)

    def stop(self):
        self._end.set()
        self.join(timeout=60)
        assert len(self.acknowledged["runs"]) > 5, "it was hardly ever answered"
        return self.acknowledged


def check_jobs(client, jobs):
    states = Counter()
    for name in jobs:
        job = client.training.wait_for_job(name, within_s=120)
        states[job.state] += 1
        assert job.attempt == 1
        runs = client.experiments.list_runs(filter=f'job_id = "{job.id}"').items
        if job.state is JobState.SUCCEEDED:
            (run,) = runs
            assert run.status == "finished"
            assert len(client.experiments.get_metric_history(run.id, "loss").items) == 5
        else:
            assert job.state is JobState.FAILED
            assert job.reason
            assert {run.status for run in runs} <= {
                "failed",
                "finished",
            }  # finished: killed between its run and its report
            assert len(runs) <= 1
    assert client.training.list_jobs().total == len(jobs)
    assert states[JobState.SUCCEEDED] > 0


def check_deployment(client, platform):
    wait_for(lambda: client.serving.get_deployment("live").ready_replicas == 2, within_s=90)
    assert client.serving.get_deployment("live").state is DeploymentState.READY
    assert client.serving.predict("live", ROWS[:3].tolist()).version == 1
    wait_for(lambda: len([p for p in children_of(platform) if "serve" in p.cmdline()]) == 2)


def check_writes(client, written):
    for run, points in written["runs"].items():
        history = client.experiments.get_metric_history(run, "x", limit=1000).items
        assert len(history) >= points
        assert len(history) in (0, 50)
        if points:
            assert client.experiments.get_run(run).metrics == {"x": 49.0}
    for digest in written["artifacts"]:
        assert client.data.get_artifact(digest).digest == digest
    keys = {key.id: key.public_key for key in client.identity.list_signing_keys().items}
    found = client.models.list_versions("scribe").items if written["versions"] else []
    assert {version.version for version in found} >= set(written["versions"])
    assert sorted(version.version for version in found) == list(range(1, len(found) + 1))
    for version in found:
        verify_statement(statement_of(version), version.platform_signature, keys)
        assert client.models.verify_version("scribe", version.version).files_checked == len(version.files) >= 3
