import math
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput
from modelops.domains.models import instances as checking
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature
from modelops.domains.models.signatures import check_instances, infer_signature

MIXED = {
    "age": [40, 50, 61],
    "height": [1.7, math.nan, 1.8],
    "smokes": [True, False, True],
    "city": ["Bern", None, "Basel"],
}


def types(signature):
    return [(feature.name, feature.type.value, feature.required) for feature in signature.inputs]


@pytest.mark.parametrize("kind", ["pandas", "arrow", "records"])
def test_a_table_s_columns_become_features(kind):
    frame = pd.DataFrame(MIXED)
    records = [dict(zip(MIXED, row, strict=True)) for row in zip(*MIXED.values(), strict=True)]
    table = {"pandas": frame, "arrow": pa.table(MIXED), "records": records}[kind]

    assert types(infer_signature(table)) == [
        ("age", "integer", True),
        ("height", "number", False),
        ("smokes", "boolean", True),
        ("city", "string", False),
    ]


def test_arrays_and_lists():
    assert types(infer_signature(np.zeros((2, 2)))) == [("x0", "number", True), ("x1", "number", True)]
    assert types(infer_signature([[1, "a"]], feature_names=["n", "s"])) == [
        ("n", "integer", True),
        ("s", "string", True),
    ]
    assert types(infer_signature(np.array([[1.0], [math.nan]]))) == [("x0", "number", False)]


def test_categories_nullable_and_arrow_dictionary_columns():
    frame = pd.DataFrame({"c": pd.Categorical(["a", "b"]), "i": pd.array([1, None], dtype="Int64")})

    assert types(infer_signature(frame)) == [("c", "string", True), ("i", "integer", False)]
    assert types(infer_signature(pa.table({"d": pa.array(["a", "b"]).dictionary_encode()}))) == [("d", "string", True)]


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (np.array([0, 1]), [("prediction", FeatureType.INTEGER)]),
        ([0.5, 1.0], [("prediction", FeatureType.NUMBER)]),
        (pd.Series(["a", "b"], name="label"), [("label", FeatureType.STRING)]),
        (np.zeros((2, 2)), [("prediction_0", FeatureType.NUMBER), ("prediction_1", FeatureType.NUMBER)]),
    ],
)
def test_outputs(outputs, expected):
    signature = infer_signature(np.zeros((2, 1)), outputs)

    assert [(feature.name, feature.type) for feature in signature.outputs] == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pd.DataFrame({"when": pd.to_datetime(["2024-01-01"])}), "'when'"),
        ([{"a": 1}, {"a": "x"}], "'a' holds int, str"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than once"),
        (np.zeros(3), "shape"),
        (np.zeros((3, 0)), "no columns"),
    ],
)
def test_what_a_signature_cannot_name(data, words):
    with pytest.raises(InvalidInput, match=words):
        infer_signature(data)


def test_too_few_feature_names():
    with pytest.raises(InvalidInput, match="2 columns but 1"):
        infer_signature(np.zeros((1, 2)), feature_names=["a"])


SIGNATURE = ModelSignature(
    inputs=[
        Feature(name="n"),
        Feature(name="i", type=FeatureType.INTEGER),
        Feature(name="maybe", required=False),
    ]
)


def test_numbers_become_a_matrix_with_null_as_nan():
    rows = [[1, 2, None], [1.5, 3.0, 4]]
    matrix = check_instances(SIGNATURE, rows)

    np.testing.assert_array_equal(matrix, [[1, 2, math.nan], [1.5, 3, 4]])
    assert matrix.dtype == np.float64
    by_name = [{"i": 2, "n": 1}, {"maybe": 4, "i": 3.0, "n": 1.5}]
    np.testing.assert_array_equal(check_instances(SIGNATURE, by_name), matrix)
    np.testing.assert_array_equal(check_instances(SIGNATURE, [rows[0], by_name[1]]), matrix)


def test_columns_keep_their_types():
    signature = infer_signature(pd.DataFrame(MIXED))
    columns = check_instances(signature, [[40, None, True, "Bern"], [50, 1.5, False, None]])

    assert {name: column.dtype.kind for name, column in columns.items()} == {
        "age": "i",
        "height": "f",
        "smokes": "b",
        "city": "O",
    }
    assert columns["city"][0] == "Bern"
    assert math.isnan(columns["city"][1])
    assert math.isnan(columns["height"][0])


