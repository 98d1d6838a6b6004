"""Jobs in environments of their own, as they really run."""

import pytest
from tests.wheels import make_wheel

from modelops.contracts.errors import NotFound
from modelops.domains.training.schemas import JobState
from modelops.testing.process import platform_process

CODE = """
import os
import sys

def work(job):
    job.log("in " + sys.prefix)
    return {"summary": {"prefix": sys.prefix, "lock": os.environ["MODELOPS_IN_ENVIRONMENT"]}}
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with platform_process(tmp_path_factory.mktemp("jobs") / "home") as process:
        yield process


def test_a_job_runs_in_the_environment_of_its_lock_and_the_next_one_shares_it(platform, tmp_path):
    lock = f"--no-index\n--find-links {tmp_path}\n{make_wheel(tmp_path, 'tinyjob', '1.0', CODE)}"
    with platform.client() as client:
        digest = client.data.upload_artifact(lock.encode()).digest

        def run():
            parameters = {"function": "tinyjob:work"}
            job = client.training.submit_job("python-function", parameters=parameters, environment=digest)
            return client.training.wait_for_job(job.id, within_s=120)

        first, second = run(), run()
        assert (first.state, first.reason) == (JobState.SUCCEEDED, None)
        assert first.result.summary["lock"] == digest
        assert first.result.summary["prefix"].startswith(str(platform.home / "environments"))
        assert second.result.summary == first.result.summary
        assert "tinyjob==1.0" in client.training.get_job_log(first.id).text  # what uv wrote
        assert "building" not in client.training.get_job_log(second.id).text
        (kept,) = client.training.list_job_artifacts(first.id).items
        assert (kept.role, kept.digest) == ("environment", digest)


def test_a_lock_that_cannot_be_resolved_fails_its_job_with_the_reason(platform, tmp_path):
    with platform.client() as client:
        lock = f"--no-index\nnowhere==1.0 --hash=sha256:{'0' * 64}\n"
        digest = client.data.upload_artifact(lock.encode()).digest
        job = client.training.submit_job("python-function", parameters={"function": "a:b"}, environment=digest)
        job = client.training.wait_for_job(job.id, within_s=120)
        assert job.state is JobState.FAILED
        assert job.reason.startswith("The environment could not be built of its lock")
        assert "nowhere" in job.reason
        assert "nowhere" in client.training.get_job_log(job.id).text
        with pytest.raises(NotFound):
            client.training.submit_job(
                "python-function", parameters={"function": "a:b"}, environment=f"sha256:{'0' * 64}"
            )
