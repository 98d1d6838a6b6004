"""What the cluster's adapters put into a cluster, held to the schemas of newer clusters, and how they read what is there."""

import base64
import dataclasses
import json
import os
import struct
import subprocess
import sys
import zlib
from datetime import UTC, datetime, timedelta

import kubernetes_validate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.access import RIGHTS, cluster_role
from modelops.adapters.kubernetes.drift import differences
from modelops.adapters.kubernetes.jobs import KubernetesJobBackend
from modelops.adapters.kubernetes.logs import GAP, Archive
from modelops.adapters.kubernetes.observing import PULL_PATIENCE, Verdict, judge
from modelops.adapters.kubernetes.settings import Site
from modelops.adapters.kubernetes.tenants import programs, tenant_documents
from modelops.adapters.kubernetes.workloads import (
    budget_document,
    deployment_document,
    scaler_document,
    secret_document,
    service_document,
    template_document,
)
from modelops.contracts.errors import TooLarge
from modelops.contracts.ports import (
    ClusterScaling,
    EndedBy,
    JobSpec,
    Limits,
    Observation,
    Phase,
    Placement,
    Toleration,
    WorkloadSpec,
)
from modelops.testing.kubernetes import kept_outputs

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
VERSIONS = ["1.25", "1.33", "1.37"]
PLACED = Placement(
    node_selector={"pool": "a100"},
    tolerations=(Toleration(key="gpu", operator="Exists", effect="NoSchedule"),),
    gpu_resource="nvidia.com/mig-1g.5gb",
    gpu_count=2,
)
SECRETS = {"TOKEN": "swordfish"}


@pytest.fixture
def site(tmp_path):
    return Site(
        image="registry/modelops:1",
        instance="one",
        namespace="modelops",
        logs=kept_outputs(tmp_path),
        pull_secret="registry",
        quota={"pods": "10"},
    )


def job_documents(site):
    spec = JobSpec(
        "job_1-1",
        (sys.executable, "-m", "modelops.runtime", "train"),
        env=SECRETS,
        files={"token": "xyzzy"},
        limits=Limits(cpus=2, memory_bytes=2**30, timeout_s=60.5),
        placement=PLACED,
        tenant="ten_1",
    )
    return KubernetesJobBackend(None, site).documents(spec)


def workload_documents(site):
    spec = WorkloadSpec("dep_1-r1", 2, ("serve",), env=SECRETS, limits=Limits(cpus=1), tenant="ten_1", grpc=True)
    deployment = deployment_document(spec, site, template_document(spec, site), 2)
    owner = {"metadata": {**deployment["metadata"], "uid": "0"}}
    made = [make(spec, site, owner) for make in (secret_document, service_document, budget_document)]
    return [*made, deployment, scaler_document(spec, site, owner, ClusterScaling("hpa", 1, 4, 70))]


@pytest.mark.parametrize("version", VERSIONS)
def test_newer_clusters_know_every_field(site, version):
    documents = [*job_documents(site), *workload_documents(site), *tenant_documents(site, "ten_1"), cluster_role("m")]
    assert {one["kind"] for one in documents} == {
        *("Namespace", "ServiceAccount", "ConfigMap", "NetworkPolicy", "ResourceQuota", "ClusterRole"),
        *("Secret", "Job", "Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"),
    }
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_what_is_secret_is_in_secrets_alone(site):
    secret, job = job_documents(site)
    assert "swordfish" in json.dumps(secret)
    assert "xyzzy" in json.dumps(secret)
    secret_of_workload, *others = workload_documents(site)
    assert "swordfish" in base64.b64decode(secret_of_workload["data"]["spec.json"]).decode()
    for document in (job, *others):
        assert "swordfish" not in json.dumps(document)


