"""Rollouts in a world that does what the test says."""

from datetime import timedelta

import jwt
import pytest

from modelops.contracts.errors import DeploymentError, InvalidInput, NotFound, PermissionDenied
from modelops.contracts.ports import Deployer, Phase
from modelops.domains.monitoring.schemas import LATENCY_BOUNDS_S, SketchBatch, SketchBatches
from modelops.domains.serving.courses.courses import Hold, Outcome, RolloutState
from modelops.domains.serving.courses.strategies import (
    Analysis,
    BlueGreen,
    BusinessMetric,
    Canary,
    CanaryStep,
    ErrorRate,
    Rolling,
)
from modelops.domains.serving.errors import NoRollout
from modelops.domains.serving.replicas.control import ReplicaControl
from modelops.domains.serving.schemas import DeploymentState, RevisionState, ServingLimits
from modelops.domains.serving.tables import RevisionRow
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform

STEPS = [CanaryStep(share=10, pause_s=30), CanaryStep(share=50, pause_s=30)]
BY_TIME = Canary(steps=STEPS, analysis=None)
ANALYSED = Canary(steps=STEPS, analysis=Analysis(metrics=[ErrorRate()], interval_s=10, max_extensions=1))
ALONE = {"champion": (100.0, 1)}


class Story:
    """A platform on a clock of its own, with a deployment of `m:1` that is ready, and a second version."""

    def __init__(self, platform, clock, world, register, **options):
        self.platform, self.clock, self.world = platform, clock, world(platform)
        self.control = self.world.control
        self.client = platform.client()
        self.serving = self.client.serving
        self.versions = [register(self.client) for _ in range(2)]
        self.id = self.serving.create_deployment("d", "m:1", **options).id
        assert self.turn(4).state is DeploymentState.READY

    def turn(self, times=1, seconds=0.0):
        for _ in range(times):
            self.clock.advance(seconds)
            self.platform.controller.turn()
        return self.serving.get_deployment("d")

    def rollout(self):
        return self.serving.get_rollout("d")

    def update(self, **options):
        self.serving.update_deployment("d", model="m:2", **options)
        return self.turn(3)

    def report(self, variant, requests, errors=0, revision=2):
        """Hand in telemetry of a variant, as its replica would."""
        version = self.versions[0 if variant == "champion" else 1]
        self.reports = getattr(self, "reports", 0) + 1
        batch = SketchBatch(
            source="test",
            sequence=self.reports,
            deployment_id=self.id,
            revision=revision,
            model_version_id=version.id,
            started_at=self.clock.now(),
            ended_at=self.clock.now() + timedelta(seconds=1),
            rows=0,
            requests=requests,
            errors=errors,
            dropped_rows=0,
            inputs=[],
            outputs=[],
            variant=variant,
            latencies=[requests, *[0] * len(LATENCY_BOUNDS_S)],
            latency_sum_s=requests * 0.0003,
        )
        self.client.rest.request("POST", "/monitoring/sketches", json=SketchBatches(batches=[batch]))

    def events(self):
        self.platform.controller.turn()
        found = self.client.platform.stream_events(follow=False)
        return [one.type.rsplit(".", 1)[1] for one in found if ".rollout_" in one.type]


@pytest.fixture
def open_story(tmp_path, world, register):
    """Open a story on SQLite: `open_story(replicas=2)`."""
    clock = VirtualClock()
    with running_platform(tmp_path / "home", clock=clock, ready_timeout_s=60.0, lease_ttl_s=1e6) as platform:
        yield lambda **options: Story(platform, clock, world, register, **options)


@pytest.fixture
def story_on_each(request, tmp_path, world, register, platform):
    """A story with two replicas on each database; its clock is the platform's own."""

    class Standing:
        def advance(self, seconds):
            """Time passes by itself."""

    return Story(platform, Standing(), world, register, replicas=2)


def test_a_new_model_takes_over_in_the_processes_that_run(story_on_each):
    story = story_on_each
    before = story.world.names()
    found = story.update()
    assert (found.state, found.active_revision, found.model_version) == (DeploymentState.READY, 2, 2)
    assert story.world.names() == before
    assert story.control.shares() == [(2, {"champion": (100.0, 2)})] * 2
    assert [one.home for one in story.serving.list_revisions("d").items] == [1, 1]
    assert story.rollout().state is RolloutState.SUCCEEDED
    assert story.events() == ["rollout_started", "rollout_succeeded"]
    story.serving.rollback_deployment("d")
    found = story.turn(3)
    assert (found.active_revision, found.model_version, found.ready_replicas) == (3, 1, 2)
    assert story.world.names() == before


