"""Decisions about runs and values, without a database."""

import json
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelops.contracts.errors import ExperimentError, InvalidInput
from modelops.contracts.schemas import jsonable
from modelops.domains.experiments.rules import (
    LIVE,
    ParameterChanged,
    RunEnded,
    check_parameters,
    check_reason,
    check_transition,
    from_microseconds,
    join_value,
    name_some,
    same_value,
    silence,
    split_value,
    to_microseconds,
)
from modelops.domains.experiments.schemas import LogBatch, MetricPoint, RunStatus
from modelops.domains.experiments.wire import _times

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(wanted=st.sampled_from(RunStatus))
def test_a_run_that_failed_for_silence_alone_goes_on_or_ends_as_its_maker_says(wanted):
    assert check_transition("r", RunStatus.FAILED, wanted, silence(60))
    if wanted is not RunStatus.FAILED:
        with pytest.raises(RunEnded):
            check_transition("r", RunStatus.FAILED, wanted, "ValueError: boom")


@given(present=st.sampled_from(RunStatus), wanted=st.sampled_from(RunStatus))
def test_a_run_ends_once(present, wanted):
    if present is wanted:
        assert not check_transition("r", present, wanted)
    elif present in LIVE:
        assert check_transition("r", present, wanted)
    else:
        with pytest.raises(RunEnded) as refused:
            check_transition("r", present, wanted)
        assert isinstance(refused.value, ExperimentError)
        assert present in refused.value.detail
        assert refused.value.hint


@pytest.mark.parametrize("status", [None, *LIVE])
def test_a_reason_comes_with_an_end(status):
    check_reason(status, None)
    check_reason(RunStatus.FAILED, "why")
    with pytest.raises(InvalidInput):
        check_reason(status, "why")


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_comes_back_to_the_microsecond(moment):
    assert from_microseconds(to_microseconds(moment)) == moment


def test_the_ends_of_time_come_back():
    for moment in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        assert from_microseconds(to_microseconds(moment)) == moment


@given(st.floats())
def test_a_value_comes_back(value):
    back = join_value(*split_value(value))
    assert math.isnan(back) if math.isnan(value) else back == value


@given(st.lists(st.floats(), min_size=1))
def test_values_have_one_order_whatever_the_order_of_arrival(values):
    stored = [split_value(value) for value in values]
    assert max(stored) == max(reversed(stored))
    assert not any(math.isnan(value) for value, _ in stored)  # SQLite would make NULL of it


def test_numbers_come_after_nan():
    ordered = [-math.inf, math.nan, -1e308, -0.0, 5e-324, math.inf]
    stored = [split_value(value) for value in ordered]
    assert stored == sorted(stored)
    assert split_value(-0.0) == split_value(0.0)


@given(json_values)
def test_a_json_value_is_itself_after_a_round_trip(value):
    assert same_value(value, json.loads(json.dumps(value)))


@given(json_values, json_values)
def test_sameness_has_no_direction(one, other):
    assert same_value(one, other) == same_value(other, one)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (False, 0, False),
        (None, False, False),
        ("1", 1, False),
        (1e22, 10**22, True),
        (1e23, 10**23, False),
        (10**400, 1e308, False),
        (10**400, 10**400 + 1, False),
        (2**53, 2**53 + 1, False),
        ([1, [True]], [1, [1]], False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": [1.0]}, {"a": [1]}, True),
        ([], {}, False),
    ],
)
def test_what_is_the_same_parameter(one, other, same):
    assert same_value(one, other) is same


def test_a_changed_parameter_is_named_and_others_are_not():
    check_parameters({"a": 1, "b": 2}, {"a": 1.0, "c": 3})
    with pytest.raises(ParameterChanged) as refused:
        check_parameters({"a": 1, "b": 2}, {"a": 1, "b": 3})
    assert "'b'" in refused.value.detail
    assert "'a'" not in refused.value.detail


def test_many_keys_are_not_all_named():
    assert name_some(["b", "a"]) == "'a', 'b'"
    assert name_some("abcdefg") == "'a', 'b', 'c', 'd', 'e' …"


@pytest.mark.parametrize("value", ["a\0b", "\ud800", math.nan, math.inf, [math.nan], {"a": {"b": ["\0"]}}, {"\0": 1}])
def test_what_no_database_holds_is_no_parameter(value):
    with pytest.raises(ValidationError):
        LogBatch(parameters={"p": value})


@pytest.mark.parametrize("key", ["", "a\nb", "a\0b", "\x7f", "x" * 251])
def test_what_cannot_stand_in_a_path_is_no_metric(key):
    with pytest.raises(ValidationError):
        MetricPoint(key=key, value=1)


@pytest.mark.parametrize(("value", "written"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_what_json_lacks_is_written_as_text_and_read_back(value, written):
    document = jsonable(LogBatch(metrics=[MetricPoint(key="m", value=value)]))
    assert document["metrics"][0]["value"] == written
    assert repr(LogBatch.model_validate(document).metrics[0].value) == repr(value)


def test_a_time_outside_of_the_calendar_is_refused():
    with pytest.raises(ValidationError):
        MetricPoint(key="m", value=1, timestamp="0001-01-01T00:00:00+10:00")


@pytest.mark.parametrize("code", ["experiments.run_ended", "experiments.parameter_changed"])
def test_a_client_far_away_raises_the_class_that_the_server_raised(code):
    script = (
        "import sys, modelops.domains.experiments.client; from modelops.contracts.errors import MLOpsError\n"
        f"error = MLOpsError.from_problem({{'code': {code!r}}}, 409)\n"
        "print(type(error).__name__, type(error).__mro__[1].__name__, 'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() in (
        ["RunEnded", "ExperimentError", "False"],
        ["ParameterChanged", "Conflict", "False"],
    )


NOW = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-11, minutes=-30)), None])


@given(st.lists(st.datetimes(timezones=zones), max_size=3))
def test_microseconds_are_exact_however_they_are_found(moments):
    aware = [moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in moments]
    written = [moment.isoformat() for moment in moments]
    found = _times({None, *written}, NOW)
    assert [found[stamp] for stamp in written] == [to_microseconds(moment) for moment in aware]
    assert found[None] == to_microseconds(NOW)