def test_pods_are_as_restricted_as_the_namespace_asks(site):
    pods = [one["spec"]["template"]["spec"] for one in (job_documents(site)[1], workload_documents(site)[3])]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
        assert not any("hostPath" in volume for volume in pod["volumes"])
    assert tenant_documents(site, None)[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def selects(selector, labels):
    """Tell whether a label selector of a cluster takes these labels."""
    wanted = selector.get("matchLabels") or {}
    assert {one["operator"] for one in selector.get("matchExpressions") or []} <= {"Exists"}
    keys = {one["key"] for one in selector.get("matchExpressions") or []}
    return wanted.items() <= labels.items() and keys <= labels.keys()


def lets_in(policy, to_labels, *, same_namespace, namespace_labels, from_labels):
    """Tell whether a pod may be reached, as the reference of NetworkPolicy says: what no policy selects is open."""
    spec = policy["spec"]
    if not selects(spec["podSelector"], to_labels):
        return True
    assert spec["policyTypes"] == ["Ingress"]  # what pods reach is not narrowed: the platform may be anywhere
    for peer in (peer for rule in spec["ingress"] for peer in rule["from"]):
        near = selects(peer["namespaceSelector"], namespace_labels) if "namespaceSelector" in peer else same_namespace
        if near and selects(peer.get("podSelector", {}), from_labels):
            return True
    return False


@pytest.mark.parametrize(
    ("same_namespace", "namespace_labels", "admitted"),
    [
        (True, {}, True),
        (False, {}, False),
        (False, {"modelops.dev/control-plane": "true"}, True),
        (False, {"modelops.dev/control-plane": "false"}, False),
        (False, {"app.kubernetes.io/managed-by": "modelops"}, False),  # another tenant's
    ],
)
def test_who_may_reach_a_tenants_pods(site, same_namespace, namespace_labels, admitted):
    (policy,) = (one for one in tenant_documents(site, "ten_1") if one["kind"] == "NetworkPolicy")
    ours = job_documents(site)[1]["spec"]["template"]["metadata"]["labels"]
    others = {"app": "anything"}
    asked = {"same_namespace": same_namespace, "namespace_labels": namespace_labels, "from_labels": others}
    assert lets_in(policy, ours, **asked) is admitted
    assert lets_in(policy, others, **asked)  # what is not ours is not ours to close
    closed = dataclasses.replace(site, tenant_policies=False)
    assert not [one for one in tenant_documents(closed, "ten_1") if one["kind"] == "NetworkPolicy"]


def test_a_pod_has_folders_of_its_own(site):
    told = {
        "MODELOPS_CACHE": "/var/lib/modelops/cache",
        "MODELOPS_ENVIRONMENTS": "/var/lib/modelops/environments",
        "A": "b",
    }
    spec = JobSpec("job_1-1", ("true",), env=told)
    env = json.loads(KubernetesJobBackend(None, site).documents(spec)[0]["stringData"]["spec.json"])["env"]
    assert env == {
        "MODELOPS_CACHE": "/modelops/run/cache",
        "MODELOPS_ENVIRONMENTS": "/modelops/run/environments",
        "A": "b",
    }


@pytest.mark.parametrize(
    ("wanted", "found", "places"),
    [
        ({"spec": {"a": 1}}, {"spec": {"a": 1, "b": 2}, "status": {}}, []),
        ({"spec": {"a": 1}}, {"spec": {"a": 2}}, ["spec.a"]),
        ({"spec": {"a": 1}}, {}, ["spec.a"]),
        ({"spec": {"a": [{"b": {}}]}}, {"spec": {"a": [{}]}}, []),
        ({"spec": {"a": [{"b": 1}]}}, {"spec": {"a": [{"b": 1}, {"c": 2}]}}, ["spec.a"]),
        ({"spec": {"a": [{"b": 1}]}}, {"spec": {"a": [{"b": 2}]}}, ["spec.a"]),
    ],
)
def test_what_was_changed_is_named(wanted, found, places):
    assert differences(wanted, found) == places


def test_a_job_runs_where_it_was_placed(site):
    _, job = job_documents(site)
    pod = job["spec"]["template"]["spec"]
    assert job["spec"]["backoffLimit"] == 0
    assert job["metadata"]["namespace"] == names.namespace_of("modelops", "ten_1")
    assert pod["nodeSelector"] == {"pool": "a100"}
    assert {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/mig-1g.5gb"] == "2"
    assert int(pod["containers"][0]["resources"]["limits"]["memory"]) > 2**30
    assert pod["activeDeadlineSeconds"] > 60


def test_files_that_no_secret_holds_are_refused(site):
    spec = JobSpec("job_1-1", ("true",), files={"large": "x" * 2**20})
    with pytest.raises(TooLarge):
        KubernetesJobBackend(None, site).documents(spec)


@given(st.text(min_size=1, max_size=250), st.text(min_size=1, max_size=250))
def test_object_names_are_labels_and_tell_names_apart(one, other):
    first, second = names.object_name(one, "i"), names.object_name(other, "i")
    assert len(first) <= 55
    assert first[0].isalpha()
    assert first[-1].isalnum()
    assert set(first) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert (first == second) == (one == other)
    assert names.object_name(one, "j") != first
    assert len(names.namespace_of("modelops", one)) <= 63


def test_rights_are_what_the_role_grants():
    assert len(cluster_role("m")["rules"]) == len(RIGHTS)


def pod(**status):
    about = {"name": "p", "creationTimestamp": NOW.isoformat()}
    return {"metadata": about, "spec": {"nodeName": "node-1"}, "status": status}


def container(**state):
    return {"containerStatuses": [{"name": "main", "image": "registry/none:1", "state": state}]}


def terminated(**members):
    return pod(phase="Failed", **container(terminated={"finishedAt": NOW.isoformat(), **members}))


def leaving(seen):
    return {**seen, "metadata": {**seen["metadata"], "deletionTimestamp": NOW.isoformat()}}


def disrupted(seen):
    told = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}
    return {**seen, "status": {**seen["status"], "conditions": [told]}}


MOVED = json.dumps({"exit_code": None, "reason": "was evicted: its pod went", "ended_by": "eviction"})
TOLD = json.dumps({"exit_code": 3, "reason": "ended with exit code 3", "ended_by": None})


@pytest.mark.parametrize(
    ("seen", "phase", "ended_by", "words"),
    [
        (pod(phase="Pending"), Phase.STARTING, None, None),
        (
            pod(
                phase="Pending",
                conditions=[
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
                ],
            ),
            Phase.STARTING,
            None,
            "waits for a node: 0/1 nodes",
        ),
        (
            pod(phase="Pending", **container(waiting={"reason": "ErrImagePull"})),
            Phase.STARTING,
            None,
            "cannot be pulled",
        ),
        (
            pod(phase="Pending", **container(waiting={"reason": "InvalidImageName"})),
            Phase.EXITED,
            None,
            "cannot be pulled",
        ),
        (pod(phase="Running", **container(running={"startedAt": NOW.isoformat()})), Phase.RUNNING, None, None),
        (terminated(exitCode=3, message=TOLD), Phase.EXITED, None, "exit code 3"),
        (terminated(exitCode=137, reason="OOMKilled"), Phase.EXITED, EndedBy.MEMORY, "memory limit of 64 MiB"),
        (terminated(exitCode=137, reason="Error"), Phase.EXITED, EndedBy.SIGNAL, "SIGKILL"),
        (terminated(exitCode=1, message="no Python"), Phase.EXITED, None, "no Python"),
        (
            terminated(exitCode=128, reason="StartError", message="not found"),
            Phase.EXITED,
            None,
            "could not be started",
        ),
        (
            pod(phase="Failed", reason="Evicted", message="low on memory."),
            Phase.LOST,
            EndedBy.EVICTION,
            "low on memory",
        ),
        (leaving(terminated(exitCode=1)), Phase.LOST, EndedBy.EVICTION, "its pod was deleted"),
        (leaving(terminated(exitCode=137, reason="OOMKilled")), Phase.EXITED, EndedBy.MEMORY, "memory limit"),
        (leaving(terminated(exitCode=3, message=TOLD)), Phase.EXITED, None, "exit code 3"),
        (disrupted(terminated(exitCode=1, message=MOVED)), Phase.LOST, EndedBy.EVICTION, "was evicted: drained"),
        (terminated(exitCode=1, message=MOVED), Phase.LOST, EndedBy.EVICTION, "was evicted"),
        (pod(phase="Failed", reason="DeadlineExceeded"), Phase.EXITED, EndedBy.TIME, "time limit"),
        (pod(phase="Failed", reason="NodeLost"), Phase.LOST, EndedBy.EVICTION, "NodeLost"),
        (pod(phase="Failed", reason="UnexpectedAdmissionError"), Phase.EXITED, None, "UnexpectedAdmissionError"),
    ],
)
def test_ends_are_told_apart(seen, phase, ended_by, words):
    found = judge(seen, NOW, memory_bytes=64 * 2**20).observation
    assert (found.phase, found.ended_by) == (phase, ended_by)
    assert found.reason is None if words is None else words in found.reason


def test_an_image_is_given_up_after_a_while():
    waiting = pod(phase="Pending", **container(waiting={"reason": "ImagePullBackOff"}))
    assert judge(waiting, NOW + PULL_PATIENCE / 2).observation.phase is Phase.STARTING
    assert judge(waiting, NOW + PULL_PATIENCE * 2).observation.phase is Phase.EXITED


def test_a_node_that_does_not_end_a_pod_is_gone():
    seen = pod(phase="Running", **container(running={"startedAt": NOW.isoformat()}))
    seen["metadata"]["deletionTimestamp"] = NOW.isoformat()
    assert judge(seen, NOW + timedelta(seconds=5)).observation.phase is Phase.RUNNING
    lost = judge(seen, NOW + timedelta(seconds=90)).observation
    assert (lost.phase, "node-1" in lost.reason) == (Phase.LOST, True)


@given(
    st.builds(
        Observation,
        phase=st.sampled_from([Phase.EXITED, Phase.LOST]),
        exit_code=st.none() | st.integers(0, 255),
        reason=st.none() | st.text(),
        started_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        finished_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        peak_memory_bytes=st.none() | st.integers(0, 2**50),
        cpu_seconds=st.none() | st.floats(0, 1e6),
        ended_by=st.none() | st.sampled_from(EndedBy),
    )
)
def test_what_was_kept_is_read_again(seen):
    rows = struct.pack("<14f", *range(7), *[float("nan")] * 7)
    kept = Verdict(seen, base64.b64encode(zlib.compress(rows)).decode())
    again = Verdict.read(kept.document())
    assert again == kept
    assert next(one.memory_bytes for one in again.usage()) == 2.0
    assert again.usage()[1].gpu_percent is None


class Node:
    """Answers as a cluster does about a pod's output: from the second asked for on, no more than was asked for."""

    def __init__(self):
        self.lines = []

    def write(self, at, text):
        self.lines.append((NOW + timedelta(seconds=at), text))

    def log(self, pod, namespace, *, since, limit):
        found = [
            f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}000Z ".encode() + text
            for at, text in self.lines
            if since is None or at >= since.replace(microsecond=0)
        ]
        return b"".join(found)[:limit]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.3, 1.5]), st.binary(max_size=30).map(lambda b: b.replace(b"\n", b""))),
        max_size=20,
    ),
    st.data(),
)
def test_output_is_kept_once_and_whole(tmp_path_factory, written, data):
    node, now, said = Node(), 0.0, b""
    archive = Archive(kept_outputs(tmp_path_factory.mktemp("logs")), node)
    for wait, text in written:
        now += wait
        joined = data.draw(st.booleans())
        text = text.rstrip(b"\x1e")
        node.write(now, text + (b"\x1e\n" if joined else b"\n"))
        said += text + (b"" if joined else b"\n")
        if data.draw(st.booleans()):
            archive.follow("a", "pod", "space")
            assert archive.read("a", 0, 10**6) == said
    archive.follow("a", "pod", "space")
    assert archive.read("a", 0, 10**6) == said


