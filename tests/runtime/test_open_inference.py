"""The Open Inference Protocol: JSON and bytes mean the same, and the same as the plain form."""

import json
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.flavours.sklearn import flavour as sklearn_flavour
from modelops.domains.models.instances import check_instances
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature
from modelops.domains.models.signatures import infer_signature
from modelops.runtime.serving.openinference.inputs import Inputs
from modelops.runtime.serving.openinference.messages import read_request
from modelops.runtime.serving.openinference.tensors import NUMBERS
from modelops.runtime.serving.parsing import Parser

X, Y = load_iris(return_X_y=True)
PATH = "/v2/models/tumours"
MIXED = ModelSignature(
    inputs=[
        Feature(name="colour", type=FeatureType.STRING),
        Feature(name="big", type=FeatureType.BOOLEAN),
        Feature(name="count", type=FeatureType.INTEGER),
        Feature(name="size", required=False),
    ]
)


@pytest.fixture(scope="module")
def model():
    return LogisticRegression(max_iter=1000).fit(X, Y)


@pytest.fixture(scope="module")
def replica(module_bench, model):
    files = module_bench.package(sklearn_flavour, model)
    return module_bench.serve(module_bench.document(files, infer_signature(X)))


def _describe(rows):
    def number(value):
        return "nan" if value is None else f"{value:g}"

    return [f"{row['colour']}/{bool(row['big'])}/{row['count']}/{number(row['size'])}" for row in rows]


@pytest.fixture(scope="module")
def mixed(module_bench):
    files = module_bench.package(functions.flavour, _describe)
    return module_bench.serve(module_bench.document(files, MIXED, "callable"))


def infer(replica, request, binary=b"", path=f"{PATH}/infer"):
    text = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))} if binary else {}
    return replica.client.post(path, content=text + binary, headers=headers)


def tensor(rows, **changes):
    rows = np.asarray(rows)
    return {"name": "input", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()} | changes


def test_json_gives_what_the_plain_form_gives(replica, model):
    plain = replica.predict(X[:7].tolist()).json()
    answer = infer(replica, {"id": "q1", "inputs": [tensor(X[:7])]}).json()

    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tumours", "3", "q1")
    predictions, probabilities = answer["outputs"]
    assert predictions == {"name": "predictions", "datatype": "INT64", "shape": [7], "data": plain["predictions"]}
    assert probabilities["shape"] == [7, 3]
    assert probabilities["parameters"] == {"classes": [0, 1, 2]}
    assert probabilities["data"] == np.ravel(plain["probabilities"]).tolist()
    assert infer(replica, {"inputs": [tensor(X[:7], data=X[:7].tolist())]}, path=f"{PATH}/versions/3/infer").json() == (
        {key: value for key, value in answer.items() if key != "id"}
    )


def test_bytes_give_the_same_exactly(replica, model):
    content = X.astype("<f8").tobytes()
    given = tensor(X, parameters={"binary_data_size": len(content)})
    del given["data"]
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "predictions"}]
    answer = infer(replica, {"inputs": [given], "outputs": wanted}, content)

    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.content[:length])["outputs"]
    assert [output["name"] for output in outputs] == ["probabilities", "predictions"]
    assert outputs[0]["parameters"]["binary_data_size"] == len(answer.content) - length
    probabilities = np.frombuffer(answer.content[length:], "<f8").reshape(outputs[0]["shape"])
    np.testing.assert_array_equal(probabilities, model.predict_proba(X))
    assert outputs[1]["data"] == model.predict(X).tolist()
    everything = infer(replica, {"inputs": [given], "parameters": {"binary_data_output": True}}, content)
    assert len(everything.content) - int(everything.headers["inference-header-content-length"]) == 150 * 8 * 4


def test_long_bodies_in_every_form_say_the_same(replica, model):
    rows = np.tile(X, (40, 1))
    content = rows.tobytes()
    given = tensor(rows, parameters={"binary_data_size": len(content)})
    del given["data"]
    columns = [tensor(rows[:, [index]], name=f.name) for index, f in enumerate(infer_signature(X).inputs)]
    wanted = model.predict(rows).tolist()

    assert replica.predict(rows.tolist()).json()["predictions"] == wanted
    for request, binary in (
        ({"inputs": [given]}, content),
        ({"inputs": [tensor(rows)]}, b""),
        ({"inputs": columns}, b""),
    ):
        assert infer(replica, request, binary).json()["outputs"][0]["data"] == wanted


def test_columns_by_name_of_any_type(mixed):
    columns = [
        {"name": "size", "shape": [2, 1], "datatype": "FP32", "data": [[0.5], [1.5]]},
        {"name": "colour", "shape": [2], "datatype": "BYTES", "data": ["red", "blü"]},
        {"name": "count", "shape": [2], "datatype": "UINT8", "data": [1, 2]},
        {"name": "big", "shape": [2], "datatype": "BOOL", "data": [True, False]},
    ]
    said = ["red/True/1/0.5", "blü/False/2/1.5"]
    output = infer(mixed, {"inputs": columns}).json()["outputs"][0]
    assert output == {"name": "predictions", "datatype": "BYTES", "shape": [2], "data": said}

    texts = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in ("red", "blü"))
    parts = [np.array([0.5, 1.5], "<f4").tobytes(), texts, bytes([1, 2]), bytes([1, 0])]
    for column, part in zip(columns, parts, strict=True):
        del column["data"]
        column["parameters"] = {"binary_data_size": len(part)}
    assert infer(mixed, {"inputs": columns}, b"".join(parts)).json()["outputs"][0]["data"] == said
    left_out = infer(mixed, {"inputs": columns[1:]}, b"".join(parts[1:])).json()
    assert left_out["outputs"][0]["data"] == ["red/True/1/nan", "blü/False/2/nan"]


