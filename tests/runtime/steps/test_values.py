"""Values of steps, as files and as what functions take and return."""

import dataclasses
import json
import os
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelops
from modelops.domains.pipelines.schemas import StepTask, ValueRef
from modelops.runtime.steps import store
from modelops.runtime.steps.pace import Pace
from modelops.runtime.steps.values import WrongValue, canonical, dump_outputs, load_input

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
LEAVES = LEAVES.filter(lambda leaf: not isinstance(leaf, str) or leaf.isprintable())
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet="abc"), inner))


class Pair(NamedTuple):
    a: int
    b: str


@dataclasses.dataclass
class Point:
    a: int
    b: str


@given(VALUES)
def test_equal_values_have_equal_bytes(value):
    content = canonical(value)
    assert json.loads(content) == value
    assert canonical(json.loads(content)) == content


@pytest.mark.parametrize("value", [float("nan"), {1: 2, "a": 3}, object(), "\ud800", b"x", {"a": {float("inf")}}])
def test_what_json_has_no_form_of_is_refused(value):
    with pytest.raises(WrongValue):
        canonical(value)


def test_numbers_of_numpy_are_numbers():
    assert canonical([np.float64(1.5), np.arange(3), {"n": np.int8(4)}]) == b'[1.5,[0,1,2],{"n":4}]'


@pytest.mark.parametrize("returned", [{"a": 1, "b": "x"}, Pair(1, "x"), Point(1, "x")])
def test_several_outputs_are_returned_by_name(tmp_path, returned):
    said = dump_outputs(returned, {"a": "json", "b": "json"}, tmp_path)
    assert {name: one["content"] for name, one in said.items()} == {"a": "1", "b": '"x"'}


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"n": [1, 2], "s": ["a", None]}),
        pd.DataFrame({"n": [1, 2], "s": ["a", None]}),
        {"n": [1, 2], "s": ["a", None]},
        [{"n": 1, "s": "a"}, {"n": 2, "s": None}],
        pa.record_batch({"n": [1, 2], "s": ["a", None]}),
    ],
)
def test_tables_of_any_kind_are_arrow_s(tmp_path, table):
    said = dump_outputs(table, {"result": "arrow"}, tmp_path)["result"]
    context = modelops.step_context()
    assert load_input(said | {"filename": ""}, pa.Table, context).to_pydict() == {"n": [1, 2], "s": ["a", None]}
    assert list(load_input(said | {"filename": ""}, pd.DataFrame, context)["n"]) == [1, 2]
    assert load_input([said | {"filename": ""}], list[dict], context) == [{"n": [1, 2], "s": ["a", None]}]


def test_a_step_knows_itself_outside_of_a_run():
    context = modelops.step_context()
    assert (context.run_id, context.step, context.attempt) == ("local", "local", 1)
    assert context is modelops.step_context()
    assert context.key("a") != context.key("b")
    assert context.folder.is_dir()


def test_what_was_used_longest_ago_is_let_go_of_but_nothing_that_a_task_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MOST_BYTES", 250)
    monkeypatch.setattr(store, "LOOK_EACH_BYTES", 0)
    kept = store.Store(None, tmp_path / "values", tmp_path / "code")
    for number, name in enumerate("abcd"):
        (tmp_path / "values" / (name * 64)).write_bytes(bytes(100))
        os.utime(tmp_path / "values" / (name * 64), (number, number))
    task = StepTask(
        id="s",
        key="s",
        attempt=1,
        function="m:f",
        inputs={},
        references={"x": ValueRef(type="json", digest="sha256:" + "a" * 64)},
        outputs={},
        timeout_s=None,
        resources={},
        idempotency_key="k",
        lease_s=1,
    )
    kept.trim([task])
    assert sorted(path.name[0] for path in (tmp_path / "values").iterdir()) == ["a", "d"]


def test_many_tiny_steps_are_claimed_at_once_and_long_ones_one_by_one():
    pace = Pace()
    claimed = [pace.most]
    for _ in range(4):
        pace.note(0.001)
        claimed.append(pace.most)
    assert claimed == [1, 4, 16, 64, 64]
    for _ in range(10):
        pace.note(2.0)
    assert (pace.most, pace.is_quick) == (1, False)
