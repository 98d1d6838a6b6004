"""A deployment seen from outside, on real processes: one trace through platform and replica, and its logged predictions."""

import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.domains.serving.test_serving_processes import listening, swept
from tests.runtime.collector import Collector

from modelops.domains.serving.schemas import ServingLimits
from modelops.testing.waiting import wait_for

pytestmark = pytest.mark.slow

FRAME, SPECIES = load_iris(return_X_y=True, as_frame=True)
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER, CLIENT = 2, 3


@pytest.fixture(scope="module")
def collector():
    found = Collector()
    yield found
    found.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory, collector, publish):
    home = tmp_path_factory.mktemp("observed") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with swept(home), listening(home) as platform:
            client = platform.client()
            publish(client, "iris", LogisticRegression(max_iter=1000).fit(FRAME, SPECIES), FRAME)
            client.serving.create_deployment("iris", "iris", limits=ServingLimits(log_sample=1))
            client.serving.wait_until_settled("iris")
            yield client


def test_one_trace_goes_through_the_platform_to_the_replica(client, collector):
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "traced-1"}
    body = {"instances": FRAME.iloc[:2].to_numpy().tolist()}
    answer = client.rest.request("POST", "/deployments/iris/predict", json=body, headers=headers)
    spans = [span for span in collector.wait(lambda spans: len(spans) == 7) if span.trace == TRACE]

    assert answer.status_code == 200
    api = next(span for span in spans if span.parent == CALLER)
    call = next(span for span in spans if span.parent == api.id)
    replica = next(span for span in spans if span.parent == call.id)
    parts = [span.name for span in spans if span.parent == replica.id]
    assert (api.name, api.kind) == ("POST /deployments/{deployment}/predict", SERVER)
    assert (call.name, call.kind) == ("call /predict", CLIENT)
    assert (replica.name, replica.kind) == ("POST /predict", SERVER)
    assert parts == ["parse", "queue", "model", "render"]
    assert [span.resource["service.name"] for span in (api, call, replica)] == [
        "modelops-api",
        "modelops-api",
        "modelops-runtime",
    ]
    assert replica.resource["modelops.deployment"] == call.attributes["modelops.deployment"] == "iris"
    assert replica.attributes["modelops.request_id"] == api.attributes["modelops.request_id"] == "traced-1"
    assert replica.resource["modelops.project"] == api.attributes["modelops.project"]
    assert replica.attributes["modelops.model.version"] == 1


def test_what_is_not_sampled_leaves_no_trace(client, collector):
    known = len(collector.spans)
    for headers in ({}, {"traceparent": f"00-{TRACE[::-1]}-{CALLER}-00"}):
        body = {"instances": FRAME.iloc[:2].to_numpy().tolist()}
        assert client.rest.request("POST", "/deployments/iris/predict", json=body, headers=headers).status_code == 200
    later = {"traceparent": f"00-{'1' * 32}-{CALLER}-01"}
    client.rest.request("GET", "/deployments/iris", headers=later)
    spans = collector.wait(lambda spans: len(spans) > known)

    assert [span.trace for span in spans[known:]] == ["1" * 32]


def test_predictions_that_were_logged_are_handed_out(client, tmp_path):
    """Last: it ends the replica, so that its file is finished at once."""
    body = {"instances": FRAME.iloc[:3].to_numpy().tolist()}
    said = client.rest.request("POST", "/deployments/iris/predict", json=body, headers={"x-request-id": "logged-1"})
    client.serving.update_deployment("iris", replicas=0)
    wait_for(lambda: client.serving.list_prediction_logs("iris").total, within_s=60)

    path = client.serving.download_prediction_logs("iris", tmp_path / "log.parquet")
    rows = [row for row in pq.read_table(path).to_pylist() if row["request_id"] == "logged-1"]
    assert [row["prediction"] for row in rows] == said.json()["predictions"]
    assert [row["input.sepal length (cm)"] for row in rows] == FRAME.iloc[:3, 0].tolist()
    assert {row["variant"] for row in rows} == {"champion"}
