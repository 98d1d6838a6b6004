"""Pipelines in YAML: the short ways to say things, errors with their lines, and the way there and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domains.pipelines.documents import document, documents

from modelops.domains.pipelines.checking import InvalidPipeline, flaws_of
from modelops.domains.pipelines.document import Comparison, FromOutput, FromParameter, FromValue, PipelineDocument
from modelops.domains.pipelines.expressions import WrongExpression, parse_condition, write_condition
from modelops.domains.pipelines.yaml_reading import plain_scalar, read_yaml
from modelops.domains.pipelines.yaml_writing import write_yaml

NIGHTLY = """
name: nightly
description: Train each night.
parameters:
  count: 3
  least: {type: number, default: 0.9}
  answer: yes
requirements: nightly.lock
steps:
  load:
    run: steps:load
    inputs: {count: "${parameters.count}", names: [a, 1:30], depth: {max: 3}}
    outputs: {result: json, score: json}
    retries: 2
  fit:
    job: tabular_classification
    inputs:
      dataset: ${steps.load}
    when: ${steps.load.score} > ${parameters.least} and not ${parameters.answer} in ['no', "never"]
  ship:
    approval: Ship it?
    after: fit
  each:
    run: steps:one
    foreach: ${steps.load}
    inputs: {x: "${item}"}
  done:
    notify: It is done.
    even_if: ended
    after: [ship, each]
