"""Signed messages from outside: who may send one, what it begins, and that it begins it once."""

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.domains.pipelines.scheduling import SetClock, beginnings, register, runs, states

from modelops.contracts.errors import Conflict
from modelops.contracts.messages import sign
from modelops.testing.platform import running_platform


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture(params=["sqlite", "postgres"])
def wired(request, tmp_path, clock):
    given = {"database": request.getfixturevalue("postgres_database")} if request.param == "postgres" else {}
    with running_platform(tmp_path / "home", clock=clock, **given) as platform:
        register(platform)
        yield platform


@pytest.fixture
def local(tmp_path, clock):
    with running_platform(tmp_path / "home", clock=clock) as platform:
        register(platform)
        yield platform


def opened(platform, **options):
    return platform.client().pipelines.create_trigger("push", hook=True, pipeline="train", **options)


def github(made, body, delivery="d1", event="push"):
    mac = hmac.digest(made.secret.encode(), body, hashlib.sha256).hex()
    return {"X-Hub-Signature-256": f"sha256={mac}", "X-GitHub-Delivery": delivery, "X-GitHub-Event": event}


def post(platform, path, body, headers):
    with platform.http() as http:
        return http.post(path, content=body, headers=headers)


PUSH = json.dumps({"ref": "refs/heads/main", "commits": [{"id": "abc"}]}).encode()


def test_a_push_begins_a_run_with_what_it_says_and_comes_again_as_it_was(wired):
    made = opened(
        wired, condition='type = "push" and data.ref = "refs/heads/main"', mapping={"day": "data.commits.0.id"}
    )
    answer = post(wired, made.hook_path, PUSH, github(made, PUSH))
    assert answer.status_code == 202
    assert runs(wired) == [("trigger:push", {"day": "abc", "size": 3})]
    assert (answer.json()["state"], answer.json()["run_id"]) == ("begun", beginnings(wired)[0].run_id)
    again = post(wired, made.hook_path, PUSH, github(made, PUSH))
    assert again.json() == answer.json()
    other = json.dumps({"ref": "refs/heads/side"}).encode()
    assert post(wired, made.hook_path, other, github(made, other, "d2")).json()["state"] == "skipped"
    assert len(runs(wired)) == 1


def test_messages_of_the_standard_are_taken_too_and_old_ones_are_not(local, clock):
    made = opened(local)
    body = b'{"type": "order.paid", "data": {}}'
    headers = sign(made.secret, "msg_1", int(clock.now().timestamp()), body)
    assert post(local, made.hook_path, body, headers).status_code == 202
    assert post(local, made.hook_path, body, headers).json()["key"] == "message msg_1"
    clock.advance(minutes=6)
    late = post(local, made.hook_path, body, sign(made.secret, "msg_2", int(clock.now().timestamp()) - 360, body))
    assert late.status_code == 404
    assert len(runs(local)) == 1


def test_who_does_not_know_the_secret_learns_nothing_and_the_owner_is_told(local):
    made = opened(local)
    unknown = post(local, "/v1/pipeline-hooks/nothing", PUSH, github(made, PUSH))
    for headers in ({}, {"X-Hub-Signature-256": "sha256=00"}, github(made, PUSH + b" ")):
        refused = post(local, made.hook_path, PUSH, headers)
        assert refused.status_code == 404
        same = ("type", "code", "detail", "hint", "status", "title")
        assert [refused.json()[name] for name in same] == [unknown.json()[name] for name in same]
    assert "neither" in local.client().pipelines.get_trigger("push").refused_reason
    assert runs(local) == []


def test_a_rotated_secret_closes_the_old_path(local):
    made = opened(local)
    fresh = local.client().pipelines.rotate_trigger_secret("push")
    assert post(local, made.hook_path, PUSH, github(made, PUSH)).status_code == 404
    assert post(local, fresh.hook_path, PUSH, github(made, PUSH)).status_code == 404
    assert post(local, fresh.hook_path, PUSH, github(fresh, PUSH)).status_code == 202
    local.client().pipelines.create_trigger("t", events=["a"], pipeline="train")
    with pytest.raises(Conflict, match="has no hook"):
        local.client().pipelines.rotate_trigger_secret("t")


def test_a_paused_hook_takes_nothing_until_it_goes_on(local):
    made = opened(local, paused=True)
    assert post(local, made.hook_path, PUSH, github(made, PUSH)).status_code == 409
    local.client().pipelines.update_trigger("push", paused=False)
    assert post(local, made.hook_path, PUSH, github(made, PUSH)).status_code == 202


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff", b'{"a": 1e999}', b'{"a": "\\u0000"}', b'{"a": "\\ud800"}', b'{"a":' * 5000, b'"a"'],
)
def test_what_is_no_json_object_is_told_so(wired, body):
    made = opened(wired)
    answer = post(wired, made.hook_path, body, github(made, body))
    assert answer.status_code == 422, answer.text
    assert runs(wired) == []


def test_a_message_that_is_too_long_is_turned_away(local):
    made = opened(local)
    body = json.dumps({"a": "b" * 2**20}).encode()
    assert post(local, made.hook_path, body, github(made, body)).status_code == 413


def test_parameters_of_the_wrong_kind_are_told_and_begin_nothing(local):
    made = opened(local, mapping={"size": "data.size"})
    body = b'{"size": "many"}'
    answer = post(local, made.hook_path, body, github(made, body)).json()
    assert (answer["state"], answer["run_id"]) == ("failed", None)
    assert "size" in answer["reason"]


def test_the_same_message_many_times_at_once_begins_one_run(wired):
    made = opened(wired, overlap="skip")

    def send(delivery):
        return post(wired, made.hook_path, PUSH, github(made, PUSH, delivery)).json()["run_id"]

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(send, ["one"] * 8))
        assert found == {beginnings(wired)[0].run_id}
        list(pool.map(send, ["two", "three", "four", "five"]))
    assert sorted(states(wired)) == ["begun"] + ["skipped"] * 4
    assert len(runs(wired)) == 1


def test_odd_ids_are_kept_apart(local):
    made = opened(local)
    for delivery in ("a" * 500, "a" * 501, "b"):
        assert post(local, made.hook_path, PUSH, github(made, PUSH, delivery)).status_code == 202
    assert len(runs(local)) == 3
