"""One job and one deployment on a real cluster, with the platform killed in between."""

import json
import socket
import sys

import grpc
import numpy as np
import pytest
from tests.journeys.cluster import ADMIN_KEY, Cluster

from modelops.domains.training.schemas import JobState
from modelops.runtime.serving.rpc import messages
from modelops.sdk.client import Client
from modelops.sdk.serving import HpaScaling, KubernetesDeployment
from modelops.testing.kubernetes import platform_mounts
from modelops.testing.process import PlatformProcess
from modelops.testing.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settings_for(kubernetes, port):
    """Return what lets pods of the lab run this machine's software, and reach a platform on that port."""
    if kubernetes.lab is None:
        pytest.skip("pods of another cluster do not see this machine's software, nor reach the platform on it")
    return {
        "host": "0.0.0.0",
        "public_url": f"http://10.78.0.1:{port}",
        "jobs": "kubernetes",
        "kubeconfig": kubernetes.kubeconfig,
        "kubernetes_image": "localhost/busybox:lab",
        "kubernetes_python": sys.executable,
        "kubernetes_mounts": json.dumps(platform_mounts()),
        "kubernetes_instance": f"journey-{port}",
        "kubernetes_namespace": f"journey-{port}",
        "kubernetes_cpu_reserved": "0.3",
        "job_start_timeout_s": "300",
        "ready_timeout_s": "300",
    }


def clean(kubernetes, port):
    """Delete what a journey left in the cluster."""
    cluster = kubernetes.connect()
    for namespace in {
        one["metadata"]["namespace"] for one in cluster.list("Secret", {"modelops.dev/instance": f"journey-{port}"})
    }:
        cluster.delete("Namespace", namespace)
    cluster.close()


def predicted_over_grpc(endpoint, client):
    token = client.identity.issue_token(permissions=["deployments.predict"]).access_token
    rows = np.asarray(ROWS)
    request = messages.MESSAGES["ModelInferRequest"](model_name="iris", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="input", datatype="FP64", shape=rows.shape)
    with grpc.insecure_channel(endpoint) as channel:
        infer = channel.unary_unary(
            f"/{messages.SERVICE}/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.MESSAGES["ModelInferResponse"].FromString,
        )
        answer = infer(request, metadata=[("authorization", f"Bearer {token}")], timeout=60)
    return np.frombuffer(answer.raw_output_contents[0], dtype=np.int64).tolist()


def submitted(client, folder):
    """Submit a small training."""
    from sklearn.datasets import load_iris

    load_iris(as_frame=True).frame.to_csv(folder / "iris.csv", index=False)
    client.data.create_dataset("iris")
    client.data.create_dataset_version("iris", folder / "iris.csv")
    return client.training.submit_job(
        "tabular-classification", dataset="iris", name="first", parameters={"target": "target", "model": "iris"}
    )


@pytest.fixture
def on_cluster(kubernetes, tmp_path):
    port = free_port()
    platform = PlatformProcess(tmp_path / "home", **settings_for(kubernetes, port))
    platform.port = port
    platform.start(within_s=300)
    yield platform
    platform.stop()
    clean(kubernetes, port)


def test_a_job_and_a_deployment(on_cluster, tmp_path):
    platform = on_cluster
    with platform.client() as client:
        health = {check.name: check for check in client.platform.get_health().checks}
        assert health["cluster"].healthy, health["cluster"].detail
        job = submitted(client, tmp_path)
        wait_for(lambda: client.training.get_job(job.id).state is JobState.RUNNING, within_s=300)
    platform.kill()
    platform.start(within_s=300)
    with platform.client() as client:
        ended = wait_for(lambda: seen if (seen := client.training.get_job(job.id)).state.final else None, within_s=300)
        assert (ended.state, ended.reason, ended.attempt) == (JobState.SUCCEEDED, None, 1)
        assert ended.peak_memory_bytes > 2**20

        resources = {"cpus": 1, "grpc": True}
        with KubernetesDeployment("iris:1", 1, resources, name="flowers", client=client) as flowers:
            flowers.deploy(timeout_s=300)
            assert [one.phase for one in flowers.status.replica_status] == ["running"]
            assert flowers.status.target == "kubernetes"
            before = flowers.status.replica_status[0]
            assert flowers.predict(ROWS).predictions == [0, 2]
            assert predicted_over_grpc(before.grpc_endpoint, client) == [0, 2]
            platform.kill()
            platform.start(within_s=300)
            wait_for(lambda: flowers.status.replica_status[0].endpoint == before.endpoint)
            assert flowers.predict(ROWS).predictions == [0, 2]
            assert flowers.status.replica_status[0].started_at == before.started_at
            scaled = flowers.deploy(autoscaling=HpaScaling(min_replicas=2, max_replicas=3), timeout_s=300)
            assert scaled.target == "kubernetes"
            wait_for(lambda: flowers.status.ready_replicas == 2, within_s=300)
            assert flowers.predict(ROWS).predictions == [0, 2]
            fixed = flowers.deploy(autoscaling="off", replicas=1, timeout_s=300)
            assert (fixed.replicas, fixed.autoscaling) == (1, None)
            flowers.delete(timeout_s=300)


@pytest.fixture
def split(kubernetes, tmp_path, postgres_database):
    """A platform as several processes: each has a home folder of its own, and jobs run in the cluster."""
    platform = Cluster(tmp_path, postgres_database)
    one = platform.add("api", 1, start=False)
    platform.settings |= settings_for(kubernetes, one.port)
    one.start()
    platform.add("api", 2)
    yield platform
    platform.close()
    clean(kubernetes, one.port)


def test_every_api_shows_the_same_output_also_when_nothing_is_left_in_the_cluster(kubernetes, split, tmp_path):
    """One controller begins, another ends; the second API never saw the job run."""
    first, second = split.processes["api-1"], split.processes["api-2"]
    controller = split.add("controller", 1)
    with Client(first.url, token=ADMIN_KEY, home=tmp_path) as client:
        job = submitted(client, tmp_path)
        wait_for(lambda: client.training.get_job(job.id).state is JobState.RUNNING, within_s=300)
        controller.kill()
        split.add("controller", 2)
        ended = wait_for(lambda: seen if (seen := client.training.get_job(job.id)).state.final else None, within_s=300)
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    cluster = kubernetes.connect()
    (found,) = cluster.list("Job", {"modelops.dev/instance": f"journey-{first.port}"})
    cluster.delete("Job", found["metadata"]["name"], found["metadata"]["namespace"])
    wait_for(lambda: not cluster.list("Pod", {"modelops.dev/instance": f"journey-{first.port}"}), within_s=120)
    cluster.close()
    told = []
    for api in (first, second):
        with Client(api.url, token=ADMIN_KEY, home=tmp_path) as client:
            log = client.training.get_job_log(job.id)
            assert log.complete
            told.append(log.text)
    assert told[0] == told[1]
    assert "best: " in told[0]
