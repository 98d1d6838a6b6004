"""Both lanes give the same replies to the same bytes, however those are cut, and whoever means harm by them."""

import json
import struct
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runtime.wires import InProcess, replies

from modelops.contracts.errors import Unauthenticated
from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.schemas import Feature, ModelSignature
from modelops.domains.serving.schemas import ServingLimits
from modelops.runtime.serving import answers
from modelops.runtime.serving.fastlane.heads import read_head

TWO_NUMBERS = ModelSignature(inputs=[Feature(name="x"), Feature(name="y", required=False)])
OTHER_DEPLOYMENT = ["dep_2"]


def _sum(rows):
    if (rows[:, 0] == 666).any():
        raise ValueError("not that one")
    return rows[:, 0] * 2


@pytest.fixture(scope="module")
def served(module_bench):
    sample = {"columns": ["x", "y"], "rows": [[1.0, 2.0]]}
    files = module_bench.package(functions.flavour, _sum, sample=sample)
    limits = ServingLimits(max_body_bytes=2_000, max_rows=20)
    place = InProcess(module_bench, module_bench.document(files, TWO_NUMBERS, "callable", limits=limits))
    key = module_bench.tokens
    place.tokens = {
        "good": key.token(),
        "poor": key.token(permissions=[]),
        "elsewhere": key.token(deployments=OTHER_DEPLOYMENT),
        "here": key.token(deployments=["dep_1"]),
        "old": key.token(exp=int(time.time()) - 60),
        "other": key.token(project="prj_2"),
        "nonsense": "x.y.z",
    }
    for name in ("good", "poor", "elsewhere", "here"):
        place.replica.gate.admit(f"Bearer {place.tokens[name]}")
    yield place
    place.close()


@pytest.fixture(autouse=True)
def one_id(monkeypatch):
    monkeypatch.setattr(answers, "uuid4", lambda: SimpleNamespace(hex="0" * 32))


def request(
    served, body=b'{"instances": [[1, 2]]}', *, target="/predict", method="POST", version="1.1", token="good", eol=b"\r\n",
    length="right", extra=(),
):  # fmt: skip
    lines = [f"{method} {target} HTTP/{version}".encode(), b"Host: replica"]
    if token:
        lines.append(b"Authorization: Bearer " + served.tokens[token].encode())
    lengths = {"right": len(body), "short": len(body) - 1, "long": len(body) + 1, "zeros": f"00{len(body)}"}
    if length != "none":
        lines.append(f"Content-Length: {lengths.get(length, length)}".encode())
    return eol.join([*lines, *extra, b"", b""]) + body


