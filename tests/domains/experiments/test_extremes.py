"""Far ends of what is logged: long keys, many keys, many steps, every script, a clock that goes backwards."""

from datetime import UTC, datetime, timedelta

import pytest

from modelops.contracts.clock import SystemClock
from modelops.contracts.errors import InvalidInput
from modelops.domains.experiments.schemas import MetricPoint

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SCRIPTS = [
    "ünïcödé",
    "日本語/損失",
    "приве́т мир",
    "نص عربي",
    "𝔪𝔢𝔱𝔯𝔦𝔠 🦜",
    "a\u0301 combining",
    "\u200bzero width",
    "%_?*[]'\"`\\",
]


def test_keys_of_every_script_and_of_250_characters(experiments, run):
    keys = [*SCRIPTS, "k" * 250, "語" * 250]
    points = [MetricPoint(key=key, value=n, step=n, timestamp=NOW) for n, key in enumerate(keys)]
    experiments.log_batch(run.id, metrics=points, parameters=dict.fromkeys(keys, "v"), tags=dict.fromkeys(keys, "ß"))
    kept = experiments.get_run(run.id)
    assert kept.metrics == {key: float(n) for n, key in enumerate(keys)}
    assert kept.parameters.keys() == kept.tags.keys() == set(keys)
    for key in keys:
        assert len(experiments.get_metric_history(run.id, key).items) == 1
    with pytest.raises(InvalidInput):
        experiments.log_batch(
            run.id, metrics=[MetricPoint.model_construct(key="k" * 251, value=1.0, step=0, timestamp=NOW)]
        )


def test_two_thousand_keys_in_a_run(experiments, run):
    points = [
        MetricPoint(key=f"key {n}", value=n + step, step=step, timestamp=NOW) for n in range(2_000) for step in (2, 1)
    ]
    experiments.log_batch(run.id, metrics=points)
    experiments.log_batch(run.id, metrics=points[:1_000])
    kept = experiments.get_run(run.id)
    assert kept.metrics == {f"key {n}": n + 2.0 for n in range(2_000)}
    found = experiments.list_runs("trials", filter="metrics.`key 1999` = 2001", order_by="metrics.`key 7` desc")
    assert [one.id for one in found.items] == [run.id]


def test_a_clock_that_goes_backwards(platform, experiments, run, monkeypatch):
    times = iter(NOW - timedelta(hours=hour) for hour in range(100))
    monkeypatch.setattr(SystemClock, "now", lambda self: next(times, NOW - timedelta(days=30)))
    for step in range(5):
        experiments.log_batch(run.id, metrics=[MetricPoint(key="m", value=step, step=step)])
    history = experiments.get_metric_history(run.id, "m").items
    assert [point.step for point in history] == [4, 3, 2, 1, 0]
    assert experiments.get_run(run.id).metrics == {"m": 4.0}


@pytest.mark.slow
def test_a_million_steps(platform, experiments, run):
    for start in range(0, 1_000_000, 10_000):
        points = [
            MetricPoint.model_construct(key="m", value=float(n), step=n, timestamp=NOW)
            for n in range(start, start + 10_000)
        ]
        experiments.log_batch(run.id, metrics=points)
    assert experiments.get_run(run.id).metrics == {"m": 999_999.0}
    page = experiments.get_metric_history(run.id, "m", limit=3)
    assert (page.total, [point.step for point in page.items]) == (1_000_000, [0, 1, 2])
    buckets = experiments.get_metric_buckets(run.id, "m", buckets=10)
    assert len(buckets.buckets) <= 10
