"""The runtime on a real model: what it answers, and to whom."""

import json
import time

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelops.domains.models.flavours.sklearn import flavour
from modelops.domains.models.signatures import infer_signature
from modelops.domains.serving.schemas import Explanations, Predictions, ServingLimits

X, Y = load_breast_cancer(return_X_y=True)
NAMES = [str(name) for name in load_breast_cancer().feature_names]
LIMITS = ServingLimits(max_rows=200, max_body_bytes=200_000)


@pytest.fixture(scope="module")
def model():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(X, Y)


@pytest.fixture(scope="module")
def replica(module_bench, model):
    sample = {"columns": NAMES, "rows": X[::6].tolist()}
    files = module_bench.package(flavour, model, sample=sample)
    document = module_bench.document(files, infer_signature(X, feature_names=NAMES), limits=LIMITS)
    return module_bench.serve(document, MODELOPS_REPLICA="tumours-0")


def test_predictions_equal_the_model_s_own(replica, model):
    answer = Predictions.model_validate(replica.predict(X[:50].tolist()).json())

    assert answer.predictions == model.predict(X[:50]).tolist()
    np.testing.assert_array_equal(answer.probabilities, model.predict_proba(X[:50]))
    assert answer.classes == [0, 1]
    assert (answer.model, answer.version, answer.revision, answer.replica) == ("tumours", 3, 7, "tumours-0")


def test_objects_by_name_in_any_order_mean_the_same(replica):
    by_name = [dict(reversed(list(zip(NAMES, row, strict=True)))) for row in X[:3].tolist()]

    assert replica.predict(by_name).json() == replica.predict(X[:3].tolist()).json()


def _changed(position, value):
    row = X[0].tolist()
    row[position] = value
    return [X[1].tolist(), row]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "one member"),
        (b'{"instances": [], "more": 1}', "one member"),
        (b'{"instances": []}', "empty"),
        (b'{"instances": 3}', "list of rows"),
        (b'{"instances": [[NaN]]}', "not JSON"),
        ({"instances": [X[0].tolist()[:-1]]}, "must have 30 values; it has 29"),
        ({"instances": [X[0].tolist(), 5]}, "Row 1: must be a list"),
        (
            {"instances": _changed(2, "1.5")},
            "Row 1, feature 'mean perimeter': must be a number; it is the string '1.5'",
        ),
        ({"instances": _changed(2, True)}, "it is a boolean"),
        ({"instances": _changed(2, None)}, "it is null"),
        ({"instances": _changed(2, [1])}, "it is a list"),
        ({"instances": _changed(2, 10**400)}, "too large"),
        ({"instances": [{"mean radius": 1.0}]}, "is required"),
        ({"instances": [{"colour": 1.0}]}, "is not a feature"),
        ({"instances": X[:201].tolist()}, "at most 200"),
    ],
)
def test_bad_input_is_refused_with_the_place_and_the_reason(replica, body, words):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = replica.client.post("/predict", content=content)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert answer.json()["code"] == "invalid_input"


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(replica, declared):
    body = b'{"instances": [' + b" " * 300_000 + b"]}"
    answer = replica.client.post("/predict", content=body if declared else iter([body[:100], body[100:]]))

    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


def test_who_may_predict(replica, module_bench):
    def status(token, path="/predict"):
        headers = {"Authorization": f"Bearer {token}" if token else ""}
        if path == "/metrics":
            return replica.client.get(path, headers=headers).status_code
        return replica.client.post(path, json={"instances": [X[0].tolist()]}, headers=headers).status_code

    key, stranger = module_bench.tokens, type(module_bench.tokens)()
    assert status(key.token()) == 200
    assert status(key.token(project="prj_2", platform=True)) == 200
    assert status(None) == 401
    assert status("rubbish") == 401
    assert status(key.token(exp=int(time.time()) - 60)) == 401
    assert status(key.token(aud="somebody-else")) == 401
    assert status(stranger.token()) == 401
    assert status(stranger.token(header={"kid": key.name})) == 401
    assert status(key.token(project="prj_2")) == 403
    assert status(key.token(permissions=["models.read"])) == 403
    assert status(key.token(permissions=["models.read"]), "/explain") == 403
    assert status(None, "/metrics") == 401
    assert status(key.token(permissions=[]), "/metrics") == 200


def test_a_token_stops_working_when_it_expires(module_bench, monkeypatch):
    from modelops.runtime.serving import access

    key, now = module_bench.tokens, time.time()
    gate = access.Gatekeeper(key.trusted, "modelops", "prj_1", dict)
    header = f"Bearer {key.token(exp=int(now) + 60)}"

    assert gate.known(header) is None
    claims = gate.admit(header)
    assert gate.known(header) == claims
    monkeypatch.setattr(access.time, "time", lambda: now + 70)
    assert gate.known(header) is None


def test_health_and_readiness_are_open(replica):
    for path in ("/healthz", "/readyz"):
        assert replica.client.get(path, headers={"Authorization": ""}).status_code == 200
    assert replica.client.get("/predict").status_code == 405
    assert replica.client.get("/nothing").json()["code"] == "not_found"


def test_metrics_say_what_was_answered(replica):
    replica.predict(X[:1].tolist())
    text = replica.client.get("/metrics").text

    labels = 'deployment="tumours-live",path="/predict",project="prj_1",revision="7",status="200",tenant="ten_1"'
    assert f'serving_http_requests_total{{{labels},variant="champion"}}' in text
    for name in ("serving_http_request_latency_seconds", "serving_queue_wait_seconds"):
        assert f"{name}_bucket" in text
    for name in ("serving_inflight_requests", "serving_queue_depth", "process_resident_memory_bytes"):
        assert name in text


def test_explanations_add_up_to_the_log_odds(replica, model):
    answer = Explanations.model_validate(replica.explain(X[:20].tolist()))

    values = np.array(answer.attributions)
    assert values.shape == (20, 1, 30)
    assert (answer.explains, answer.method, answer.outputs) == ("log_odds", "linear", ["1"])
    np.testing.assert_allclose(
        values.sum(axis=2)[:, 0] + answer.base_values[0], model.decision_function(X[:20]), atol=1e-6
    )


def test_a_rotated_key_is_learnt_from_the_platform(module_bench, replica):
    fresh = type(module_bench.tokens)()
    module_bench.platform.keys = {**module_bench.tokens.trusted, **fresh.trusted}
    asked = module_bench.platform.key_requests
    from modelops.runtime.serving.access import Gatekeeper, jwks_fetcher

    gate = Gatekeeper({}, "modelops", "prj_1", jwks_fetcher(module_bench.platform.url))

    assert gate.admit(f"Bearer {fresh.token()}")["sub"] == "usr_1"
    unknown = type(module_bench.tokens)()
    for _ in range(3):
        with pytest.raises(Exception, match="not known here"):
            gate.admit(f"Bearer {unknown.token()}")
    assert module_bench.platform.key_requests == asked + 1