@pytest.mark.parametrize(
    ("change", "binary", "words"),
    [
        ({"inputs": 3}, b"", "not a request of the Open Inference Protocol"),
        ({"inputs": []}, b"", "missing"),
        ({"inputs": [tensor(X[:2], shape=[2, 3])]}, b"", "no feature"),
        ({"inputs": [tensor(X[:2], shape=[3, 4])]}, b"", "8 values; its shape needs 12"),
        ({"inputs": [tensor(X[:2], shape=[-1, 4])]}, b"", "without a row"),
        ({"inputs": [tensor(X[:2], shape=[20_000, 4])]}, b"", "at most 10,000"),
        ({"inputs": [tensor(X[:1], datatype="FP8")]}, b"", "no feature"),
        ({"inputs": [tensor(X[:1], data=[1, 2, "3", 4])]}, b"", "not of type FP64"),
        ({"inputs": [tensor(X[:1], data=[1, 2, None, 4])]}, b"", "it is null"),
        ({"inputs": [tensor(X[:1], datatype="INT64", data=[1, 2, 3, 10**400])]}, b"", "too large"),
        ({"inputs": [tensor(X[:1], datatype="INT64", data=[1, 2, 3, 1.5])]}, b"", "not of type INT64"),
        ({"inputs": [tensor(X[:1])]}, b"more", "of no input"),
        ({"inputs": [tensor(X[:1], parameters={"binary_data_size": 32})]}, b"", "not there"),
        ({"inputs": [tensor(X[:1], parameters={"binary_data_size": 8})]}, b"8 bytes.", "need 32"),
        ({"inputs": [tensor(X[:1], parameters={"binary_data_size": "x"})]}, b"", "not there"),
        ({"inputs": [tensor(X[:1])], "outputs": [{"name": "more"}]}, b"", "no output 'more'"),
    ],
)
def test_what_does_not_fit_is_told_where_the_protocol_s_clients_look(replica, change, binary, words):
    answer = infer(replica, change, binary)

    assert answer.status_code == 422
    assert words in answer.json()["error"] == answer.json()["detail"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_bytes_that_are_no_number_are_refused(replica, value):
    rows = X[:3].copy()
    rows[1, 2] = value
    content = rows.tobytes()
    given = tensor(rows, parameters={"binary_data_size": len(content)})
    del given["data"]
    assert "Row 1, feature" in infer(replica, {"inputs": [given]}, content).json()["error"]


def test_what_the_server_and_its_model_are(replica):
    client = replica.client
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live", headers={"Authorization": ""}).json() == {"live": True}
    assert client.get("/v2/health/ready", headers={"Authorization": ""}).json()["ready"] is True
    for path in (PATH, f"{PATH}/versions/3"):
        told = client.get(path).json()
        assert (told["name"], told["versions"], told["platform"]) == ("tumours", ["3"], "modelops_sklearn")
        assert told["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 4]}]
        assert [output["name"] for output in told["outputs"]] == ["predictions", "probabilities"]
        assert client.get(f"{path}/ready").json() == {"name": "tumours", "ready": True}
    for path in ("/v2/models/other", f"{PATH}/versions/4", f"{PATH}/versions/4/ready"):
        assert client.get(path).status_code == 404
    assert infer(replica, {"inputs": [tensor(X[:1])]}, path="/v2/models/other/infer").status_code == 404
    assert client.get(PATH, headers={"Authorization": ""}).status_code == 401


VALUES = st.one_of(st.floats(), st.integers(-(10**20), 10**20), st.none(), st.booleans(), st.just("x"))


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(VALUES, min_size=2, max_size=2), min_size=1, max_size=4),
    datatype=st.sampled_from([*NUMBERS, "BOOL", "BYTES", "FP8"]),
    nested=st.booleans(),
    shape=st.lists(st.integers(-1, 4), max_size=3) | st.none(),
    size=st.integers(-1, 40) | st.none() | st.text(max_size=2),
    binary=st.binary(max_size=40),
)
def test_any_tensor_is_taken_or_refused(rows, datatype, nested, shape, size, binary):
    signature = ModelSignature(inputs=[Feature(name="x", type=FeatureType.INTEGER), Feature(name="y", required=False)])
    parser = Parser(signature, 10, columns=False)
    request = {
        "name": "x",
        "shape": [len(rows), 2] if shape is None else shape,
        "datatype": datatype,
        "data": rows if nested else [value for row in rows for value in row],
        "parameters": {} if size is None else {"binary_data_size": size},
    }
    try:
        found, count, listed = Inputs(signature, parser, 10, columns=False).rows(
            read_request(msgspec.json.encode({"inputs": [request]})), binary
        )
    except InvalidInput:
        return
    matrix = np.array(found, dtype=np.float64)
    assert matrix.shape == (count, 2)
    if not listed or parser.fits(matrix):
        as_plain = [[None if np.isnan(value) else value for value in row] for row in matrix.tolist()]
        np.testing.assert_array_equal(check_instances(signature, as_plain), matrix)
