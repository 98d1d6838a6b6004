"""The registry over plain HTTP: paths that mean one thing, statuses that tell, and no input that breaks it."""

import base64
import json

import pytest

ZEROS = "sha256:" + "0" * 64


@pytest.fixture
def http(platform):
    with platform.http(authorization=f"Bearer {platform.admin_key}") as client:
        yield client


@pytest.fixture
def given(platform):
    """A body that registers a version."""
    artifact = platform.client().data.upload_artifact(b"x")
    return {
        "name": "m",
        "flavour": "sklearn",
        "files": [{"path": "model.bin", "digest": artifact.digest, "size": artifact.size}],
        "signature": {"inputs": [{"name": "a"}]},
    }


def send(http, method, path, body):
    """Send a body as Python writes it, which is laxer than JSON: with NaN, and halves of surrogate pairs."""
    return http.request(method, path, content=json.dumps(body), headers={"content-type": "application/json"})


def test_a_version_goes_through_its_life(http, given, platform):
    made = http.post("/v1/models/register", json=given)
    assert made.status_code == 201
    assert made.headers["etag"] == '"1"'
    assert http.get("/v1/models/m").json()["latest_version"] == 1
    assert http.get("/v1/models/m/versions/latest").json()["id"] == made.json()["id"]
    assert http.post("/v1/models/m/versions/1/verify").json()["files_checked"] == 1
    assert http.put("/v1/models/m/aliases/a", json={"version": 1}).json()["aliases"] == {"a": 1}
    assert http.get("/v1/models/m/versions/@a").json()["aliases"] == ["a"]
    assert http.delete("/v1/models/m/aliases/a").status_code == 204
    for stage in ("Registration", "Staging"):
        moved = http.post("/v1/models/m/stage", json={"stage": stage})
        assert (moved.status_code, moved.json()["stage"]) == (200, stage)
    refused = http.post("/v1/models/m/stage", json={"stage": "Production", "version": 1})
    assert (refused.status_code, refused.json()["code"]) == (409, "models.approval_required")
    asked = http.post("/v1/models/m/versions/1/approvals", json={"comment": "please"})
    assert (asked.status_code, asked.json()["state"]) == (201, "pending")
    alone = http.post(f"/v1/approvals/{asked.json()['id']}/decision", json={"approve": True})
    assert alone.status_code == 403
    decided = platform.member("ml_engineer").models.decide_approval(asked.json()["id"], approve=True)
    assert decided.decided_by != asked.json()["requested_by"]
    assert http.post("/v1/models/m/stage", json={"stage": "Production"}).json()["aliases"] == ["champion"]
    assert http.get("/v1/models/m/stage-history").json()["total"] == 3
    assert http.get("/v1/approvals", params={"filter": 'state = "approved"'}).json()["total"] == 1


def test_the_paths_of_old_serve_the_same(http, given):
    assert http.post("/api/v1/models/register", json=given).status_code == 201
    assert http.get("/api/v1/models/m/versions").json()["total"] == 1
    assert http.post("/api/v1/models/m/stage", json={"stage": "Registration"}).json()["stage"] == "Registration"
    assert http.get("/api/v1/models/metrics").json()["items"][0]["stage"] == "Registration"


def test_words_of_the_api_are_no_models(http, given):
    assert http.get("/v1/models/metrics").json()["total"] == 0
    for name in ("metrics", "register"):
        assert http.post("/v1/models", json={"name": name}).status_code == 422
        assert http.post("/v1/models/register", json={**given, "name": name}).status_code == 422
    assert http.get("/v1/models/register").status_code == 404


def test_a_registration_that_is_repeated_is_kept_once(http, given):
    headers = {"Idempotency-Key": "once"}
    first = http.post("/v1/models/register", json=given, headers=headers)
    again = http.post("/v1/models/register", json=given, headers=headers)
    assert again.json() == first.json()
    assert http.get("/v1/models/m/versions").json()["total"] == 1


def test_if_match_guards_what_changes(http, given):
    http.post("/v1/models/register", json=given)
    stale = {"If-Match": '"99"'}
    for method, path, body in (
        ("PATCH", "/v1/models/m", {"description": "x"}),
        ("PUT", "/v1/models/m/aliases/a", {"version": 1}),
        ("POST", "/v1/models/m/stage", {"stage": "Registration"}),
    ):
        assert http.request(method, path, json=body, headers=stale).status_code == 412
    model = http.get("/v1/models/m")
    changed = http.patch("/v1/models/m", json={"tags": {"a": "b"}}, headers={"If-Match": model.headers["etag"]})
    assert (changed.status_code, changed.json()["tags"]) == (200, {"a": "b"})


