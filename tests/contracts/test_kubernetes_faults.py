"""What may happen to jobs and replicas in a cluster, made to happen in a real one."""

import os
import signal
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.deployer import KubernetesDeployer
from modelops.contracts.errors import MLOpsError, Unavailable
from modelops.contracts.ports import EndedBy, JobSpec, Limits, Phase, Placement, WorkloadSpec
from modelops.testing.deployer import SERVER
from modelops.testing.job_backend import SLEEP
from modelops.testing.waiting import wait_for

pytestmark = pytest.mark.slow

NAME = "job_fault-1"


def job(code, name=NAME, **members):
    return JobSpec(name, ("python3", "-c", textwrap.dedent(code)), **members)


@pytest.fixture
def backend(open_backend, site):
    return open_backend(site)


def started(backend, spec):
    backend.start(spec)
    wait_for(lambda: b"up" in backend.log(spec.name), within_s=120)


def finish(backend, name=NAME, within_s=120):
    return wait_for(lambda: seen if (seen := backend.observe(name)).ended else None, within_s=within_s)


def pods_of(cluster, site, name=NAME):
    return cluster.list("Pod", names.labels_of(site.instance, names.ATTEMPT, name))


def the_job(cluster, site, name=NAME):
    return cluster.list("Job", names.labels_of(site.instance, names.ATTEMPT, name))[0]


def test_an_image_that_cannot_be_pulled(open_backend, site):
    backend = open_backend(replace(site, image="localhost/none:lab"))
    backend.start(job("pass"))
    waiting = wait_for(lambda: seen if (seen := backend.observe(NAME)).reason else None)
    assert waiting.phase is Phase.STARTING
    assert "localhost/none:lab cannot be pulled" in waiting.reason
    ended = finish(backend, within_s=240)
    assert (ended.phase, ended.exit_code, ended.ended_by) == (Phase.EXITED, None, None)
    assert "cannot be pulled" in ended.reason


def test_a_name_that_is_no_image_ends_at_once(open_backend, site):
    backend = open_backend(replace(site, image="NOT AN IMAGE"))
    backend.start(job("pass"))
    assert "cannot be pulled" in finish(backend).reason


def test_a_node_that_there_is_not(backend):
    backend.start(job("pass", placement=Placement(node_selector={"modelops.dev/none": "such"})))
    waiting = wait_for(lambda: seen if (seen := backend.observe(NAME)).reason else None)
    assert waiting.phase is Phase.STARTING
    assert waiting.reason.startswith("waits for a node: 0/")
    backend.stop(NAME)
    assert finish(backend).ended_by is EndedBy.REQUEST


def test_a_pod_that_is_deleted_is_lost_and_never_runs_again(backend, cluster, site, open_backend):
    started(backend, job(SLEEP))
    (pod,) = pods_of(cluster, site)
    cluster.delete("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"], grace_s=1)
    ended = finish(backend)
    assert (ended.phase, ended.ended_by, ended.exit_code) == (Phase.LOST, EndedBy.EVICTION, None)
    wait_for(lambda: not [one for one in pods_of(cluster, site) if one["status"]["phase"] in ("Pending", "Running")])
    backend.start(job(SLEEP))
    assert open_backend(site).observe(NAME) == ended
    assert backend.log(NAME).count(b"up") == 1


def test_a_container_that_is_killed_for_memory_is_told_apart(backend):
    hog = """
        import time
        kept = bytearray(400 * 1024 * 1024)
        for at in range(0, len(kept), 4096):
            kept[at] = 1
        time.sleep(60)
    """
    backend.start(job(hog, limits=Limits(memory_bytes=64 * 2**20)))
    ended = finish(backend)
    assert (ended.phase, ended.ended_by) == (Phase.EXITED, EndedBy.MEMORY)
    assert ended.reason.startswith("exceeded its memory limit of 64 MiB")


def test_a_quota_that_refuses_a_pod_is_told(kubernetes, open_backend, cluster, site):
    namespace = "modelops-narrow"
    backend = open_backend(replace(site, namespace=namespace, quota={"pods": "0"}))
    backend.start(job("pass"))
    waiting = wait_for(lambda: seen if (seen := backend.observe(NAME)).reason else None)
    assert waiting.phase is Phase.STARTING
    assert "refuses its pod" in waiting.reason
    assert "exceeded quota" in waiting.reason
    with KubernetesDeployer(kubernetes.connect(), replace(site, namespace=namespace, quota={"pods": "0"})) as one:
        one.apply(WorkloadSpec("dep_narrow-1", 1, ("true",)))
        (refused,) = wait_for(lambda: one.observe("dep_narrow-1"), within_s=120)
        assert (refused.phase, refused.ready) == (Phase.STARTING, False)
        assert "refuses its pod" in refused.reason
        assert "exceeded quota" in refused.reason
        wait_for(lambda: one.remove("dep_narrow-1"), within_s=120)
    cluster.delete("Namespace", namespace)


