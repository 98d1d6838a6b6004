"""One job and one deployment on a real cluster, with the platform killed in between."""

import json
import socket
import sys

import grpc
import numpy as np
import pytest

from modelops.domains.training.schemas import JobState
from modelops.runtime.serving.rpc import messages
from modelops.sdk.serving import HpaScaling, KubernetesDeployment
from modelops.testing.kubernetes import platform_mounts
from modelops.testing.process import PlatformProcess
from modelops.testing.waiting import wait_for

pytestmark = pytest.mark.slow

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def on_cluster(kubernetes, tmp_path):
    if kubernetes.lab is None:
        pytest.skip("pods of another cluster do not see this machine's software, nor reach the platform on it")
    port = free_port()
    platform = PlatformProcess(
        tmp_path / "home",
        host="0.0.0.0",
        public_url=f"http://10.78.0.1:{port}",
        jobs="kubernetes",
        kubeconfig=kubernetes.kubeconfig,
        kubernetes_image="localhost/busybox:lab",
        kubernetes_python=sys.executable,
        kubernetes_mounts=json.dumps(platform_mounts()),
        kubernetes_instance=f"journey-{port}",
        kubernetes_namespace=f"journey-{port}",
        kubernetes_cpu_reserved="0.3",
        job_start_timeout_s="300",
        ready_timeout_s="300",
    )
    platform.port = port
    platform.start(within_s=300)
    yield platform
    platform.stop()
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


def test_a_job_and_a_deployment(on_cluster, tmp_path):
    platform = on_cluster
    from sklearn.datasets import load_iris

    load_iris(as_frame=True).frame.to_csv(tmp_path / "iris.csv", index=False)
    with platform.client() as client:
        health = {check.name: check for check in client.platform.get_health().checks}
        assert health["cluster"].healthy, health["cluster"].detail
        client.data.create_dataset("iris")
        client.data.create_dataset_version("iris", tmp_path / "iris.csv")
        job = client.training.submit_job(
            "tabular-classification", dataset="iris", name="first", parameters={"target": "target", "model": "iris"}
        )
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