def test_what_a_node_rotated_away_is_said(tmp_path):
    node = Node()
    archive = Archive(kept_outputs(tmp_path), node)
    node.write(0, b"first\n")
    archive.follow("a", "pod", "space")
    node.lines.clear()
    node.write(5, b"third\n")
    archive.follow("a", "pod", "space")
    assert archive.read("a", 0, 100) == b"first\n" + GAP + b"third\n"


CODE = "import sys; sys.stdout.buffer.write(bytes.fromhex({!r})); sys.exit(4)"


def test_a_keeper_that_serves_begins_anew_with_the_newest_files(tmp_path):
    """A container that is started again finds the volume of the one before."""
    for folder in ("bin", "spec", "control", "run"):
        (tmp_path / folder).mkdir()
    for name, source in programs().items():
        (tmp_path / "bin" / name).write_text(source)
    env = {
        **os.environ,
        "MODELOPS_KEEPER": str(tmp_path),
        "MODELOPS_KEEPER_SERVES": "1",
        "MODELOPS_KEEPER_MESSAGE": str(tmp_path / "message"),
    }
    code = "import os; print(sorted(os.listdir()), open('told').read()); open('left', 'w').close()"
    spec = {"argv": [sys.executable, "-c", code], "defaults": {}, "env": {}}
    for told in ("first", "second"):
        limits = {"memory_bytes": None, "timeout_s": None, "log_bytes": 10**6}
        (tmp_path / "spec" / "spec.json").write_text(json.dumps({**spec, **limits, "files": {"told": told}}))
        done = subprocess.run(
            [sys.executable, "-I", "-S", tmp_path / "bin" / "keeper.py"], env=env, capture_output=True
        )
        assert (done.returncode, done.stderr, done.stdout.decode()) == (0, b"", f"['told'] {told}\n")


