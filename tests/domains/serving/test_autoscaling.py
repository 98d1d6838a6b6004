"""Deployments that scale themselves, in a world that does what the test says."""

import pytest
from tests.domains.serving.metering import Replicas, exposition

from modelops.contracts.errors import DeploymentError, InvalidInput, PermissionDenied
from modelops.domains.serving.errors import ScalesItself
from modelops.domains.serving.policies.autoscaling import Autoscaling
from modelops.domains.serving.schemas import DeploymentState, ServingLimits
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform

POLICY = Autoscaling(
    min_replicas=0, max_replicas=4, target_inflight=2, scale_up_window_s=0, scale_down_window_s=5, idle_s=20
)


@pytest.fixture
def replicas():
    found = Replicas()
    yield found
    found.close()


class Story:
    """A deployment that scales itself, `clock` being what its time is read from."""

    def __init__(self, platform, world, register, replicas, clock=None):
        self.platform, self.world, self.replicas, self.clock = platform, world(platform), replicas, clock
        self.world.endpoint = replicas.endpoint
        self.client = platform.client()
        self.serving = self.client.serving
        register(self.client)

    def ready(self, policy=POLICY, **options):
        self.id = self.serving.create_deployment("d", "m:1", autoscaling=policy, **options).id
        for _ in range(4):
            self.platform.controller.turn()
        assert self.now().state is DeploymentState.READY
        return self

    def now(self):
        return self.serving.get_deployment("d")

    def looks(self, times, **metrics):
        """Look so often, a second apart, and return how many replicas there shall be; each shows these figures."""
        self.replicas.metrics = lambda path: exposition(**metrics)
        course = []
        for _ in range(times):
            self.clock.advance(1.0)
            self.platform.controller.turn()
            course.append(self.now().replicas)
        return course

    def events(self, kind):
        self.platform.controller.turn()
        found = self.client.platform.stream_events(follow=False)
        return [event for event in found if event.type == f"modelops.serving.{kind}"]


@pytest.fixture
def story(tmp_path, world, register, replicas):
    clock = VirtualClock()
    with running_platform(tmp_path / "home", clock=clock) as platform:
        yield Story(platform, world, register, replicas, clock)


@pytest.fixture
def story_on_each(platform, world, register, replicas):
    return Story(platform, world, register, replicas)


class TestPolicy:
    def test_every_face_keeps_it(self, story_on_each):
        serving = story_on_each.serving
        made = serving.create_deployment("d", "m:1", autoscaling=POLICY, replicas=9)
        assert (made.autoscaling, made.replicas, made.scaled_at) == (POLICY, 4, None)
        wider = POLICY.model_copy(update={"min_replicas": 5, "max_replicas": 6})
        changed = serving.update_deployment("d", autoscaling=wider)
        assert (changed.autoscaling, changed.replicas, changed.wanted_revision) == (wider, 5, 1)
        assert serving.list_deployments().items[0].autoscaling == wider
        fixed = serving.update_deployment("d", autoscaling="off", replicas=2)
        assert (fixed.autoscaling, fixed.replicas) == (None, 2)
        assert serving.update_deployment("d", autoscaling="off").replicas == 2

    def test_a_number_is_refused_where_it_follows_the_load(self, story_on_each):
        serving = story_on_each.serving
        serving.create_deployment("d", "m:1", autoscaling=POLICY)
        with pytest.raises(ScalesItself) as refused:
            serving.update_deployment("d", replicas=2)
        assert refused.value.status == 409
        assert "--autoscale off" in refused.value.hint
        with pytest.raises(ScalesItself):
            serving.update_deployment("d", replicas=2, autoscaling=POLICY)
        assert serving.get_deployment("d").replicas == 1

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            ({"min_replicas": 3, "max_replicas": 2}, "min_replicas (3) is above max_replicas (2)"),
            ({"max_replicas": 65}, "max_replicas"),
            ({"max_replicas": 0}, "max_replicas"),
            ({"min_replicas": -1}, "min_replicas"),
            ({"target_inflight": 0}, "target_inflight"),
            ({"target_queue_wait_ms": 0}, "target_queue_wait_ms"),
            ({"idle_s": 0}, "idle_s"),
            ({"minimum": 1}, "minimum"),
            ("on", "autoscaling"),
        ],
    )
    def test_what_is_wrong_with_one_is_told(self, sqlite_platform, world, register, replicas, sent, said):
        story = Story(sqlite_platform, world, register, replicas)
        http = sqlite_platform.http(authorization=f"Bearer {sqlite_platform.admin_key}")
        story.serving.create_deployment("e", "m:1")
        for answer in (
            http.post("/v1/deployments", json={"name": "d", "model": "m:1", "autoscaling": sent}),
            http.patch("/v1/deployments/e", json={"autoscaling": sent}),
        ):
            assert answer.status_code == 422, answer.text
            assert said in answer.json()["detail"]

    def test_only_engineers_change_it(self, sqlite_platform, world, register, replicas):
        story = Story(sqlite_platform, world, register, replicas)
        story.serving.create_deployment("d", "m:1")
        with pytest.raises(PermissionDenied):
            sqlite_platform.member("data_scientist").serving.update_deployment("d", autoscaling=POLICY)


