"""Unmodified clients in processes of their own: mlflow's tracing, and OpenTelemetry's exporter."""

import json
import random
import threading
import time

import httpx
import pytest
from tests.domains.mlflow.tracing import Api, Program, listening, span, trace_id

from modelops.testing.platform import running_platform
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

BEGIN = """
import asyncio, json, sys
import mlflow
from mlflow import MlflowClient
from mlflow.entities.trace_location import MlflowExperimentLocation
experiment = sys.argv[1]
client = MlflowClient()
mlflow.tracing.set_destination(MlflowExperimentLocation(experiment))
"""

TRACED = (
    BEGIN
    + """
@mlflow.trace(span_type="TOOL", attributes={"kind": "leaf"})
def look_up(word):
    return {"word": word, "score": float("nan"), "big": 2**53 + 1}

@mlflow.trace
async def ask(question):
    await asyncio.sleep(0.001)
    return question.upper()

@mlflow.trace(name="agent ☃", span_type="AGENT")
def agent(question):
    with mlflow.start_span("plan") as plan:
        plan.set_inputs({"q": question})
        plan.set_attribute("nested", {"a": [1, 2.5, None, True]})
        look_up("ünïcode")
    asyncio.run(ask("why"))
    mlflow.update_current_trace(tags={"fruit": "apple"}, metadata={"mlflow.trace.session": "s1"}, client_request_id="c1")
    return "done"

@mlflow.trace
def broken():
    raise ValueError("no luck")

agent("what?")
good = mlflow.get_last_active_trace_id()
try:
    broken()
except ValueError:
    pass
bad = mlflow.get_last_active_trace_id()
mlflow.flush_trace_async_logging()

trace, failed = mlflow.get_trace(good), client.get_trace(bad)
leaf = next(one for one in trace.data.spans if one.name == "look_up")
feedback = mlflow.log_feedback(trace_id=good, name="quality", value=0.9, rationale="fine", metadata={"by": "me"})
mlflow.override_feedback(trace_id=good, assessment_id=feedback.assessment_id, value=0.1)
expected = mlflow.log_expectation(trace_id=good, name="answer", value={"x": [1, "ü"]})
gone = mlflow.log_feedback(trace_id=good, name="gone", value=True, span_id=leaf.span_id)
mlflow.delete_assessment(trace_id=good, assessment_id=gone.assessment_id)
client.set_trace_tag(good, "clé", "ü")
client.set_trace_tag(good, "off", "1")
client.delete_trace_tag(good, "off")
found = mlflow.search_traces(locations=[experiment], filter_string="tags.`clé` = 'ü' AND feedback.quality < 0.2")
texts = mlflow.search_traces(locations=[experiment], filter_string="trace.text LIKE '%ünïcode%'", return_type="list")
errors = client.search_traces(locations=[experiment], filter_string="status = 'ERROR'", order_by=["timestamp DESC"])
info = mlflow.get_trace(good).info
print(json.dumps({
    "names": sorted(one.name for one in trace.data.spans),
    "parent": next(one.name for one in trace.data.spans if one.span_id == leaf.parent_id),
    "leaf": [leaf.inputs, str(leaf.outputs), leaf.span_type, leaf.get_attribute("kind")],
    "plan": next(one for one in trace.data.spans if one.name == "plan").get_attribute("nested"),
    "state": [str(trace.info.state), str(failed.info.state)],
    "event": [one.attributes["exception.message"] for one in failed.data.spans[0].events],
    "previews": [info.request_preview, info.response_preview],
    "told": [info.tags["fruit"], info.tags["clé"], "off" in info.tags, info.tags["mlflow.traceName"]],
    "session": [info.trace_metadata["mlflow.trace.session"], info.client_request_id],
    "found": list(found["trace_id"]) == [good] and [one.info.trace_id for one in texts] == [good],
    "errors": [one.info.trace_id for one in errors] == [bad],
    "assessments": sorted([one.name, one.value, one.valid] for one in info.assessments if one.name != "answer"),
    "expected": mlflow.get_assessment(good, expected.assessment_id).value,
    "deleted": client.delete_traces(experiment, trace_ids=[good, bad]),
    "left": len(client.search_traces(locations=[experiment])),
}))
"""
)