def test_replicas_are_told_with_a_token_for_this_deployment_alone(open_story):
    story = open_story()
    story.update()
    claims = jwt.decode(story.control.tokens[-1], options={"verify_signature": False})
    assert claims["permissions"] == ["deployments.configure"]
    assert (claims["platform"], claims["deployments"]) == (True, [story.id])


def test_what_starts_later_has_what_serves(open_story):
    story = open_story()
    story.update()
    story.serving.update_deployment("d", replicas=2)
    found = story.turn(3)
    assert (found.state, found.ready_replicas) == (DeploymentState.READY, 2)
    name = story.world.names()[0]
    assert '"revision":2' in story.world.workloads[name].begun[1]
    story.world.crash(name, 0)
    assert story.turn(3).state is DeploymentState.READY
    assert story.control.shares() == [(2, {"champion": (100.0, 2)})] * 2


@pytest.mark.parametrize("limits", [ServingLimits(cpus=2), ServingLimits(memory_mb=512), ServingLimits(grpc=True)])
def test_other_processes_are_needed_for_other_process_limits(open_story, limits):
    story = open_story()
    found = story.update(limits=limits)
    assert story.turn(2).active_revision == 2
    assert story.world.names() == [f"{found.id}-r2"]
    with pytest.raises(DeploymentError, match="needs new ones"):
        story.serving.update_deployment("d", model="m:1", limits=ServingLimits(cpus=3), strategy=BY_TIME)
    assert story.serving.get_deployment("d").wanted_revision == 2


def test_what_an_older_platform_started_is_replaced(open_story):
    story = open_story()
    with story.platform.place.work() as ctx:
        row = ctx.session.query(RevisionRow).one()
        row.spec = {name: value for name, value in row.spec.items() if name not in ("runtime", "digest")}
    with pytest.raises(DeploymentError, match="needs new ones"):
        story.serving.update_deployment("d", model="m:2", strategy=BY_TIME)
    story.update()
    found = story.turn(2)
    assert (found.state, found.active_revision) == (DeploymentState.READY, 2)
    assert story.world.names() == [f"{found.id}-r2"]


def test_a_document_that_a_replica_refuses_is_taken_back_everywhere(open_story):
    story = open_story(replicas=2)
    story.control.broken = "The model cannot be loaded."
    found = story.update()
    story.control.broken = None
    found = story.turn(3)
    assert (found.state, found.active_revision) == (DeploymentState.ROLLED_BACK, 1)
    assert "The model cannot be loaded." in found.reason
    assert story.control.shares() == [(1, ALONE)] * 2
    assert story.rollout().state is RolloutState.FAILED
    assert story.update().state is not DeploymentState.ROLLED_BACK
    assert story.turn(2).model_version == 2


def test_a_replica_that_dies_of_it_again_and_again(open_story):
    story = open_story()
    story.control.obedient = False
    story.update()
    name = story.world.names()[0]
    for _ in range(3):
        assert story.serving.get_deployment("d").active_revision == 1
        story.world.crash(name)
        found = story.turn(4)
    assert (found.state, found.active_revision) == (DeploymentState.ROLLED_BACK, 1)
    assert "ended 3 times" in found.reason


def test_replicas_that_cannot_be_reached_run_out_of_time(open_story):
    story = open_story()
    story.control.away = True
    story.update()
    assert story.turn(3, 10).state is DeploymentState.PROGRESSING
    story.turn(6, 10)
    story.control.away = False
    found = story.turn(3, 1)
    assert (found.state, found.active_revision) == (DeploymentState.ROLLED_BACK, 1)
    assert story.control.shares() == [(1, ALONE)]


def test_a_rolling_change_goes_one_by_one(open_story):
    story = open_story(replicas=3, strategy=Rolling())
    story.control.obedient = False
    story.update()
    for place in range(3):
        told = [key for key, _ in story.control.history]
        assert len(told) == place + 1
        story.turn(2)
        assert len(story.control.history) == place + 1
        if place == 1:
            story.serving.pause_rollout("d")
            story.control.arrive(told[-1][0])
            story.turn(3)
            assert len(story.control.history) == 2
            story.serving.resume_rollout("d")
        story.control.arrive(told[-1][0])
        story.turn(2)
    assert story.serving.get_deployment("d").active_revision == 2
    assert [one.event for one in story.rollout().history] == ["started", "paused", "resumed", "succeeded"]


