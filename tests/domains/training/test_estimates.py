"""Estimates: right as often as they say, not turned by outliers, and silent where nothing was measured."""

import numpy as np
import pytest

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.ports import Observation, Phase
from modelops.domains.training import regression
from modelops.domains.training.schemas import JobReport, JobResult, Resources

COVERED = 0.9


def measured(luck, n, noise=0.2, outliers=0):
    """Return measurements of a training whose time is 1e-4 x rows^1.1 x sqrt(trees), and what it depends on."""
    rows, trees = luck.uniform(3, 14, n), luck.uniform(0, 6, n)
    time = np.log(1e-4) + 1.1 * rows + 0.5 * trees + luck.normal(0, noise, n)
    time[:outliers] += 3
    return np.column_stack([rows, trees, luck.uniform(0, 5, n)]), time


@pytest.mark.parametrize("n", [5, 12, 60])
def test_the_truth_lies_in_the_interval_as_often_as_promised(n):
    luck, inside, widths = np.random.default_rng(n), 0, []
    for _ in range(600):
        features, time = measured(luck, n + 1)
        chosen = regression.choose(features[:n], time[:n])
        found = regression.predict(features[:n, chosen], np.exp(time[:n]), features[n, chosen], COVERED)
        assert found.low < found.likely < found.high
        inside += found.low <= np.exp(time[n]) <= found.high
        widths.append(np.log(found.high / found.low))
    assert inside / 600 >= COVERED - (0.1 if n < 12 else 0.05)
    assert n < 60 or np.median(widths) < 1.0  # and it is not right by being wide: a factor of 2.7 from end to end


def test_what_does_not_matter_is_left_out_and_what_matters_most_comes_first():
    features, time = measured(np.random.default_rng(1), 60)
    assert regression.choose(features, time) == [0, 1]


def test_jobs_that_a_busy_machine_slowed_down_do_not_turn_the_line():
    features, time = measured(np.random.default_rng(2), 40, outliers=4)
    found = regression.predict(features[:, :2], np.exp(time), np.array([10.0, 3.0]), COVERED)
    assert found.likely == pytest.approx(np.exp(np.log(1e-4) + 11.0 + 1.5), rel=0.15)


def test_the_interval_widens_away_from_what_was_measured():
    features, time = measured(np.random.default_rng(3), 30)
    near, far = (regression.predict(features[:, :1], np.exp(time), np.array([at]), COVERED) for at in (8.0, 30.0))
    assert far.high / far.low > 1.5 * near.high / near.low


@pytest.mark.parametrize("values", [[2.0] * 5, [1e-3] * 5, [1e300, 1e308, 1e305, 1e301, 1e302]])
def test_equal_and_extreme_measurements_give_an_interval_all_the_same(values):
    found = regression.predict(np.empty((5, 0)), values, np.empty(0), COVERED)
    assert 0 < found.low < found.likely < found.high < float("inf")


def finish(stage, rows, seconds, gib=1, **arguments):
    """Let a job run so long on a dataset of so many rows."""
    name = f"of {rows}"
    if name not in {dataset.name for dataset in stage.client.data.list_datasets(limit=100).items}:
        stage.client.data.create_dataset(name)
        stage.client.data.create_dataset_version(name, b"a,b\n" + b"1,2\n" * rows, format="csv")
    parameters = {"function": "a:b", "arguments": arguments}
    job = stage.training.submit_job("python-function", name, parameters=parameters)
    stage.turn()
    attempt = f"{job.id}-1"
    stage.trainer(attempt).training.finish_job(job.id, JobReport(result=JobResult()))
    began = stage.backend.observe(attempt).started_at
    stage.clock.advance(seconds)
    stage.backend.seen[attempt] = Observation(
        Phase.EXITED, exit_code=0, started_at=began, peak_memory_bytes=gib * 2**30, cpu_seconds=seconds * 0.9
    )
    stage.turn()
    assert stage.training.get_job(job.id).state == "succeeded"


def asked(stage, **options):
    parameters = {"function": "a:b", **options.pop("parameters", {})}
    return stage.training.get_training_requirements("python-function", parameters=parameters, **options)


