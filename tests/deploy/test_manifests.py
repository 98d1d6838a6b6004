"""The manifests: valid by Kubernetes' own schemas, and as strict as the docs say. `test_cluster` applies them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from tests.deploy.kubectl import KUBECTL

from modelops.adapters.kubernetes.access import cluster_role
from modelops.contracts.settings import Settings, environment_names

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MODES = ("kind", "prod")
OF_KEDA = {"ScaledObject", "TriggerAuthentication"}
WORKLOADS = {"Deployment", "StatefulSet", "Job"}
PLATFORM = {"modelops-api", "modelops-controller", "modelops-agent"}


def objects_of(folder):
    """Return the objects of a kustomization as they are written: its own and those of what it stands on."""
    found = []
    for resource in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        path = (folder / resource).resolve()
        found += objects_of(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    return found


def every_object():
    keda = [one for file in sorted((DEPLOY / "keda").glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]
    return [(mode, one) for mode in MODES for one in objects_of(DEPLOY / "modes" / mode)] + [
        ("keda", one) for one in keda
    ]


def pods(objects):
    for one in objects:
        if one["kind"] in WORKLOADS:
            yield one["metadata"]["name"], one["spec"]["template"]


@pytest.fixture(params=MODES)
def objects(request):
    return objects_of(DEPLOY / "modes" / request.param)


@pytest.mark.parametrize(
    ("mode", "one"), every_object(), ids=lambda value: value if isinstance(value, str) else value["metadata"]["name"]
)
def test_each_object_is_valid(mode, one):
    if one["kind"] not in OF_KEDA:  # these are not Kubernetes' own
        kubernetes_validate.validate(one, "1.33", strict=True)


def test_pods_are_restricted(objects):
    for name, template in pods(objects):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"] + pod.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name


def test_the_platforms_processes_are_probed_and_not_all_taken_at_once(objects):
    by_kind = {}
    for one in objects:
        by_kind.setdefault(one["kind"], {})[one["metadata"]["name"]] = one
    assert by_kind["PodDisruptionBudget"].keys() >= PLATFORM
    templates = dict(pods(objects))
    for name in PLATFORM:
        container = templates[name]["spec"]["containers"][0]
        assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
        assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
        ports = {port["name"] for port in container["ports"]}
        assert {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} <= ports


def test_selectors_find_their_pods(objects):
    labels = {name: template["metadata"]["labels"] for name, template in pods(objects)}
    for one in objects:
        selector = one.get("spec", {}).get("selector") or one.get("spec", {}).get("podSelector")
        if not selector:
            continue
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= found.items() for found in labels.values()), one["metadata"]["name"]


def test_every_pod_is_behind_a_policy(objects):
    policies = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy"]
    assert {} in [policy["podSelector"] for policy in policies]
    named = {policy["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name") for policy in policies}
    assert {"modelops-api", "modelops-agent"} <= named


def test_secrets_are_nowhere_but_in_secrets(objects):
    for name, template in pods(objects):
        for container in template["spec"]["containers"]:
            plain = [one["name"] for one in container.get("env", []) if "value" in one]
            assert not [one for one in plain if re.search("PASSWORD|SECRET|TOKEN|DATABASE|_KEY", one)], name
    assert not [one for one in objects if one["kind"] == "Secret"]
    for mode in MODES:
        for line in (DEPLOY / "modes" / mode / "settings.env").read_text().split():
            setting = line.partition("=")[0]
            assert setting not in {"MODELOPS_DATABASE", "MODELOPS_SECRET_KEY", "MODELOPS_ADMIN_KEY"}


def settings_named(text):
    return set(re.findall(r"\bMODELOPS_[A-Z0-9_]+", text))


def test_settings_that_are_named_exist():
    known = {name for setting in Settings.model_fields for name in environment_names(setting)}
    files = [*DEPLOY.rglob("*.env"), *DEPLOY.rglob("*.yaml"), ROOT / "docker-compose.yml", DEPLOY / "compose-env"]
    files += [DEPLOY / "images" / "Containerfile", DEPLOY / "modes" / "kind" / "make-secrets"]
    for file in files:
        if "secrets" not in file.parent.name:
            named = settings_named(file.read_text()) - {"MODELOPS_WORKDIR"}
            assert named <= known, file


def test_the_rights_in_a_cluster_are_those_that_the_code_asks_for():
    """`make rights` writes them anew."""
    written = yaml.safe_load((DEPLOY / "components" / "cluster" / "rights.yaml").read_text())
    assert written == cluster_role("modelops-cluster")
    kubernetes_validate.validate(written, "1.33", strict=True)


def test_compose_names_what_is_there():
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    targets = set(re.findall(r"^FROM .* AS (\S+)", (DEPLOY / "images" / "Containerfile").read_text(), re.MULTILINE))
    services = document["services"]
    assert {"api", "controller", "agent", "postgres", "objects", "nats"} <= services.keys()
    for service in services.values():
        assert service.get("build", {}).get("target", "base") in targets
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in document["volumes"]
    for name in ("api", "controller", "agent"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]


def test_fresh_secrets_are_of_the_form_that_is_asked_for(tmp_path):
    subprocess.run(["sh", DEPLOY / "modes" / "kind" / "make-secrets", tmp_path], check=True)
    values = dict(line.split("=", 1) for line in (tmp_path / "modelops.env").read_text().splitlines())
    identity = json.loads((tmp_path / "s3.json").read_text())["identities"][0]
    assert identity["credentials"] == [
        {"accessKey": values["MODELOPS_S3_ACCESS_KEY"], "secretKey": values["MODELOPS_S3_SECRET_KEY"]}
    ]
    printed = subprocess.run(["sh", DEPLOY / "compose-env"], capture_output=True, text=True, check=True).stdout
    for key in (values["MODELOPS_ADMIN_KEY"], re.search("ADMIN_KEY=(.*)", printed)[1]):
        assert re.fullmatch("mops_[0-9a-f]{64}", key)
    assert values["POSTGRES_PASSWORD"] not in printed


@pytest.fixture
def kustomize(tmp_path):
    """Renders a mode and components."""
    copy = tmp_path / "deploy"
    shutil.copytree(DEPLOY, copy)
    secrets = copy / "modes" / "kind" / "secrets"
    secrets.mkdir(exist_ok=True)
    subprocess.run(["sh", DEPLOY / "modes" / "kind" / "make-secrets", secrets], check=True)

    def render(mode, *components):
        folder = copy / "modes" / mode
        if components:
            folder = copy / "modes" / f"{mode}-more"
            folder.mkdir()
            own = yaml.safe_load((copy / "modes" / mode / "kustomization.yaml").read_text())
            more = {"resources": [f"../{mode}"], "components": [f"../../components/{one}" for one in components]}
            more |= {key: own[key] for key in ("namespace",) if key in own}
            (folder / "kustomization.yaml").write_text(yaml.safe_dump(more))
        answer = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return [one for one in yaml.safe_load_all(answer.stdout) if one]

    return render


@pytest.mark.parametrize("mode", MODES)
def test_what_kustomize_makes_of_them_is_valid(kustomize, mode):
    rendered = kustomize(mode)
    for one in rendered:
        kubernetes_validate.validate(one, "1.33", strict=True)
    config = [one["metadata"]["name"] for one in rendered if one["kind"] == "ConfigMap"]
    images = [container["image"] for _, template in pods(rendered) for container in template["spec"]["containers"]]
    assert all("/" in image and ":" in image for image in images)
    for name, template in pods(rendered):
        if name in PLATFORM:
            used = template["spec"]["containers"][0]["envFrom"]
            assert used[0]["configMapRef"]["name"] in config  # with the hash of its content: a change rolls the pods
    if mode == "kind":
        assert {one["metadata"].get("namespace", "modelops") for one in rendered} == {"modelops"}
        assert {one["metadata"]["name"].rsplit("-", 1)[0] for one in rendered if one["kind"] == "Secret"} == {
            "modelops-secrets",
            "modelops-objects",
        }


@pytest.mark.parametrize("mode", MODES)
def test_only_what_speaks_to_the_cluster_has_an_account_there(kustomize, mode):
    rendered = kustomize(mode, "cluster")
    for one in rendered:
        kubernetes_validate.validate(one, "1.33", strict=True)
    settings = {one["metadata"]["name"]: one["data"] for one in rendered if one["kind"] == "ConfigMap"}
    speaking = set()
    for name, template in pods(rendered):
        pod = template["spec"]
        sources = [one.get("configMapRef", {}).get("name") for one in pod["containers"][0].get("envFrom", [])]
        told = {key: value for source in sources if source for key, value in settings[source].items()}
        in_cluster = pod["serviceAccountName"] == "modelops-cluster"
        assert pod["automountServiceAccountToken"] is in_cluster, name
        assert (told.get("MODELOPS_JOBS") == "kubernetes") is in_cluster, name
        if in_cluster:
            speaking.add(name)
    assert speaking == {"modelops-api", "modelops-controller"}
