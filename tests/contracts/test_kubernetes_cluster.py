"""What a real cluster does with the platform's objects: it refuses, evicts, counts devices, and asks for rights."""

import base64
import datetime
import ipaddress
import json
import shutil
import ssl
import sys
import tempfile
import textwrap
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.wheels import make_wheel

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.access import cluster_role, missing_rights
from modelops.adapters.kubernetes.cluster import Cluster
from modelops.adapters.kubernetes.deployer import KubernetesDeployer
from modelops.adapters.kubernetes.jobs import KubernetesJobBackend
from modelops.adapters.kubernetes.tenants import Tenants
from modelops.contracts.ports import EndedBy, JobSpec, Limits, Phase, Placement, Toleration, WorkloadSpec
from modelops.domains.training.rules import cause_of
from modelops.domains.training.schemas import EndCause, JobState
from modelops.runtime.environments import find_uv
from modelops.server.engines import check_cluster
from modelops.testing.deployer import SERVER
from modelops.testing.job_backend import SLEEP
from modelops.testing.kubernetes import platform_mounts
from modelops.testing.waiting import wait_for

pytestmark = pytest.mark.slow

NAME = "job_cluster-1"
LONG_S = 180


def job(code, name=NAME, **members):
    return JobSpec(name, ("python3", "-c", textwrap.dedent(code)), **members)


def waiting(backend, words, name=NAME):
    def seen():
        found = backend.observe(name)
        return found if words in (found.reason or "") else None

    return wait_for(seen, within_s=LONG_S)


def finish(backend, name=NAME):
    return wait_for(lambda: seen if (seen := backend.observe(name)).ended else None, within_s=LONG_S, every_s=0.3)


def running(backend, name=NAME):
    wait_for(lambda: b"up" in backend.log(name), within_s=LONG_S, every_s=0.3)


def pods_of(cluster, site, name=NAME):
    return cluster.list("Pod", names.labels_of(site.instance, names.ATTEMPT, name))


def ask(cluster, method, path, document=None, kind="application/json"):
    """Ask the cluster for what the platform never does."""
    answer = cluster._client._client._client.request(
        method,
        path,
        content=None if document is None else json.dumps(document),
        headers={"Content-Type": kind},
    )
    assert answer.status_code < 300 or (method == "DELETE" and answer.status_code == 404), answer.text
    return answer.json()


def cause(ended):
    return cause_of(JobState.RUNNING, JobState.FAILED, ended, out_of_memory=False)


class Webhook:
    """A server that judges pods before the cluster takes them."""

    words = "every pod needs a cost centre"

    def __init__(self, folder):
        key = ec.generate_private_key(ec.SECP256R1())
        who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "webhook")])
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        made = (
            x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number(), now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(key, hashes.SHA256())
        )
        self.certificate = made.public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "webhook.pem").write_bytes(self.certificate + private)
        self.asked = 0
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook.asked += 1
                said = {"uid": review["request"]["uid"], "allowed": False, "status": {"message": webhook.words}}
                body = json.dumps({**review, "request": None, "response": said}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "webhook.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1})
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@contextmanager
def registered(cluster, site, client):
    """Have the cluster ask a webhook about each new pod of this place."""
    document = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": site.instance},
        "webhooks": [
            {
                "name": "pods.example.com",
                "clientConfig": client,
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "objectSelector": {"matchLabels": {names.INSTANCE: site.instance}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 3,
            }
        ],
    }
    ask(cluster, "POST", HOOKS, document)
    try:
        yield
    finally:
        ask(cluster, "DELETE", f"{HOOKS}/{site.instance}")


def test_a_webhook_that_refuses_a_pod_is_told_and_the_job_runs_once_it_is_gone(
    kubernetes, open_backend, cluster, site, tmp_path
):
    if kubernetes.lab is None:
        pytest.skip("another cluster does not reach a server on this machine")
    backend = open_backend(site)
    backend.start(job("print('warm')", name="job_warm-1"))  # the namespace and the programs are there
    webhook = Webhook(tmp_path)
    bundle = base64.b64encode(webhook.certificate).decode()
    url = f"https://127.0.0.1:{webhook.server.server_address[1]}/judge"
    try:
        with registered(cluster, site, {"url": url, "caBundle": bundle}):
            wait_for(lambda: _is_asked(cluster, site, webhook), within_s=LONG_S, every_s=0.5)
            backend.start(job("print('up')"))
            told = waiting(backend, webhook.words)
            assert told.phase is Phase.STARTING
            assert "refuses its pod" in told.reason
            before = webhook.asked  # asked again and again: what refuses may change its mind
            wait_for(lambda: backend.observe(NAME) and webhook.asked > before, within_s=LONG_S, every_s=0.5)
        assert finish(backend).exit_code == 0
        assert backend.log(NAME) == b"up\n"
        assert len(pods_of(cluster, site)) == 1
    finally:
        webhook.close()


def _is_asked(cluster, site, webhook):
    """Tell whether the API server knows of the webhook by now."""
    probe = {"name": "main", "image": site.image}
    about = {"generateName": "probe-", "namespace": "default", "labels": {names.INSTANCE: site.instance}}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": {"containers": [probe]}}
    path = "/api/v1/namespaces/default/pods?dryRun=All"
    cluster._client._client._client.post(path, json=document)
    return webhook.asked


def test_a_webhook_that_does_not_answer_keeps_a_pod_waiting(open_backend, cluster, site):
    backend = open_backend(site)
    backend.start(job("print('warm')", name="job_warm-1"))
    service = {"service": {"namespace": "default", "name": "nobody", "path": "/judge"}}
    with registered(cluster, site, service):
        backend.start(job("print('up')"))
        told = waiting(backend, "failed calling webhook")
        assert told.phase is Phase.STARTING
    assert finish(backend).exit_code == 0
    assert backend.log(NAME) == b"up\n"


def test_a_pod_that_is_evicted_is_told_apart(open_backend, cluster, site):
    backend = open_backend(site)
    backend.start(job(SLEEP))
    running(backend)
    (pod,) = pods_of(cluster, site)
    name, space = pod["metadata"]["name"], pod["metadata"]["namespace"]
    eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name, "namespace": space}}
    ask(cluster, "POST", f"/api/v1/namespaces/{space}/pods/{name}/eviction", eviction)
    ended = finish(backend)
    assert (ended.phase, ended.ended_by, ended.exit_code) == (Phase.LOST, EndedBy.EVICTION, None), ended.reason
    assert cause(ended) is EndCause.LOST
    assert backend.log(NAME).count(b"up") == 1