EXTRAS = [
    b"X-Request-Id: abc",
    b"X-Request-Timeout-Ms: 5000",
    b"X-Request-Timeout-Ms: 0",
    b"X-Request-Timeout-Ms: soon",
    b"Inference-Header-Content-Length: 5",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Expect: 100-continue",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Content-Length: 23",
    b"Content-Length: 3",
    b"Content-Length : 3",
    b"content-length: +3",
    b"Content-Encoding: gzip",
    b"X-Folded: a\r\n  b",
    b"X-Bare: a\nX-Other: b",
    b"X-Null: a\x00b",
    b"X-High: \xff\xfe",
    b"Authorization: Bearer x.y.z",
    b": nameless",
    b"no colon",
    b"X-Long: " + b"a" * 5_000,
]
EXTRAS_OF_TENSORS = [
    *EXTRAS,
    *[b"Inference-Header-Content-Length: %d" % length for length in (109, 0, 141, 142, 10**9)],
]
TENSOR = b'{"inputs": [{"name": "input", "shape": [2, 2], "datatype": "FP64", "parameters": {"binary_data_size": 32}}]}'
NUMBERS = struct.pack("<4d", 1, 2, 3, 4)
BINARY = TENSOR + NUMBERS
LENGTH_OF_JSON = b"Inference-Header-Content-Length: %d" % len(TENSOR)
BODIES = [
    b'{"instances": [[1, 2]]}',
    b'{"instances": [[1, null], [2.5, 3e2]]}',
    b'{"instances": [{"x": 1}]}',
    b'{"instances": [[null, 1]]}',
    b'{"instances": [[1]]}',
    b'{"instances": [[NaN, 1]]}',
    b'{"instances": [[1e400, 1]]}',
    b'{"instances": [[666, 1]]}',
    b'{"instances": []}',
    b'{"instances": [[1, 2]], "instances": [[3, 4]]}',
    b'{"instances": ' + json.dumps([[1, 2]] * 21).encode() + b"}",
    b'{"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}',
    b"17\r\n" + b'{"instances": [[1, 2]]}' + b"\r\n0\r\n\r\n",
    b"",
    b"\xff\xfe",
    b" " * 2_001,
]
REQUESTS = st.fixed_dictionaries(
    {
        "body": st.sampled_from(BODIES),
        "target": st.sampled_from(
            [
                "/predict",
                "/predict",
                "/predict?x=1",
                "/%70redict",
                "http://replica/predict",
                "/v2/models/tumours/infer",
                "/v2/models/tumours/versions/3/infer",
                "/v2/models/tumours/versions/4/infer",
                "/nothing",
            ]
        ),
        "method": st.sampled_from(["POST", "POST", "POST", "GET", "post", "PUT"]),
        "version": st.sampled_from(["1.1", "1.1", "1.1", "1.0", "2.0", "9"]),
        "token": st.sampled_from(
            ["good", "good", "good", "here", "poor", "elsewhere", "old", "other", "nonsense", None]
        ),
        "eol": st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]),
        "length": st.sampled_from(["right", "right", "right", "short", "long", "none", "zeros", "-1", "1_0", "9" * 30]),
        "extra": st.lists(st.sampled_from(EXTRAS), max_size=3),
    }
)
TENSORS = st.fixed_dictionaries(
    {
        "body": st.sampled_from([BINARY, BINARY, BINARY, TENSOR, BINARY + b"\0", BINARY[:-1], b"\r\n\r\n" + BINARY]),
        "target": st.sampled_from(["/v2/models/tumours/infer", "/v2/models/tumours/infer", "/predict"]),
        "token": st.sampled_from(["good", "good", "here", "poor", "nonsense"]),
        "length": st.sampled_from(["right", "right", "right", "short", "long", "999999"]),
        "extra": st.lists(st.sampled_from(EXTRAS_OF_TENSORS), max_size=1).map(lambda more: [LENGTH_OF_JSON, *more]),
    }
)
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(QUIET, max_examples=400)
@given(parts=REQUESTS)
def test_both_lanes_reply_alike(served, parts):
    whole = request(served, **parts)

    assert served.answers([whole]) == served.answers([whole], fast=False)


@settings(QUIET, max_examples=150)
@given(data=st.data(), parts=st.lists(REQUESTS, min_size=1, max_size=3))
def test_how_requests_are_cut_makes_no_difference(served, data, parts):
    whole = b"".join(request(served, **each) for each in parts)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=6)))
    pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    assert served.answers(pieces) == served.answers(pieces, fast=False)


@settings(QUIET, max_examples=200)
@given(data=st.data(), parts=st.lists(st.one_of(TENSORS, TENSORS, REQUESTS), min_size=1, max_size=3))
def test_how_tensors_are_cut_makes_no_difference(served, data, parts):
    whole = b"".join(request(served, **each) for each in parts)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=6)))
    pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    assert served.answers(pieces) == served.answers(pieces, fast=False)


def tensors(served, **parts):
    return request(served, BINARY, target="/v2/models/tumours/infer", extra=[LENGTH_OF_JSON], **parts)


def test_tensors_in_several_reads_are_for_the_fast_lane_once_their_head_is_there(served):
    whole = tensors(served)
    head = whole.index(b"\r\n\r\n") + 4
    wanted = served.answers([whole], fast=False)
    assert wanted[0][0][0] == 200
    before = served.taken

    assert served.answers([whole]) == wanted
    assert served.answers([whole[:head], whole[head:]]) == wanted
    assert served.answers([whole[: head + 7], *[whole[at : at + 1] for at in range(head + 7, len(whole))]]) == wanted
    assert served.taken == before + 3
    assert served.answers([whole[: head - 1], whole[head - 1 :]]) == wanted
    assert served.taken == before + 3, "what is cut within its head is uvicorn's"


