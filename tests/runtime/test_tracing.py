"""Traces of a replica, at a collector: what is traced, what its spans tell, and that it costs nothing else."""

import grpc
import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.runtime.collector import Collector
from tests.runtime.test_grpc import call, headers, infer_request

from modelops.contracts.errors import InvalidInput
from modelops.contracts.tracing import open_tracing, read_traceparent, untraced
from modelops.domains.models.flavours.sklearn import flavour
from modelops.domains.models.signatures import infer_signature
from modelops.domains.serving.schemas import ServingLimits

X, y = load_iris(return_X_y=True)
ROWS = {"instances": X[:3].tolist()}
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
SERVER, INTERNAL = 2, 1


@pytest.fixture
def collector():
    found = Collector()
    yield found
    found.close()


@pytest.fixture
def document(bench):
    files = bench.package(flavour, LogisticRegression(max_iter=1000).fit(X, y))
    return bench.document(files, infer_signature(X))


def serve(bench, document, collector, **env):
    return bench.serve(document, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50", **env)


def test_a_request_whose_caller_is_traced_is_told_part_by_part(bench, document, collector):
    replica = serve(bench, document, collector)
    plain = replica.predict(ROWS["instances"])

    answer = replica.client.post("/predict", json=ROWS, headers={"traceparent": SAMPLED, "x-request-id": "r-1"})
    spans = {span.name: span for span in collector.wait(lambda spans: len(spans) == 5)}

    assert answer.json() == plain.json()
    whole = spans.pop("POST /predict")
    assert (whole.trace, whole.parent, whole.kind, whole.failed) == (TRACE, CALLER, SERVER, False)
    assert whole.attributes == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "modelops.request_id": "r-1",
        "modelops.revision": 7,
        "modelops.variant": "champion",
        "modelops.model": "tumours",
        "modelops.model.version": 3,
    }
    about = whole.resource
    assert (about["service.name"], about["modelops.tenant"]) == ("modelops-runtime", "ten_1")
    assert (about["modelops.project"], about["modelops.deployment"]) == ("prj_1", "tumours-live")
    assert list(spans) == ["parse", "queue", "model", "render"]
    assert all((span.trace, span.parent, span.kind) == (TRACE, whole.id, INTERNAL) for span in spans.values())
    moments = [whole.began, *(moment for span in spans.values() for moment in (span.began, span.ended)), whole.ended]
    assert moments == sorted(moments)
    assert spans["parse"].attributes["modelops.rows"] == 3


def test_what_fails_is_marked_and_what_is_not_sampled_is_not_told(bench, document, collector):
    replica = serve(bench, document, collector)

    for header in (UNSAMPLED, "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"):
        assert replica.client.post("/predict", json=ROWS, headers={"traceparent": header}).status_code == 200
    assert replica.client.post("/predict", json={}, headers={"traceparent": SAMPLED}).status_code == 422
    assert replica.terminate() == 0

    (refused,) = collector.spans
    assert (refused.attributes["http.response.status_code"], refused.failed) == (422, False)


@pytest.mark.parametrize(("rate", "least", "most"), [("1", 40, 40), ("0.5", 8, 32)])
def test_requests_that_do_not_say_are_traced_by_chance(bench, document, collector, rate, least, most):
    replica = serve(bench, document, collector, MODELOPS_TRACE_SAMPLE=rate)

    for _ in range(40):
        assert replica.client.post("/predict", json=ROWS).status_code == 200
    assert replica.terminate() == 0

    roots = [span for span in collector.spans if span.kind == SERVER and span.attributes["http.route"] == "/predict"]
    assert least <= len(roots) <= most
    assert len({span.trace for span in roots}) == len(roots)


def test_a_collector_that_is_gone_hinders_nobody(bench, document, collector):
    collector.close()
    replica = serve(bench, document, collector, MODELOPS_TRACE_SAMPLE="1")

    assert [replica.client.post("/predict", json=ROWS).status_code for _ in range(20)] == [200] * 20
    assert replica.terminate() == 0


def test_a_call_by_grpc_is_traced_and_logged_alike(bench, collector):
    files = bench.package(flavour, LogisticRegression(max_iter=1000).fit(X, y))
    document = bench.document(files, infer_signature(X), limits=ServingLimits(grpc=True, log_sample=1))
    replica = serve(bench, document, collector)
    metadata = {**headers(replica), "traceparent": SAMPLED, "x-request-id": "g-1"}

    assert call(replica, "ModelInfer", infer_request(), metadata).model_name == "tumours"
    refused = call(replica, "ModelInfer", infer_request(), {"traceparent": SAMPLED})
    assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
    assert replica.terminate() == 0

    whole, failed = (span for span in collector.spans if span.kind == SERVER)
    assert whole.name == failed.name == "inference.GRPCInferenceService/ModelInfer"
    assert (whole.trace, whole.parent, whole.attributes["modelops.request_id"]) == (TRACE, CALLER, "g-1")
    assert [span.name for span in collector.spans if span.parent == whole.id] == ["parse", "queue", "model", "render"]
    assert [span.attributes["http.response.status_code"] for span in (whole, failed)] == [200, 401]
    (body,) = bench.platform.logs.values()
    assert pa.ipc.open_stream(body).read_all()["request_id"].to_pylist() == ["g-1", "g-1"]


def test_traceparents_are_read_as_w3c_says():
    assert read_traceparent(SAMPLED) == (int(TRACE, 16), int(CALLER, 16), True)
    assert read_traceparent(UNSAMPLED).sampled is False
    assert read_traceparent(untraced()).sampled is False
    for wrong in (None, "", SAMPLED.upper(), "01" + SAMPLED[2:], f"00-{'0' * 32}-{CALLER}-01", SAMPLED + "-x"):
        assert read_traceparent(wrong) is None


@pytest.mark.parametrize(
    "environ",
    [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}],
)
def test_without_a_collector_there_is_nothing(environ):
    assert open_tracing("x", {}, environ) is None


@pytest.mark.parametrize(
    ("environ", "rate"),
    [
        ({}, 0.0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, 1.0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, 0.25),
        ({"OTEL_TRACES_SAMPLER": "always_on", "MODELOPS_TRACE_SAMPLE": "0.125"}, 0.125),
        ({"MODELOPS_TRACE_SAMPLE": "two"}, None),
        ({"MODELOPS_TRACE_SAMPLE": "1.5"}, None),
    ],
)
def test_the_environment_says_how_much(environ, rate, collector):
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **environ}
    if rate is None:
        with pytest.raises(InvalidInput, match="from 0 to 1"):
            open_tracing("x", {}, environ)
        return
    tracing = open_tracing("x", {}, environ)
    picked = np.mean([tracing.wants(None) for _ in range(2_000)])
    tracing.close()

    assert picked == pytest.approx(rate, abs=0.07)