"""


def test_short_ways_to_say_things() -> None:
    read = read_yaml(NIGHTLY)
    assert read.requirements == "nightly.lock"
    plain = read.document.model_dump(mode="json", exclude_defaults=True)
    assert plain["parameters"] == {
        "count": {"type": "integer", "default": 3},
        "least": {"type": "number", "default": 0.9},
        "answer": {"type": "string", "default": "yes"},
    }
    assert plain["steps"]["load"] == {
        "run": {"function": "steps:load"},
        "inputs": {
            "count": {"parameter": "count"},
            "names": {"value": ["a", "1:30"]},
            "depth": {"value": {"max": 3}},
        },
        "outputs": {"result": "json", "score": "json"},
        "retries": {"attempts": 2},
    }
    assert plain["steps"]["fit"] == {
        "job": {"recipe": "tabular_classification"},
        "inputs": {"dataset": {"step": "load"}},
        "when": {
            "all": [
                {"left": {"step": "load", "output": "score"}, "operator": ">", "right": {"parameter": "least"}},
                {
                    "negated": {
                        "left": {"parameter": "answer"},
                        "operator": "in",
                        "right": {"value": ["no", "never"]},
                    }
                },
            ]
        },
    }
    assert plain["steps"]["ship"] == {"approval": {"message": "Ship it?"}, "after": ["fit"]}
    assert plain["steps"]["each"]["foreach"] == {"step": "load"}
    assert plain["steps"]["done"]["notify"] == {"message": "It is done."}


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        ("name: p\nsteps:\n  a:\n    run: m:f\n    inputs:\n      x: ${steps.b}\n", 6, "unknown_step"),
        ("name: p\nsteps:\n  a:\n    run: m:f\n    when: ${steps.a.x} >\n", 5, "invalid_condition"),
        ("name: p\nsteps:\n  a:\n    run: m:f\n    inputs:\n      x: a ${item}\n", 6, "invalid_reference"),
        ("name: p\nsteps:\n  a:\n    run: m:f\n    inputs:\n      x:\n      - ${item}\n", 6, "invalid_reference"),
        ("name: p\nsteps:\n  a:\n    run: m:f\n    retrys: 3\n", 5, "invalid_form"),
        ("name: p\nsteps:\n  a:\n    run: m:f\n  a:\n    run: m:g\n", 5, "duplicate"),
        ("name: p\nsteps:\n  a: {run: m:f, run: m:g\n", 4, "no_yaml"),
        ("name: p\nparameters:\n  x:\nsteps:\n  a: {run: m:f}\n", 3, "invalid_form"),
        ("name: p\nsteps:\n  a:\n    run: m:f\n    after:\n    - b\n", 6, "unknown_step"),
        ("name: p\n\nsteps:\n  ? [1]\n  : 2\n", 4, "invalid_form"),
        ("- 1\n", 1, "invalid_form"),
    ],
)
def test_flaws_are_told_with_their_lines(text: str, line: int, code: str) -> None:
    with pytest.raises(InvalidPipeline, match=f"line {line}") as refused:
        read_yaml(text)
    assert (line, code) in [(flaw.get("line"), flaw["code"]) for flaw in refused.value.extra["flaws"]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: &a [*a]",
        "a: *b",
        "\t",
        "{" * 2_000,
        "[" * 200 + "]" * 200,
        "a: !!python/object:os.system x",
        "--- 1\n--- 2",
    ],
)
def test_what_is_no_pipeline_is_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidPipeline):
        read_yaml(text)


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]" for at in range(1, 9)]
    with pytest.raises(InvalidPipeline, match="too many"):
        read_yaml("\n".join(lines))


def test_anchors_and_merges_are_taken() -> None:
    text = "name: p\nsteps:\n  a: &a {run: m:f, retries: 2, timeout_s: 5}\n  b: {<<: *a, timeout_s: 6}\n"
    steps = read_yaml(text).document.steps
    assert (steps["b"].retries.attempts, steps["b"].timeout_s) == (2, 6)


@given(documents().filter(lambda whole: not list(flaws_of(whole))))
def test_a_document_is_the_same_after_yaml(whole: PipelineDocument) -> None:
    assert read_yaml(write_yaml(whole)).document == whole


constants = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["${item}", "yes", "1e3", "0o7", "1:30", "null", "~", "2024-01-01", "<<", "=", ".5", "a ${"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["value", "step", "<<", "1"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(constants)
def test_any_constant_is_the_same_after_yaml(value: Any) -> None:
    whole = document({"a": {"inputs": {"x": {"value": value}}, "description": "x"}})
    assert read_yaml(write_yaml(whole)).document == whole


bindings = st.one_of(
    constants.map(lambda value: FromValue(value=value)),
    st.just(FromParameter(parameter="p")),
    st.sampled_from(["result", "x"]).map(lambda output: FromOutput(step="a", output=output)),
)
comparisons = st.builds(
    Comparison,
    left=bindings,
    operator=st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"]),
    right=bindings,
)


@st.composite
def conditions(draw: st.DrawFn, depth: int = 0) -> Any:
    kind = draw(st.sampled_from(["compare", "true", "not", "all", "any"] if depth < 3 else ["compare", "true"]))
    if kind == "compare":
        return draw(comparisons).model_dump()
    if kind == "true":
        return {"true": draw(bindings).model_dump()}
    if kind == "not":
        return {"negated": draw(conditions(depth + 1))}
    return {kind: draw(st.lists(conditions(depth + 1), min_size=1, max_size=3))}


@given(conditions())
def test_any_condition_is_the_same_after_yaml(condition: Any) -> None:
    whole = document({"a": {"outputs": {"result": "json", "x": "json"}}, "b": {"when": condition}})
    whole = whole.model_copy(update={"parameters": {}})
    written = whole.steps["b"].when
    assert written is not None
    text = write_yaml(whole)
    try:
        assert read_yaml(text).document.steps["b"].when == written
    except InvalidPipeline as refused:
        assert {flaw["code"] for flaw in refused.extra["flaws"]} <= {"wrong_type", "unknown_parameter"}  # noqa: PT017


@given(st.text(alphabet=" ()'\"\\${}.<>=!andornti1[],ps", max_size=30))
def test_any_text_is_a_condition_or_refused_in_words(text: str) -> None:
    try:
        parsed = parse_condition(text)
    except WrongExpression:
        return
    assert parse_condition(write_condition(parsed)) == parsed


@pytest.mark.parametrize("text", ["(" * 60 + "1" + ")" * 60, "not " * 60 + "1", "[" * 5_000, "[" * 400 + "]" * 400])
def test_conditions_that_are_too_deep_are_refused(text: str) -> None:
    with pytest.raises(WrongExpression):
        parse_condition(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("-3", -3),
        ("1e3", 1000.0),
        ("TRUE", True),
        ("", None),
        ("1:30", "1:30"),
    ],
)
def test_plain_texts_are_read_as_yaml_1_2_does(text: str, value: Any) -> None:
    assert plain_scalar(text) == value
