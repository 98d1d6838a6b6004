"""OTLP's encodings: read as OpenTelemetry's own library writes them, and no input makes more than a refusal."""

import base64
import contextlib
import gzip
import json
import math
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from tests.domains.mlflow.tracing import Api, span, trace_id

from modelops.contracts.errors import InvalidInput, TooLarge
from modelops.domains.mlflow.traces.otlp import _inflate
from modelops.domains.mlflow.traces.otlp_json import read_json
from modelops.domains.mlflow.traces.otlp_protobuf import read_protobuf, write_answer
from modelops.domains.mlflow.traces.spans import add_up, clean, plain

KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8).filter(
    "$float".__ne__
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
IDS = st.binary(min_size=8, max_size=8).filter(any)
TIMES = st.integers(0, 2**63 - 1)


@st.composite
def requests(draw):
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(1, 2))):
        block = request.resource_spans.add()
        _fill(block.resource.attributes, draw(st.dictionaries(KEYS, VALUES, max_size=2)))
        spans = block.scope_spans.add().spans
        for _ in range(draw(st.integers(0, 3))):
            one = spans.add()
            one.trace_id, one.span_id = draw(IDS) * 2, draw(IDS)
            one.parent_span_id = draw(IDS | st.just(b""))
            one.name = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
            one.kind, one.status.code = draw(st.integers(0, 5)), draw(st.integers(0, 2))
            one.start_time_unix_nano, one.end_time_unix_nano = draw(TIMES), draw(TIMES)
            _fill(one.attributes, draw(st.dictionaries(KEYS, VALUES, max_size=3)))
            event = one.events.add(name=draw(KEYS), time_unix_nano=draw(TIMES))
            _fill(event.attributes, draw(st.dictionaries(KEYS, VALUES, max_size=2)))
            link = one.links.add(trace_id=draw(IDS) * 2, span_id=draw(IDS))
            _fill(link.attributes, draw(st.dictionaries(KEYS, VALUES, max_size=2)))
    return request


def _fill(attributes, values):
    for key, value in values.items():
        pair = attributes.add(key=key)
        _set(pair.value, value)


def _set(into, value):
    if isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int):
        into.int_value = value
    elif isinstance(value, float):
        into.double_value = value
    elif isinstance(value, str):
        into.string_value = value
    elif isinstance(value, list):
        into.array_value.SetInParent()
        for item in value:
            _set(into.array_value.values.add(), item)
    elif isinstance(value, dict):
        into.kvlist_value.SetInParent()
        for key, item in value.items():
            _set(into.kvlist_value.values.add(key=key).value, item)


def _value(message):
    kind = message.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in message.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in message.kvlist_value.values}
    value = getattr(message, kind) if kind else None
    return clean(value) if isinstance(value, str) else value


def _attributes(pairs):
    return {pair.key: _value(pair.value) for pair in pairs}


