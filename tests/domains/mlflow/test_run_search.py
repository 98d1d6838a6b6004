"""Searching runs by MLflow's filters and orders, against the same search done in Python."""

import math
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.filters import Field, Grammar

VALUES = [math.nan, None, -1.5, 0.0, 2.0, 2.0, math.inf, -math.inf]


@pytest.fixture
def runs(mlflow_client):
    """Twelve runs with and without metrics, parameters and tags; returns (experiment, id -> (m, p, t, start))."""
    experiment = mlflow_client.create_experiment("searched")
    made = {}
    for n in range(12):
        value = VALUES[n % len(VALUES)]
        parameter = None if n % 5 == 0 else "-aAbc"[n % 5]
        tag = None if n % 3 == 0 else f"x%y_{n % 4}"
        run = mlflow_client.create_run(experiment, start_time=1_000 + n % 4, run_name=f"r{n}").info.run_id
        mlflow_client.log_batch(
            run,
            [] if value is None else [Metric("m", value, 1, 1)],
            [] if parameter is None else [Param("p", parameter)],
            [] if tag is None else [RunTag("t", tag)],
        )
        made[run] = (value, parameter, tag, 1_000 + n % 4)
    return experiment, made


def search(client, experiment, filter_string="", **options):
    found, token = [], None
    while True:
        page = client.search_runs(
            [experiment],
            filter_string,
            max_results=options.get("size", 5),
            page_token=token,
            order_by=options.get("order_by"),
        )
        found += [run.info.run_id for run in page]
        if not (token := page.token):
            return found


NUMBER = {
    "<": float.__lt__,
    "<=": float.__le__,
    ">": float.__gt__,
    ">=": float.__ge__,
    "=": float.__eq__,
    "!=": float.__ne__,
}


@pytest.mark.parametrize("operator", NUMBER)
def test_metrics_are_compared_and_nan_is_none_of_it(mlflow_client, runs, operator):
    experiment, made = runs
    expected = {r for r, (m, *_) in made.items() if m is not None and not math.isnan(m) and NUMBER[operator](m, 0.0)}
    found = search(mlflow_client, experiment, f"metrics.m {operator} 0")
    assert set(found) == expected
    assert len(found) == len(expected)


TEXTS = {
    "params.p = 'a'": lambda p, t: p == "a",
    "params.p != 'a'": lambda p, t: p is not None and p != "a",
    "params.p LIKE 'A%'": lambda p, t: p == "A",
    "params.p ILIKE 'a%'": lambda p, t: p in ("a", "A"),
    "params.p IS NULL": lambda p, t: p is None,
    "params.p IS NOT NULL and tags.t IS NULL": lambda p, t: p is not None and t is None,
    "tags.t LIKE 'x%y_1'": lambda p, t: t == "x%y_1",
    "tags.`t` = 'x%y_1' AND parameters.\"p\" != 'c'": lambda p, t: t == "x%y_1" and p not in (None, "c"),
}


@pytest.mark.parametrize("filter_string", TEXTS)
def test_parameters_and_tags_are_compared(mlflow_client, runs, filter_string):
    experiment, made = runs
    expected = {run for run, (_, p, t, _) in made.items() if TEXTS[filter_string](p, t)}
    assert expected
    assert set(search(mlflow_client, experiment, filter_string)) == expected


def test_attributes_are_compared(mlflow_client, runs):
    experiment, made = runs
    first, second, *_ = made
    mlflow_client.set_terminated(first, "KILLED")
    assert search(mlflow_client, experiment, "attributes.status = 'KILLED'") == [first]
    assert set(search(mlflow_client, experiment, f"run_id IN ('{first}', '{second}')")) == {first, second}
    assert set(search(mlflow_client, experiment, f"run_id NOT IN ('{first}')")) == made.keys() - {first}
    assert search(mlflow_client, experiment, "run_name = 'r3'") == [list(made)[3]]
    assert set(search(mlflow_client, experiment, "start_time > 1002")) == {r for r, v in made.items() if v[3] > 1002}
    assert search(mlflow_client, experiment, "end_time > 5") == [first]


ORDERS = ["metrics.m", "params.p", "tags.t", "start_time", "attributes.end_time", "run_name"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    orders=st.lists(st.sampled_from(ORDERS), unique=True, max_size=3),
    down=st.lists(st.booleans(), min_size=3),
    size=st.integers(1, 13),
)
def test_pages_of_any_order_make_the_whole(mlflow_client, runs, orders, down, size):
    experiment, made = runs
    order_by = [f"{name} {'DESC' if d else 'ASC'}" for name, d in zip(orders, down, strict=False)]
    whole = search(mlflow_client, experiment, order_by=order_by, size=50)
    assert search(mlflow_client, experiment, order_by=order_by, size=size) == whole
    assert set(whole) == made.keys()


@pytest.mark.parametrize("down", [False, True])
def test_numbers_come_first_then_nan_then_those_without(mlflow_client, runs, down):
    experiment, made = runs
    found = search(mlflow_client, experiment, order_by=[f"metrics.m {'DESC' if down else 'ASC'}"])
    values = [made[run][0] for run in found]
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    assert numbers == sorted(numbers, reverse=down)
    assert [value is None for value in values] == sorted(value is None for value in values)
    assert all(math.isnan(value) for value in values[len(numbers) :] if value is not None)


def test_a_token_of_another_search_is_refused(mlflow_client, runs):
    experiment, _ = runs
    page = mlflow_client.search_runs([experiment], max_results=1, order_by=["metrics.m DESC"])
    for token, order in ((page.token, []), ("nonsense", ["metrics.m"])):
        with pytest.raises(MlflowException, match="page token"):
            mlflow_client.search_runs([experiment], max_results=1, order_by=order, page_token=token)


GRAMMAR = Grammar(
    {"attribute": Field(keys=frozenset({"status"})), "metric": Field(numbers=True), "tag": Field(nullable=True)},
    {"metrics": "metric", "tags": "tag", "attributes": "attribute"},
)


@given(st.text(max_size=40) | st.text("metrics.tag'\"` =<>!()ANDIS12", max_size=60))
def test_any_text_is_read_or_refused(text):
    for read in (GRAMMAR.read_filter, lambda order: GRAMMAR.read_orders([order])):
        with suppress(InvalidInput):
            read(text)


@pytest.mark.parametrize(
    "text",
    [
        "metrics.a = 'x'",
        "tags.a = 1",
        "foo.a = 1",
        "status > 'a'",
        "metrics.a = 1 OR metrics.b = 2",
        "metrics.a IS NULL",
        "metrics.a == 1",
        "= 1",
        "metrics.a = 1 AND",
        "status IN ('a')",
        "metrics.a = 1 metrics.b = 2",
        "tags.a LIKE",
    ],
)
def test_what_is_not_of_the_grammar_is_refused(text):
    with pytest.raises(InvalidInput, match="Invalid filter"):
        GRAMMAR.read_filter(text)
