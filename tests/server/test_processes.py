"""The platform as processes of three kinds, each a real one, on PostgreSQL."""

import json
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.journeys.cluster import ADMIN_KEY, Cluster
from modelops.sdk.client import Client
from modelops.testing.platform import create_tables
from modelops.testing.process import PlatformProcess
from modelops.testing.waiting import wait_for

CODE = "def main(job, text):\n    print(text)\n    return {'metrics': {'length': len(text)}}\n"


@pytest.fixture
def cluster(tmp_path, postgres_database):
    create_tables(postgres_database)
    cluster = Cluster(tmp_path, postgres_database)
    yield cluster
    cluster.close()


def test_a_job_passes_through_all_three_kinds(cluster):
    api, controller, agent = (cluster.add(kind) for kind in ("api", "controller", "agent"))
    for process in (api, controller, agent):
        assert process.probe("/health/live") == process.probe("/health/ready") == 200
    with cluster.client() as client:
        job = client.training.submit_job("container", parameters={"image": "nowhere.invalid/none"})
        ended = client.training.wait_for_job(job.id, within_s=90)
        assert ended.state == "failed"
        log = client.training.get_job_log(job.id).text
        assert "nowhere.invalid/none" in log
    assert (agent.home / "jobs" / f"{job.id}-1").is_dir()
    assert not (controller.home / "jobs").exists()
    for process in (api, controller, agent):
        assert process.stop() == 0
        lines = [line for line in process.log.read_text().splitlines() if line.startswith("{")]
        assert lines
        assert all(json.loads(line)["level"] in ("info", "warning") for line in lines), lines
