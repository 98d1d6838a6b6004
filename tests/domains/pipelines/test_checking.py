"""What is refused at submission: each flaw with its place and code, and all of them at once."""

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domains.pipelines.documents import document, documents

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.checking import InvalidPipeline, check_document, flaws_of, read_document
from modelops.domains.pipelines.document import ParameterSpec, PipelineDocument
from modelops.domains.pipelines.graph import cycle_of, layers_of
from modelops.domains.pipelines.parameters import check_parameters

PARAMETERS = {
    "count": {"type": "integer", "default": 3},
    "names": {"type": "list", "default": []},
    "mode": {"type": "string", "default": "fast", "choices": ["fast", "good"]},
}


def found(steps: dict[str, Any], **members: Any) -> set[tuple[str, str]]:
    return {(flaw.place, flaw.code) for flaw in flaws_of(document(steps, parameters=PARAMETERS, **members))}


@pytest.mark.parametrize(
    ("steps", "place", "code"),
    [
        ({"a": {"inputs": {"x": {"step": "b"}}}}, "steps.a.inputs.x", "unknown_step"),
        ({"a": {}, "b": {"inputs": {"x": {"step": "a", "output": "y"}}}}, "steps.b.inputs.x", "unknown_output"),
        ({"a": {"inputs": {"x": {"parameter": "cuont"}}}}, "steps.a.inputs.x", "unknown_parameter"),
        ({"a": {"after": ["b"]}}, "steps.a.after[0]", "unknown_step"),
        ({"a": {"after": ["a"]}}, "steps.a", "cycle"),
        ({"a": {"inputs": {"x": {"item": True}}}}, "steps.a.inputs.x", "item_outside"),
        ({"a": {"foreach": {"value": [1]}, "when": {"true": {"item": True}}}}, "steps.a.when.true", "item_outside"),
        ({"a": {"foreach": {"value": 3}}}, "steps.a.foreach", "no_list"),
        ({"a": {"foreach": {"parameter": "count"}}}, "steps.a.foreach", "no_list"),
        (
            {"a": {"outputs": {"t": "arrow"}}, "b": {"foreach": {"step": "a", "output": "t"}}},
            "steps.b.foreach",
            "no_list",
        ),
        (
            {"a": {"outputs": {"t": "arrow"}}, "b": {"when": {"true": {"step": "a", "output": "t"}}}},
            "steps.b.when.true",
            "not_json",
        ),
        ({"a": {"most_at_once": 2}}, "steps.a.most_at_once", "no_fan_out"),
        ({"a": {"run": {"function": "m:f"}, "notify": {"message": "x"}}}, "steps.a", "one_work"),
        ({"a": {"notify": {"message": "x"}, "cache": True}}, "steps.a.cache", "cannot_cache"),
        ({"a": {"approval": {}, "outputs": {"x": "json"}}}, "steps.a.outputs", "outputs_given"),
        ({"a": {"cache": True}}, "steps.a.cache", "digest_missing"),
        ({"a": {"job": {"recipe": "r"}}}, "steps.a.job.dataset", "missing_input"),
        (
            {"a": {"job": {"recipe": "r", "dataset": "d"}, "inputs": {"x": {"value": 1}}}},
            "steps.a.inputs.x",
            "unknown_input",
        ),
        (
            {"a": {"when": {"all": [{"left": {"parameter": "count"}, "operator": "<", "right": {"value": "3"}}]}}},
            "steps.a.when.all[0]",
            "wrong_type",
        ),
        (
            {"a": {"when": {"left": {"value": 1}, "operator": "in", "right": {"parameter": "count"}}}},
            "steps.a.when.right",
            "wrong_type",
        ),
    ],
)
def test_each_flaw_has_a_place_and_a_code(steps: dict[str, Any], place: str, code: str) -> None:
    assert found(steps) == {(place, code)}


def test_a_step_that_does_nothing_is_refused() -> None:
    flawed = PipelineDocument.model_validate({"name": "p", "steps": {"a": {}}})
    assert [(flaw.place, flaw.code) for flaw in flaws_of(flawed)] == [("steps.a", "one_work")]


def test_a_cycle_is_named() -> None:
    steps = {
        "a": {"after": ["d"]},
        "b": {"after": ["a"]},
        "c": {"after": ["b"]},
        "d": {"after": ["c"]},
        "e": {"after": ["d"]},
    }
    with pytest.raises(InvalidPipeline, match="circle") as refused:
        check_document(document(steps))
    told = refused.value.extra["flaws"][0]["detail"]
    circle = told.partition(": ")[2].split(" -> ")
    assert circle[0] == circle[-1]
    assert set(circle) == {"a", "b", "c", "d"}
    for one, other in pairwise(circle):
        assert steps[other]["after"] == [one]


