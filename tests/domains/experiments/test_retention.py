"""Deleting and restoring experiments and runs, and their removal for good."""

import pytest

from modelops.contracts.errors import Conflict, ExperimentError, NotFound
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform

GRACE = 3600.0


@pytest.fixture(params=["sqlite", "postgres"])
def clocked(request, tmp_path):
    """A platform on a clock that the test moves, and the clock."""
    settings = {"restore_within_s": GRACE}
    if request.param == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    clock = VirtualClock()
    with running_platform(tmp_path / "home", clock=clock, **settings) as platform:
        yield platform, clock


def test_a_deleted_run_is_hidden_takes_nothing_and_comes_back(platform, experiments, run):
    experiments.log_batch(run.id, metrics=[{"key": "m", "value": 1.0, "step": 1}])
    experiments.delete_run(run.id)
    experiments.delete_run(run.id)
    assert experiments.list_runs().items == []
    assert [found.id for found in experiments.list_runs(deleted=True).items] == [run.id]
    assert experiments.get_run(run.id).deleted_at is not None
    with pytest.raises(ExperimentError, match="deleted"):
        experiments.log_batch(run.id, metrics=[{"key": "m", "value": 2.0, "step": 2}])
    assert experiments.restore_run(run.id).metrics == {"m": 1.0}
    experiments.log_batch(run.id, metrics=[{"key": "m", "value": 2.0, "step": 2}])


def test_an_experiment_takes_its_runs_with_it_and_brings_back_those_alone(experiments):
    first, second = (experiments.create_run("trials").id for _ in range(2))
    experiments.delete_run(first)
    experiments.delete_experiment("trials")
    assert experiments.list_experiments().items == []
    assert len(experiments.list_runs(deleted=True).items) == 2
    with pytest.raises(Conflict, match="deleted"):
        experiments.create_run("trials")
    experiments.restore_experiment("trials")
    assert [run.id for run in experiments.list_runs().items] == [second]


def test_what_was_deleted_goes_for_good_after_the_time_of_grace(clocked):
    platform, clock = clocked
    client = platform.client()
    experiments = client.experiments
    kept = experiments.create_experiment("kept").id
    experiments.create_experiment("going")
    gone = [experiments.create_run("going").id for _ in range(3)]
    stays = experiments.create_run(kept)
    for run in (*gone, stays.id):
        experiments.log_batch(run, metrics=[{"key": "m", "value": 1.0}], parameters={"p": 1}, tags={"t": "v"})
    experiments.delete_experiment("going")
    clock.advance(GRACE - 1)
    platform.controller.turn()
    assert len(experiments.list_runs(deleted=True).items) == 3
    clock.advance(2)
    for _ in range(3):
        platform.controller.turn()
    for read in (
        lambda: experiments.get_experiment("going"),
        *(lambda run=run: experiments.get_run(run) for run in gone),
    ):
        with pytest.raises(NotFound):
            read()
    assert experiments.get_run(stays.id).metrics == {"m": 1.0}
    with platform.place.database.raw() as raw:
        for table in ("metric_points", "latest_metrics", "run_parameters", "run_tags", "runs"):
            assert raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 1


def test_a_restored_run_is_not_removed(clocked):
    platform, clock = clocked
    experiments = platform.client().experiments
    experiments.create_experiment("trials")
    run = experiments.create_run("trials").id
    experiments.delete_run(run)
    clock.advance(GRACE / 2)
    experiments.restore_run(run)
    clock.advance(GRACE * 2)
    platform.controller.turn()
    assert experiments.get_run(run).id == run