class TestScaling:
    def test_load_brings_replicas_and_their_end_takes_them(self, story):
        story.ready()
        assert story.looks(5, inflight=4) == [2, 2, 4, 4, 4]
        assert story.now().ready_replicas == 4
        course = story.looks(9, inflight=1)
        assert (course[:4], course[-1]) == ([4] * 4, 2)
        assert story.now().scaled_at is not None
        (first, *_, last) = story.events("deployment_scaled")
        assert (first.data["before"], first.data["replicas"]) == (1, 2)
        assert "4.0 requests at once" in first.data["reason"]
        assert last.data["replicas"] == 2

    def test_waiting_brings_replicas(self, story):
        story.ready()
        numbers = iter(range(1, 1_000))

        def metrics(path):
            asked = next(numbers)
            return exposition(requests=asked, waits=(0, asked, 0))

        story.looks(1)
        story.replicas.metrics = metrics
        for _ in range(3):
            story.clock.advance(1.0)
            story.platform.controller.turn()
        assert story.now().replicas > 1

    def test_a_silent_replica_is_not_an_idle_one(self, story):
        story.ready()
        assert story.looks(2, inflight=2)[-1] == 1
        story.replicas.metrics = lambda path: None
        for _ in range(60):
            story.clock.advance(1.0)
            story.platform.controller.turn()
        assert story.now().replicas == 1

    def test_predictions_and_explanations_alike_keep_it_awake(self, story):
        story.ready()
        assert set(story.looks(15)) == {1}
        story.serving.predict("d", [[1]])
        assert set(story.looks(15)) == {1}
        assert story.looks(10)[-1] == 0

    def test_requests_that_pass_the_platform_by_keep_it_awake(self, story):
        story.ready()
        for asked in range(1, 40):
            assert story.looks(1, requests=asked) == [1]

    def test_requests_are_seen_though_somebody_else_looked_since(self, story):
        story.ready()
        for asked in range(1, 40):
            story.clock.advance(0.5)
            story.replicas.metrics = lambda path, asked=asked: exposition(requests=asked)
            story.serving.read_live_stats("d")
            assert story.looks(1, requests=asked) == [1]

    def test_bounds_that_change_hold_at_once(self, story):
        story.ready()
        story.looks(3, inflight=4)
        lower = POLICY.model_copy(update={"max_replicas": 2})
        assert story.serving.update_deployment("d", autoscaling=lower).replicas == 2