def test_numbers_that_json_lacks_are_kept_as_metrics(http, given):
    metrics = {"none": float("nan"), "much": float("inf"), "little": float("-inf"), "some": 0.5}
    made = send(http, "POST", "/v1/models/register", {**given, "metrics": metrics})
    assert made.json()["metrics"] == {"none": "NaN", "much": "Infinity", "little": "-Infinity", "some": 0.5}
    assert http.get("/v1/models/m/versions/1").json()["metrics"] == made.json()["metrics"]


BAD_REGISTRATIONS = {
    "parameter with NUL": {"parameters": {"a": "\x00"}},
    "parameter inside with NUL": {"parameters": {"a": [{"b": "\x00"}]}},
    "parameter NaN": {"parameters": {"a": float("nan")}},
    "parameter with half a surrogate pair": {"parameters": {"a": "\ud800"}},
    "parameter's key with half a surrogate pair": {"parameters": {"\ud800": 1}},
    "tag with NUL": {"tags": {"a": "\x00"}},
    "metric's key with NUL": {"metrics": {"a\x00": 1}},
    "metric that is a text": {"metrics": {"a": "much"}},
    "flavour with a space": {"flavour": "scikit learn"},
    "flavour with a capital": {"flavour": "Sklearn"},
    "flavour with NUL": {"flavour": "a\x00"},
    "flavour that is empty": {"flavour": ""},
    "no inputs": {"signature": {"inputs": []}},
    "input with NUL": {"signature": {"inputs": [{"name": "a\x00"}]}},
    "input with half a surrogate pair": {"signature": {"inputs": [{"name": "\ud800"}]}},
    "two inputs of one name": {"signature": {"inputs": [{"name": "a"}, {"name": "a"}]}},
    "no files": {"files": []},
    "file too large": {"files": [{"path": "f", "digest": ZEROS, "size": 10**30}]},
    "file of a negative size": {"files": [{"path": "f", "digest": ZEROS, "size": -1}]},
    "path upwards": {"files": [{"path": "a/../../f", "digest": ZEROS, "size": 1}]},
    "path from the root": {"files": [{"path": "/etc/passwd", "digest": ZEROS, "size": 1}]},
    "path twice": {"files": [{"path": "f", "digest": ZEROS, "size": 1}] * 2},
    "stage of its own": {"stage": "Somewhere"},
    "stage too far": {"stage": "Production"},
    "run with NUL": {"run_id": "\x00"},
    "run of a mile": {"run_id": "x" * 10_000},
    "dataset with NUL": {"dataset_version_id": "\x00"},
    "dataset of a mile": {"dataset_version_id": "x" * 10_000},
    "name that is a path": {"name": "a/b"},
    "name with a colon": {"name": "a:1"},
    "name with an at": {"name": "a@b"},
    "unknown field": {"flavor": "sklearn"},
}


def test_no_registration_breaks_the_registry(http, given):
    assert http.post("/v1/models/register", json=given).status_code == 201
    for what, change in BAD_REGISTRATIONS.items():
        answer = send(http, "POST", "/v1/models/register", {**given, **change})
        assert answer.status_code in (404, 409, 422), (what, answer.status_code, answer.text)
        assert answer.json()["detail"], what
    assert http.get("/v1/models/m").json()["latest_version"] == 1
    assert http.get("/v1/models").json()["total"] == 1


@pytest.mark.parametrize("size", [0, 2, 2**63, 10**30])
def test_a_file_of_another_size_than_was_uploaded_is_refused(http, given, size):
    file = {**given["files"][0], "size": size}
    answer = http.post("/v1/models/register", json={**given, "files": [file]})
    assert answer.status_code == 422
    assert f"has 1 bytes, not {size}" in answer.json()["detail"]


def test_numbers_out_of_range_are_refused(http, given):
    http.post("/v1/models/register", json=given)
    for version in (0, -1, 2, 2**31, 2**63, 10**30):
        for method, path, body in (
            ("POST", "/v1/models/m/stage", {"stage": "Registration", "version": version}),
            ("PUT", "/v1/models/m/aliases/a", {"version": version}),
        ):
            assert http.request(method, path, json=body).status_code in (404, 422), (path, version)
        assert http.get(f"/v1/models/m/versions/{version}").status_code in (404, 422)