def test_numbers_as_columns_on_request():
    columns = check_instances(SIGNATURE, [[1, 2, None]], columns=True)

    assert list(columns) == ["n", "i", "maybe"]
    assert columns["i"].dtype == np.int64


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1, 2], "Row 1: must have 3 values; it has 2"),
        ([1, 2, 3, 4], "it has 4"),
        ([1, 2.5, 3], "feature 'i': must be an integer; it is 2.5"),
        ([1, 2**53 + 2, 3], "beyond"),
        ([math.nan, 2, 3], "'n': must be a number; it is not finite"),
        ([1, 2, math.nan], "'maybe': must be a number or null; it is not finite"),
        ([1, 2, math.inf], "not finite"),
        ([None, 2, 3], "it is null"),
        ([True, 2, 3], "it is a boolean"),
        (["1", 2, 3], "it is the string '1'"),
        ([[1], 2, 3], "it is a list"),
        ([{}, 2, 3], "it is an object"),
        ([10**400, 2, 3], "too large"),
        ("abc", "Row 1: must be a list of values"),
        (None, "it is null"),
        ({"n": 1, "maybe": 1}, "feature 'i': is required"),
        ({"n": 1, "i": 1, "more": 1}, "feature 'more': is not a feature"),
    ],
)
def test_a_bad_row_is_named(row, words):
    with pytest.raises(InvalidInput) as refused:
        check_instances(SIGNATURE, [[1, 2, 3], row])

    assert words in refused.value.detail
    assert refused.value.extra["row"] == 1


@pytest.mark.parametrize("instances", [None, {}, "x", [], ()])
def test_what_is_no_list_of_rows(instances):
    with pytest.raises(InvalidInput):
        check_instances(SIGNATURE, instances)


def test_too_many_rows():
    with pytest.raises(InvalidInput, match="at most 1"):
        check_instances(SIGNATURE, [[1, 2, 3]] * 2, 1)


CELLS = st.one_of(
    st.floats(), st.integers(), st.none(), st.booleans(), st.text(max_size=3), st.integers(2**53 - 2, 2**53 + 2)
)
GOOD = st.one_of(st.floats(-1e6, 1e6), st.integers(-(2**53), 2**53))
FEATURES = st.builds(
    Feature,
    name=st.sampled_from("abcdef"),
    type=st.sampled_from(list(FeatureType)),
    required=st.booleans(),
)
SIGNATURES = st.builds(
    ModelSignature, inputs=st.lists(FEATURES, min_size=1, max_size=4, unique_by=lambda feature: feature.name)
)


@st.composite
def requests(draw):
    signature = draw(SIGNATURES)
    names = [feature.name for feature in signature.inputs]
    cells = draw(st.sampled_from([CELLS, GOOD, st.one_of(GOOD, st.none())]))
    as_list = st.lists(cells, min_size=len(names), max_size=len(names) + draw(st.integers(0, 1)))
    as_object = st.dictionaries(st.sampled_from([*names, "zz"]), cells) | st.fixed_dictionaries(
        dict.fromkeys(names, cells)
    )
    return signature, draw(st.lists(draw(st.sampled_from([as_list, as_object, as_list | as_object])), max_size=4))


@settings(deadline=None, max_examples=400)
@given(requests())
def test_the_quick_way_takes_and_gives_what_the_careful_way_does(request_):
    signature, rows = request_
    try:
        careful = checking._cell_by_cell(signature, rows)
    except InvalidInput:
        careful = None
    if careful is None or not rows:
        with pytest.raises(InvalidInput):
            check_instances(signature, rows)
        return

    found = check_instances(signature, rows)

    if isinstance(found, dict):
        found = np.column_stack([column.astype(object) for column in found.values()])
    assert found.shape == (len(rows), len(signature.inputs))
    for got, expected in zip(found.ravel(), [value for row in careful for value in row], strict=True):
        assert (got is math.nan or got != got) if expected is None else got == expected


@settings(deadline=None, max_examples=300)
@given(
    SIGNATURES, st.recursive(CELLS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
)
def test_any_json_is_taken_or_refused_but_never_breaks(signature, anything):
    with suppress(InvalidInput):
        check_instances(signature, anything, 3)