def test_what_follows_tensors_in_one_read_takes_the_ordinary_lane_with_them(served):
    whole = tensors(served) + request(served)
    wanted = served.answers([whole], fast=False)
    assert [status for status, _ in wanted[0]] == [200, 200]

    for cut in (len(whole) - 200, len(tensors(served)) - 5):
        assert served.answers([whole[:cut], whole[cut:]]) == wanted


def test_a_model_may_write_into_tensors_and_finds_them_aligned(served):
    whole = tensors(served)
    seen = []

    def look(rows):
        seen.append((rows.flags.aligned, rows.flags.writeable, rows.flags.c_contiguous, rows.tolist()))
        return rows[:, 0], None

    batcher = served.replica.current.champion._batcher
    asked, batcher._asked = batcher._asked, look
    try:
        for pieces in ([whole], [whole[:-9], whole[-9:]]):
            for fast in (True, False):
                assert served.answers(pieces, fast=fast)[0][0][0] == 200
    finally:
        batcher._asked = asked
    assert seen == [(True, True, True, [[1, 2], [3, 4]])] * 4


def test_a_connection_that_is_to_end_takes_the_rest_of_the_tensors_first(served):
    whole = tensors(served)

    async def talk():
        with served.connection() as (wire, state):
            wire.protocol.data_received(whole[:-10])
            wire.protocol.shutdown()
            assert not wire.closed
            wire.protocol.data_received(whole[-10:])
            await served.settle(wire, state, lambda: False)
            return replies(bytes(wire.out)), wire.closed

    found, closed = served.run(talk())
    assert [status for status, _ in found] == [200]
    assert closed


def test_tensors_that_never_come_do_not_keep_the_connection(served, monkeypatch):
    whole = tensors(served)

    async def talk():
        with served.connection() as (wire, _state):
            wire.protocol.data_received(whole[:-10])
            wire.protocol._look_after()
            assert not wire.closed, "a body has its time"
            wire.protocol._active_at -= 121
            wire.protocol._look_after()
            return wire.closed

    assert served.run(talk())


def test_a_cut_anywhere_changes_nothing(served):
    whole = request(served) + request(served, b'{"instances": [[666, 1]]}', extra=[b"X-Request-Id: abc"])
    wanted = served.answers([whole], fast=False)
    assert [status for status, _ in wanted[0]] == [200, 500]

    for cut in range(1, len(whole)):
        assert served.answers([whole[:cut], whole[cut:]]) == wanted


def test_bytes_one_by_one_and_requests_one_by_one(served):
    one = request(served)
    wanted, _ = served.answers([one], fast=False)
    before = served.taken

    assert served.answers([one[index : index + 1] for index in range(len(one))])[0] == wanted
    assert served.taken == before, "what is not whole is not for the fast lane"
    assert served.answers([one] * 5)[0] == wanted * 5
    assert served.taken == before + 5
    assert served.answers([one[:50], one[50:], one, one + one, one])[0] == wanted * 5
    assert served.taken == before + 7


@settings(QUIET, max_examples=300)
@given(noise=st.binary(max_size=200), place=st.integers(0, 300), replaced=st.integers(0, 20))
def test_noise_in_a_request_crashes_nothing(served, noise, place, replaced):
    whole = request(served)
    spoilt = whole[:place] + noise + whole[place + replaced :]

    fast, slow = served.answers([spoilt]), served.answers([spoilt], fast=False)
    assert fast == slow
    assert all(status < 500 for status, _ in fast[0])
    assert served.answers([whole])[0][0][0] == 200