MANY = (
    BEGIN
    + """
with mlflow.start_span("root"):
    for number in range(1999):
        with mlflow.start_span(f"child {number}") as child:
            child.set_inputs({"number": number})
name = mlflow.get_last_active_trace_id()
mlflow.flush_trace_async_logging()
spans = mlflow.get_trace(name).data.spans
print(json.dumps([len(spans), len({one.span_id for one in spans}), sum(one.inputs["number"] for one in spans if one.inputs)]))
"""
)

EXPORTED = """
import json, sys
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
url, token, experiment = sys.argv[1:]
exporter = OTLPSpanExporter(
    endpoint=f"{url}/v1/traces",
    headers={"Authorization": f"Bearer {token}", "x-mlflow-experiment-id": experiment},
    compression=Compression.Gzip,
)
provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
provider.add_span_processor(BatchSpanProcessor(exporter))
tracer = provider.get_tracer("t")
with tracer.start_as_current_span("order") as order:
    order.set_attributes({"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 2, "items": ["a", "b"]})
    order.add_event("paid", {"sum": 1.5})
    try:
        with tracer.start_as_current_span("ship"):
            raise RuntimeError("rain")
    except RuntimeError:
        pass
provider.shutdown()
print(json.dumps(f"tr-{order.get_span_context().trace_id:032x}"))
"""

WITH_RUNS = """
import json, mlflow
from mlflow import MlflowClient
@mlflow.trace
def work(n):
    return n
work(0)
in_default = mlflow.get_last_active_trace_id()
named = mlflow.set_experiment("assistant")
with mlflow.start_run() as run:
    work(1)
within = mlflow.get_last_active_trace_id()
work(2)
linked = mlflow.get_last_active_trace_id()
mlflow.flush_trace_async_logging()
client = MlflowClient()
client.link_traces_to_run([linked], run.info.run_id)
found = mlflow.search_traces(run_id=run.info.run_id, return_type="list")
default = mlflow.search_traces(locations=["0"], return_type="list")
print(json.dumps([
    sorted(one.info.trace_id for one in found) == sorted([within, linked]),
    [one.info.trace_id for one in default] == [in_default],
    mlflow.get_trace(within).info.experiment_id == named.experiment_id,
    named.experiment_id,
]))
"""

LIMITED = (
    BEGIN
    + """
from mlflow.exceptions import MlflowException
@mlflow.trace
def work():
    return 1
work()
mlflow.flush_trace_async_logging()
def refused(call):
    try:
        call()
    except MlflowException as wrong:
        return wrong.error_code
print(json.dumps([
    [one.info.trace_id for one in client.search_traces(locations=[experiment])],
    refused(lambda: client.set_trace_tag(sys.argv[2], "a", "b")),
    refused(lambda: client.get_trace(sys.argv[2])),
]))
"""
)


@pytest.fixture
def served(sqlite_platform, tmp_path):
    """An address, the administrator's client and an experiment there."""
    with listening(sqlite_platform, tmp_path) as url:
        client = sqlite_platform.client()
        yield url, client, client.experiments.create_experiment("traced").id


def test_a_traced_program_finds_all_it_did(served, sqlite_platform):
    url, _, experiment = served
    told, errors = Program(url, sqlite_platform.admin_key)(TRACED, experiment)
    assert "Failed" not in errors
    assert told == {
        "names": ["agent ☃", "ask", "look_up", "plan"],
        "parent": "plan",
        "leaf": [{"word": "ünïcode"}, "{'word': 'ünïcode', 'score': nan, 'big': 9007199254740993}", "TOOL", "leaf"],
        "plan": {"a": [1, 2.5, None, True]},
        "state": ["OK", "ERROR"],
        "event": ["no luck"],
        "previews": ['{"question": "what?"}', '"done"'],
        "told": ["apple", "ü", False, "agent ☃"],
        "session": ["s1", "c1"],
        "found": True,
        "errors": True,
        "assessments": [["quality", 0.1, True], ["quality", 0.9, False]],
        "expected": {"x": [1, "ü"]},
        "deleted": 2,
        "left": 0,
    }


def test_a_trace_of_two_thousand_spans_is_whole(served, sqlite_platform):
    url, _, experiment = served
    told, errors = Program(url, sqlite_platform.admin_key)(MANY, experiment)
    assert told == [2000, 2000, sum(range(1999))]
    assert "Failed" not in errors