def test_all_flaws_are_told_at_once_with_hints() -> None:
    with pytest.raises(InvalidPipeline) as refused:
        check_document(document({"load": {}, "b": {"inputs": {"x": {"step": "laod"}}, "after": ["zzz"]}}))
    assert [flaw["code"] for flaw in refused.value.extra["flaws"]] == ["unknown_step", "unknown_step"]
    assert "Did you mean 'load'?" in str(refused.value)
    assert "steps.b.inputs.x" in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ({"name": "p", "steps": {}}, "steps"),
        ({"name": "p", "steps": {"a": {"run": {"function": "f"}}}}, "steps.a.run.function"),
        ({"name": "p", "steps": {"a": {"run": {"function": "m:f"}, "inputs": {"x": 3}}}}, "steps.a.inputs.x"),
        ({"name": "p", "steps": {"a": {"run": {"function": "m:f"}, "when": {"all": [{"left": 1}]}}}}, "steps.a.when"),
        ({"name": "p", "steps": {"a": {"run": {"function": "m:f"}, "retrys": {}}}}, "steps.a.retrys"),
        ({"name": "p", "steps": {"a": {"run": {"function": "m:f"}, "after": [1]}}}, "steps.a.after[0]"),
        ([], ""),
        (None, ""),
    ],
)
def test_a_wrong_form_is_told_with_its_place_once(raw: Any, place: str) -> None:
    with pytest.raises(InvalidPipeline) as refused:
        read_document(raw)
    assert [flaw["place"] for flaw in refused.value.extra["flaws"]] == [place]


@pytest.mark.parametrize(
    ("spec", "member"),
    [
        ({"type": "integer", "default": "3"}, "default"),
        ({"type": "integer", "default": True}, "default"),
        ({"type": "string", "default": "x", "choices": ["a"]}, "default"),
        ({"type": "number", "choices": ["a"]}, "choices"),
        ({"type": "number", "choices": []}, "choices"),
        ({"type": "number", "required": True, "default": 1}, "default"),
    ],
)
def test_a_parameter_that_contradicts_itself_is_refused(spec: dict[str, Any], member: str) -> None:
    flawed = document({"a": {}}, parameters={"p": spec})
    assert [(flaw.place, flaw.code) for flaw in flaws_of(flawed)] == [(f"parameters.p.{member}", "wrong_type")]


@pytest.mark.parametrize(
    ("type_", "given", "taken"),
    [
        ("integer", 3, 3),
        ("integer", 3.0, 3),
        ("integer", "3", 3),
        ("number", "2.5", 2.5),
        ("number", 2, 2),
        ("boolean", "true", True),
        ("string", "3", "3"),
        ("list", "[1, 2]", [1, 2]),
        ("object", '{"a": 1}', {"a": 1}),
        ("string", None, None),
        ("number", 10**400, 10**400),
    ],
)
def test_a_parameter_is_taken_in_its_type(type_: str, given: Any, taken: Any) -> None:
    specs = {"p": ParameterSpec.model_validate({"type": type_})}
    assert check_parameters(specs, {"p": given}) == {"p": taken}
    assert type(check_parameters(specs, {"p": given})["p"]) is type(taken)


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        ({"type": "integer"}, 2.5),
        ({"type": "integer"}, True),
        ({"type": "integer"}, "many"),
        ({"type": "number"}, "NaN"),
        ({"type": "number"}, [1]),
        ({"type": "string"}, 3),
        ({"type": "list"}, "a, b"),
        ({"type": "object"}, "[" * 100_000),
        ({"type": "string", "choices": ["a"]}, "b"),
        ({"type": "string", "required": True}, None),
    ],
)
def test_a_parameter_of_another_type_is_refused(spec: dict[str, Any], given: Any) -> None:
    with pytest.raises(InvalidInput, match=r"parameters\.p: "):
        check_parameters({"p": ParameterSpec.model_validate(spec)}, {"p": given})


def test_unknown_and_missing_parameters_are_told_together() -> None:
    specs = {"count": ParameterSpec.model_validate({"type": "integer", "required": True})}
    with pytest.raises(InvalidInput) as refused:
        check_parameters(specs, {"cuont": 1})
    assert "did you mean 'count'?" in refused.value.detail
    assert "parameters.count: it must be given." in refused.value.detail


def test_defaults_are_filled_in() -> None:
    specs = {name: ParameterSpec.model_validate(spec) for name, spec in PARAMETERS.items()}
    assert check_parameters(specs, {"mode": "good"}) == {"count": 3, "names": [], "mode": "good"}


@given(documents())
def test_documents_without_cycles_lie_in_layers(whole: PipelineDocument) -> None:
    assert cycle_of(whole.steps) is None
    assert sorted(name for layer in layers_of(whole.steps) for name in layer) == sorted(whole.steps)
    assert not {flaw.code for flaw in flaws_of(whole)} - {"wrong_type"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(documents(), st.data())
def test_a_document_with_anything_anywhere_is_taken_or_refused_in_words(
    whole: PipelineDocument, data: st.DataObject
) -> None:
    raw = whole.model_dump(mode="json")
    member = data.draw(st.sampled_from(sorted(raw["steps"]["s0"])))
    raw["steps"]["s0"][member] = data.draw(json_values)
    with suppress(InvalidPipeline):
        read_document(raw)


def test_very_many_flaws_are_told_in_part() -> None:
    steps = {f"s{at}": {"after": [f"t{at}"]} for at in range(5_000)}
    with pytest.raises(InvalidPipeline) as refused:
        check_document(document(steps))
    assert len(refused.value.extra["flaws"]) == 100
