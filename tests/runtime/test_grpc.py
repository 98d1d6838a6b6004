"""The port for gRPC: Triton's own client gets what HTTP gives, and errors as gRPC has them."""

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.flavours.sklearn import flavour as sklearn_flavour
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature
from modelops.domains.models.signatures import infer_signature
from modelops.domains.serving.schemas import ServingLimits
from modelops.runtime.serving.rpc.messages import MESSAGES, SERVICE

X, Y = load_iris(return_X_y=True)
GRPC = ServingLimits(grpc=True)
MIXED = ModelSignature(
    inputs=[Feature(name="colour", type=FeatureType.STRING), Feature(name="big", type=FeatureType.BOOLEAN)]
)


def _describe(rows: list[dict]):
    return [f"{row['colour']}/{bool(row['big'])}" for row in rows]


@pytest.fixture(scope="module")
def model():
    return LogisticRegression(max_iter=1000).fit(X, Y)


@pytest.fixture(scope="module")
def files(module_bench, model):
    return module_bench.package(sklearn_flavour, model)


@pytest.fixture(scope="module")
def replica(module_bench, files):
    return module_bench.serve(module_bench.document(files, infer_signature(X), limits=GRPC))


@pytest.fixture(scope="module")
def mixed(module_bench):
    files = module_bench.package(functions.flavour, _describe)
    return module_bench.serve(module_bench.document(files, MIXED, "callable", limits=GRPC))


def address(replica):
    return json.loads((replica.workdir / "endpoint.json").read_text())["grpc"]


@pytest.fixture
def client(replica):
    with triton.InferenceServerClient(address(replica)) as opened:
        yield opened


def headers(replica, **more):
    return {"authorization": replica.client.headers["authorization"], **more}


def tensor(rows, name="input", datatype="FP64"):
    given = triton.InferInput(name, list(rows.shape), datatype)
    given.set_data_from_numpy(rows)
    return given


def call(replica, method, request, metadata=None, timeout=30):
    """Call a method with messages of our own; return the answer, or the error."""
    with grpc.insecure_channel(address(replica)) as channel:
        ask = channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES[f"{method}Response"].FromString,
        )
        given = {"authorization": replica.client.headers["authorization"]} if metadata is None else metadata
        try:
            return ask(request, metadata=list(given.items()), timeout=timeout)
        except grpc.RpcError as wrong:
            return wrong


def infer_request(rows=X[:2], model="tumours", **more):
    request = MESSAGES["ModelInferRequest"](model_name=model, **more)
    given = request.inputs.add(name="input", datatype="FP64", shape=rows.shape)
    given.contents.fp64_contents.extend(rows.ravel().tolist())
    return request


def test_a_server_and_its_model_are_described(client, replica):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata().name == "modelops"
    assert client.is_model_ready("tumours", "3", headers=headers(replica))
    told = client.get_model_metadata("tumours", headers=headers(replica))
    by_http = replica.client.get("/v2/models/tumours").json()
    inputs = [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in told.inputs]
    assert inputs == by_http["inputs"]
    assert [one.name for one in told.outputs] == ["predictions", "probabilities"]
    assert list(told.versions) == by_http["versions"] == ["3"]


def test_raw_tensors_give_what_http_gives(client, replica, model):
    answer = client.infer("tumours", [tensor(X)], request_id="q1", headers=headers(replica))
    np.testing.assert_array_equal(answer.as_numpy("predictions"), model.predict(X))
    by_http = replica.predict(X.tolist()).json()
    np.testing.assert_array_equal(answer.as_numpy("probabilities"), by_http["probabilities"])
    told = answer.get_response()
    assert (told.id, told.model_name, told.model_version) == ("q1", "tumours", "3")
    assert told.outputs[1].parameters["classes"].string_param == "[0,1,2]"


def test_some_outputs_and_features_by_name(client, replica, model):
    wanted = [triton.InferRequestedOutput("probabilities")]
    names = [feature.name for feature in infer_signature(X).inputs]
    inputs = [
        tensor(np.ascontiguousarray(X[:, place].astype(np.float32)), name, "FP32") for place, name in enumerate(names)
    ]
    answer = client.infer("tumours", inputs, "3", outputs=wanted, headers=headers(replica))
    assert answer.as_numpy("predictions") is None
    expected = model.predict_proba(X.astype(np.float32).astype(float))
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected)


def test_typed_tensors_are_answered_typed(replica, model):
    answer = call(replica, "ModelInfer", infer_request(X[:5]))
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.int64_contents) == model.predict(X[:5]).tolist()
    shares = np.reshape(answer.outputs[1].contents.fp64_contents, (5, 3))
    np.testing.assert_array_equal(shares, replica.predict(X[:5].tolist()).json()["probabilities"])