def test_a_namespace_that_is_deleted(open_backend, cluster, site):
    """What ran there is lost; what starts after makes the namespace anew, once the old one is gone."""
    backend = open_backend(replace(site, namespace=f"modelops-{site.instance[-8:]}"))
    started(backend, job(SLEEP, tenant="ten-a"))
    namespace = the_job(cluster, site)["metadata"]["namespace"]
    cluster.delete("Namespace", namespace)
    wait_for(lambda: cluster.get("Namespace", namespace) is None, within_s=180)
    lost = backend.observe(NAME)
    assert (lost.phase, lost.ended_by) == (Phase.LOST, EndedBy.EVICTION)
    backend.start(job(SLEEP, tenant="ten-a"))
    assert cluster.get("Namespace", namespace) is None  # what had begun is not begun anew
    assert backend.log(NAME).count(b"up") == 1

    def again():
        try:
            backend.start(job("print('up')", name="job_fault-2", tenant="ten-a"))
        except MLOpsError:
            return False
        return True

    wait_for(again, within_s=120)
    assert finish(backend, "job_fault-2").exit_code == 0
    backend.remove("job_fault-2")
    cluster.delete("Namespace", namespace)


def test_objects_edited_by_hand_are_put_right(kubernetes, cluster, site, monkeypatch):
    monkeypatch.setattr("modelops.adapters.kubernetes.deployer.CORRECT_EVERY_S", 0.0)
    spec = WorkloadSpec("dep_edited-1", 2, ("python3", "-c", textwrap.dedent(SERVER)))
    with KubernetesDeployer(kubernetes.connect(), site) as deployer:
        deployer.apply(spec)
        (service,) = cluster.list("Service", names.labels_of(site.instance, names.WORKLOAD, spec.name))
        about = service["metadata"]
        deployment = {"kind": "Deployment", "metadata": about}
        cluster.patch(deployment, {"spec": {"replicas": 5, "strategy": {"rollingUpdate": {"maxSurge": 3}}}})
        cluster.patch({**service, "kind": "Service"}, {"spec": {"selector": {names.INSTANCE: "nobody"}}})
        cluster.delete("PodDisruptionBudget", about["name"], about["namespace"])
        deployer.apply(spec)
        again = cluster.get("Service", about["name"], about["namespace"])
        assert again["spec"]["selector"][names.INSTANCE] == site.instance
        budget = cluster.get("PodDisruptionBudget", about["name"], about["namespace"])
        assert budget["spec"]["maxUnavailable"] == 1
        found = cluster.get("Deployment", about["name"], about["namespace"])["spec"]
        assert (found["replicas"], found["strategy"]["rollingUpdate"]["maxSurge"]) == (2, 1)
        wait_for(lambda: deployer.remove(spec.name, grace_s=0), within_s=120)


def test_output_outlives_the_platform_and_the_pod(backend, open_backend, cluster, site):
    backend.start(job("print('x' * 30_000); print('last')"))
    finish(backend)
    (pod,) = pods_of(cluster, site)
    cluster.delete("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"], grace_s=1)
    assert open_backend(site).log(NAME) == b"x" * 30_000 + b"\nlast\n"


def parts(kubernetes, name):
    """Return the processes of a part of the lab."""
    binary = Path(os.environ.get("KUBE_LAB_HOME") or Path.home() / ".cache" / "kube-lab") / "bin" / name
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if command == str(binary).encode():
            found.append(int(folder.name))
    return found


def needs_lab(kubernetes):
    if kubernetes.lab is None:
        pytest.skip("the parts of another cluster are not ours to stop")


def test_an_api_server_that_does_not_answer_for_a_while(kubernetes, backend, cluster, site):
    needs_lab(kubernetes)
    started(backend, job("import time; print('up', flush=True); time.sleep(15); print('done')"))
    (server,) = parts(kubernetes, "kube-apiserver")
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            backend.observe(NAME)
    finally:
        os.kill(server, signal.SIGCONT)

    def seen():
        try:
            return backend.observe(NAME).ended
        except Unavailable:
            return False

    wait_for(seen, within_s=120)
    assert backend.observe(NAME).exit_code == 0
    assert backend.log(NAME) == b"up\ndone\n"
    assert len(pods_of(cluster, site)) == 1


def test_a_node_that_vanishes(kubernetes, backend, cluster, site):
    """Its kubelet is frozen: nobody answers for the pod, and the attempt is lost once its grace is over."""
    needs_lab(kubernetes)
    started(backend, job(SLEEP))
    (kubelet,) = parts(kubernetes, "kubelet")
    (pod,) = pods_of(cluster, site)
    os.kill(kubelet, signal.SIGSTOP)
    try:
        cluster.delete("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"], grace_s=1)
        lost = finish(backend, within_s=180)
        assert lost.phase is Phase.LOST
        assert "does not answer" in lost.reason
        assert backend.log(NAME) == b"up\n"  # it was read before
    finally:
        os.kill(kubelet, signal.SIGCONT)
