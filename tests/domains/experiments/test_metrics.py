"""Metrics: whatever is sent, in whatever order and however often, the history is the set of it and the latest is its last."""

import json
import math
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import Conflict, MLOpsError
from modelops.domains.experiments.rules import split_value
from modelops.domains.experiments.schemas import MetricPoint

ENDS_OF_TIME = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
EDGES = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 5e-324, 1.7976931348623157e308, 0.1]

point = st.builds(
    MetricPoint,
    key=st.sampled_from(["loss", "val/loss", "..", "ä b?#%"]),
    value=st.sampled_from(EDGES) | st.floats(),
    step=st.integers(-2, 2) | st.sampled_from([-(2**63), 2**63 - 1]),
    timestamp=st.sampled_from([NOW, NOW.replace(microsecond=678902), *ENDS_OF_TIME]),
)


def identity(point):
    """Return what makes a point the one it is, and its place in the history."""
    return (point.timestamp, point.step, *split_value(point.value))


def lateness(place):
    """Return by what the latest of a metric's points is chosen."""
    return (place[1], place[0], *place[2:])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_history_is_the_set_of_what_was_sent(experiments, data):
    run = experiments.create_run("trials").id
    batches = data.draw(st.lists(st.lists(point, max_size=8), max_size=5))
    again = data.draw(st.lists(st.sampled_from(batches), max_size=3)) if batches else []
    for batch in [*batches, *again]:
        experiments.log_batch(run, metrics=batch)
    sent = {}
    for one in [one for batch in batches for one in batch]:
        sent.setdefault(one.key, set()).add(identity(one))
    latest = experiments.get_run(run).metrics
    assert latest.keys() == sent.keys()
    for key, expected in sent.items():
        history, cursor = [], None
        while True:
            page = experiments.get_metric_history(run, key, limit=3, cursor=cursor)
            assert page.total == len(expected)
            history += page.items
            if (cursor := page.next_cursor) is None:
                break
        assert [identity(one) for one in history] == sorted(expected)
        assert split_value(latest[key]) == max(expected, key=lateness)[2:]


@pytest.mark.parametrize("value", EDGES)
def test_every_number_survives_the_wire_and_the_database(experiments, run, value):
    experiments.log_batch(run.id, metrics=[MetricPoint(key="m", value=value, step=3, timestamp=NOW)])
    [kept] = experiments.get_metric_history(run.id, "m").items
    assert (repr(kept.value + 0.0), kept.step, kept.timestamp) == (repr(value + 0.0), 3, NOW)
    assert repr(experiments.get_run(run.id).metrics["m"]) == repr(value + 0.0)


@pytest.mark.parametrize("written", ['"NaN"', '"Infinity"', '"-Infinity"', "NaN", "1e-3", '"0.5"', "7"])
def test_numbers_as_other_programs_write_them(platform, experiments, run, written):
    with platform.http(authorization=f"Bearer {platform.admin_key}", content_type="application/json") as http:
        body = '{"metrics": [{"key": "m", "value": ' + written + "}]}"
        assert http.post(f"/v1/runs/{run.id}/log", content=body).json() == {"metrics": 1, "parameters": 0, "tags": 0}
        value = http.get(f"/v1/runs/{run.id}").json()["metrics"]["m"]
    expected = float(written.strip('"'))
    assert repr(float(value)) == repr(expected)
    assert isinstance(value, str) is not math.isfinite(expected)


def test_a_batch_is_all_or_nothing(experiments, run):
    experiments.log_batch(run.id, parameters={"lr": 0.1})
    with pytest.raises(Conflict, match="'lr'"):
        experiments.log_batch(
            run.id, metrics=[MetricPoint(key="m", value=1)], parameters={"lr": 0.2, "new": 1}, tags={"t": "1"}
        )
    kept = experiments.get_run(run.id)
    assert (kept.metrics, kept.parameters, kept.tags) == ({}, {"lr": 0.1}, {})


PARAMETERS = [0.1, 1e23, 2**64 - 1, 10**400, True, None, "text", "1", [1, {"a": 1e300}], {"": ""}]


@pytest.mark.parametrize("value", PARAMETERS, ids=lambda value: repr(value)[:20])
def test_a_parameter_may_come_again_but_not_otherwise(experiments, run, value):
    for _ in range(2):
        experiments.log_batch(run.id, parameters={"p": value})
    kept = experiments.get_run(run.id).parameters["p"]
    assert (kept, type(kept)) == (value, type(value))
    with pytest.raises(Conflict, match="'p'"):
        experiments.log_batch(run.id, parameters={"p": "other"})


storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | storable,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(storable, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values)
def test_a_parameter_comes_back_as_it_was_sent(experiments, value):
    run = experiments.create_run("trials", parameters={"p": value})
    experiments.log_batch(run.id, parameters={"p": value})
    kept = experiments.get_run(run.id).parameters["p"]
    assert json.dumps(kept) == json.dumps(value)


def test_a_large_batch_arrives(experiments, run):
    points = [MetricPoint(key=f"m{n % 3}", value=n, step=n, timestamp=NOW) for n in range(10_000)]
    assert experiments.log_batch(run.id, metrics=points).metrics == 10_000
    assert experiments.log_batch(run.id, metrics=points[:5_000]).metrics == 5_000
    assert experiments.get_run(run.id).metrics == {"m0": 9999.0, "m1": 9997.0, "m2": 9998.0}
    assert experiments.get_metric_history(run.id, "m0", limit=1).total == 3334


def test_two_clients_write_one_run_at_once(platform, experiments, run):
    writers, batches = 4, 12
    gate, failures = threading.Barrier(writers), []

    def write(number):
        mine = platform.client().experiments
        gate.wait(10)
        for batch in range(batches):
            shared = MetricPoint(key="shared", value=batch, step=batch, timestamp=NOW)
            own = MetricPoint(key="own", value=number, step=batch, timestamp=NOW)
            mine.log_batch(run.id, metrics=[shared, own], tags={"last": str(number), f"w{number}": "yes"})
            try:
                mine.log_batch(run.id, parameters={f"p{batch}": number})
            except MLOpsError as refused:
                failures.append(refused)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = experiments.get_run(run.id)
    assert experiments.get_metric_history(run.id, "shared").total == batches
    assert experiments.get_metric_history(run.id, "own").total == batches * writers
    assert kept.metrics == {"shared": batches - 1.0, "own": writers - 1.0}
    assert {f"w{number}" for number in range(writers)} <= kept.tags.keys()
    assert len(kept.parameters) == batches
    assert len(failures) == batches * (writers - 1)
    assert all(isinstance(refused, Conflict) for refused in failures)
