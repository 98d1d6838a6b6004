"""Deployments through the API: what is asked, refused and told."""

import pytest

from modelops.contracts.errors import (
    AlreadyExists,
    DeploymentError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from modelops.domains.models.schemas import Stage
from modelops.domains.serving.errors import NothingToRollBackTo, NotSettled
from modelops.domains.serving.schemas import ServingLimits


@pytest.fixture
def serving(platform, register):
    client = platform.client()
    register(client)
    return client.serving


def test_a_deployment_reads_as_it_was_asked(platform, serving):
    limits = ServingLimits(cpus=2, memory_mb=512, max_rows=10)
    made = serving.create_deployment("d", "m:1", replicas=3, limits=limits, description="x", tags={"team": "a"})
    assert (made.name, made.replicas, made.limits, made.tags) == ("d", 3, limits, {"team": "a"})
    assert (made.model, made.model_version, made.active_revision, made.wanted_revision) == ("m", 1, None, 1)
    assert serving.get_deployment("d") == serving.get_deployment(made.id) == made
    revision = serving.list_revisions("d").items[0]
    assert (revision.number, revision.state, revision.limits) == (1, "pending", limits)


def test_a_cluster_that_there_is_not_is_refused(serving):
    assert serving.create_deployment("here", "m:1").target == "local"
    with pytest.raises(InvalidInput, match="no cluster"):
        serving.create_deployment("there", "m:1", target="kubernetes")
    assert [one.name for one in serving.list_deployments().items] == ["here"]


def test_names_are_unique_in_a_project(platform, serving, register):
    serving.create_deployment("d", "m:1")
    with pytest.raises(AlreadyExists):
        serving.create_deployment("d", "m:1")
    stranger = platform.stranger()
    register(stranger)
    stranger.serving.create_deployment("d", "m:1")


def test_the_address_with_create_is_the_same(platform, serving):
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    for path in ("/v1/deployments/create", "/api/v1/deployments/create"):
        name = path.strip("/").split("/")[0]
        answer = http.post(path, json={"name": f"d-{name}", "model": "m:1"})
        assert (answer.status_code, answer.json()["name"]) == (202, f"d-{name}")
    assert "/v1/deployments/create" not in http.get("/openapi.json").json()["paths"]


def test_a_repeated_create_makes_one(platform, serving):
    http = platform.http(authorization=f"Bearer {platform.admin_key}", idempotency_key="k")
    answers = [http.post("/v1/deployments", json={"name": "d", "model": "m:1"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert serving.list_deployments().total == 1


def test_who_may(platform, serving, register):
    serving.create_deployment("d", "m:1")
    viewer, scientist, engineer = (platform.member(role) for role in ("viewer", "data_scientist", "ml_engineer"))
    assert viewer.serving.get_deployment("d").name == "d"
    assert viewer.serving.list_revisions("d").total == 1
    for act in (
        lambda: viewer.serving.predict("d", [[1]]),
        lambda: viewer.serving.explain("d", [[1]]),
        lambda: viewer.serving.predict("nobody", [[1]]),
        lambda: scientist.serving.create_deployment("e", "m:1"),
        lambda: scientist.serving.update_deployment("d", replicas=2),
        lambda: scientist.serving.rollback_deployment("d"),
        lambda: scientist.serving.delete_deployment("d"),
    ):
        with pytest.raises(PermissionDenied):
            act()
    assert engineer.serving.update_deployment("d", replicas=2).replicas == 2


def test_strangers_see_nothing(platform, serving):
    made = serving.create_deployment("d", "m:1")
    stranger = platform.stranger().serving
    assert stranger.list_deployments().items == []
    for name in ("d", made.id):
        for act in (
            lambda name=name: stranger.get_deployment(name),
            lambda name=name: stranger.update_deployment(name, replicas=0),
            lambda name=name: stranger.delete_deployment(name),
            lambda name=name: stranger.rollback_deployment(name),
            lambda name=name: stranger.list_revisions(name),
            lambda name=name: stranger.predict(name, [[1]]),
            lambda name=name: stranger.explain(name, [[1]]),
            lambda name=name: stranger.get_replica_log(name, 0),
        ):
            with pytest.raises(NotFound):
                act()


def test_a_model_that_is_not_there_or_retired(platform, serving, register):
    with pytest.raises(NotFound):
        serving.create_deployment("d", "nobody:1")
    client = platform.client()
    client.models.set_stage("m", Stage.RETIREMENT, version=register(client).version)
    with pytest.raises(DeploymentError, match="retired"):
        serving.create_deployment("d", "m:2")
    serving.create_deployment("d", "m:1")
    with pytest.raises(DeploymentError, match="retired"):
        serving.update_deployment("d", model="m:2")
    assert serving.get_deployment("d").wanted_revision == 1


def test_what_makes_a_revision(platform, serving, register):
    serving.create_deployment("d", "m:1")
    assert serving.update_deployment("d", description="y", tags={"a": "b"}).wanted_revision == 1
    assert serving.update_deployment("d", replicas=4).wanted_revision == 1
    assert serving.update_deployment("d", model="m:1").wanted_revision == 1
    assert serving.update_deployment("d", limits=ServingLimits(cpus=2)).wanted_revision == 2
    register(platform.client())
    changed = serving.update_deployment("d", model="m:2")
    assert (changed.wanted_revision, changed.model_version, changed.limits.cpus) == (3, 2, 2)
    assert [one.state for one in serving.list_revisions("d").items] == ["pending", "superseded", "superseded"]


def test_updates_that_cross(serving):
    made = serving.create_deployment("d", "m:1")
    serving.update_deployment("d", replicas=2, revision=made.revision)
    with pytest.raises(PreconditionFailed):
        serving.update_deployment("d", replicas=3, revision=made.revision)
    assert serving.get_deployment("d").replicas == 2


def test_rolling_back_needs_somewhere_to_go(serving):
    serving.create_deployment("d", "m:1")
    with pytest.raises(NothingToRollBackTo):
        serving.rollback_deployment("d")
    with pytest.raises(NotFound):
        serving.rollback_deployment("d", revision=7)
    assert serving.rollback_deployment("d", revision=1).wanted_revision == 2


def test_what_is_being_deleted_takes_no_changes(serving):
    serving.create_deployment("d", "m:1")
    serving.delete_deployment("d")
    for act in (
        lambda: serving.update_deployment("d", replicas=2),
        lambda: serving.rollback_deployment("d"),
        lambda: serving.predict("d", [[1]]),
    ):
        with pytest.raises(DeploymentError, match="delet"):
            act()


def test_listing(serving):
    for name in ("a", "b", "c"):
        serving.create_deployment(name, "m:1", tags={"team": name})
    assert [one.name for one in serving.list_deployments(order_by="name desc").items] == ["c", "b", "a"]
    assert [one.name for one in serving.list_deployments(filter='tags.team = "b"').items] == ["b"]
    assert [one.name for one in serving.list_deployments(filter='state = "ready"').items] == []
    page = serving.list_deployments(limit=2)
    assert (len(page.items), page.total) == (2, 3)
    assert [one.name for one in serving.list_deployments(cursor=page.next_cursor).items] == ["c"]


def test_waiting_ends(serving):
    serving.create_deployment("d", "m:1")
    seen = []
    with pytest.raises(NotSettled, match="progressing"):
        serving.wait_until_settled("d", timeout_s=0.0, on_change=seen.append)
    assert len(seen) == 1
    with pytest.raises(NotSettled):
        serving.wait_until_gone("d", timeout_s=0.0)
    with pytest.raises(NotFound):
        serving.wait_until_settled("nobody")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "D", "model": "m:1"},
        {"name": "d", "model": ""},
        {"name": "d", "model": "m:1", "replicas": -1},
        {"name": "d", "model": "m:1", "replicas": 65},
        {"name": "d", "model": "m:1", "replicas": 10**30},
        {"name": "d", "model": "m:1", "unknown": 1},
        {"name": "d", "model": "m:1", "limits": {"cpus": 0}},
        {"name": "d", "model": "m:1", "description": "a\0b"},
        {"name": "d", "model": "m:1", "tags": {"a\0": "b"}},
    ],
)
def test_bad_input(platform, serving, body):
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    answer = http.post("/v1/deployments", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == InvalidInput.code


def test_bad_references(platform, serving):
    serving.create_deployment("d", "m:1")
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    for path, status in {
        "/v1/deployments/%00": 422,
        "/v1/deployments/d/replicas/-1/log": 422,
        f"/v1/deployments/d/replicas/{10**30}/log": 422,
        f"/v1/deployments/d/replicas/0/log?offset={10**30}": 422,
        "/v1/deployments/d/replicas/0/log?revision=9": 404,
        "/v1/deployments/d/replicas/0/log": 200,
    }.items():
        assert http.get(path).status_code in (status, 404), path
    assert http.post("/v1/deployments", json={"name": "e", "model": "m\0:1"}).status_code in (404, 422)
    assert http.post("/v1/deployments/d/rollback", json={"revision": 10**30}).status_code in (404, 422)
