"""Pipelines written in Python: what the function says, and the document that comes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import pandas as pd
import pyarrow as pa
import pytest

from modelops import approval, item, job, notify, pipeline, step, when
from modelops.contracts.errors import InvalidInput
from modelops.domains.models.schemas import ModelVersion
from modelops.domains.pipelines.checking import InvalidPipeline
from modelops.domains.pipelines.document import FromOutput, PipelineDocument, Retries, ValueType
from modelops.sdk.pipelines import Parameter, Template


class Fitted(NamedTuple):
    model: ModelVersion
    score: float


class Parts(TypedDict):
    train: pa.Table
    test: pd.DataFrame
    names: list[str]


@dataclass
class Report:
    page: Path
    pages: int


@step(cache=True)
def load(count: int = 3) -> pa.Table:
    """Load rows.

    And more."""
    return pa.table({"x": list(range(count))})


@step(retries=2, timeout_s=60, cpus=2, memory_mb=512, pool="big")
def fit(table: pa.Table, depth: int = 3) -> Fitted:
    raise NotImplementedError


@step
def double(number: int, by: int = 2) -> int:
    return number * by


@step
def total(numbers: list[int]) -> int:
    return sum(numbers)


@step
def tidy() -> None: ...


@step
def report() -> Report:
    raise NotImplementedError


@step
def split() -> Parts:
    raise NotImplementedError


@step
def gather(**parts: int) -> int:
    return sum(parts.values())


@step
def tagged() -> Annotated[dict[str, list[int]], ValueType.ARROW]:
    raise NotImplementedError


@step
def listed() -> list[int]:
    return [1, 2]


@pipeline(workers=4, notify=["failed"])
def nightly(
    count: Annotated[int, Parameter("How many rows")],
    least: float = 0.9,
    mode: Literal["fast", "good"] = "fast",
    dataset: str | None = None,
) -> None:
    """Train each night."""
    table = load(count)
    fitted = fit(table, depth=4)
    with when((fitted.score > least) & (mode == "good")):
        agreed = approval("Ship it?", timeout_s=3600)
        job("tabular_classification", dataset, parameters={"folds": 3})
        with when(fitted.score != 1):
            tidy.options(after=[agreed])()
    notify("done", score=fitted.score)
    doubled = double.options(most_at_once=2).map(listed(), by=3)
    total(doubled)


def test_a_document_is_what_the_function_says() -> None:
    document = nightly.document
    assert (document.name, document.description, document.workers, document.notify) == (
        "nightly",
        "Train each night.",
        4,
        ["failed"],
    )
    plain = document.model_dump(mode="json", exclude_defaults=True)
    assert plain["parameters"] == {
        "count": {"type": "integer", "required": True, "description": "How many rows"},
        "least": {"type": "number", "default": 0.9},
        "mode": {"type": "string", "default": "fast", "choices": ["fast", "good"]},
        "dataset": {"type": "string"},
    }
    good = {
        "all": [
            {"left": {"step": "fit", "output": "score"}, "operator": ">", "right": {"parameter": "least"}},
            {"left": {"parameter": "mode"}, "operator": "==", "right": {"value": "good"}},
        ]
    }
    module = load.function.__module__
    assert plain["steps"]["load"] == {
        "run": {"function": f"{module}:load"},
        "inputs": {"count": {"parameter": "count"}},
        "outputs": {"result": "arrow"},
        "cache": True,
        "description": "Load rows.",
    }
    assert plain["steps"]["fit"] == {
        "run": {"function": f"{module}:fit"},
        "inputs": {"table": {"step": "load"}, "depth": {"value": 4}},
        "outputs": {"model": "model", "score": "json"},
        "retries": {"attempts": 2},
        "timeout_s": 60.0,
        "resources": {"cpus": 2, "memory_mb": 512, "pool": "big"},
    }
    assert plain["steps"]["approval"]["when"] == good
    assert plain["steps"]["tabular_classification"]["inputs"] == {"dataset": {"parameter": "dataset"}}
    assert plain["steps"]["tidy"]["after"] == ["approval"]
    assert plain["steps"]["tidy"]["when"]["all"][0] == good
    assert plain["steps"]["tidy"]["outputs"] == {}
    assert plain["steps"]["notify"]["inputs"] == {"score": {"step": "fit", "output": "score"}}
    assert plain["steps"]["double"] == {
        "run": {"function": f"{module}:double"},
        "inputs": {"number": {"item": True}, "by": {"value": 3}},
        "foreach": {"step": "listed"},
        "most_at_once": 2,
    }
    assert plain["steps"]["total"]["inputs"] == {"numbers": {"step": "double"}}
    assert list(nightly.functions) == ["load", "fit", "tidy", "listed", "double", "total"]
    assert PipelineDocument.model_validate(document.model_dump(mode="json")) == document


def test_a_step_is_a_function_outside_of_a_pipeline() -> None:
    assert load(2).num_rows == 2
    assert double(4) == 8
    assert double.map([1, 2], by=3) == [3, 6]
    assert double.map([1, 2], 5, by=item) == [5, 10]
    assert double.__name__ == "double"


def written(body: Any, **facts: Any) -> PipelineDocument:
    return Template(body, name="p", **facts).document


@pytest.mark.parametrize(
    ("made", "outputs"),
    [
        (report, {"page": "file", "pages": "json"}),
        (split, {"train": "arrow", "test": "arrow", "names": "json"}),
        (tagged, {"result": "arrow"}),
        (tidy, {}),
    ],
)
def test_outputs_are_read_from_annotations(made: Any, outputs: dict[str, str]) -> None:
    document = written(lambda: made())
    assert document.steps[made.__name__].outputs == outputs


def test_a_step_that_is_called_again_gets_a_number_and_a_chosen_name_stays() -> None:
    def body() -> None:
        first = double(1)
        double(first)
        double.options(name="third")(2).after(first)

    steps = written(body).steps
    assert list(steps) == ["double", "double_2", "third"]
    assert steps["third"].after == ["double"]
    assert steps["double_2"].inputs["number"] == FromOutput(step="double")


def test_values_gather_by_name() -> None:
    steps = written(lambda: gather(one=double(1), two=double(2))).steps
    assert steps["gather"].inputs == {"one": FromOutput(step="double"), "two": FromOutput(step="double_2")}


def test_options_of_a_step_can_be_changed_for_one_call() -> None:
    changed = fit.options(retries=Retries(attempts=5, wait_s=2), memory_mb=1024)
    steps = written(lambda: changed(load())).steps
    assert steps["fit"].retries.attempts == 5
    assert (steps["fit"].resources.cpus, steps["fit"].resources.memory_mb) == (2, 1024)


def branch_on_value() -> None:
    if double(1) > 3:  # what everybody writes first
        tidy()


def branch_on_handle() -> None:
    if double(1):
        tidy()


def loop() -> None:
    for number in listed():
        double(number)


def chained(least: float = 0.5) -> None:
    with when(0 < fit(load()).score < least):
        tidy()


def part() -> None:
    double(listed()[0])


def inner() -> None:
    @step
    def local() -> int:
        return 1

    local()


def refers_to_nothing() -> None:
    double(fit(load()).scroe)


def whole_of_many() -> None:
    double(fit(load()))


def nothing_to_take() -> None:
    double(tidy())


def list_of_handles() -> None:
    total([double(1), double(2)])


def no_json() -> None:
    double(pa.table({"x": [1]}))


def too_many() -> None:
    double(1, 2, 3)


def too_few() -> None:
    double()


def twice() -> None:
    double.options(name="a")(1)
    double.options(name="a")(1)


def unknown_option() -> None:
    double.options(retry=3)(1)


def no_step() -> None: ...


def nameless(*counts: int) -> None: ...


def untyped(count) -> None:
    double(count)


def all_given() -> None:
    double.map([1], 1, 2)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (branch_on_value, "with when"),
        (branch_on_handle, "with when"),
        (loop, "step.map"),
        (chained, "one operator"),
        (part, "in a step"),
        (inner, "top of a module"),
        (refers_to_nothing, "no output 'scroe'; it has model, score"),
        (whole_of_many, "fit.model, fit.score"),
        (nothing_to_take, "no outputs"),
        (list_of_handles, "`\\*\\*parts`"),
        (no_json, "'Table'"),
        (too_many, "too many positional"),
        (too_few, "missing a required argument: 'number'"),
        (twice, "two steps named 'a'"),
        (unknown_option, "no option 'retry'"),
        (no_step, "calls no step"),
        (nameless, "no name of its own"),
        (untyped, "no type"),
        (all_given, "none is the `item`"),
    ],
)
def test_what_cannot_be_written_down_is_refused_in_words(body: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        written(body)


def test_a_document_is_checked_as_it_is_written() -> None:
    with pytest.raises(InvalidPipeline, match="no list"):
        written(lambda: double.map(3))


def test_outside_of_a_pipeline_a_pipeline_is_not_called_and_parts_of_one_have_no_meaning() -> None:
    with pytest.raises(InvalidInput, match="no function to call"):
        nightly()
    with pytest.raises(InvalidInput, match="@pipeline"):
        notify("x")
    with pytest.raises(InvalidInput, match="@pipeline"), when(True):
        pass
