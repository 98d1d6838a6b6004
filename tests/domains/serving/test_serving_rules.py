"""The decisions about deployments, over every world that can be thought of."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.ports import Phase
from modelops.domains.serving.rules import (
    CRASHES,
    SETTLED,
    WATCHED_AT_MOST_S,
    Desired,
    Look,
    RevisionFacts,
    judge,
    plan,
    restarted,
    served_before,
)
from modelops.domains.serving.schemas import DeploymentState, Replica, RevisionState

NOW = datetime(2025, 1, 1, tzinfo=UTC)
TIMEOUT_S = 60.0


def replica(revision=1, index=0, *, ready=False, phase=Phase.RUNNING, restarts=0, reason=None):
    return Replica(
        revision=revision,
        index=index,
        phase=phase,
        ready=ready,
        endpoint="http://127.0.0.1:1" if ready else None,
        pid=1,
        restarts=restarts,
        reason=reason,
        started_at=NOW,
    )


def ready(revision, count=1):
    return [replica(revision, index, ready=True) for index in range(count)]


def desired(active, wanted, *, replicas=1, waited_s=0.0, failure=None, deleting=False, wanted_state=None):
    state = wanted_state or (RevisionState.ACTIVE if active == wanted else RevisionState.PENDING)
    facts = {wanted: RevisionFacts(wanted, state, True, state is not RevisionState.FAILED)}
    if active is not None and active != wanted:
        facts[active] = RevisionFacts(active, RevisionState.ACTIVE, True, True)
    return Desired(replicas, deleting, active, wanted, facts, failure, waited_s, NOW)


def verdict(facts, *replicas, after_s=1.0, problem=None):
    return judge(facts, Look(replicas, problem), NOW + timedelta(seconds=after_s), TIMEOUT_S)


class TestBringingUp:
    def test_it_becomes_active_when_every_replica_is_ready(self):
        facts = desired(1, 2, replicas=2)
        half = verdict(facts, *ready(1, 2), *ready(2, 1), replica(2, 1))
        assert (half.state, half.active, half.activated) == (DeploymentState.PROGRESSING, 1, None)
        assert "1 of 2" in half.reason
        whole = verdict(facts, *ready(1, 2), *ready(2, 2))
        assert (whole.state, whole.active, whole.activated, whole.waited_s) == (DeploymentState.READY, 2, 2, None)

    def test_the_old_one_is_ended_only_after_that(self):
        facts = desired(1, 2)
        assert plan(facts).run == {1: 1, 2: 1}
        assert plan(facts).end == []
        after = desired(2, 2)
        old = RevisionFacts(1, RevisionState.SUPERSEDED, True, True)
        assert plan(replace(after, revisions={**after.revisions, 1: old})).end == [1]

    def test_the_first_one_needs_a_spec_first(self):
        facts = Desired(1, False, None, 1, {1: RevisionFacts(1, RevisionState.PENDING, False, False)}, None, 0.0)
        assert plan(facts) == type(plan(facts))({}, [], 1)
        assert verdict(facts, problem="The platform does not listen.").reason.endswith("The platform does not listen.")

    def test_nothing_is_activated_before_its_spec_is_fixed(self):
        facts = desired(1, 2)
        facts = replace(facts, revisions={**facts.revisions, 2: replace(facts.revisions[2], prepared=False)})
        found = verdict(facts, *ready(1), *ready(2))
        assert (found.state, found.active, found.activated) == (DeploymentState.PROGRESSING, 1, None)

    def test_crashes_roll_back_at_once(self):
        dying = replica(2, phase=Phase.EXITED, restarts=CRASHES - 1, reason="exit code 1")
        found = verdict(desired(1, 2), *ready(1), dying)
        assert (found.state, found.active, found.wanted, found.failed) == (DeploymentState.ROLLED_BACK, 1, 1, 2)
        assert "Revision 2 failed. Its replica 0 ended 3 times" in found.reason
        assert "exit code 1" in found.reason

    def test_one_crash_less_does_not(self):
        dying = replica(2, phase=Phase.EXITED, restarts=CRASHES - 2, reason="exit code 1")
        found = verdict(desired(1, 2), *ready(1), dying)
        assert (found.state, found.failed) == (DeploymentState.PROGRESSING, None)
        assert "exit code 1" in found.reason

    def test_what_went_wrong_is_remembered_while_it_starts_again(self):
        facts = desired(None, 1)
        facts = replace(facts, revisions={1: replace(facts.revisions[1], trouble="Replica 0: exit code 1")})
        found = verdict(facts, replica(1, restarts=2, phase=Phase.STARTING))
        assert found.trouble == "Replica 0: exit code 1"
        assert "exit code 1" in found.reason

    def test_time_runs_out(self):
        found = verdict(desired(None, 1, waited_s=TIMEOUT_S - 0.5), replica(1))
        assert (found.state, found.active, found.failed) == (DeploymentState.FAILED, None, 1)
        assert "within 60 s" in found.reason

    def test_time_that_nobody_watched_does_not_count(self):
        found = verdict(desired(None, 1), replica(1), after_s=86_400)
        assert (found.state, found.waited_s) == (DeploymentState.PROGRESSING, WATCHED_AT_MOST_S)

    def test_a_clock_that_goes_back_does_no_harm(self):
        assert verdict(desired(None, 1, waited_s=5.0), replica(1), after_s=-3600).waited_s == 5.0

    def test_the_old_one_may_be_ill_meanwhile(self):
        dying = replica(2, phase=Phase.EXITED, restarts=CRASHES)
        found = verdict(desired(1, 2), replica(1), dying)
        assert (found.state, found.active, found.wanted) == (DeploymentState.DEGRADED, 1, 1)
        assert "Revision 2 failed" in found.reason


class TestServing:
    def test_fewer_ready_replicas_are_degraded_and_come_back(self):
        facts = desired(1, 1, replicas=2, waited_s=None)
        ill = verdict(facts, *ready(1, 1), replica(1, 1, phase=Phase.EXITED, reason="killed by signal 9"))
        assert ill.state is DeploymentState.DEGRADED
        assert "1 of 2" in ill.reason
        assert "killed by signal 9" in ill.reason
        assert verdict(facts, *ready(1, 2)).state is DeploymentState.READY

    def test_a_rollback_is_not_forgotten(self):
        facts = desired(1, 1, waited_s=None, failure="Revision 2 failed.")
        assert verdict(facts, *ready(1)).state is DeploymentState.ROLLED_BACK
        assert verdict(facts).state is DeploymentState.DEGRADED

    def test_scaling_is_under_way_for_a_time(self):
        facts = desired(1, 1, replicas=3)
        assert verdict(facts, *ready(1, 2)).state is DeploymentState.PROGRESSING
        assert verdict(facts, *ready(1, 3)).state is DeploymentState.READY
        assert verdict(facts, *ready(1, 4)).state is DeploymentState.PROGRESSING
        late = replace(facts, waited_s=TIMEOUT_S)
        assert verdict(late, *ready(1, 2)).state is DeploymentState.DEGRADED
        assert verdict(late, *ready(1, 4)).state is DeploymentState.READY

    def test_none_are_wanted(self):
        facts = desired(1, 1, replicas=0)
        assert verdict(facts, *ready(1)).state is DeploymentState.PROGRESSING
        assert verdict(facts).state is DeploymentState.STOPPED
        assert plan(facts).run == {1: 0}

    def test_stopped_and_pending_does_not_fail_by_waiting(self):
        found = verdict(desired(None, 1, replicas=0, waited_s=TIMEOUT_S * 2))
        assert (found.state, found.failed) == (DeploymentState.STOPPED, None)

    def test_deleting_ends_everything(self):
        facts = desired(1, 2, deleting=True)
        assert plan(facts).end == [1, 2]
        assert plan(facts).run == {}
        assert verdict(facts, *ready(1)).state is DeploymentState.DELETING


def test_the_revision_that_served_before():
    at = {1: NOW, 2: NOW + timedelta(hours=1), 4: NOW + timedelta(hours=2)}
    assert served_before(at, 4, None) == 2
    assert served_before(at, 4, 5) == 4
    assert served_before({1: NOW}, 1, None) is None
    assert served_before({}, None, 1) is None
    assert served_before({1: NOW}, None, None) == 1


def test_restarts_are_noticed_once():
    before = [replica(1, 0), replica(1, 1)]
    after = [replica(1, 0, restarts=1), replica(1, 1), replica(1, 2, restarts=5)]
    assert [one.index for one in restarted(before, after)] == [0]
    assert restarted(after, after) == []


# Any deployment in any world.

replicas = st.builds(
    replica,
    revision=st.integers(1, 3),
    index=st.integers(0, 4),
    ready=st.booleans(),
    phase=st.sampled_from(list(Phase)),
    restarts=st.integers(0, 5),
    reason=st.none() | st.just("it broke"),
)
looks = st.builds(Look, st.lists(replicas, max_size=10), st.none() | st.just("the world refuses"))


@st.composite
def deployments(draw):
    active = draw(st.none() | st.just(1))
    wanted = draw(st.just(1) | st.just(2)) if active else 2
    state = RevisionState.ACTIVE
    if active != wanted:
        options = [RevisionState.PENDING] if active else [RevisionState.PENDING, RevisionState.FAILED]
        state = draw(st.sampled_from(options))
    revisions = {wanted: RevisionFacts(wanted, state, draw(st.booleans()) or state is RevisionState.ACTIVE, True)}
    if active and active != wanted:
        revisions[active] = RevisionFacts(active, RevisionState.ACTIVE, True, True)
    revisions[3] = RevisionFacts(3, draw(st.sampled_from(["failed", "superseded"])), True, draw(st.booleans()))
    return Desired(
        replicas=draw(st.integers(0, 4)),
        deleting=draw(st.booleans()),
        active=active,
        wanted=wanted,
        revisions=revisions,
        failure=draw(st.none() | st.just("Revision 3 failed.")),
        waited_s=draw(st.none() | st.floats(0, 100)),
        seen_at=draw(st.none() | st.just(NOW)),
    )


def step(facts, look, at):
    """Return the deployment after a look, as the reconciler writes it."""
    found = judge(facts, look, at, TIMEOUT_S)
    revisions = dict(facts.revisions)
    if found.activated is not None:
        if facts.active is not None:
            revisions[facts.active] = replace(revisions[facts.active], state=RevisionState.SUPERSEDED)
        revisions[found.activated] = replace(revisions[found.activated], state=RevisionState.ACTIVE)
    if found.failed is not None:
        revisions[found.failed] = replace(revisions[found.failed], state=RevisionState.FAILED)
    after = replace(
        facts,
        active=found.active,
        wanted=found.wanted,
        revisions=revisions,
        failure=found.failure,
        waited_s=found.waited_s,
        seen_at=at,
    )
    return found, after


@given(deployments(), looks, st.floats(0, 1000))
def test_the_active_revision_runs_until_another_was_seen_ready(facts, look, after_s):
    before = plan(facts)
    if not facts.deleting and facts.active is not None:
        assert before.run[facts.active] == facts.replicas
        assert facts.active not in before.end
    assert not set(before.run) & set(before.end)
    found, after = step(facts, look, NOW + timedelta(seconds=after_s))
    if found.active != facts.active:
        seen = {one.index for one in look.of(found.active) if one.ready}
        assert found.active == found.activated == facts.wanted
        assert facts.replicas > 0
        assert seen
    if not facts.deleting and after.active is not None:
        assert plan(after).run[after.active] == facts.replicas


@given(deployments(), looks, st.floats(0, 1000))
def test_never_both_failed_and_active(facts, look, after_s):
    found, after = step(facts, look, NOW + timedelta(seconds=after_s))
    assert found.activated is None or found.failed is None
    assert found.failed is None or found.failed != found.active
    states = [one.state for one in after.revisions.values()]
    assert states.count(RevisionState.ACTIVE) == (after.active is not None)
    if after.active is not None:
        assert after.revisions[after.active].state is RevisionState.ACTIVE
    if found.state in (DeploymentState.READY, DeploymentState.ROLLED_BACK):
        assert found.active is not None
        assert found.wanted == found.active
    if found.state is DeploymentState.ROLLED_BACK:
        assert found.reason
    if found.state is DeploymentState.FAILED:
        assert found.active is None


@given(deployments(), looks, st.floats(0.1, 30))
def test_it_always_settles(facts, look, every_s):
    """In a world that stays as it is, nothing is under way for ever."""
    at = NOW
    if facts.replicas == 0:
        look = Look((), look.problem)
    for _ in range(int(TIMEOUT_S / min(every_s, WATCHED_AT_MOST_S)) + 3):
        at += timedelta(seconds=every_s)
        found, facts = step(facts, look, at)
    if facts.deleting:
        assert found.state is DeploymentState.DELETING
    else:
        assert found.state in SETTLED | {DeploymentState.DEGRADED}
        assert facts.waited_s is None
    assert step(facts, look, at + timedelta(seconds=every_s))[0].state is found.state
