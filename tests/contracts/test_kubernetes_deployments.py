"""What a real cluster does with workloads by itself, and how the platform follows: replacement, repair, scaling."""

import textwrap
from dataclasses import replace

import pytest

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.deployer import KubernetesDeployer
from modelops.adapters.kubernetes.workloads import labels_of, owns_replicas, scaler_document
from modelops.contracts.errors import Unavailable
from modelops.contracts.ports import ClusterScaling, Limits, ScalingTrigger, WorkloadSpec
from modelops.testing.deployer import SERVER
from modelops.testing.waiting import wait_for

pytestmark = pytest.mark.slow

SPEC = WorkloadSpec("dep_own-1", 2, ("python3", "-c", textwrap.dedent(SERVER)), limits=Limits(cpus=1))
HPA = ClusterScaling("hpa", 1, 4, 70)
KEDA = ClusterScaling(
    "keda",
    1,
    3,
    70,
    (
        ScalingTrigger("prometheus", {"serverAddress": "http://prometheus:9090", "query": "rate(x)", "threshold": "5"}),
        ScalingTrigger("cron", {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "2"}),
    ),
)
NUMBER, TEXT = {"type": "integer", "format": "int32"}, {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
# The members of KEDA's own definition that are of use here. The API server drops those that it does not know.
KEDA_SPEC = {
    "type": "object",
    "required": ["scaleTargetRef", "triggers"],
    "properties": {
        "scaleTargetRef": {
            "type": "object",
            "required": ["name"],
            "properties": {"apiVersion": TEXT, "kind": TEXT, "name": TEXT},
        },
        "minReplicaCount": NUMBER,
        "maxReplicaCount": NUMBER,
        "triggers": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["metadata", "type"],
                "properties": {"type": TEXT, "metricType": TEXT, "metadata": TEXTS},
            },
        },
    },
}
KEDA_KIND = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": KEDA_SPEC}}},
            }
        ],
    },
}


@pytest.fixture
def site(kubernetes, tmp_path):
    return kubernetes.site(tmp_path / "logs")


@pytest.fixture
def cluster(kubernetes):
    cluster = kubernetes.connect()
    yield cluster
    cluster.close()


@pytest.fixture
def opened(kubernetes, site):
    """Opens deployers of one platform, as its processes do; what they made is removed at the end."""
    every = []

    def make():
        every.append(KubernetesDeployer(kubernetes.connect(), site))
        return every[-1]

    yield make
    last = make()
    for name in last.names():
        wait_for(lambda name=name: last.remove(name, grace_s=0), within_s=180)
    for deployer in every:
        deployer.close()


def ready(deployer, spec, replicas=None):
    wanted = spec.replicas if replicas is None else replicas

    def step():
        deployer.apply(spec)
        seen = deployer.observe(spec.name)
        return seen if len(seen) == wanted and all(one.ready for one in seen) else None

    return wait_for(step, within_s=180)


def the(cluster, kind, site):
    return {**cluster.list(kind, labels_of(SPEC.name, site))[0], "kind": kind}


def pods_by_index(cluster, site):
    pods = cluster.list("Pod", labels_of(SPEC.name, site))
    return {pod["metadata"]["annotations"][names.INDEX]: pod["metadata"] for pod in pods}


def test_replicas_are_replaced_while_nobody_looks(opened, cluster, site):
    first = opened()
    ready(first, SPEC)
    victim = pods_by_index(cluster, site)["0"]
    first.close()
    cluster.delete("Pod", victim["name"], victim["namespace"], grace_s=1)

    def replaced():
        pods = cluster.list("Pod", labels_of(SPEC.name, site))
        conditions = [one for pod in pods for one in pod["status"].get("conditions") or [] if one["type"] == "Ready"]
        known = victim["name"] not in {pod["metadata"]["name"] for pod in pods}
        return known and [one["status"] for one in conditions] == ["True", "True"]

    wait_for(replaced, within_s=180)
    seen = ready(opened(), SPEC)
    assert [(one.index, one.restarts) for one in seen] == [(0, 1), (1, 0)]


def test_two_processes_give_each_replica_one_place(opened, cluster, site):
    one, other = opened(), opened()
    spec = replace(SPEC, replicas=3)
    for _ in range(3):
        one.apply(spec)
        other.apply(spec)
    assert ready(one, spec) == ready(other, spec)
    marks = pods_by_index(cluster, site)
    assert sorted(marks) == ["0", "1", "2"]
    assert {mark["annotations"][names.DELETION_COST] for mark in marks.values()} == {"0", "-1", "-2"}


def test_what_was_deleted_by_hand_comes_back(opened, cluster, site, monkeypatch):
    monkeypatch.setattr("modelops.adapters.kubernetes.deployer.CORRECT_EVERY_S", 0.5)
    deployer, spec = opened(), replace(SPEC, replicas=1)
    ready(deployer, spec)
    about = the(cluster, "Deployment", site)["metadata"]
    cluster.delete("Deployment", about["name"], about["namespace"])
    wait_for(lambda: deployer.apply(spec) or the(cluster, "Deployment", site)["metadata"]["uid"] != about["uid"])
    wait_for(lambda: ready(deployer, spec) and the(cluster, "Service", site), within_s=180)


