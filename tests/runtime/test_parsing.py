"""The quick way into rows takes what the careful one takes, and gives the same rows."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.instances import check_instances
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature
from modelops.runtime.serving.parsing import Parser, instances_of

NUMBER, INTEGER = FeatureType.NUMBER, FeatureType.INTEGER
FEATURES = st.lists(st.tuples(st.sampled_from([NUMBER, INTEGER]), st.booleans()), min_size=1, max_size=3)
TEXTS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.just("2" * 400),
    st.sampled_from(["null", "true", '"1"', "[]", "{}", "NaN", "Infinity", "1e400", "-0", "-0.0", "01", "1.", ".5"]),
    st.sampled_from(
        ["1e5", "1E-400", "9007199254740993", "9007199254740992.0", "1.5", "0.1e1", "12345678901234567890.5"]
    ),
)
BODIES = st.one_of(
    st.lists(st.lists(TEXTS, max_size=4).map(lambda row: f"[{','.join(row)}]"), max_size=4).map(
        lambda rows: f'{{"instances": [{", ".join(rows)}]}}'
    ),
    st.sampled_from(
        [
            '{"instances": [[1]], "instances": [[2]]}',
            '{"instances": [[1]], "more": 1}',
            '{"\\u0069nstances": [[1]]}',
            '{"instances": [[1]]} ',
            '{"instances": [[1]]}x',
            '\ufeff{"instances": [[1]]}',
            '{"instances": [{"x0": 1}]}',
            '{"instances": [[1],]}',
            "[[1]]",
            '{"instances": 1}',
            "",
        ]
    ),
)


def _carefully(signature, body):
    try:
        return check_instances(signature, instances_of(body), 3)
    except InvalidInput as wrong:
        return wrong


def _as_served(parser, body):
    try:
        rows, count, listed = parser.parse(body)
        if listed:
            matrix = np.array(rows, dtype=np.float64)
            rows = matrix if parser.fits(matrix) else parser.check(rows)
    except InvalidInput as wrong:
        return wrong
    assert len(rows) == count
    return rows


@settings(max_examples=1_000, deadline=None)
@given(features=FEATURES, body=BODIES)
def test_the_quick_way_and_the_careful_one_are_one(features, body):
    signature = ModelSignature(
        inputs=[Feature(name=f"x{index}", type=kind, required=needed) for index, (kind, needed) in enumerate(features)]
    )
    found = _as_served(Parser(signature, 3, columns=False), body.encode())
    wanted = _carefully(signature, body.encode())

    assert type(found) is type(wanted)
    if isinstance(wanted, InvalidInput):
        # Where a number needs the second look, the words may be about it as a float.
        assert found.extra == wanted.extra
        assert found.detail.split(";")[0] == wanted.detail.split(";")[0]
    else:
        np.testing.assert_array_equal(found, wanted)


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(body):
    parser = Parser(ModelSignature(inputs=[Feature(name="x")]), 3, columns=False)
    _as_served(parser, body)
    _as_served(parser, b'{"instances":' + body + b"}")


@pytest.mark.parametrize("columns", [True, False])
def test_what_is_no_matrix_goes_the_careful_way(columns):
    kind = NUMBER if columns else FeatureType.STRING
    parser = Parser(ModelSignature(inputs=[Feature(name="x", type=kind)]), 3, columns=columns)
    rows, count, listed = parser.parse(json.dumps({"instances": [[1.5 if columns else "a"]]}).encode())

    assert (list(rows), count, listed) == (["x"], 1, False)
