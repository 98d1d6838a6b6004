"""Deployments in a world that does what the test says."""

import json

import pytest

from modelops.contracts.errors import NotFound
from modelops.contracts.ports import Deployer, WorkloadSpec
from modelops.domains.serving.courses.strategies import BlueGreen
from modelops.domains.serving.schemas import DeploymentState, RevisionDocument, RevisionState
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform


class Story:
    """A platform, its world, and the deployment that a test is about."""

    def __init__(self, platform, world, register):
        self.platform, self.world = platform, world(platform)
        self.client = platform.client()
        self.serving = self.client.serving
        self.register = lambda name="m": register(self.client, name)
        self.id = None

    def turn(self, times=1):
        for _ in range(times):
            self.platform.controller.turn()
        return self.now()

    def now(self):
        return self.serving.get_deployment("d")

    def name(self, number):
        return f"{self.id}-r{number}"

    def create(self, **options):
        """A deployment whose revisions each have processes of their own."""
        self.register()
        options.setdefault("strategy", BlueGreen(keep_s=0))
        made = self.serving.create_deployment("d", "m:1", **options)
        self.id = made.id
        return made

    def ready(self, **options):
        self.create(**options)
        found = self.turn(4)
        assert found.state is DeploymentState.READY, found
        return found

    def states(self):
        return {one.number: one.state for one in self.serving.list_revisions("d").items}

    def events(self):
        return [event.type.removeprefix("modelops.serving.") for event in self.all_events()]

    def all_events(self):
        self.platform.controller.turn()
        found = self.client.platform.stream_events(follow=False)
        return [event for event in found if event.type.startswith("modelops.serving.")]


@pytest.fixture
def story(sqlite_platform, world, register):
    return Story(sqlite_platform, world, register)


@pytest.fixture
def story_on_each(platform, world, register):
    return Story(platform, world, register)


def test_a_deployment_becomes_ready_when_it_was_seen_ready(story_on_each):
    story = story_on_each
    story.world.obedient = False
    assert story.create(replicas=2).state is DeploymentState.PROGRESSING
    found = story.turn(3)
    assert (found.state, found.ready_replicas, len(found.replica_status)) == (DeploymentState.PROGRESSING, 0, 2)
    story.world.ready(story.name(1), 0)
    assert story.turn().state is DeploymentState.PROGRESSING
    story.world.ready(story.name(1), 1)
    found = story.turn()
    assert (found.state, found.reason, found.active_revision) == (DeploymentState.READY, None, 1)
    assert (found.ready_replicas, found.revision) == (2, 1)
    assert story.events() == ["deployment_created", "revision_starting", "revision_active", "deployment_ready"]


def test_the_workload_is_what_a_runtime_needs(story):
    story.ready()
    spec = story.world.workloads[story.name(1)].spec
    document = RevisionDocument.model_validate_json(spec.files["revision.json"])
    assert (document.deployment, document.revision) == ("d", 1)
    assert [(one.name, one.role, one.share) for one in document.variants] == [("champion", "champion", 100.0)]
    assert (document.champion.model, document.champion.version) == ("m", 1)
    assert document.platform_url == "http://127.0.0.1:1"
    assert document.audience == "modelops"
    assert len(document.token_keys) == 1
    assert spec.argv[1:] == ("-m", "modelops.runtime", "serve")
    home = story.platform.platform.settings.home
    assert spec.env["MODELOPS_CACHE"] == str(home / "cache")
    assert spec.env["MODELOPS_SPOOL"] == str(home / "spool" / story.id)
    grant = story.platform.client(spec.files["token"]).identity.get_me()
    assert (grant.id, grant.kind, grant.permissions) == (story.id, "grant", ["artifacts.read", "monitoring.write"])
    with story.platform.place.work(write=False) as ctx:
        row = ctx.session.query(RevisionRow).one()
        assert spec.files["token"] not in json.dumps([row.spec, row.sealed_token])


def test_a_new_revision_takes_over_when_it_is_ready(story):
    story.ready(replicas=2)
    story.register()
    story.world.obedient = False
    changed = story.serving.update_deployment("d", model="m:2")
    assert (changed.state, changed.active_revision, changed.wanted_revision) == (DeploymentState.PROGRESSING, 1, 2)
    found = story.turn(5)
    assert (found.active_revision, found.model_version, found.ready_replicas) == (1, 1, 2)
    story.world.ready(story.name(2), 0)
    assert story.turn(2).active_revision == 1
    story.world.ready(story.name(2), 1)
    found = story.turn()
    assert (found.state, found.active_revision, found.model_version) == (DeploymentState.READY, 2, 2)
    assert story.name(1) in story.world.names()
    story.turn()
    assert story.world.names() == [story.name(2)]
    assert story.states() == {1: RevisionState.SUPERSEDED, 2: RevisionState.ACTIVE}
    assert {one.revision for one in story.turn().replica_status} == {2}


