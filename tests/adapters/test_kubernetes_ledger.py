"""Which pod is which replica, and what is seen of it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.ledger import Place, lives, read_ledger, settled, write_ledger
from modelops.adapters.kubernetes.replicas import replicas_seen
from modelops.contracts.ports import Phase


def pod(uid, *, again=0, ending=False, phase="Running", born=0, **status):
    about = {"uid": uid, "name": f"p-{uid}", "creationTimestamp": f"2026-05-01T12:00:{born:02}Z"}
    if ending:
        about["deletionTimestamp"] = "2026-05-01T13:00:00Z"
    container = {"name": "main", "restartCount": again, **status}
    return {"metadata": about, "spec": {}, "status": {"phase": phase, "containerStatuses": [container]}}


def at(index, uid, again=0, before=0):
    return {index: Place(uid, f"p-{uid}", again, before)}


def test_places_are_taken_from_the_lowest_the_oldest_first():
    found = settled({}, [pod("b", born=2), pod("a", born=1)], 2)
    assert found == at(0, "a") | at(1, "b")
    assert settled(found, [pod("b", born=2), pod("a", born=1)], 2) == found


def test_a_pod_in_anothers_place_counts_the_starts_before_it():
    before = at(0, "a", again=1) | at(1, "b")
    assert settled(before, [pod("b"), pod("c", born=3)], 2) == at(0, "c", before=2) | at(1, "b")
    ending = [pod("a", again=2, ending=True), pod("b"), pod("c", born=3, again=1)]
    assert settled(before, ending, 2) == at(0, "c", again=1, before=3) | at(1, "b")
    evicted = [pod("a", again=1, phase="Failed"), pod("b")]
    assert settled(before, evicted, 2) == before


def test_fewer_replicas_keep_the_lower_places_whichever_pods_are_left():
    before = at(0, "a") | at(1, "b") | at(2, "c")
    assert settled(before, [pod("a"), pod("b", ending=True), pod("c", ending=True)], 1) == before
    assert settled(before, [pod("a")], 1) == at(0, "a")
    assert settled(before, [pod("a", ending=True), pod("b", ending=True), pod("c")], 1) == (
        at(0, "c", before=1) | at(1, "b")
    )


def test_a_place_is_remembered_while_its_pod_is_away():
    before = at(0, "a", again=4)
    assert settled(before, [], 1) == before
    assert settled(before, [], 0) == {}


@given(
    st.dictionaries(st.integers(0, 5), st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3), st.integers(0, 3))),
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3), st.booleans()), unique_by=lambda one: one[0]),
    st.integers(0, 5),
)
def test_every_living_pod_has_one_place_and_it_stays(kept, there, replicas):
    ledger = {}
    for index, (uid, again, before) in kept.items():
        if uid not in {place.pod for place in ledger.values()}:
            ledger |= at(index, uid, again, before)
    pods = [pod(uid, again=again, ending=ending) for uid, again, ending in there]
    found = settled(ledger, pods, replicas)
    living = {one["metadata"]["uid"] for one in pods if lives(one)}
    placed = [place.pod for place in found.values() if place.pod in living]
    assert sorted(placed) == sorted(living)
    for index, place in ledger.items():
        if place.pod in living and index < replicas:
            assert found[index].pod == place.pod
            assert found[index].restarts >= place.restarts
    assert settled(found, pods, replicas) == found
    assert read_ledger({"metadata": {"annotations": {names.LEDGER: write_ledger(found)}}}) == found


def test_a_ledger_edited_to_nonsense_is_none():
    for text in ("", "[]", '{"a": 1}', '{"0": {"pod": "a"}}'):
        assert read_ledger({"metadata": {"annotations": {names.LEDGER: text}}}) == {}


def deployment(replicas, *conditions):
    return {"metadata": {}, "spec": {"replicas": replicas}, "status": {"conditions": list(conditions)}}


def test_pods_that_are_refused_are_replicas_with_the_reason():
    refusal = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: q"}
    seen = replicas_seen(deployment(2, refusal), [pod("a", ready=True)], at(0, "a") | at(1, "b", again=2))
    assert [(one.index, one.phase, one.restarts) for one in seen][1] == (1, Phase.STARTING, 2)
    assert "exceeded quota: q" in seen[1].reason
    assert len(replicas_seen(deployment(2), [pod("a")], at(0, "a"))) == 1


def test_how_a_container_ended_is_told_until_it_is_ready_again():
    told = json.dumps({"exit_code": 4, "reason": "ended with exit code 4", "ended_by": None})
    ended = {"terminated": {"exitCode": 4, "message": told, "finishedAt": "2026-05-01T12:00:00Z"}}
    waits = pod("a", again=1, state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended)
    (seen,) = replicas_seen(deployment(1), [waits], at(0, "a", again=1))
    assert (seen.phase, seen.restarts, seen.reason) == (Phase.EXITED, 1, "ended with exit code 4")
    runs = pod("a", again=1, state={"running": {"startedAt": "2026-05-01T12:00:10Z"}}, lastState=ended)
    (seen,) = replicas_seen(deployment(1), [runs], at(0, "a", again=1))
    assert (seen.phase, seen.reason) == (Phase.RUNNING, "before, it ended with exit code 4")
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-05-01T12:00:00Z"}}
    hog = pod("a", again=1, state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=killed)
    hog["spec"] = {"containers": [{"name": "main", "resources": {"limits": {"memory": str(128 * 2**20)}}}]}
    (seen,) = replicas_seen(deployment(1), [hog], at(0, "a", again=1))
    assert "memory limit of 64 MiB" in seen.reason