@pytest.mark.parametrize(
    "output", [b"", b"a\nb", b"x" * 30_000, b"a\x1e\nb\x1e", b"\x1e\x1e\n\n", b"\xff\x00\r\x85\n" * 9]
)
def test_a_keeper_runs_a_command_and_frames_its_output(tmp_path, output):
    for folder in ("bin", "spec", "control"):
        (tmp_path / folder).mkdir()
    for name, source in programs().items():
        (tmp_path / "bin" / name).write_text(source)
    spec = {
        "argv": [sys.executable, "-c", CODE.format(output.hex())],
        "defaults": {},
        "env": {},
        "files": {"token": "t"},
        "memory_bytes": None,
        "timeout_s": None,
        "log_bytes": 10**6,
    }
    (tmp_path / "spec" / "spec.json").write_text(json.dumps(spec))
    (tmp_path / "control" / "annotations").write_text('modelops.dev/begin="uid"\n')
    env = {
        **os.environ,
        "MODELOPS_KEEPER": str(tmp_path),
        "MODELOPS_KEEPER_UID": "uid",
        "MODELOPS_KEEPER_WAITS": "1",
        "MODELOPS_KEEPER_MESSAGE": str(tmp_path / "message"),
    }
    done = subprocess.run([sys.executable, "-I", "-S", tmp_path / "bin" / "keeper.py"], env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (4, b"")
    lines = done.stdout.split(b"\n")[:-1]
    assert max(map(len, lines), default=0) < 16_000
    assert b"".join(line[:-1] if line.endswith(b"\x1e") else line + b"\n" for line in lines) == output
    assert json.loads((tmp_path / "message").read_text())["exit_code"] == 4
    assert (tmp_path / "run" / "work" / "token").stat().st_mode & 0o077 == 0


MANY = """
import sys, threading
from modelops.adapters.kubernetes.cluster import learn_kinds
sys.setswitchinterval(1e-6)
from lightkube.codecs import from_dict
ready = threading.Barrier(8)
def decode():
    ready.wait()
    learn_kinds()
    for kind, version in (("Job", "batch/v1"), ("Pod", "v1"), ("Event", "v1"), ("Secret", "v1")):
        from_dict({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "involvedObject": {}})
threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_that_decode_at_once_do_not_crash_the_process():
    """Without the lesson they do, nearly every time."""
    for _ in range(3):
        subprocess.run([sys.executable, "-c", MANY], check=True)
