"""The edge: idempotency keys, revisions, audit, problem documents, request ids and limits."""

import logging
import socket
import threading
import time

import pytest

from modelops.kernel import edge
from modelops.server.listener import Listener


@pytest.fixture
def http(platform):
    return platform.http(authorization=f"Bearer {platform.admin_key}")


def test_a_repeated_create_gets_the_same_answer_and_is_done_once(http):
    first = http.post("/v1/projects", json={"name": "one"}, headers={"Idempotency-Key": "k1"})
    again = http.post("/v1/projects", json={"name": "one"}, headers={"Idempotency-Key": "k1"})
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert http.get("/v1/projects", params={"filter": 'name = "one"'}).json()["total"] == 1


def test_a_key_with_another_request_is_refused(http):
    http.post("/v1/projects", json={"name": "one"}, headers={"Idempotency-Key": "k1"})
    other = http.post("/v1/projects", json={"name": "two"}, headers={"Idempotency-Key": "k1"})
    assert other.status_code == 409
    assert other.json()["code"] == "idempotency_mismatch"


def test_a_secret_is_never_kept_for_a_repeat(http):
    first = http.post("/v1/api-keys", json={"name": "a"}, headers={"Idempotency-Key": "k1"})
    again = http.post("/v1/api-keys", json={"name": "a"}, headers={"Idempotency-Key": "k1"})
    assert first.json()["secret"] != again.json()["secret"]


def test_two_creates_at_once_with_one_key_make_one(platform):
    answers, barrier = [], threading.Barrier(4)

    def create():
        with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
            barrier.wait()
            answers.append(http.post("/v1/projects", json={"name": "same"}, headers={"Idempotency-Key": "k"}))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_create_that_looked_before_the_other_was_done_gets_its_answer(platform, monkeypatch):
    looked, done, look = threading.Event(), threading.Event(), edge._replay
    answers = []

    def look_and_linger(ctx, request):
        found = look(ctx, request)
        if not looked.is_set():
            looked.set()
            done.wait(2)  # SQLite lets one writer in at a time: there the other one waits for this one
        return found

    def create():
        with platform.http(authorization=f"Bearer {platform.admin_key}") as http:
            answers.append(http.post("/v1/projects", json={"name": "same"}, headers={"Idempotency-Key": "k"}))

    monkeypatch.setattr(edge, "_replay", look_and_linger)
    slow, quick = threading.Thread(target=create), threading.Thread(target=create)
    slow.start()
    assert looked.wait(10)
    quick.start()
    quick.join(1)
    done.set()
    slow.join()
    quick.join()
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


def test_an_update_of_a_stale_revision_is_refused(http):
    made = http.post("/v1/projects", json={"name": "one"})
    etag = made.headers["ETag"]
    changed = http.patch("/v1/projects/one", json={"description": "x"}, headers={"If-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag
    stale = http.patch("/v1/projects/one", json={"description": "y"}, headers={"If-Match": etag})
    assert stale.status_code == 412
    assert http.get("/v1/projects/one").json()["description"] == "x"


def test_every_change_and_every_denial_is_in_the_audit_trail(platform):
    viewer = platform.member("viewer", name="watcher")
    with pytest.raises(Exception, match=r"principals\.write"):
        viewer.identity.create_user("eve")
    records = platform.client().identity.list_audit_records(filter='operation = "identity.create_user"').items
    assert [record.outcome for record in records] == ["permission_denied"]
    done = platform.client().identity.list_audit_records(filter='operation = "identity.create_service_account"').items
    assert done[0].outcome == "done"


def test_an_error_is_a_problem_document_with_a_hint_and_the_request_id(http):
    answer = http.get("/v1/tenants/nope", headers={"X-Request-Id": "mine-1"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "not_found"
    assert problem["hint"]
    assert problem["request_id"] == answer.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/me", 405),
        ("GET", "/v1/users?limit=0", 422),
        ("GET", "/v1/users?nope=1", 422),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(http, method, path, status):
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["detail"]


_MALFORMED = [b"{", b"[]", b'{"name": 3}', b'{"name": "a", "nope": 1}', b"\xff", b'{"name": "a\\u0000"}', b"null"]


@pytest.mark.parametrize("body", _MALFORMED)
def test_a_malformed_body_is_refused(http, body):
    answer = http.post("/v1/projects", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) in {(422, "invalid_input"), (400, "bad_request")}


def test_a_huge_body_is_refused_before_it_is_read(http):
    def endless():
        for _ in range(10_000):
            yield b"x" * 65_536

    answer = http.post("/v1/projects", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


@pytest.mark.parametrize("path", ["artifacts", "experiments", "runs/{run}/log", "deployments/none/predict", "traces"])
def test_a_caller_that_leaves_within_its_body_is_no_defect(platform, tmp_path, caplog, path):
    client = platform.client()
    client.experiments.create_experiment("e")
    path = path.format(run=client.experiments.create_run("e").id)
    listener = Listener(platform.platform, remembered=tmp_path / "port")
    host, port = listener.start().removeprefix("http://").split(":")
    head = (
        f"POST /v1/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {platform.admin_key}\r\ncontent-length: 100\r\n"
    )
    try:
        for sent in (b"", b'{"metrics": ['):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + sent)
                time.sleep(0.1)
        assert client.experiments.get_experiment("e").name == "e"
    finally:
        listener.stop()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_both_prefixes_are_the_same_routes(http):
    assert http.get("/api/v1/me").json() == http.get("/v1/me").json()


def test_the_docs_load_nothing_from_the_network(http):
    page = http.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    assert http.get("/docs/assets/swagger-ui-bundle.js").status_code == 200