def test_a_canary_grows_by_time(open_story):
    story = open_story(replicas=2, strategy=BY_TIME)
    found = story.update()
    assert (found.state, found.active_revision) == (DeploymentState.PROGRESSING, 1)
    assert story.control.shares() == [(2, {"champion": (90.0, 1), "candidate": (10, 2)})] * 2
    rollout = story.rollout()
    assert (rollout.step, rollout.steps, rollout.share, rollout.from_revision) == (1, 2, 10, 1)
    assert story.turn(2, 14).reason.startswith("Revision 2: 2 of 2 replicas are ready. It is at step 1 of 2")
    story.turn(1, 3)
    story.turn(3)
    assert story.control.shares() == [(2, {"champion": (50.0, 1), "candidate": (50, 2)})] * 2
    story.turn(4, 10)
    found = story.turn(3)
    assert (found.state, found.active_revision) == (DeploymentState.READY, 2)
    assert story.control.shares() == [(2, {"champion": (100.0, 2)})] * 2
    assert story.events() == ["rollout_started", "rollout_step", "rollout_promoted", "rollout_succeeded"]


def test_a_waiting_canary_costs_no_write(open_story, monkeypatch):
    story = open_story(strategy=BY_TIME)
    story.update()
    story.turn(2)
    writes = []
    work = story.platform.place.database.work
    monkeypatch.setattr(
        story.platform.place.database, "work", lambda *, write=True: writes.append(write) or work(write=write)
    )
    story.platform.controller.turn()
    assert not any(writes)


def test_a_replica_that_starts_again_amid_a_canary_is_told_again(open_story):
    story = open_story(strategy=BY_TIME)
    story.update()
    story.world.crash(story.world.names()[0])
    found = story.turn(5)
    assert found.replica_status[0].restarts == 1
    assert story.control.shares() == [(2, {"champion": (90.0, 1), "candidate": (10, 2)})]


def test_an_analysis_that_passes_promotes(open_story):
    story = open_story(strategy=ANALYSED)
    story.update()
    for _ in range(2):
        story.report("champion", 500)
        story.report("candidate", 500)
        story.turn(3, 10)
        story.turn(4, 1)
    found = story.turn(3)
    assert (found.active_revision, story.rollout().state) == (2, RolloutState.SUCCEEDED)
    assert story.rollout().analysis.outcome is Outcome.PASSED


def test_an_analysis_that_fails_aborts(open_story):
    story = open_story(replicas=2, strategy=ANALYSED)
    story.update()
    story.report("champion", 500)
    story.report("candidate", 500, errors=100)
    story.turn(1, 10)
    found = story.turn(3)
    rollout = story.rollout()
    assert (found.state, found.active_revision, found.wanted_revision) == (DeploymentState.ROLLED_BACK, 1, 1)
    assert "20.00% of the candidate's 500 requests failed" in found.reason
    assert (rollout.state, rollout.analysis.outcome) == (RolloutState.ABORTED, Outcome.FAILED)
    assert story.control.shares() == [(1, ALONE)] * 2
    assert story.serving.list_revisions("d").items[0].state is RevisionState.ABORTED
    assert rollout.history[-1].analysis == rollout.analysis
    assert story.events()[-1] == "rollout_aborted"


@pytest.mark.parametrize("telemetry", [True, False])
def test_what_is_inconclusive_never_promotes(open_story, telemetry):
    story = open_story(strategy=ANALYSED)
    story.update()
    if telemetry:
        story.report("champion", 500)
        story.report("candidate", 3)
    story.turn(15, 10)
    rollout = story.rollout()
    assert (rollout.state, rollout.hold, rollout.step) == (RolloutState.PAUSED, Hold.INCONCLUSIVE, 1)
    assert rollout.extensions == 1
    assert "of the candidate yet" in rollout.reason
    assert story.control.shares() == [(2, {"champion": (90.0, 1), "candidate": (10, 2)})]
    assert story.serving.promote_rollout("d").step is None
    assert story.turn(3).active_revision == 2


def test_a_business_metric_decides(open_story):
    metric = BusinessMetric(metric="revenue", minimum_effect=1.0)
    story = open_story(strategy=Canary(steps=STEPS, analysis=Analysis(metrics=[metric], interval_s=10)))
    story.update()
    posted = story.serving.record_business_metric("d", "revenue", "champion", [10.0 + n % 3 for n in range(60)])
    assert (posted.revision, posted.count, posted.mean) == (2, 60, 11.0)
    story.serving.record_business_metric("d", "revenue", "candidate", [5.0 + n % 3 for n in range(60)])
    with pytest.raises(InvalidInput, match="no variant 'nobody'"):
        story.serving.record_business_metric("d", "revenue", "nobody", 1.0)
    story.turn(1, 10)
    found = story.turn(3)
    assert found.state is DeploymentState.ROLLED_BACK
    assert "The mean 'revenue' of the candidate is 6" in found.reason