def test_texts_and_booleans(mixed):
    with triton.InferenceServerClient(address(mixed)) as client:
        colours, big = np.array(["grün", "blue"], dtype=object), np.array([True, False])
        inputs = [tensor(colours, "colour", "BYTES"), tensor(big, "big", "BOOL")]
        answer = client.infer("tumours", inputs, headers=headers(mixed))
        assert [value.decode() for value in answer.as_numpy("predictions")] == ["grün/True", "blue/False"]
    request = MESSAGES["ModelInferRequest"](model_name="tumours")
    request.inputs.add(name="colour", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"red")
    request.inputs.add(name="big", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    assert list(call(mixed, "ModelInfer", request).outputs[0].contents.bytes_contents) == [b"red/True"]


def test_who_may_not_is_told_so_as_grpc_tells_it(replica, module_bench):
    code = grpc.StatusCode
    request = infer_request()
    assert call(replica, "ModelInfer", request, {}).code() is code.UNAUTHENTICATED
    other = {"authorization": f"Bearer {module_bench.tokens.token(permissions=['models.read'])}"}
    assert call(replica, "ModelInfer", request, other).code() is code.PERMISSION_DENIED
    assert (
        call(replica, "ModelMetadata", MESSAGES["ModelMetadataRequest"](name="tumours"), {}).code()
        is code.UNAUTHENTICATED
    )
    assert call(replica, "ServerLive", MESSAGES["ServerLiveRequest"](), {}).live


def test_what_is_wrong_is_told_as_grpc_tells_it(replica):
    code = grpc.StatusCode
    wrong = call(replica, "ModelInfer", infer_request(model="nobody"))
    assert (wrong.code(), dict(wrong.trailing_metadata())["modelops-code"]) == (code.NOT_FOUND, "not_found")
    assert call(replica, "ModelInfer", infer_request(model_version="9")).code() is code.NOT_FOUND
    assert call(replica, "ModelInfer", infer_request(X[:2, :3])).code() is code.INVALID_ARGUMENT
    twice = infer_request(raw_input_contents=[X[:2].tobytes()])
    assert "has `contents`, too" in call(replica, "ModelInfer", twice).details()
    lost = infer_request(raw_input_contents=[b"", b""])
    assert "1 inputs and 2 raw contents" in call(replica, "ModelInfer", lost).details()
    request = infer_request()
    request.inputs[0].datatype = "FP32"
    assert "They belong in `fp32_contents`" in call(replica, "ModelInfer", request).details()
    request.inputs[0].datatype = "FP128"
    assert "FP16 is sent raw" in call(replica, "ModelInfer", request).details()
    late = headers(replica, **{"x-request-timeout-ms": "soon"})
    assert call(replica, "ModelInfer", infer_request(), late).code() is code.INVALID_ARGUMENT
    assert call(replica, "ModelInfer", infer_request()).model_name == "tumours"


@pytest.mark.parametrize("raw", [b"", b"\x00" * 7, b"\xff" * 64])
def test_bytes_that_do_not_fit(replica, raw):
    request = MESSAGES["ModelInferRequest"](model_name="tumours", raw_input_contents=[raw])
    request.inputs.add(name="input", datatype="FP64", shape=[2, 4])
    assert call(replica, "ModelInfer", request).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_limits_hold_here_too(module_bench, files):
    limits = GRPC.model_copy(update={"rate_per_s": 0.01, "rate_burst": 2, "max_rows": 3, "max_body_bytes": 4_096})
    replica = module_bench.serve(module_bench.document(files, infer_signature(X), limits=limits))
    assert call(replica, "ModelInfer", infer_request(X[:4])).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (
        call(replica, "ModelInfer", infer_request(X)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    )  # too long a message
    assert call(replica, "ModelInfer", infer_request()).model_name == "tumours"
    refused = call(replica, "ModelInfer", infer_request())
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(refused.trailing_metadata())["retry-after"]) > 50


def test_answers_are_counted_and_watched(bench, model):
    replica = bench.serve(bench.document(bench.package(sklearn_flavour, model), infer_signature(X), limits=GRPC))
    with triton.InferenceServerClient(address(replica)) as client, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.infer, "tumours", [tensor(X[:3])], headers=headers(replica)) for _ in range(40)]
        for one in asked:
            np.testing.assert_array_equal(one.result().as_numpy("predictions"), model.predict(X[:3]))
    told = replica.client.get("/metrics").text
    assert 'path="/v2/models/infer"' in told
    assert any("requests_total{" in line and line.endswith(" 40.0") for line in told.splitlines())
    assert replica.terminate() == 0
    assert bench.platform.rows == 120


def test_several_processes_share_the_port(bench, model):
    limits = ServingLimits(grpc=True, cpus=2)
    replica = bench.serve(bench.document(bench.package(sklearn_flavour, model), infer_signature(X), limits=limits))
    for _ in range(12):  # each a connection of its own
        answer = call(replica, "ModelInfer", infer_request(X[:3]))
        assert list(answer.outputs[0].contents.int64_contents) == model.predict(X[:3]).tolist()
    assert replica.terminate() == 0


def test_without_being_asked_for_there_is_no_port(bench, model):
    replica = bench.serve(bench.document(bench.package(sklearn_flavour, model), infer_signature(X)))
    assert json.loads((replica.workdir / "endpoint.json").read_text()).keys() == {"url"}


def test_without_the_library_it_is_told_what_to_install(bench, model, tmp_path):
    (tmp_path / "grpc.py").write_text("raise ModuleNotFoundError(\"No module named 'grpc'\", name='grpc')")
    files = bench.package(sklearn_flavour, model)
    document = bench.document(files, infer_signature(X), limits=GRPC)
    said = bench.refused(document, PYTHONPATH=str(tmp_path))
    assert "needs 'grpc', which is not installed. pip install modelops[grpc]" in said