@pytest.mark.parametrize(
    "path",
    [
        "models/%00",
        "models/%ED%A0%80",
        "models/m/versions/%00",
        "models/m/versions/@",
        "models/m/versions/@%00",
        "models/m/versions/@none",
        "models/m/versions/" + "9" * 80,
        "models/m/versions/00000000001" + "9" * 60,
        "models/m/versions/mver_" + "0" * 32,
        "models/-",
        "models/-/versions/1",
        "models/m/versions?filter=version%3D1e400x",
        "models/m/versions?filter=metrics%20%3E%201",
        "models/m/versions?order_by=files",
        "approvals?filter=decision%20%3D%201",
        "approvals?cursor=nonsense",
    ],
)
def test_what_is_not_there_is_told(http, given, path):
    http.post("/v1/models/register", json=given)
    answer = http.get(f"/v1/{path}")
    assert answer.status_code in (404, 422), answer.text
    assert answer.json()["code"] in ("not_found", "invalid_input")


CURSORS = [["abc", "k"], [5, 5], [True, "k"], [10**30, "k"], [[1], "k"], [5, {}], ["\ud800", "k"], ["\x00", "k"]]
CURSORS += [
    ["2026-13-45", "k"],
    ["0001-01-01T00:00:00+14:00", "k"],
    [float("nan"), "k"],
    [float("inf"), "k"],
    [None, 7],
]


def test_a_cursor_made_by_hand_breaks_no_listing(http, given):
    for _ in range(2):
        http.post("/v1/models/register", json={**given, "metrics": {"a": 1}, "tags": {"t": "x"}})
    for order in ("version", "metrics.a", "created_at", "stage", "tags.t"):
        for place in CURSORS:
            cursor = base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
            answer = http.get("/v1/models/m/versions", params={"order_by": order, "cursor": cursor})
            assert answer.status_code in (200, 422), (order, place, answer.text)
    for text in ('version ~ "1"', 'metrics.a ~ "1"', 'created_at ~ "2026"'):
        assert http.get("/v1/models/m/versions", params={"filter": text}).status_code == 422


def test_who_may_do_what(platform, given):
    admin = platform.client()
    admin.models.register_version(given)
    asked = admin.models.request_approval("m")
    attempts = [
        ("POST", "/v1/models", {"name": "new"}, "models.write"),
        ("POST", "/v1/models/register", given, "models.write"),
        ("PATCH", "/v1/models/m", {"description": "x"}, "models.write"),
        ("POST", "/v1/models/m/versions/1/approvals", {}, "models.write"),
        ("POST", "/v1/models/m/stage", {"stage": "Registration"}, "models.promote"),
        ("PUT", "/v1/models/m/aliases/a", {"version": 1}, "models.promote"),
        ("DELETE", "/v1/models/m/aliases/a", None, "models.promote"),
        ("POST", f"/v1/approvals/{asked.id}/decision", {"approve": False}, "models.approve"),
        ("GET", "/v1/models", None, "models.read"),
        ("GET", "/v1/models/m", None, "models.read"),
        ("GET", "/v1/models/metrics", None, "models.read"),
        ("GET", "/v1/models/m/versions", None, "models.read"),
        ("GET", "/v1/models/m/versions/1", None, "models.read"),
        ("POST", "/v1/models/m/versions/1/verify", None, "models.read"),
        ("GET", "/v1/models/m/stage-history", None, "models.read"),
        ("GET", "/v1/approvals", None, "models.read"),
    ]
    may = {
        "viewer": {"models.read"},
        "data_scientist": {"models.read", "models.write"},
        "ml_engineer": {"models.read", "models.write", "models.promote", "models.approve"},
    }
    for role, permissions in may.items():
        token = platform.member(role).rest.http.headers["authorization"]
        with platform.http(authorization=token) as http:
            for method, path, body, permission in attempts:
                status = http.request(method, path, json=body).status_code
                assert (status != 403) == (permission in permissions), (role, method, path, status)
    with platform.http(authorization=platform.stranger().rest.http.headers["authorization"]) as http:
        for method, path, body, _ in attempts:
            if "/m/" in path or path.endswith("/m") or asked.id in path:
                assert http.request(method, path, json=body).status_code == 404, (method, path)
    with platform.http() as http:
        assert {http.request(method, path, json=body).status_code for method, path, body, _ in attempts} == {401}