def test_without_history_it_says_so(stage):
    found = asked(stage, rows=100, columns=2)
    assert (found.known, found.jobs, found.seconds) == (False, 0, None)
    assert found.reason == (
        "No job of the recipe 'python-function' with function 'a:b' succeeded in this project; 5 are needed to tell."
    )
    cost = stage.training.estimate_cost("python-function", rows=100, columns=2, parameters={"function": "a:b"})
    assert (cost.cost, cost.reason) == (None, found.reason)


def test_with_history_it_answers_in_proportion_to_the_data(stage):
    for n, rows in enumerate([10, 20, 40, 80, 160, 320]):
        finish(stage, rows, rows * (1 + 0.01 * (-1) ** n))
    found = asked(stage, rows=100, columns=2)
    assert found.known
    assert found.seconds.likely == pytest.approx(100, rel=0.05)
    assert found.seconds.low < 100 < found.seconds.high < 150
    assert found.cpu_seconds.likely == pytest.approx(90, rel=0.05)
    assert (found.cpus, found.depends_on) == (1, ["rows"])
    assert 1024 <= found.memory_mb < 1200
    assert found.reason is None
    assert "Huber" in found.method
    assert asked(stage, dataset="of 80").seconds.likely == pytest.approx(80, rel=0.05)
    beyond = asked(stage, rows=10_000, columns=2)
    assert "outside of what was measured, by: rows" in beyond.reason
    assert beyond.seconds.high / beyond.seconds.low > found.seconds.high / found.seconds.low
    assert not asked(stage, rows=100, columns=500).known  # all had two columns
    assert not asked(stage).known
    assert not asked(stage, rows=10, columns=2, parameters={"function": "c:d"}).known
    stranger = stage.platform.stranger().training
    assert stranger.get_training_requirements("python-function", rows=9, parameters={"function": "a:b"}).jobs == 0


def test_a_cost_needs_a_price_and_is_that_of_what_is_reserved(sqlite_stage):
    stage = sqlite_stage
    for rows in (10, 20, 40, 80, 160):
        finish(stage, rows, rows * 3.6)

    def cost(**options):
        given = {"rows": 100, "columns": 2, "parameters": {"function": "a:b"}}
        return stage.training.estimate_cost("python-function", **given, **options)

    none = cost()
    assert none.cost is None
    assert none.reason.startswith("No price is set")
    settings = stage.platform.place.settings
    object.__setattr__(settings, "compute_price_per_cpu_hour", 0.5)
    object.__setattr__(settings, "compute_price_per_gib_hour", 0.25)
    found = cost(resources=Resources(cpus=4, memory_mb=2048))
    assert found.currency == "USD"
    assert found.cost.likely == pytest.approx(0.1 * (4 * 0.5 + 2 * 0.25), rel=0.1)
    assert found.cost.low < found.cost.likely < found.cost.high
    assert cost().cost.likely == pytest.approx(0.1 * (0.5 + 1 * 0.25), rel=0.1)


def test_what_is_asked_wrongly_is_refused(sqlite_stage):
    stage = sqlite_stage
    for wrong, kind in (
        ({"parameters": {"nonsense": 1}}, InvalidInput),
        ({"dataset": "d", "rows": 3}, InvalidInput),
        ({"dataset": "nothing"}, NotFound),
        ({"confidence": 1.0}, InvalidInput),
    ):
        with pytest.raises(kind):
            asked(stage, **wrong)
    with pytest.raises(NotFound):
        stage.training.get_training_requirements("nothing")
    with pytest.raises(InvalidInput, match="not a JSON object"):
        stage.client.rest.request(
            "GET", "/models/training-requirements", params={"recipe": "python-function", "parameters": "[1]"}
        )


def test_the_older_addresses_are_the_same_operations(sqlite_stage):
    http = sqlite_stage.client.rest.http
    asking = "models/training-requirements?recipe=python-function"
    both = [http.get(f"{prefix}/{asking}").json() for prefix in ("/v1", "/api/v1")]
    assert both[0] == both[1]
    assert both[0]["known"] is False
    costs = [
        http.post(f"{prefix}/models/estimate-cost", json={"recipe": "python-function"}).json()
        for prefix in ("/v1", "/api/v1")
    ]
    assert costs[0] == costs[1]