class TestZero:
    def idle(self, story):
        story.ready()
        assert story.looks(24)[-1] == 0
        found = story.now()
        assert (found.state, found.replica_status) == (DeploymentState.IDLE, [])
        assert "a request wakes it" in found.reason
        return story

    def test_it_idles_and_a_request_wakes_it(self, story):
        self.idle(story)
        story.platform.platform.start_controller()
        assert story.serving.predict("d", [[1]]).predictions == [1]
        found = story.now()
        assert (found.state, found.replicas) == (DeploymentState.READY, 1)
        assert len(story.events("deployment_woken")) == 1

    def test_a_new_model_wakes_it_to_be_seen_at_work(self, story, register):
        self.idle(story)
        register(story.client)
        assert story.serving.update_deployment("d", model="m:2").state is DeploymentState.PROGRESSING
        story.looks(1)
        assert (story.now().state, story.now().replicas) == (DeploymentState.PROGRESSING, 1)
        story.looks(4)
        assert (story.now().state, story.now().active_revision) == (DeploymentState.READY, 2)
        assert story.looks(24)[-1] == 0
        story.serving.rollback_deployment("d")
        assert story.looks(1) == [1]

    def test_it_can_be_stopped_for_good(self, story):
        self.idle(story)
        story.serving.update_deployment("d", autoscaling="off", replicas=0)
        story.looks(2)
        assert story.now().state is DeploymentState.STOPPED
        with pytest.raises(DeploymentError, match="is stopped"):
            story.serving.predict("d", [[1]])

    def test_a_fixed_number_after_idling_is_one(self, story):
        self.idle(story)
        assert story.serving.update_deployment("d", autoscaling="off").replicas == 1

    def test_another_policy_leaves_it_asleep_if_it_may_be(self, story):
        self.idle(story)
        assert story.serving.update_deployment("d", autoscaling=POLICY.model_copy(update={"idle_s": 9})).replicas == 0
        story.looks(1)
        assert story.now().state is DeploymentState.IDLE
        assert (
            story.serving.update_deployment("d", autoscaling=POLICY.model_copy(update={"min_replicas": 2})).replicas
            == 2
        )

    def test_one_that_was_stopped_comes_up_once(self, story):
        story.serving.create_deployment("d", "m:1", replicas=0)
        story.looks(1)
        assert story.serving.update_deployment("d", autoscaling=POLICY).replicas == 1

    def test_it_does_not_idle_while_a_revision_is_brought_up(self, story):
        story.ready()
        story.looks(15)
        story.world.obedient = False
        story.serving.update_deployment("d", limits=ServingLimits(memory_mb=512))
        assert 0 not in story.looks(45)


class TestLiveStats:
    def test_rates_and_quantiles(self, story):
        policy = POLICY.model_copy(update={"target_inflight": 100.0})
        story.ready(policy)
        story.looks(1, requests=10, latencies=(10, 0, 0))
        story.looks(2, requests=30, failed=5, latencies=(20, 10, 0), total_s=0.4, inflight=1, waiting=2)
        found = story.serving.read_live_stats("d")
        assert (found.deployment, found.state, found.replicas, found.ready_replicas) == ("d", "ready", 1, 1)
        assert (found.window_s, found.requests_per_s, found.errors_percent) == (2.0, 10.0, 25.0)
        assert (found.inflight, found.queue_depth, found.held) == (1, 2, 0)
        assert (found.p50_ms, found.p99_ms) == (10.0, 98.2)
        assert [variant.name for variant in found.variants] == ["champion"]
        assert found.autoscaling == policy
        (replica,) = found.replica_stats
        assert (replica.ready, replica.inflight, replica.queue_depth) == (True, 1, 2)

    def test_the_first_look_takes_two(self, story_on_each):
        story = story_on_each
        asked = iter(range(100))
        story.replicas.metrics = lambda path: exposition(requests=next(asked))
        story.ready(policy=None)
        found = story.serving.read_live_stats("d")
        assert found.window_s >= 0.4
        assert found.requests_per_s > 0
        assert found.autoscaling is None

    def test_silent_replicas(self, story):
        story.ready()
        story.replicas.metrics = lambda path: "nonsense"
        found = story.serving.read_live_stats("d")
        assert (found.requests_per_s, found.p50_ms, found.variants) == (0.0, None, [])
        assert found.replica_stats[0].inflight is None

    def test_without_replicas(self, story):
        story.serving.create_deployment("d", "m:1", replicas=0)
        found = story.serving.read_live_stats("d")
        assert (found.window_s, found.replica_stats, found.errors_percent) == (0.0, [], None)

    def test_a_machine_that_is_too_small_is_told(self, story):
        story.ready(policy=Autoscaling(max_replicas=64), replicas=1)
        assert "Up to 64 replicas of 1 processors share" in story.serving.read_live_stats("d").remark

    def test_viewers_may_look(self, sqlite_platform, world, register, replicas):
        Story(sqlite_platform, world, register, replicas).ready()
        assert sqlite_platform.member("viewer").serving.read_live_stats("d").state == "ready"


def test_unknown_words_in_a_policy(story):
    with pytest.raises(InvalidInput, match="autoscaling"):
        story.client.rest.request("POST", "/deployments", json={"name": "d", "model": "m", "autoscaling": {"x": 1}})