@pytest.mark.parametrize(
    "extra",
    [
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"Content-Length: 0",
        b"Content-Length: 23",
        b"Expect: 100-continue",
        b"X-Folded: a\r\n  b",
        b"X-Bare: a\nTransfer-Encoding: chunked",
        b"X-Null: a\x00",
        b"Upgrade: websocket",
    ],
)
def test_heads_that_two_parsers_could_read_differently_are_not_for_the_fast_lane(served, extra):
    whole = request(served, extra=[extra])
    raw = whole[: whole.index(b"\r\n\r\n") + 4]
    doors = served.replica.current.doors

    assert read_head(request(served)[: -len(b'{"instances": [[1, 2]]}')], doors) is not None
    assert read_head(raw, doors) is None


def test_a_request_hidden_behind_another_is_answered_as_its_own_or_not_at_all(served):
    hidden = request(served, b'{"instances": [[50, 1]]}')
    outer = request(served, b"0\r\n\r\n" + hidden, extra=[b"Transfer-Encoding: chunked"])

    found, closed = served.answers([outer])
    assert closed
    assert [status for status, _ in found] == [400]


@pytest.mark.parametrize("first", ["/v2/models", "/v2/models/tumours", "/predict", "/"])
@pytest.mark.parametrize("rest", ["/tumours/infer", "/infer", "/predict", "/v2/models/tumours/infer"])
def test_two_requests_in_one_read_are_never_taken_for_one(served, first, rest):
    alone = b"POST " + first.encode() + b" HTTP/1.1\r\nHost: replica\r\n\r\n"
    body = b'{"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}'
    both = alone + request(served, body, target=rest)

    for _ in range(2):  # what is not known at first must not be known afterwards
        assert served.answers([both], fast=True) == served.answers([both], fast=False)
        assert len(served.answers([both])[0]) == 2
    heads = both[: both.rindex(b"\r\n\r\n") + 4]
    assert read_head(heads, served.replica.current.doors) is None


def test_a_second_request_waits_for_the_reply_to_the_first(served):
    async def talk():
        with served.connection() as (wire, state):
            wire.protocol.data_received(request(served, b'{"instances": [[1, 2]]}'))
            wire.protocol.data_received(request(served, b'{"instances": [[2, 2]]}'))
            assert wire.paused
            wire.protocol.shutdown()
            await served.settle(wire, state, lambda: False)
            return replies_of(wire), wire.closed

    def replies_of(wire):
        return [json.loads(body)["predictions"] for _, body in replies(bytes(wire.out))]

    assert served.run(talk()) == ([[2.0]], True), "a connection that ends does so after what it began"


def test_who_leaves_is_not_asked_for(served):
    async def talk():
        with served.connection() as (wire, _state):
            wire.protocol.data_received(request(served))
            wire.closed = True
            wire.protocol.connection_lost(None)
            return wire

    assert bytes(served.run(talk()).out) == b""
    assert served.answers([request(served)])[0][0][0] == 200
    engine = served.replica.current.champion.engine
    assert engine.inflight == engine.waiting == 0


def test_what_is_kept_of_heads_is_bounded(served):
    stranger = request(served, token="nonsense")
    served.answers([stranger])
    assert not any(b"x.y.z" in head for head in served.lane._heads)

    for number in range(600):
        served.answers([request(served, extra=[b"X-Request-Id: %d" % number])])
    assert len(served.lane._heads) <= 512
    assert served.answers([request(served)])[0][0][0] == 200


def test_a_token_that_ran_out_or_was_taken_back_is_looked_at_anew(served, module_bench, monkeypatch):
    whole = request(served)
    before = served.taken
    assert served.answers([whole])[0][0][0] == 200
    assert served.taken == before + 1

    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 4e9)
        for head in served.lane._heads.values():
            head.expires = time.perf_counter()
        served.answers([whole])
    assert served.taken == before + 1

    gate = served.replica.gate
    gate._fetch, gate._refreshed_at = dict, float("-inf")  # an unknown key in a test before may have been asked for
    with pytest.raises(Unauthenticated):
        gate.admit(f"Bearer {type(module_bench.tokens)().token()}")
    assert served.answers([whole])[0][0][0] == 401
    assert served.taken == before + 1
