"""Deployments that their cluster scales, in a world that does what the test says."""

import pytest

from modelops.contracts.errors import InvalidInput, Unavailable
from modelops.contracts.ports import ClusterScaling, ScalingTrigger
from modelops.domains.serving.errors import ScalesItself
from modelops.domains.serving.options import change_of, policy_of
from modelops.domains.serving.policies.autoscaling import Autoscaling
from modelops.domains.serving.schemas import DeploymentState
from modelops.domains.serving.tables import DeploymentRow
from modelops.sdk.serving import CronTrigger, HpaScaling, KedaScaling, PrometheusTrigger

HPA = HpaScaling(min_replicas=1, max_replicas=4)


class Story:
    """A deployment that is as if its target were a cluster."""

    def __init__(self, platform, world, register):
        self.platform, self.world = platform, world(platform)
        self.client = platform.client()
        self.serving = self.client.serving
        register(self.client)
        register(self.client)
        self.id = self.serving.create_deployment("d", "m:1").id
        with platform.place.work() as ctx:
            ctx.session.get_one(DeploymentRow, self.id).target = "kubernetes"
        self.turn()

    def turn(self, times=4):
        for _ in range(times):
            self.platform.controller.turn()
        return self.serving.get_deployment("d")

    def specs(self):
        return {name.rsplit("-", 1)[1]: found.spec for name, found in self.world.workloads.items()}


@pytest.fixture
def story(platform, world, register):
    return Story(platform, world, register)


def test_the_platform_follows_what_the_cluster_wants(story):
    story.serving.update_deployment("d", autoscaling=HPA)
    found = story.turn()
    assert (found.state, found.replicas, found.autoscaling) == (DeploymentState.READY, 1, HPA)
    assert story.specs()["r1"].scaling == ClusterScaling("hpa", 1, 4, 70)
    story.world.scales = 3
    found = story.turn()
    assert (found.state, found.replicas, found.ready_replicas) == (DeploymentState.READY, 3, 3)
    assert found.scaled_at is not None
    (told,) = [
        event.data
        for event in story.client.platform.stream_events(follow=False)
        if event.type == "modelops.serving.deployment_scaled"
    ]
    assert (told["before"], told["replicas"], told["reason"]) == (1, 3, "The cluster scaled it, by hpa.")
    with pytest.raises(ScalesItself):
        story.serving.update_deployment("d", replicas=2)

    fixed = story.serving.update_deployment("d", autoscaling="off", replicas=2)
    assert fixed.autoscaling is None
    assert story.turn().replicas == 2
    assert story.specs()["r1"].scaling is None


def test_what_is_brought_up_beside_it_is_the_platforms_until_it_serves(story):
    story.serving.update_deployment("d", autoscaling=HPA)
    story.world.scales = 2
    story.turn()
    story.world.obedient = False
    story.serving.update_deployment("d", model="m:2", strategy={"kind": "blue_green"})
    story.turn(2)
    assert {name: spec.scaling is None for name, spec in story.specs().items()} == {"r1": False, "r2": True}
    assert story.specs()["r2"].replicas == 2
    story.world.obedient = True
    found = story.turn()
    assert (found.state, found.active_revision) == (DeploymentState.READY, 2)
    assert story.specs()["r2"].scaling is not None
    assert story.specs()["r1"].scaling is None


def test_a_cluster_that_does_not_scale_is_told(story):
    story.world.unscaled = Unavailable("KEDA is not installed in the cluster.", hint="Install it.")
    story.serving.update_deployment("d", autoscaling=KedaScaling(cpu_percent=60))
    found = story.turn()
    assert (found.state, found.ready_replicas) == (DeploymentState.DEGRADED, 1)
    assert "KEDA is not installed" in found.reason
    story.world.unscaled = None
    found = story.turn()
    assert (found.state, found.reason) == (DeploymentState.READY, None)


def test_only_a_cluster_scales(sqlite_platform, world, register):
    story = Story(sqlite_platform, world, register)
    for policy in (HPA, KedaScaling(cpu_percent=50)):
        with pytest.raises(InvalidInput, match="on the platform's machines") as refused:
            story.serving.create_deployment("e", "m:1", autoscaling=policy)
        assert "Leave `by` out" in refused.value.hint
    story.serving.create_deployment("e", "m:1")
    with pytest.raises(InvalidInput, match="on the platform's machines"):
        story.serving.update_deployment("e", autoscaling=HPA)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"by": "nobody"}, "`by` is"),
        ({"by": "hpa", "min_replicas": 0}, "min_replicas"),
        ({"by": "hpa", "min_replicas": 3, "max_replicas": 2}, "above max_replicas"),
        ({"by": "hpa", "target_inflight": 3}, "target_inflight"),
        ({"by": "keda"}, "something to go by"),
        ({"by": "keda", "triggers": [{"kind": "kafka"}]}, "triggers"),
        (
            {"by": "keda", "triggers": [{"kind": "prometheus", "server": "file:///x", "query": "q", "threshold": 1}]},
            "server",
        ),
        (
            {"by": "keda", "triggers": [{"kind": "cron", "start": "0 8 * * *", "end": "x", "replicas": 2}]},
            "end",
        ),
        (
            {
                "by": "keda",
                "triggers": [
                    {"kind": "cron", "start": "0 8 * * *", "end": "0 9 * * *", "replicas": 2, "timezone": "Mars/X"}
                ],
            },
            "time zone",
        ),
    ],
)
def test_what_is_wrong_with_a_policy_is_told(sqlite_platform, sent, said):
    http = sqlite_platform.http(authorization=f"Bearer {sqlite_platform.admin_key}")
    answer = http.post("/v1/deployments", json={"name": "d", "model": "m:1", "autoscaling": sent})
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]


def test_keda_is_told_in_its_own_terms():
    policy = KedaScaling(
        max_replicas=9,
        triggers=[
            PrometheusTrigger(server="http://prometheus:9090", query="sum(rate(x[1m]))", threshold=2.5),
            CronTrigger(start="0 8 * * 1-5", end="0 18 * * 1-5", replicas=3, timezone="Europe/Berlin"),
        ],
    )
    first, second = policy.port().triggers
    assert first == ScalingTrigger(
        "prometheus", {"serverAddress": "http://prometheus:9090", "query": "sum(rate(x[1m]))", "threshold": "2.5"}
    )
    assert second.settings["desiredReplicas"] == "3"


def test_policies_on_the_command_line(tmp_path):
    assert policy_of(["by=hpa,cpu_percent=50,max=6"]) == HpaScaling(cpu_percent=50, max_replicas=6)
    kept = Autoscaling(min_replicas=0, max_replicas=7, target_inflight=3)
    assert change_of(["by=hpa"], lambda: kept) == HpaScaling(min_replicas=1, max_replicas=7)
    assert change_of(["max=9"], lambda: HPA) == HpaScaling(min_replicas=1, max_replicas=9)
    assert change_of(["by=requests"], lambda: HPA) == Autoscaling(min_replicas=1, max_replicas=4)
    text = KedaScaling(cpu_percent=60).model_dump_json()
    (tmp_path / "policy.json").write_text(text)
    assert policy_of([text]) == policy_of([f"@{tmp_path / 'policy.json'}"]) == KedaScaling(cpu_percent=60)
    for wrong in ("{", "@/nowhere", '{"by": "nobody"}', '{"by": "keda"}'):
        with pytest.raises(InvalidInput, match="no scaling policy"):
            policy_of([wrong])
