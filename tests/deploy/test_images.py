"""The images: built by podman, started as they are meant to be, and a job passed through them."""

import os
import subprocess
import sys
import uuid
from contextlib import suppress

import pytest
from moto.server import ThreadedMotoServer
from tests.deploy.images import ENGINE, ROOT, RUN, podman
from tests.journeys.cluster import ADMIN_KEY, free_port

from modelops.sdk.client import Client
from modelops.testing.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SEALED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp",
)
"""What the manifests ask for too."""


class Containers:
    """Containers of one test, with folders of their own that are their only place to write."""

    def __init__(self, folder):
        self.folder, self.prefix, self.names = folder, f"modelops-test-{uuid.uuid4().hex[:8]}", []

    def start(self, image, *arguments, **variables):
        name = f"{self.prefix}-{len(self.names)}"
        home = self.folder / name
        home.mkdir()
        os.chown(home, 10001, 10001)
        given = [f"--env={key}={value}" for key, value in variables.items()]
        self.names.append(name)
        mount = f"--volume={home}:/var/lib/modelops"
        podman("run", "--detach", f"--name={name}", *RUN, *SEALED, mount, *given, image, *arguments)
        return name

    def state(self, name):
        return podman("inspect", "--format={{.State.Status}} {{.State.ExitCode}}", name)

    def logs(self, name):
        done = subprocess.run([*ENGINE, "logs", name], capture_output=True, text=True)
        return (done.stdout + done.stderr)[-3000:]

    def close(self):
        for name in reversed(self.names):
            subprocess.run([*ENGINE, "rm", "--force", "--volumes", "--time=20", name], capture_output=True)


@pytest.fixture
def containers(tmp_path):
    found = Containers(tmp_path)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def environment(images, containers):
    """Settings of a platform on a PostgreSQL in a container and a bucket of this process."""
    port, s3 = free_port(), ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    s3.start()
    server = podman(
        *("run", "--detach", f"--name={containers.prefix}-postgres", *RUN, "--env=POSTGRES_USER=modelops"),
        *("--env=POSTGRES_DB=modelops", "--env=POSTGRES_PASSWORD=secret"),
        *(images.others["docker.io/library/postgres"], "-p", port, "-c", "fsync=off", "-c", "max_connections=200"),
    )
    containers.names.insert(0, server)  # ends last
    host, bucket = s3.get_host_and_port()
    yield {
        "MODELOPS_DATABASE": f"postgresql+psycopg://modelops:secret@127.0.0.1:{port}/modelops",
        "MODELOPS_SECRET_KEY": "the secret key of the containers",
        "MODELOPS_ADMIN_KEY": ADMIN_KEY,
        "MODELOPS_S3_BUCKET": "modelops",
        "MODELOPS_S3_ENDPOINT": f"http://{host}:{bucket}",
        "MODELOPS_S3_ACCESS_KEY": "test",
        "MODELOPS_S3_SECRET_KEY": "test",
    }
    with suppress(OSError):
        s3.stop()


def test_a_job_passes_through_containers(images, containers, environment, tmp_path):
    api, probes = free_port(), {kind: free_port() for kind in ("controller", "agent")}
    url = f"http://127.0.0.1:{api}"
    environment["MODELOPS_PUBLIC_URL"] = url
    bucket = containers.start(images.platform["base"], "mops", "server", "bucket", **environment)
    wait_for(lambda: containers.state(bucket).startswith("exited"), within_s=120, every_s=0.5)
    assert containers.state(bucket) == "exited 0", containers.logs(bucket)
    started = [containers.start(images.platform["api"], **environment, MODELOPS_PORT=api)]
    for kind, port in probes.items():
        started.append(containers.start(images.platform[kind], **environment, MODELOPS_PROBE_PORT=port))

    def answers(client):
        for name in started:
            assert containers.state(name).startswith("running"), containers.logs(name)
        with suppress(Exception):
            return client.platform.get_health()

    with Client(url, token=ADMIN_KEY, home=tmp_path) as client:
        wait_for(lambda: answers(client), within_s=300, every_s=1)
    seed = [sys.executable, ROOT / "deploy" / "seed.py", url]
    done = subprocess.run(seed, env={**os.environ, "MODELOPS_TOKEN": ADMIN_KEY}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr + "".join(map(containers.logs, started))
    assert "succeeded" in done.stdout
    for name in started:
        assert podman("exec", name, "id", "-u") == "10001"
        podman("stop", "--time=60", name)
        assert containers.state(name) == "exited 0", containers.logs(name)


@pytest.mark.parametrize(("kind", "document"), [("trainer", "job.json"), ("serving", "revision.json")])
def test_what_is_started_without_a_task_says_what_it_needs(images, containers, kind, document):
    name = containers.start(images.platform[kind])
    wait_for(lambda: containers.state(name).startswith("exited"), within_s=120, every_s=0.5)
    assert containers.state(name) == "exited 1"
    said = containers.logs(name)
    assert "MODELOPS_WORKDIR" in said
    assert document in said
    assert "Traceback" not in said