def test_opentelemetrys_exporter_is_served(served, sqlite_platform):
    url, client, experiment = served
    name, errors = Program(url, sqlite_platform.admin_key)(EXPORTED, url, sqlite_platform.admin_key, experiment)
    assert "Failed" not in errors
    api = Api(client)
    assert api.find([experiment], "span.name = 'ship' AND span.status = 'ERROR'") == [name]
    info = api.info(name)
    assert (info["state"], info["tags"]["service.name"]) == ("OK", "shop")
    assert json.loads(info["trace_metadata"]["mlflow.trace.tokenUsage"])["total_tokens"] == 9
    order, ship = api("GET", "3.0/mlflow/traces/get", trace_id=name)["trace"]["spans"]
    assert (order["name"], ship["name"], ship["status"]["message"]) == ("order", "ship", "RuntimeError: rain")
    assert [one["name"] for one in order["events"] + ship["events"]] == ["paid", "exception"]


def test_traces_are_of_runs_and_of_the_project_that_is_named(served, sqlite_platform):
    url, client, _ = served
    client.identity.create_project("second")
    told, errors = Program(url, sqlite_platform.admin_key)(WITH_RUNS, MLFLOW_WORKSPACE="second")
    assert told[:3] == [True, True, True]
    assert "Failed" not in errors
    assert Api(client).find([told[3]]) == []
    assert len(Api(sqlite_platform.client(project="second")).find([told[3]])) == 2


def test_viewers_and_strangers_trace_nothing(served, sqlite_platform):
    url, client, experiment = served
    Api(client).export(experiment, span())
    viewer, stranger = sqlite_platform.member("viewer"), sqlite_platform.stranger()
    for caller, found, code in (
        (viewer, [trace_id(1)], "PERMISSION_DENIED"),
        (stranger, [], "RESOURCE_DOES_NOT_EXIST"),
    ):
        token = caller.rest.http.headers["authorization"].removeprefix("Bearer ")
        told, errors = Program(url, token)(LIMITED, experiment, trace_id(1))
        assert told[:2] == [found, code]
        assert (told[2] is None) == bool(found)
        assert "Failed to send trace" in errors
    assert Api(client).find([experiment]) == [trace_id(1)]


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_what_was_acknowledged_survives_kills(tmp_path, database, request):
    settings = {"database": request.getfixturevalue("postgres_database")} if database == "postgres" else {}
    with running_platform(tmp_path / "home", **settings) as prepared:
        key = prepared.admin_key
        experiment = prepared.client().experiments.create_experiment("e").id
    luck = random.Random(20261121)
    with platform_process(tmp_path / "home", **settings) as platform:
        sender = Sender(platform, key, experiment)
        sender.start()
        for _ in range(6):
            before = len(sender.acknowledged)
            wait_for(lambda before=before: len(sender.acknowledged) > before + 1)
            time.sleep(luck.uniform(0.0, 0.3))
            platform.kill()
            platform.start()
        acknowledged = sender.stop()
        with httpx.Client(base_url=platform.url, headers={"authorization": f"Bearer {key}"}, timeout=30) as http:
            for name, spans in acknowledged.items():
                trace = http.get("/api/3.0/mlflow/traces/get", params={"trace_id": name}).json()["trace"]
                assert len(trace["spans"]) >= spans
                assert len({one["span_id"] for one in trace["spans"]}) == len(trace["spans"]) <= 5
    assert len(acknowledged) >= 12


class Sender:
    """Exports traces of five spans, a span a request, again until each is acknowledged."""

    def __init__(self, platform, key, experiment):
        self.platform, self.key, self.experiment = platform, key, experiment
        self.acknowledged = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def start(self):
        self.thread.start()

    def stop(self):
        self.over.set()
        self.thread.join()
        return self.acknowledged

    def run(self):
        number = 0
        while not self.over.is_set():
            number += 1
            for part in range(1, 6):
                self.send(span(number, part, parent=None if part == 5 else 5))
                self.acknowledged[trace_id(number)] = part

    def send(self, one):
        body = {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}
        headers = {"authorization": f"Bearer {self.key}", "x-mlflow-experiment-id": self.experiment}
        while True:
            try:
                if httpx.post(f"{self.platform.url}/v1/traces", json=body, headers=headers).status_code == 200:
                    return
            except httpx.TransportError:
                self.over.wait(0.01)
