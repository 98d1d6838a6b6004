"""The manifests on a real cluster: the platform from its own images, with processes killed under it, and its jobs as pods.

PostgreSQL and S3 are stand-ins, for no registry is reached. What an older cluster calls otherwise is renamed as it is applied.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.deploy.images import CACHE, ROOT, podman
from tests.deploy.kubectl import KUBECTL
from tests.journeys.cluster import free_port

from modelops.domains.training.schemas import JobState, Resources, Retry
from modelops.sdk.client import Client
from modelops.sdk.serving import KubernetesDeployment
from modelops.testing.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WORKLOADS = ("deployment/modelops-api", "deployment/modelops-controller", "statefulset/modelops-agent")
OF_1_20 = {"policy/v1": "policy/v1beta1", "autoscaling/v2": "autoscaling/v2beta2"}
LABEL = "modelops-test=cluster"
JOBS = "lab-jobs"
"""What the namespaces of the pods of jobs begin with."""


@dataclass
class Place:
    """The lab, and a copy of `deploy/` with settings of its own."""

    kubeconfig: str
    deploy: Path
    volumes: Path
    minor: int
    url: str = ""

    def kubectl(self, *command, given=None, check=True):
        line = [KUBECTL, f"--kubeconfig={self.kubeconfig}", *command]
        done = subprocess.run(line, input=given, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout

    def apply(self, mode, namespace="modelops"):
        rendered = self.kubectl("kustomize", str(self.deploy / "modes" / mode))
        if self.minor <= 20:
            for new, old in OF_1_20.items():
                rendered = re.sub(f"^apiVersion: {new}$", f"apiVersion: {old}", rendered, flags=re.MULTILINE)
        self.kubectl("-n", namespace, "delete", "job", "modelops-bucket", "--ignore-not-found")
        self.kubectl("-n", namespace, "apply", "-f", "-", given=rendered)

    def overlay(self, name, **content):
        folder = self.deploy / "modes" / name
        folder.mkdir()
        (folder / "kustomization.yaml").write_text(yaml.safe_dump({"kind": "Kustomization", **content}))

    def set(self, file, **settings):
        path = self.deploy / file
        kept = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in settings]
        path.write_text("\n".join([*kept, *(f"{key}={value}" for key, value in settings.items())]) + "\n")

    def add_volumes(self, *names):
        """Add what a cluster's provisioner makes: a volume for each claim."""
        for name in names:
            (self.volumes / name).mkdir()
            volume = {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"modelops-test-{name}", "labels": dict([LABEL.split("=")])},
                "spec": {
                    "capacity": {"storage": "20Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "local": {"path": str(self.volumes / name)},
                    "nodeAffinity": {
                        "required": {
                            "nodeSelectorTerms": [
                                {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}
                            ]
                        }
                    },
                },
            }
            self.kubectl("apply", "-f", "-", given=json.dumps(volume))

    def await_ready(self, namespace="modelops"):
        for one in WORKLOADS:
            done = self.kubectl("-n", namespace, "rollout", "status", one, "--timeout=420s", check=False)
            assert "successfully rolled out" in done or "complete" in done, self.tell(namespace)

    def tell(self, namespace):
        """Return what is wrong in a namespace."""
        said = self.kubectl("-n", namespace, "get", "pods,pvc", "-o", "wide", check=False)
        said += self.kubectl("-n", namespace, "get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:]
        for name in ("api", "controller", "agent", "postgres", "objects", "bucket"):
            label = f"app.kubernetes.io/name=modelops-{name}"
            said += self.kubectl("-n", namespace, "logs", "-l", label, "--tail=8", check=False)
        return said

    def kill(self, kind):
        """Kill all processes of a kind, with their pods."""
        label = f"app.kubernetes.io/name=modelops-{kind}"
        self.kubectl("-n", "modelops", "delete", "pod", "-l", label, "--grace-period=0", "--force")

    @contextmanager
    def client(self, home, namespace="modelops"):
        """Reach the API as `make port-forward` does, at `url`."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        line = [KUBECTL, f"--kubeconfig={self.kubeconfig}", "-n", namespace, "port-forward", "service/modelops-api"]
        forward = subprocess.Popen([*line, f"{port}:8750"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: reached(port) or forward.poll(), every_s=0.2)
            with Client(self.url, token=self.admin_key, home=home) as client:
                yield client
        finally:
            forward.terminate()
            forward.wait(timeout=30)

    @property
    def admin_key(self):
        text = (self.deploy / "modes" / "kind" / "secrets" / "modelops.env").read_text()
        return re.search("^MODELOPS_ADMIN_KEY=(.*)$", text, re.MULTILINE)[1]

    def clean(self):
        """Remove all that the test made, whatever it came to."""
        there = self.kubectl("get", "namespaces", "-o", "name", check=False).split()
        ours = [one for one in there if re.fullmatch(f"namespace/(modelops|modelops-prod|{JOBS}-.*)", one)]
        if ours:
            self.kubectl("delete", "--wait=false", *ours, check=False)
        for one in ours:  # their pods first, which else take the time that they may
            name = one.partition("/")[2]
            self.kubectl("-n", name, "delete", "pods", "--all", "--grace-period=0", "--force", check=False)
            self.kubectl("wait", "--for=delete", one, "--timeout=180s", check=False)
        self.kubectl("delete", "persistentvolume", "-l", LABEL, "--timeout=60s", check=False)
        bindings = ["clusterrolebinding/modelops-cluster-modelops", "clusterrole/modelops-cluster"]
        self.kubectl("delete", "--ignore-not-found", *bindings, check=False)


def reached(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def load(lab, names):
    """Bring images into the lab, where they are not yet, and remove those of earlier tests."""
    there = lab.control("status").split("images ", 1)[1].split("\n")[0].split()
    if lacking := sorted(set(names) - set(there)):
        file = CACHE / f"load-{os.getpid()}.tar"
        try:
            podman("save", "--quiet", "--multi-image-archive", "--output", file, *lacking)
            lab.control("load", str(file))
        finally:
            file.unlink(missing_ok=True)
    repositories = {name.rpartition(":")[0] for name in names}
    if old := [one for one in there if one.rpartition(":")[0] in repositories and one not in names]:
        lab.control("forget", *old)


@pytest.fixture
def place(images, kubernetes, tmp_path):
    if kubernetes.lab is None:
        pytest.skip("images are put into the lab alone")
    used = {kind: images.platform[kind] for kind in ("api", "controller", "agent", "trainer")}
    others = {name: image for name, image in images.others.items() if "nats" not in name}
    load(kubernetes, [*used.values(), *others.values()])
    deploy = tmp_path / "deploy"
    shutil.copytree(ROOT / "deploy", deploy, ignore=shutil.ignore_patterns("secrets"))
    secrets = deploy / "modes" / "kind" / "secrets"
    secrets.mkdir()
    subprocess.run(["sh", deploy / "modes" / "kind" / "make-secrets", secrets], check=True)
    minor = int(json.loads(kubernetes.control("api", "/version"))["minor"].strip("+"))
    place = Place(kubernetes.kubeconfig, deploy, tmp_path / "volumes", minor)
    place.volumes.mkdir()
    replaced = [image_of(f"localhost/modelops-{kind}", name) for kind, name in used.items()]
    replaced += [image_of(name, image) for name, image in others.items()]
    one_each = [{"name": f"modelops-{kind}", "count": 1} for kind in ("api", "controller", "agent")]
    slow = {"MODELOPS_READY_TIMEOUT_S": 300, "MODELOPS_JOB_START_TIMEOUT_S": 300}  # this machine may be very busy
    place.set("modes/kind/settings.env", **slow)
    place.overlay("lab", resources=["../kind"], images=replaced, replicas=one_each)
    place.set(
        "components/cluster/settings.env",
        MODELOPS_KUBERNETES_IMAGE=used["trainer"],
        MODELOPS_KUBERNETES_NAMESPACE=JOBS,
        MODELOPS_KUBERNETES_CPU_RESERVED=0.1,
    )
    parts = {"resources": ["../lab"], "components": ["../../components/cluster"], "namespace": "modelops"}
    place.overlay("lab-pods", **parts)
    examples = [image_of(f"registry.example.org/modelops-{kind}", name) for kind, name in used.items()]
    place.overlay("lab-prod", resources=["../prod"], images=examples, replicas=one_each)
    try:
        yield place
    finally:
        place.clean()


def image_of(name, wanted):
    repository, _, tag = wanted.rpartition(":")
    return {"name": name, "newName": repository, "newTag": tag}


def work(client, seconds, **options):
    """Submit a job that takes so long, and return its number once it runs."""
    parameters = {"function": "modelops.testing.tasks:work", "arguments": {"seconds": seconds}}
    small = Resources(cpus=1, memory_mb=512)
    job = client.training.submit_job(
        "python-function", "breast-cancer", parameters=parameters, resources=small, **options
    )
    wait_for(lambda: client.training.get_job(job.id).state is JobState.RUNNING, within_s=300, every_s=0.5)
    return job.id


def test_the_manifests_on_a_cluster(place, tmp_path):
    place.add_volumes("postgres", "objects", "agent", "agent-prod")
    place.apply("lab")
    place.await_ready()

    with place.client(tmp_path) as client:
        seed = [sys.executable, ROOT / "deploy" / "seed.py", place.url]
        environment = {**os.environ, "MODELOPS_TOKEN": place.admin_key}
        done = subprocess.run(seed, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr + place.tell("modelops")
        goes_on = work(client, 20)
        place.kill("controller")
        ended = client.training.wait_for_job(goes_on, within_s=300)
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
        begins_again = work(client, 20, retry=Retry(max_attempts=3))
        place.kill("agent")
        ended = client.training.wait_for_job(begins_again, within_s=420)
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2), place.tell("modelops")
        place.kill("postgres")
        place.kubectl("-n", "modelops", "rollout", "status", "statefulset/modelops-postgres", "--timeout=300s")
        assert client.training.get_job(goes_on).state is JobState.SUCCEEDED

    make = ["make", "-s", "-C", str(ROOT), "cluster-rights", "NAMESPACE=modelops", f"KUBECTL={KUBECTL}"]
    given = {**os.environ, "KUBECONFIG": place.kubeconfig}
    done = subprocess.run(make, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    place.apply("lab-pods")
    place.await_ready()
    with place.client(tmp_path) as client:
        checks = {one.name: one for one in client.platform.get_health().checks}
        assert checks["cluster"].healthy, checks["cluster"].detail
        goes_on = work(client, 20)
        assert place.kubectl("get", "pods", "-A", "-l", "app.kubernetes.io/managed-by=modelops", "-o", "name")
        place.kill("controller")
        ended = client.training.wait_for_job(goes_on, within_s=420)
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1), ended
        row = [[1.0] * 30]
        with KubernetesDeployment("diagnosis:1", replicas=1, name="diagnosis", client=client) as diagnosis:
            diagnosis.deploy(timeout_s=420)
            assert diagnosis.predict(row).predictions[0] in (0, 1)
            diagnosis.delete(timeout_s=300)

    place.kubectl("-n", "modelops", "scale", "--replicas=0", *WORKLOADS)
    prod(place, tmp_path)


def prod(place, tmp_path):
    """Apply the manifests for production beside it, on the same servers."""
    admin = ["-n", "modelops", "exec", "modelops-postgres-0", "--", "psql", "-h", "/run/postgresql", "-U", "modelops"]
    place.kubectl(*admin, "-c", "CREATE DATABASE prod")
    secrets = dict(
        line.split("=", 1)
        for line in (place.deploy / "modes" / "kind" / "secrets" / "modelops.env").read_text().splitlines()
    )
    host = "modelops-postgres.modelops"
    secrets["MODELOPS_DATABASE"] = secrets["MODELOPS_DATABASE"].replace("@modelops-postgres/modelops", f"@{host}/prod")
    literals = [f"--from-literal={name}={value}" for name, value in secrets.items() if name.startswith("MODELOPS_")]
    place.kubectl("create", "namespace", "modelops-prod")
    place.kubectl("-n", "modelops-prod", "create", "secret", "generic", "modelops-secrets", *literals)
    place.set("modes/prod/settings.env", MODELOPS_S3_ENDPOINT="http://modelops-objects.modelops:8333")
    place.apply("lab-prod", "modelops-prod")
    place.await_ready("modelops-prod")
    with place.client(tmp_path, "modelops-prod") as client:
        assert client.platform.get_health().checks