def test_a_revision_that_crashes_is_rolled_back(story):
    story.ready()
    story.register()
    story.world.obedient = False
    story.serving.update_deployment("d", model="m:2")
    story.turn(2)
    story.world.workloads[story.name(2)].log = b"Traceback\nmodelops-runtime: The model cannot be loaded.\n"
    for _ in range(3):
        assert story.now().active_revision == 1
        story.world.crash(story.name(2))
        found = story.turn()
    assert (found.state, found.active_revision, found.wanted_revision) == (DeploymentState.ROLLED_BACK, 1, 1)
    assert "Revision 2 failed" in found.reason
    assert "The model cannot be loaded." in found.reason
    assert found.ready_replicas == 1
    assert story.states() == {1: RevisionState.ACTIVE, 2: RevisionState.FAILED}
    assert story.turn().state is DeploymentState.ROLLED_BACK
    assert story.world.names() == [story.name(1)]
    log = story.serving.get_replica_log("d", 0, revision=2)
    assert log.complete
    assert log.text.startswith("Traceback")
    events = {event.type.rsplit(".", 1)[1]: event.data for event in story.all_events()}
    assert events["rolled_back"]["from_revision"] == 2
    assert events["revision_failed"]["model_version_id"] != events["revision_active"]["model_version_id"]


def test_the_first_revision_has_nothing_to_fall_back_to_and_may_be_tried_again(story):
    story.world.obedient = False
    story.create()
    story.turn(2)
    for _ in range(3):
        story.world.crash(story.name(1))
        found = story.turn()
    assert (found.state, found.active_revision) == (DeploymentState.FAILED, None)
    assert story.turn(2).state is DeploymentState.FAILED
    assert story.world.names() == []
    story.world.obedient = True
    assert story.serving.update_deployment("d", model="m:1").wanted_revision == 2
    assert story.turn(4).state is DeploymentState.READY


def test_time_runs_out(tmp_path, world, register):
    clock = VirtualClock()
    with running_platform(tmp_path / "home", clock=clock, ready_timeout_s=60.0, lease_ttl_s=1e6) as platform:
        story = Story(platform, world, register)
        story.world.obedient = False
        story.create()
        story.turn(2)
        clock.advance(3600)  # while nobody looked
        assert story.turn().state is DeploymentState.PROGRESSING
        for _ in range(5):
            clock.advance(10)
            found = story.turn()
        assert found.state is DeploymentState.FAILED
        assert "Only 0 of 1 replicas were ready within 60 s." in found.reason


def test_a_world_that_refuses_does_not_keep_it_under_way_for_ever(tmp_path, world, register):
    clock = VirtualClock()
    with running_platform(tmp_path / "home", clock=clock, ready_timeout_s=20.0, lease_ttl_s=1e6) as platform:
        story = Story(platform, world, register)
        story.create()
        story.world.refusal = NotFound("The cluster has no such namespace.")
        for _ in range(5):
            clock.advance(10)
            found = story.turn()
        assert found.state is DeploymentState.FAILED
        assert "no such namespace" in found.reason


def test_a_dead_replica_is_noticed_and_comes_back(story):
    story.ready(replicas=2)
    story.world.obedient = False
    story.world.crash(story.name(1), 1, reason="ended by signal 9 (SIGKILL)")
    found = story.turn()
    assert (found.state, found.ready_replicas) == (DeploymentState.DEGRADED, 1)
    assert "1 of 2 replicas" in found.reason
    assert "SIGKILL" in found.reason
    story.world.obedient = True
    assert story.turn(2).state is DeploymentState.READY
    assert story.now().replica_status[1].restarts == 1
    assert story.events()[-3:] == ["deployment_degraded", "replica_restarted", "deployment_ready"]


def test_scaling_keeps_the_revision(story):
    story.ready()
    assert story.serving.update_deployment("d", replicas=3).state is DeploymentState.PROGRESSING
    found = story.turn(3)
    assert (found.state, found.ready_replicas, found.wanted_revision) == (DeploymentState.READY, 3, 1)
    story.serving.update_deployment("d", replicas=0)
    found = story.turn(3)
    assert (found.state, found.replica_status) == (DeploymentState.STOPPED, [])
    story.serving.update_deployment("d", replicas=1)
    assert story.turn(3).state is DeploymentState.READY
    assert story.now().wanted_revision == 1