def same(one, other):
    """Tell whether two values are the same; NaN is itself, and 1 is not 1.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


@given(requests())
@settings(deadline=None)
def test_protobuf_is_read_as_its_own_library_wrote_it(request):
    batch = read_protobuf(request.SerializeToString())
    written = [(block, one) for block in request.resource_spans for scope in block.scope_spans for one in scope.spans]
    assert batch.refused == []
    assert len(batch.spans) == len(written)
    for found, (block, one) in zip(batch.spans, written, strict=True):
        assert found.trace_id == one.trace_id.hex()
        assert found.span_id == one.span_id.hex()
        assert (found.parent_id or "") == one.parent_span_id.hex()
        assert (found.name, found.kind) == (clean(one.name), one.kind)
        assert (found.started_ns, found.ended_ns or 0) == (one.start_time_unix_nano, one.end_time_unix_nano)
        assert found.status == ("UNSET", "OK", "ERROR")[one.status.code]
        assert same(plain(found.attributes), _attributes(one.attributes))
        assert same(plain(found.resource), _attributes(block.resource.attributes))
        assert found.events[0].time_ns == one.events[0].time_unix_nano
        assert same(plain(found.events[0].attributes), _attributes(one.events[0].attributes))
        assert found.links[0].trace_id == one.links[0].trace_id.hex()
        assert same(plain(found.links[0].attributes), _attributes(one.links[0].attributes))


@given(requests())
@settings(deadline=None)
def test_json_and_protobuf_say_the_same(request):
    document = MessageToDict(request)
    for block in document["resourceSpans"]:
        for scope in block.get("scopeSpans", []):
            for one in scope.get("spans", []):
                for part in [one, *one.get("links", [])]:
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in part:
                            part[key] = base64.b64decode(part[key]).hex()
    from_json = read_json(json.dumps(document).encode())
    from_protobuf = read_protobuf(request.SerializeToString())
    for one, other in zip(from_json.spans, from_protobuf.spans, strict=True):
        assert same(plain(one.attributes), plain(other.attributes))
        assert (one.trace_id, one.span_id, one.parent_id, one.name) == (
            other.trace_id,
            other.span_id,
            other.parent_id,
            other.name,
        )
        assert (one.started_ns, one.ended_ns, one.status) == (other.started_ns, other.ended_ns, other.status)
        assert (one.events[0].time_ns, one.links[0].span_id) == (other.events[0].time_ns, other.links[0].span_id)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(body):
    for read in (read_protobuf, read_json, lambda one: _inflate(one, "gzip"), lambda one: _inflate(one, "deflate")):
        with contextlib.suppress(InvalidInput):
            read(body)


@given(requests(), st.data())
@settings(deadline=None)
def test_a_broken_export_is_read_or_refused(request, data):
    body = bytearray(request.SerializeToString())
    for place in data.draw(st.lists(st.integers(0, max(len(body) - 1, 0)), max_size=4)):
        if body:
            body[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidInput):
        read_protobuf(bytes(body[: data.draw(st.integers(0, len(body)))]))


def test_values_may_not_be_nested_without_end():
    value = ExportTraceServiceRequest().resource_spans.add().resource.attributes.add(key="k").value
    inner = value
    for _ in range(60):
        inner = inner.array_value.values.add()
    deep = ExportTraceServiceRequest()
    one = deep.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=b"1" * 8)
    one.attributes.add(key="k").value.CopyFrom(value)
    with pytest.raises(InvalidInput, match="deep"):
        read_protobuf(deep.SerializeToString())


def test_compressed_bodies_are_unpacked_up_to_a_limit():
    assert _inflate(gzip.compress(b"abc"), "gzip") == b"abc"
    assert _inflate(zlib.compress(b"abc"), "deflate") == b"abc"
    assert _inflate(b"abc", "identity") == b"abc"
    with pytest.raises(TooLarge):
        _inflate(gzip.compress(b"\0" * (64 * 1024**2 + 1)), "gzip")
    with pytest.raises(InvalidInput, match="not whole"):
        _inflate(gzip.compress(b"abc" * 100)[:-9], "gzip")
    with pytest.raises(InvalidInput, match="br"):
        _inflate(b"", "br")


def test_the_answer_is_read_by_opentelemetry():
    answer = ExportTraceServiceResponse()
    answer.ParseFromString(write_answer(["why ü"] * 300))
    assert answer.partial_success.rejected_spans == 300
    assert answer.partial_success.error_message == "why ü"
    assert write_answer([]) == b""


@given(
    st.dictionaries(
        st.integers(0, 9), st.tuples(st.integers(0, 9) | st.none(), st.integers(1, 9) | st.none()), max_size=10
    )
)
@settings(deadline=None)
def test_a_parents_numbers_hold_those_of_its_children(tree):
    totals = {str(n): (None if p is None else str(p), None if v is None else {"t": v}) for n, (p, v) in tree.items()}
    expected = 0
    for start, (_, value) in tree.items():
        at, seen, covered = tree[start][0], {start}, False
        while at in tree and at not in seen:
            covered = covered or tree[at][1] is not None
            seen.add(at)
            at = tree[at][0]
        if value is not None and not covered and at not in seen:
            expected += value
        elif at in seen:
            return  # a circle of parents: it only has to end
    assert add_up(totals).get("t", 0) == expected


@pytest.fixture
def api(platform):
    return Api(platform.client())


@pytest.fixture
def experiment(platform):
    return platform.client().experiments.create_experiment("e").id


def test_spans_that_cannot_be_kept_are_counted(api, experiment):
    answer = api.export(experiment, span(), span(number=0), span(trace=2) | {"spanId": "xyz"})
    assert answer["partialSuccess"]["rejectedSpans"] == "2"
    assert "span id" in answer["partialSuccess"]["errorMessage"]
    assert api.find([experiment]) == [trace_id(1)]
    assert "None of the 1 spans" in api.export(experiment, span(number=0), status=422)["message"]


def test_exports_are_refused_with_a_reason(api, experiment):
    assert "x-mlflow-experiment-id" in api.export("", span(), status=422)["message"]
    assert "Content-Type" in api.export(experiment, span(), status=400, **{"content-type": "text/plain"})["message"]
    assert "no spans" in api.export(experiment, status=400)["message"]
    assert "not gzip" in api.export(experiment, span(), status=400, **{"content-encoding": "gzip"})["message"]
    assert api.export("exp_nowhere", span(), status=404)["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert api.export(experiment, span(), status=404, **{"x-mlflow-run-id": "run_nowhere"})
    assert api.find([experiment]) == []


def test_a_trace_is_told_by_its_spans_in_any_order_and_however_often(api, experiment):
    child = span(number=2, parent=1, name="child", start=1_500_000_000, end=3_000_000_000)
    root = span(
        name="root", status=2, mlflow__spanInputs={"q": "ü"}, mlflow__spanOutputs="done", session__id="s", user__id="u"
    )
    api.export(experiment, child)
    assert api.info(trace_id(1))["state"] == "IN_PROGRESS"
    for _ in range(3):
        api.export(experiment, root, child, resource=[{"key": "service.name", "value": {"stringValue": "shop"}}])
    info = api.info(trace_id(1))
    assert info["state"] == "ERROR"
    assert info["request_time"] == "1970-01-01T00:00:01.000Z"
    assert info["execution_duration"] == "2.000s"
    assert (info["request_preview"], info["response_preview"]) == ('{"q": "ü"}', "done")
    assert info["trace_metadata"] == {"mlflow.trace.session": "s", "mlflow.trace.user": "u"}
    assert info["tags"]["service.name"] == "shop"
    assert info["tags"]["mlflow.trace.spansLocation"] == "TRACKING_STORE"
    trace = api("GET", "3.0/mlflow/traces/get", trace_id=trace_id(1))["trace"]
    assert [one["name"] for one in trace["spans"]] == ["root", "child"]


def test_tokens_and_costs_are_added_up_once(api, experiment):
    usage = {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}
    leaf = span(number=3, parent=2, mlflow__chat__tokenUsage=usage, mlflow__llm__cost={"total_cost": 0.5})
    other = span(number=4, parent=1, gen_ai__usage__input_tokens=5, gen_ai__usage__output_tokens=2)
    for _ in range(2):
        api.export(experiment, leaf)
        api.export(experiment, other)
    sums = api.info(trace_id(1))["trace_metadata"]
    assert json.loads(sums["mlflow.trace.tokenUsage"]) == {"input_tokens": 15, "output_tokens": 3, "total_tokens": 18}
    assert json.loads(sums["mlflow.trace.cost"]) == {"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.5}
    api.export(experiment, span(number=2, parent=1, mlflow__chat__tokenUsage=usage))  # what its child used is in it
    sums = api.info(trace_id(1))["trace_metadata"]
    assert json.loads(sums["mlflow.trace.tokenUsage"])["total_tokens"] == 18
    api.start(trace_id(1), experiment, trace_metadata={"mlflow.trace.tokenUsage": '{"total_tokens": 1}'})
    api.export(experiment, leaf)
    assert api.info(trace_id(1))["trace_metadata"]["mlflow.trace.tokenUsage"] == '{"total_tokens": 1}'


def test_other_libraries_spans_are_understood(api, experiment):
    inference = {"openinference__span__kind": "LLM", "input__value": "ask", "llm__token_count__prompt": 3}
    api.export(experiment, span(llm__token_count__completion=4, **inference))
    assert api.find([experiment], "span.type = 'LLM' AND span.attributes.mlflow.spanInputs = 'ask'") == [trace_id(1)]
    usage = json.loads(api.info(trace_id(1))["trace_metadata"]["mlflow.trace.tokenUsage"])
    assert usage == {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


def test_what_a_client_told_outweighs_its_spans(api, experiment):
    api.start(trace_id(1), experiment, 5_000, state="OK", request_preview="asked", execution_duration="1.5s")
    api.export(experiment, span(status=2, mlflow__spanInputs="other"))
    info = api.info(trace_id(1))
    assert (info["request_time"], info["state"]) == ("1970-01-01T00:00:05.000Z", "OK")
    assert (info["request_preview"], info["execution_duration"]) == ("asked", "1.500s")


def test_spans_of_one_trace_may_come_at_once(api, experiment):
    def send(number):
        if number == 0:
            api.start(trace_id(1), experiment, 500, tags={"a": "b"})
        else:
            api.export(experiment, span(2, number), span(1, number, parent=100, session__id="s"))

    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(send, [*range(12), *range(12)]))) == 24
    traces = api("GET", "3.0/mlflow/traces/batchGet", trace_ids=[trace_id(1), trace_id(2)])["traces"]
    assert [len(one["spans"]) for one in traces] == [11, 11]
    info = api.info(trace_id(1))
    assert (info["request_time"], info["tags"]["a"]) == ("1970-01-01T00:00:00.500Z", "b")
    assert info["trace_metadata"]["mlflow.trace.session"] == "s"