def test_a_template_edited_by_hand_is_rolled_back_with_somebody_ready_all_the_time(opened, cluster, site, monkeypatch):
    monkeypatch.setattr("modelops.adapters.kubernetes.deployer.CORRECT_EVERY_S", 0.0)
    deployer, spec = opened(), replace(SPEC, replicas=1)
    ready(deployer, spec)
    deployment = the(cluster, "Deployment", site)
    cluster.patch(deployment, {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7}}}})

    def edited():
        pods = cluster.list("Pod", labels_of(SPEC.name, site))
        return [pod for pod in pods if pod["spec"]["terminationGracePeriodSeconds"] == 7]

    wait_for(edited)
    looks = []

    def settled():
        deployer.apply(spec)
        looks.append(sum(one.ready for one in deployer.observe(spec.name)))
        return not edited() and len(deployer.observe(spec.name)) == looks[-1] == 1

    wait_for(settled, within_s=180)
    assert min(looks) >= 1
    assert [one.index for one in deployer.observe(spec.name)] == [0]


def test_a_later_version_of_the_platform_rolls_nothing(opened, kubernetes, cluster, site):
    spec = replace(SPEC, replicas=1)
    before = ready(opened(), spec)
    with KubernetesDeployer(kubernetes.connect(), replace(site, image="localhost/none:newer")) as newer:
        newer.apply(spec)
        assert newer.observe(spec.name) == before
    generation = the(cluster, "Deployment", site)["metadata"]["generation"]
    assert generation == 1


def test_an_autoscaler_of_the_cluster_decides_until_it_is_taken_away(opened, cluster, site, monkeypatch):
    monkeypatch.setattr("modelops.adapters.kubernetes.deployer.CORRECT_EVERY_S", 0.0)
    deployer, scaled = opened(), replace(SPEC, replicas=1, scaling=HPA)
    ready(deployer, replace(scaled, scaling=None))
    assert deployer.scaled(SPEC.name) is None
    deployer.apply(scaled)
    assert deployer.scaled(SPEC.name) == 1
    about = the(cluster, "HorizontalPodAutoscaler", site)
    assert about["spec"]["scaleTargetRef"]["name"] == about["metadata"]["name"]
    deployment = the(cluster, "Deployment", site)
    assert not owns_replicas(deployment, names.MANAGER)

    cluster.patch(deployment, {"spec": {"replicas": 2}})  # as the autoscaler would by its measures
    wait_for(lambda: deployer.apply(scaled) or deployer.scaled(SPEC.name) == 2)
    ready(deployer, scaled, 2)

    # The cluster's own controller keeps to the bounds, without any measure.
    ready(deployer, replace(scaled, scaling=replace(HPA, min_replicas=3)), 3)
    assert deployer.scaled(SPEC.name) == 3

    ready(deployer, replace(scaled, scaling=None))
    assert deployer.scaled(SPEC.name) is None
    assert cluster.list("HorizontalPodAutoscaler", labels_of(SPEC.name, site)) == []


def test_keda_scales_where_it_is_installed(opened, cluster, site, kubernetes):
    deployer, scaled = opened(), replace(SPEC, replicas=1, scaling=KEDA)
    if not cluster.serves("keda.sh"):
        deployer.apply(replace(scaled, scaling=None))
        with pytest.raises(Unavailable, match="KEDA") as missing:
            deployer.apply(scaled)
        assert "Install it" in missing.value.hint
        assert deployer.scaled(SPEC.name) is None
    if kubernetes.lab is None:
        pytest.skip("what another cluster has installed is not ours to change")
    http = cluster._client._client._client
    http.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=KEDA_KIND).raise_for_status()
    try:
        wait_for(lambda: cluster.serves("keda.sh"))

        def applied():
            try:
                deployer.apply(scaled)
            except Unavailable:
                return False
            return True

        wait_for(applied)
        found = the(cluster, "ScaledObject", site)
        assert found["spec"] == scaler_document(scaled, site, the(cluster, "Deployment", site), KEDA)["spec"]
        assert deployer.scaled(SPEC.name) == 1
        deployer.apply(replace(scaled, scaling=HPA))
        assert cluster.list("ScaledObject", labels_of(SPEC.name, site)) == []
        deployer.apply(replace(scaled, scaling=None))
        assert deployer.scaled(SPEC.name) is None
    finally:
        http.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/scaledobjects.keda.sh").raise_for_status()
        wait_for(lambda: not cluster.serves("keda.sh"))


def test_a_removed_workload_leaves_nothing(opened, cluster, site):
    deployer, scaled = opened(), replace(SPEC, replicas=1, scaling=HPA)
    ready(deployer, scaled)
    wait_for(lambda: deployer.remove(SPEC.name, grace_s=0), within_s=180)
    kinds = ("Deployment", "Pod", "Service", "Secret", "PodDisruptionBudget", "HorizontalPodAutoscaler")
    wait_for(lambda: not [kind for kind in kinds if cluster.list(kind, labels_of(SPEC.name, site))])