def test_a_stopped_deployment_is_brought_up_later(story):
    story.create(replicas=0)
    assert story.turn(3).state is DeploymentState.STOPPED
    assert story.world.names() == []
    story.serving.update_deployment("d", replicas=1)
    assert story.turn(4).state is DeploymentState.READY


def test_the_newest_wish_counts(story):
    story.ready()
    story.world.obedient = False
    for _ in range(2):
        story.register()
    story.serving.update_deployment("d", model="m:2")
    story.turn(2)
    story.serving.update_deployment("d", model="m:3")
    story.turn(2)
    assert story.world.names() == [story.name(1), story.name(3)]
    story.world.ready(story.name(3))
    assert story.turn().model_version == 3
    assert story.states() == {1: "superseded", 2: "superseded", 3: "active"}


def test_rolling_back(story):
    story.ready()
    story.register()
    story.serving.update_deployment("d", model="m:2")
    assert story.turn(4).model_version == 2
    asked = story.serving.rollback_deployment("d")
    assert (asked.wanted_revision, asked.active_revision) == (3, 2)
    found = story.turn(4)
    assert (found.state, found.model_version, found.active_revision) == (DeploymentState.READY, 1, 3)
    assert story.serving.rollback_deployment("d", revision=2).wanted_revision == 4
    assert story.turn(4).model_version == 2


def test_deleting_ends_everything_first(story_on_each):
    story = story_on_each
    story.ready(replicas=2)
    token = story.world.workloads[story.name(1)].spec.files["token"]
    story.world.workloads[story.name(1)].stubborn = True
    assert story.serving.delete_deployment("d").state is DeploymentState.DELETING
    assert story.serving.delete_deployment("d").state is DeploymentState.DELETING
    found = story.turn(3)
    assert found.state is DeploymentState.DELETING
    assert "2 replicas" in found.reason
    story.world.workloads[story.name(1)].stubborn = False
    with pytest.raises(NotFound):
        story.turn(2)
    assert story.world.names() == []
    with pytest.raises(Exception, match="ended"):
        story.platform.client(token).identity.get_me()
    assert story.events()[-2:] == ["deployment_deleting", "deployment_deleted"]
    with story.platform.place.work(write=False) as ctx:
        assert ctx.session.query(RevisionRow).count() == ctx.session.query(DeploymentRow).count() == 0
    assert story.serving.create_deployment("d", "m:1").id != story.id


def test_a_deployment_that_never_ran_is_deleted(story):
    story.create()
    story.serving.delete_deployment("d")
    with pytest.raises(NotFound):
        story.turn()


def test_what_runs_is_adopted_after_a_restart(story, tmp_path, register):
    story.ready(replicas=2)
    world, started = story.world, list(story.world.history)
    with running_platform(story.platform.platform.settings.home) as again:
        again.place.ports[Deployer] = world
        for _ in range(3):
            again.controller.turn()
            story.platform.controller.turn()
        with again.place.work(write=False) as ctx:
            row = ctx.session.query(DeploymentRow).one()
            assert (row.state, row.active_revision) == ("ready", 1)
    assert world.history == started


def test_orphans_are_ended_and_nothing_else(story):
    story.ready()
    stray = f"dep_{'0' * 32}-r1"
    for name in (stray, story.name(7), "somebody-elses"):
        story.world.apply(WorkloadSpec(name, 0, ("true",)))
    story.turn()
    assert story.world.names() == sorted([story.name(1), "somebody-elses"])


def test_a_model_that_cannot_be_had_any_more(story, monkeypatch):
    story.create()

    def gone(ctx, version_id):
        raise NotFound("There is no model version 'm:1' in this project.")

    monkeypatch.setattr("modelops.domains.models.service.get_version_by_id", gone)
    found = story.turn(2)
    assert found.state is DeploymentState.PROGRESSING
    assert "no model version" in found.reason


def test_resting_deployments_cost_no_write(story, monkeypatch):
    story.ready()
    story.turn(2)
    writes = []
    work = story.platform.place.database.work
    monkeypatch.setattr(
        story.platform.place.database, "work", lambda *, write=True: writes.append(write) or work(write=write)
    )
    story.platform.controller.turn()
    assert not any(writes)