def test_a_pod_that_its_node_evicts_is_told_apart(open_backend, cluster, site):
    """It writes more to the node's disk than the namespace lets it: the kubelet itself takes it away."""
    site = replace(site, namespace=f"evict-{site.instance[-8:]}")
    space = Tenants(cluster, site).ensure(None)
    limit = {"type": "Container", "default": {"ephemeral-storage": "20Mi"}}
    document = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "disk"}, "spec": {"limits": [limit]}}
    ask(cluster, "POST", f"/api/v1/namespaces/{space}/limitranges", document)
    backend = open_backend(site)
    backend.start(
        job(
            """
            import time
            print('up', flush=True)
            open('large', 'wb').write(bytes(100 * 2**20))
            time.sleep(600)
            """
        )
    )
    running(backend)
    ended = finish(backend)
    assert (ended.phase, ended.ended_by, ended.exit_code) == (Phase.LOST, EndedBy.EVICTION, None), ended.reason
    assert "ephemeral" in ended.reason
    assert cause(ended) is EndCause.LOST
    backend.remove(NAME)
    cluster.delete("Namespace", space)


def test_a_job_that_is_deleted_by_hand_is_lost_and_not_begun_anew(open_backend, cluster, site):
    backend = open_backend(site)
    backend.start(job(SLEEP))
    running(backend)
    (found,) = cluster.list("Job", names.labels_of(site.instance, names.ATTEMPT, NAME))
    cluster.delete("Job", found["metadata"]["name"], found["metadata"]["namespace"])
    lost = finish(backend)
    assert (lost.phase, lost.ended_by) == (Phase.LOST, EndedBy.EVICTION)
    assert "its Job is gone" in lost.reason
    backend.start(job(SLEEP))
    assert open_backend(site).observe(NAME) == lost
    assert backend.log(NAME).count(b"up") == 1
    assert backend.names() == [NAME]
    backend.remove(NAME)
    assert backend.names() == []
    assert backend.observe(NAME).phase is Phase.ABSENT


def test_a_job_that_was_edited_to_have_no_pod_is_put_right(open_backend, cluster, site):
    narrow = replace(site, quota={"pods": "0"}, namespace=f"edit-{site.instance[-8:]}")
    backend = open_backend(narrow)
    backend.start(job("print('up')"))
    waiting(backend, "exceeded quota")
    (found,) = cluster.list("Job", names.labels_of(site.instance, names.ATTEMPT, NAME))
    cluster.patch({**found, "kind": "Job"}, {"spec": {"parallelism": 0}})
    waiting(backend, "changed by hand")
    assert "spec.parallelism" in check_cluster(cluster, narrow).detail
    space = found["metadata"]["namespace"]
    quota = {"metadata": {"name": "modelops", "namespace": space}, "kind": "ResourceQuota"}
    cluster.patch(quota, {"spec": {"hard": {"pods": "5"}}})
    assert finish(backend).exit_code == 0
    backend.remove(NAME)
    cluster.delete("Namespace", space)


