"""A platform in one's own process: jobs and deployments run from it, with no server started by hand."""

import pytest

from modelops.sdk.client import Client
from modelops.testing.process import platform_process

CSV = b"a,target\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(60))


def submit(client):
    client.data.create_dataset("d")
    client.data.create_dataset_version("d", CSV, format="csv")
    parameters = {"function": "modelops.testing.tasks:work", "arguments": {"seconds": 0.2}}
    return client.training.submit_job("python-function", "d", parameters=parameters)


@pytest.mark.slow
def test_a_job_runs_from_a_program_without_a_server(tmp_path):
    with Client(home=tmp_path / "home") as client:
        job = client.training.wait_for_job(submit(client).id, within_s=60)
        assert job.state == "succeeded", job.reason
        assert [run.status for run in client.experiments.list_runs().items] == ["finished"]


@pytest.mark.slow
def test_beside_a_running_platform_it_leaves_the_work_to_that_one(tmp_path):
    with platform_process(tmp_path / "home") as platform, Client(home=platform.home) as client:
        job = client.training.wait_for_job(submit(client).id, within_s=60)
        assert (job.state, job.attempt) == ("succeeded", 1)


def test_large_bodies_stream_through_it(tmp_path):
    content = bytes(range(256)) * 40_000
    with Client(home=tmp_path / "home") as client:
        artifact = client.data.upload_artifact(content)
        assert client.data.download_artifact(artifact.digest, tmp_path / "copy").read_bytes() == content


def test_a_stream_that_is_left_early_does_no_harm(tmp_path):
    with Client(home=tmp_path / "home") as client:
        artifact = client.data.upload_artifact(bytes(20_000_000))
        with client.rest.stream("GET", f"/artifacts/{artifact.digest}") as answer:
            next(answer.iter_bytes(1000))
        assert client.identity.get_me().name == "admin"
