"""MLflow's `MLmodel`: what is written is what is read, and whatever else comes is refused in a sentence."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours.mlmodel import (
    MlModel,
    format_mlmodel,
    parse_mlmodel,
    read_mlmodel,
    to_columns,
    write_mlmodel,
)
from modelops.domains.models.schemas import Feature, FeatureType

NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)
FEATURES = st.lists(
    st.builds(Feature, name=NAMES, type=st.sampled_from(FeatureType), required=st.booleans()),
    min_size=1,
    max_size=5,
    unique_by=lambda feature: feature.name,
)
TEXTS = st.none() | NAMES | st.just("2026-01-01 10:00:00.5") | st.just("123") | st.just("null")


@given(features=FEATURES, run_id=TEXTS, created=TEXTS, flavors=st.dictionaries(NAMES, st.dictionaries(NAMES, TEXTS)))
def test_what_is_written_is_read(features, run_id, created, flavors):
    model = MlModel(flavors=flavors, inputs=to_columns(features), run_id=run_id, utc_time_created=created)

    again = parse_mlmodel(format_mlmodel(model))

    assert again == model
    assert again.signature.inputs == features


def test_a_file_in_a_folder(tmp_path):
    model = MlModel(flavors={"sklearn": {"pickled_model": "model.pkl"}}, rest={"prompts": None})
    assert write_mlmodel(tmp_path, model).name == "MLmodel"
    assert read_mlmodel(tmp_path) == model
    (tmp_path / "MLmodel").unlink()
    with pytest.raises(InvalidInput, match="no MLflow model"):
        read_mlmodel(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ('[{"type": "long", "name": "a"}, {"type": "string", "name": "b", "required": false}]', ["a", "b"]),
        ('[{"type": "double"}, {"type": "double"}]', ["x0", "x1"]),
        ('[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]', ["x0", "x1"]),
        ('[{"type": "tensor", "name": "n", "tensor-spec": {"dtype": "<U3", "shape": [-1]}}]', ["n"]),
        ('[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 28, 28]}}]', None),
        ('[{"type": "array", "items": {"type": "long"}, "name": "a"}]', None),
        ('[{"type": "tensor"}]', None),
        ("[]", None),
    ],
)
def test_signatures_of_tables(inputs, names):
    signature = parse_mlmodel(yaml.safe_dump({"flavors": {}, "signature": {"inputs": inputs}}).encode()).signature

    assert (None if signature is None else [feature.name for feature in signature.inputs]) == names


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"[1, 2]",
        b"flavors: 3",
        b"flavors: {a: 1}",
        b"flavors: {}\nsignature: 4",
        b"flavors: {}\nsignature: {inputs: '{'}",
        b"flavors: {}\nsignature: {inputs: '{}'}",
        b"!!python/object/apply:os.system [id]",
        b"[" * 100_000,
        b"a: 2026-99-99",
        b"x" * 5_000_000,
        b"a: &a [*a]\nflavors: *a",
    ],
)
def test_what_is_none_is_refused(content):
    with pytest.raises(InvalidInput):
        parse_mlmodel(content)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_content_breaks_it(content):
    with contextlib.suppress(InvalidInput):
        parse_mlmodel(content)