def test_what_was_changed_of_a_namespace_is_shown_and_put_right(cluster, site, monkeypatch):
    monkeypatch.setattr("modelops.adapters.kubernetes.tenants.CHECK_EVERY_S", 0.0)
    site = replace(site, namespace=f"drift-{site.instance[-8:]}", quota={"pods": "5"})
    tenants = Tenants(cluster, site)
    space = tenants.ensure("ten-a")
    tenants.ensure("ten-a")
    assert "others changed" not in check_cluster(cluster, site).detail  # nobody did
    quota = {"kind": "ResourceQuota", "metadata": {"name": "modelops", "namespace": space}}
    cluster.patch(quota, {"spec": {"hard": {"pods": "500"}}})
    ask(cluster, "DELETE", f"/apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies/modelops")
    tenants.ensure("ten-a")
    assert cluster.get("ResourceQuota", "modelops", space)["spec"]["hard"] == {"pods": "5"}
    assert cluster.get("NetworkPolicy", "modelops", space)["spec"]["ingress"]
    told = check_cluster(cluster, site)
    assert told.healthy
    assert "spec.hard.pods" in told.detail
    assert "it was deleted" in told.detail
    cluster.delete("Namespace", space)


@contextmanager
def fake_devices(cluster, **counts):
    """Let the node have devices that it does not, with the label and the taint of a pool."""
    (node,) = ask(cluster, "GET", "/api/v1/nodes")["items"]
    path = f"/api/v1/nodes/{node['metadata']['name']}"
    merge = "application/merge-patch+json"
    taints = [*(node["spec"].get("taints") or []), {"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
    ask(cluster, "PATCH", path, {"metadata": {"labels": {"pool": "fake"}}, "spec": {"taints": taints}}, merge)
    ask(cluster, "PATCH", f"{path}/status", {"status": {"capacity": counts}}, merge)
    try:
        yield
    finally:
        ask(cluster, "PATCH", f"{path}/status", {"status": {"capacity": dict.fromkeys(counts)}}, merge)
        back = {"metadata": {"labels": {"pool": None}}, "spec": {"taints": node["spec"].get("taints")}}
        ask(cluster, "PATCH", path, back, merge)


def test_the_scheduler_counts_the_devices_of_a_pool(kubernetes, open_backend, cluster, site):
    if kubernetes.lab is None:
        pytest.skip("the nodes of another cluster are not ours to change")
    tolerations = (Toleration(key="gpu", operator="Exists", effect="NoSchedule"),)

    def placed(resource, count):
        return Placement(
            pool="p", node_selector={"pool": "fake"}, tolerations=tolerations, gpu_resource=resource, gpu_count=count
        )

    backend = open_backend(site)
    with fake_devices(cluster, **{"nvidia.com/gpu": "4", "nvidia.com/mig-1g.5gb": "2"}):
        backend.start(job(SLEEP, placement=placed("nvidia.com/gpu", 2)))
        running(backend)
        (pod,) = pods_of(cluster, site)
        assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
        backend.start(job("print('up')", name="job_cluster-2", placement=placed("nvidia.com/gpu", 3)))
        assert waiting(backend, "Insufficient nvidia.com/gpu", "job_cluster-2").phase is Phase.STARTING
        backend.start(job("print('up')", name="job_cluster-3", placement=placed("nvidia.com/mig-1g.5gb", 2)))
        assert finish(backend, "job_cluster-3").exit_code == 0
        untolerated = replace(placed("nvidia.com/mig-1g.5gb", 1), tolerations=())
        backend.start(job("pass", name="job_cluster-4", placement=untolerated))
        waiting(backend, "taint", "job_cluster-4")
        backend.stop(NAME, grace_s=0)
        assert finish(backend, "job_cluster-2").exit_code == 0


def as_account(cluster, kubernetes, folder, role):
    """Return the kubeconfig of a service account that has a role, and no other."""
    who, space = role["metadata"]["name"], "default"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    ask(cluster, "POST", f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": who}})
    ask(cluster, "POST", f"{rbac}/clusterroles", role)
    binding = {
        "metadata": {"name": who},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": who},
        "subjects": [{"kind": "ServiceAccount", "name": who, "namespace": space}],
    }
    ask(cluster, "POST", f"{rbac}/clusterrolebindings", binding)
    annotated = {"name": who, "annotations": {"kubernetes.io/service-account.name": who}}
    secret = {"metadata": annotated, "type": "kubernetes.io/service-account-token"}
    secrets = f"/api/v1/namespaces/{space}/secrets"
    ask(cluster, "POST", secrets, secret)
    token = wait_for(lambda: (ask(cluster, "GET", f"{secrets}/{who}").get("data") or {}).get("token"))
    config = yaml.safe_load(Path(kubernetes.kubeconfig).read_text(encoding="utf-8"))
    config["users"][0]["user"] = {"token": base64.b64decode(token).decode()}
    path = folder / f"{who}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return str(path)


def forget_account(cluster, who):
    for path in (
        f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{who}",
        f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{who}",
        f"/api/v1/namespaces/default/secrets/{who}",
        f"/api/v1/namespaces/default/serviceaccounts/{who}",
    ):
        ask(cluster, "DELETE", path)


def test_the_role_suffices_for_a_job_and_a_deployment(kubernetes, cluster, site, tmp_path):
    site = replace(site, namespace=f"role-{site.instance[-8:]}", quota={"pods": "20"})
    role = cluster_role(f"modelops-{site.instance[-8:]}")
    config = as_account(cluster, kubernetes, tmp_path, role)
    account = Cluster(config)
    try:
        wait_for(lambda: not missing_rights(account), every_s=0.3)
        assert check_cluster(account, site).healthy
        backend = KubernetesJobBackend(account, site)
        backend.start(job(SLEEP))
        running(backend)
        backend.stop(NAME, grace_s=0)
        assert finish(backend).ended_by is EndedBy.REQUEST
        backend.remove(NAME)
        with KubernetesDeployer(Cluster(config), site) as deployer:
            spec = WorkloadSpec("dep_role-1", 1, ("python3", "-c", textwrap.dedent(SERVER)), limits=Limits(cpus=1))

            def ready():
                deployer.apply(spec)
                return any(one.ready for one in deployer.observe(spec.name))

            wait_for(ready, within_s=LONG_S, every_s=0.3)
            assert b"up" in wait_for(lambda: deployer.log(spec.name, 0), within_s=LONG_S)
            wait_for(lambda: deployer.remove(spec.name, grace_s=0), within_s=LONG_S, every_s=0.3)
    finally:
        account.close()
        forget_account(cluster, role["metadata"]["name"])
        cluster.delete("Namespace", site.namespace)


def test_a_right_that_is_lacking_is_named(kubernetes, cluster, site, tmp_path):
    role = cluster_role(f"narrow-{site.instance[-8:]}")
    role["rules"] = [one for one in role["rules"] if one["resources"] != ["pods/log"]]
    config = as_account(cluster, kubernetes, tmp_path, role)
    account = Cluster(config)
    try:
        wait_for(lambda: missing_rights(account) == ["get pods/log"], every_s=0.3)
        found = check_cluster(account, site)
        assert not found.healthy
        assert "does not let us get pods/log" in found.detail
    finally:
        account.close()
        forget_account(cluster, role["metadata"]["name"])


@pytest.fixture
def shown():
    """A folder that pods can see: their own `/tmp` hides this machine's."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="modelops-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_an_environment_is_built_within_the_pod(kubernetes, open_backend, site, shown):
    if kubernetes.lab is None:
        pytest.skip("pods of another cluster do not see this machine's software")
    line = make_wheel(shown, "tinything", "1.0", "answer = 42\n")
    (shown / "lock").write_text(f"--no-index\n--find-links {shown}\n{line}", encoding="utf-8")
    shutil.copyfile(find_uv(), shown / "uv")
    for path in shown.iterdir():
        path.chmod(0o755)
    mounts = (*platform_mounts(), str(shown))
    backend = open_backend(replace(site, image="localhost/busybox:lab", python=sys.executable, mounts=mounts))
    code = f"""
        import os, subprocess
        from pathlib import Path
        from modelops.runtime.environments import WHERE, Environments
        python = Environments(Path(os.environ[WHERE])).use(Path({str(shown / "lock")!r}).read_bytes(), print)
        print(subprocess.check_output([python, "-c", "import tinything, modelops; print(tinything.answer)"], text=True))
    """
    command = (sys.executable, "-c", textwrap.dedent(code))
    told = {"MODELOPS_ENVIRONMENTS": "/var/lib/modelops/environments", "PATH": f"{shown}:/usr/bin:/bin"}
    backend.start(JobSpec(NAME, command, env=told))
    ended = finish(backend)
    output = backend.log(NAME).decode()
    assert (ended.exit_code, "\n42\n" in output) == (0, True), output
