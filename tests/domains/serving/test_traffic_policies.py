"""Traffic policies through the API: what is kept, resolved, refused."""

import pytest

from modelops.contracts.errors import DeploymentError, NotFound
from modelops.domains.models.schemas import Feature, ModelSignature, PackageFile, Stage, VersionCreate
from modelops.domains.serving.courses.strategies import AllAtOnce, Rolling
from modelops.domains.serving.errors import IncompatibleVariant
from modelops.domains.serving.schemas import TrafficPolicy
from modelops.sdk.serving import traffic_of


@pytest.fixture
def serving(platform, register):
    client = platform.client()
    for _ in range(3):
        register(client)
    client.models.set_alias("m", "rival", 2)
    return client.serving


def parts(found):
    return [(one.name, one.role, one.share, one.model_version) for one in found.variants]


def test_a_policy_is_kept_with_its_versions(platform, serving):
    policy = traffic_of({"b": ("m@rival", 20)}, {"c": "m:3"}, sticky_header="x-user", salt="s")
    made = serving.create_deployment("d", "m:1", traffic=policy)
    expected = [("champion", "champion", 80, 1), ("b", "challenger", 20, 2), ("c", "shadow", 100, 3)]
    assert (made.traffic, parts(made)) == (policy, expected)
    assert parts(serving.list_revisions("d").items[0]) == expected
    platform.client().models.set_alias("m", "rival", 3)
    assert parts(serving.update_deployment("d", model="m:3"))[1] == ("b", "challenger", 20, 2)
    again = serving.update_deployment("d", traffic=policy)
    assert (again.wanted_revision, parts(again)[1]) == (3, ("b", "challenger", 20, 3))
    assert serving.update_deployment("d", traffic=policy).wanted_revision == 3
    alone = serving.update_deployment("d", traffic=TrafficPolicy())
    assert (alone.wanted_revision, len(alone.variants)) == (4, 1)


def test_a_strategy_is_kept(serving):
    made = serving.create_deployment("d", "m:1")
    assert made.strategy == AllAtOnce()
    changed = serving.update_deployment("d", strategy=Rolling(max_unavailable=2))
    assert (changed.strategy, changed.wanted_revision) == (Rolling(max_unavailable=2), 1)
    assert serving.get_deployment("d").strategy == Rolling(max_unavailable=2)


def test_models_that_cannot_answer_are_refused(platform, serving):
    client = platform.client()
    artifact = client.data.upload_artifact(b"another model")
    file = PackageFile(path="model.bin", digest=artifact.digest, size=artifact.size)
    signature = ModelSignature(inputs=[Feature(name="y")])
    client.models.register_version(VersionCreate(name="n", flavour="sklearn", files=[file], signature=signature))
    client.models.set_stage("m", Stage.RETIREMENT, version=3)
    for model, error, said in (
        ("nobody:1", NotFound, "nobody"),
        ("m:3", DeploymentError, "retired"),
        ("n:1", IncompatibleVariant, "does not take the feature 'x'"),
    ):
        for policy in (traffic_of({"b": (model, 5)}), traffic_of(shadows={"b": model})):
            with pytest.raises(error, match=said):
                serving.create_deployment("d", "m:1", traffic=policy)
    assert serving.list_deployments().total == 0


@pytest.mark.parametrize(
    "traffic",
    [
        {"challengers": [{"name": "b", "model": "m:2", "share": 60}, {"name": "c", "model": "m:2", "share": 60}]},
        {"challengers": [{"name": "champion", "model": "m:2", "share": 1}]},
        {"challengers": [{"name": "candidate", "model": "m:2", "share": 1}]},
        {"challengers": [{"name": "b", "model": "m:2"}], "shadows": [{"name": "b", "model": "m:2"}]},
        {"challengers": [{"name": "b", "model": "m:2", "share": -1}]},
        {"sticky_header": "Authorization"},
        {"override_header": "cookie"},
        {"sticky_header": "a b"},
        {"unknown": 1},
    ],
)
def test_policies_that_make_no_sense(platform, serving, traffic):
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    answer = http.post("/v1/deployments", json={"name": "d", "model": "m:1", "traffic": traffic})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "nonsense"},
        {"kind": "canary", "steps": []},
        {"kind": "canary", "steps": [{"share": 0}]},
        {"kind": "canary", "steps": [{"share": 101}]},
        {"kind": "canary", "analysis": {"metrics": [{"kind": "business"}]}},
        {"kind": "canary", "analysis": {"metrics": []}},
        {"kind": "rolling", "max_unavailable": 0},
        {"kind": "blue_green", "keep_s": -1},
        {"kind": "all_at_once", "steps": []},
        {},
        [],
    ],
)
def test_strategies_that_make_no_sense(platform, serving, strategy):
    http = platform.http(authorization=f"Bearer {platform.admin_key}")
    answer = http.post("/v1/deployments", json={"name": "d", "model": "m:1", "strategy": strategy})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize("values", ["[]", "[1e400]", '["NaN"]', "[1e200]", "1", '["x"]', "null"])
def test_values_that_are_none(platform, serving, values):
    serving.create_deployment("d", "m:1")
    http = platform.http(authorization=f"Bearer {platform.admin_key}", content_type="application/json")
    body = f'{{"metric": "revenue", "variant": "champion", "values": {values}}}'
    answer = http.post("/v1/deployments/d/business-metrics", content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), answer.text
