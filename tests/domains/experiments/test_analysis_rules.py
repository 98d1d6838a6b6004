"""What is decided about comparisons without a database."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.analysis_rules import (
    both,
    bucket_width,
    constraint_filter,
    differences,
    guess_objective,
    metric_field,
    read_grouping,
    read_objective,
    read_objectives,
    share_tested,
    split_tags,
)
from modelops.domains.experiments.analysis_schemas import Direction, Objective

STEP = st.integers(-(2**63), 2**63 - 1)
VALUES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, math.nan]) | st.sampled_from("ab")


@pytest.mark.parametrize(
    ("text", "metric", "direction"),
    [
        ("accuracy:max", "accuracy", "max"),
        ("loss:min", "loss", "min"),
        ("loss: Minimize", "loss", "min"),
        ("accuracy", "accuracy", "max"),
        ("val:loss", "val:loss", "max"),
        ("val:loss:min", "val:loss", "min"),
    ],
)
def test_an_objective_is_read_as_it_is_written(text, metric, direction):
    assert read_objective(text) == Objective(metric=metric, direction=Direction(direction))


@pytest.mark.parametrize("text", ["", ":max", "  :min"])
def test_an_objective_without_a_metric_is_refused(text):
    with pytest.raises(InvalidInput, match="names no metric"):
        read_objective(text)


def test_a_metric_is_an_objective_once():
    with pytest.raises(InvalidInput, match="once"):
        read_objectives(["loss:min", "loss:max"])


@pytest.mark.parametrize("by", [None, "", "metrics.loss", "parameters", "parameters.", "status"])
def test_runs_are_grouped_by_a_parameter_or_a_tag(by):
    with pytest.raises(InvalidInput, match="grouped by"):
        read_grouping(by)


def test_a_grouping_names_its_key():
    assert read_grouping("parameters.net.depth") == ("parameters", "net.depth")
    assert read_grouping("tags.`my team`") == ("tags", "my team")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("latency_ms <= 20", "metrics.`latency_ms` <= 20.0"),
        ("val loss<1e-3", "metrics.`val loss` < 0.001"),
        (" a/b != -2 ", "metrics.`a/b` != -2.0"),
        ("n = 3", "metrics.`n` = 3.0"),
    ],
)
def test_a_constraint_is_a_filter(text, condition):
    assert constraint_filter(text) == condition


@pytest.mark.parametrize(
    "text", ["", "latency", "latency <=", "<= 3", "latency <= low", "latency <= nan", "a`b < 1", "a ~ 3"]
)
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(InvalidInput):
        constraint_filter(text)


def test_a_backquote_has_no_place_in_the_grammar():
    with pytest.raises(InvalidInput, match="backquote"):
        metric_field("a`b")


def test_filters_are_joined():
    assert both(None, "a = 1", "  ", "b = 2") == "a = 1 and b = 2"
    assert both(None, "") is None


@given(st.dictionaries(st.sampled_from("xyz"), st.dictionaries(st.sampled_from("abc"), VALUES), min_size=1))
def test_what_differs_and_what_is_alike_is_all_there_is(values):
    differing, alike = differences(values)
    keys = {key for found in values.values() for key in found}
    assert differing.keys() <= keys
    assert len(differing) + alike == len(keys)
    for key in keys:
        told = [repr(found[key]) if key in found else None for found in values.values()]
        if key not in differing:
            assert None not in told
        elif None not in told:
            assert len(set(told)) > 1
        if key in differing:
            assert {run: repr(value) for run, value in differing[key].items()} == {
                run: repr(found[key]) for run, found in values.items() if key in found
            }


def test_one_is_no_truth_and_nan_is_nan():
    assert differences({"x": {"a": 1}, "y": {"a": True}})[0]
    assert not differences({"x": {"a": 1}, "y": {"a": 1.0}})[0]
    assert not differences({"x": {"a": math.nan}, "y": {"a": math.nan}})[0]


def test_tags_tell_of_data_code_and_the_rest():
    tags = {"data.version": "3", "git.commit": "abc", "team": "a", "mlflow.source.name": "t.py", "dataset": "d"}
    data, code, rest = split_tags(tags)
    assert (set(data), set(code), set(rest)) == (
        {"data.version", "dataset"},
        {"git.commit", "mlflow.source.name"},
        {"team"},
    )


@given(STEP, STEP, st.integers(2, 2_000))
def test_buckets_are_never_more_than_asked_for(one, other, buckets):
    low, high = sorted((one, other))
    width = bucket_width(low, high, buckets)
    assert high // width - low // width < buckets
    assert width == 1 or width <= 2 * -(-(high - low + 1) // (buckets - 1))


def test_a_few_steps_have_a_bucket_each():
    assert bucket_width(0, 99, 100) == 1
    with pytest.raises(ValueError, match="two"):
        bucket_width(0, 9, 1)


def test_the_share_that_a_fold_tests():
    assert share_tested({}, 5) == 0.2
    assert share_tested({"folds.test_share": "0.1"}, 5) == 0.1
    assert share_tested({"folds.test_share": "all"}, 4) == 0.25
    assert share_tested({"folds.test_share": "1"}, 4) == 0.25


def test_what_runs_are_judged_by_is_guessed_by_name():
    assert guess_objective([]) is None
    assert guess_objective([{"fold_x": 1.0}]) is None
    assert guess_objective([{"loss": 1.0, "val_accuracy": 0.5, "n": 1.0}]) == read_objective("val_accuracy:max")
    assert guess_objective([{"loss": 1.0, "n": 1.0}]) == read_objective("loss:min")
    assert guess_objective([{"a": 1.0, "b": 2.0}, {"b": 1.0}, {"b": 1.0}]) == read_objective("b:max")