def test_what_people_do(open_story):
    story = open_story(strategy=Canary(steps=[CanaryStep(share=5, pause_s=None), *STEPS], analysis=None))
    with pytest.raises(NotFound):
        story.rollout()
    for verb in ("pause", "resume", "promote", "abort"):
        with pytest.raises(NoRollout):
            getattr(story.serving, f"{verb}_rollout")("d")
    story.update()
    assert story.rollout().hold is Hold.STEP
    assert story.serving.resume_rollout("d").step == 2
    with pytest.raises(DeploymentError, match="not paused"):
        story.serving.resume_rollout("d")
    story.turn(3)
    assert story.serving.pause_rollout("d").hold is Hold.PERSON
    story.turn(10, 10)
    assert story.rollout().step == 2
    aborted = story.serving.abort_rollout("d", reason="the shop's owner asked")
    assert (aborted.state, aborted.share) == (RolloutState.ABORTED, 0)
    found = story.turn(3)
    assert (found.state, found.active_revision) == (DeploymentState.ROLLED_BACK, 1)
    assert "the shop's owner asked" in found.reason
    assert story.control.shares() == [(1, ALONE)]
    assert story.serving.list_rollouts("d").items == [story.rollout()]
    assert story.serving.get_rollout("d", revision=2).id == aborted.id
    with pytest.raises(NotFound):
        story.serving.get_rollout("d", revision=7)


def test_blue_and_green(open_story):
    story = open_story(strategy=BlueGreen(auto_promote=False, keep_s=100))
    story.update()
    found = story.turn(3)
    assert (found.active_revision, len(story.world.names())) == (1, 2)
    assert story.rollout().hold is Hold.PROMOTION
    story.serving.promote_rollout("d")
    assert story.turn(3).active_revision == 2
    assert len(story.world.names()) == 2
    started = [entry for entry in story.world.history if entry[0] == "start"]
    story.serving.rollback_deployment("d")
    found = story.turn(4)
    assert (found.active_revision, found.model_version) == (3, 1)
    assert [entry for entry in story.world.history if entry[0] == "start"] == started
    assert story.world.names() == [f"{story.id}-r1"]
    assert story.control.shares() == [(3, ALONE)]


def test_what_served_before_is_not_kept_for_ever(open_story):
    story = open_story(strategy=BlueGreen(keep_s=100))
    story.update()
    story.turn(5)
    assert len(story.world.names()) == 2
    story.turn(2, 60)
    assert story.world.names() == [f"{story.id}-r2"]


def test_the_newest_wish_ends_a_rollout(open_story):
    story = open_story(strategy=BY_TIME)
    story.update()
    story.serving.update_deployment("d", limits=ServingLimits(rate_per_s=5))
    assert story.serving.get_rollout("d", revision=2).state is RolloutState.SUPERSEDED
    found = story.turn(4)
    assert (found.wanted_revision, found.state) == (3, DeploymentState.PROGRESSING)


def test_another_controller_goes_on_where_the_first_was(open_story):
    story = open_story(strategy=BY_TIME)
    story.update()
    home = story.platform.platform.settings.home
    with running_platform(home, clock=story.clock, lease_ttl_s=1e6) as again:
        again.place.ports[Deployer] = story.world
        again.place.ports[ReplicaControl] = story.control
        told = len(story.control.history)
        story.turn(3)
        assert len(story.control.history) == told
        story.turn(8, 10)
        assert story.turn(4).active_revision == 2


def test_a_stopped_deployment_waits_with_its_rollout(open_story):
    story = open_story(strategy=BY_TIME)
    story.serving.update_deployment("d", replicas=0)
    story.turn(3)
    story.update()
    assert story.turn(5, 30).active_revision == 1
    story.serving.update_deployment("d", replicas=1)
    found = story.turn(4)
    assert story.world.workloads[story.world.names()[0]].replicas[0].phase is Phase.RUNNING
    assert story.control.shares() == [(2, {"champion": (90.0, 1), "candidate": (10, 2)})]
    assert found.active_revision == 1


def test_deleting_amid_a_rollout(open_story):
    story = open_story(strategy=BY_TIME)
    story.update()
    story.serving.record_business_metric("d", "revenue", "candidate", 1.0)
    story.serving.delete_deployment("d")
    with pytest.raises(DeploymentError, match="deleted"):
        story.serving.promote_rollout("d")
    with pytest.raises(NotFound):
        story.turn(4)
    assert story.world.names() == []


def test_who_may(open_story):
    story = open_story(strategy=BY_TIME)
    story.update()
    viewer, scientist = (story.platform.member(role).serving for role in ("viewer", "data_scientist"))
    assert viewer.get_rollout("d").revision == 2
    with pytest.raises(PermissionDenied):
        viewer.record_business_metric("d", "revenue", "champion", 1.0)
    assert scientist.record_business_metric("d", "revenue", "champion", 1.0).count == 1
    for verb in ("pause", "resume", "promote", "abort"):
        with pytest.raises(PermissionDenied):
            getattr(scientist, f"{verb}_rollout")("d")
        with pytest.raises(NotFound):
            getattr(story.platform.stranger().serving, f"{verb}_rollout")(story.id)
