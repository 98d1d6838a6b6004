"""Workers and platforms that are killed: no trial is lost, none is counted twice, and the study comes to its end."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelops import HyperparameterTuning
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.tuning.schemas import StudyState, TrialState
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

HERE = Path(__file__).parent
TRIALS = 60
WORKER = """
import sys
from modelops import Client, HyperparameterTuning
from objectives import slow_bowl
with Client(sys.argv[1], token=sys.argv[2]) as client:
    HyperparameterTuning("crashes", slow_bowl, backend=client).optimize(progress=False)
"""


@pytest.fixture(params=["sqlite", "postgres"])
def served(request, tmp_path):
    settings = {} if request.param == "sqlite" else {"database": request.getfixturevalue("postgres_database")}
    with platform_process(tmp_path / "home", **settings) as platform:
        yield platform


def start(platform, token, done):
    environment = {**os.environ, "TRIALS_DONE": str(done), "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", WORKER, platform.url, token]
    with done.with_suffix(".said").open("a") as said:
        return subprocess.Popen(command, env=environment, stderr=said, start_new_session=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_study_survives_kills_of_workers_and_of_the_platform(served, tmp_path):
    chance = random.Random(7)
    done = tmp_path / "done"
    done.touch()
    with served.client() as client:
        token = client.identity.create_api_key("workers").secret
        tuning = HyperparameterTuning(
            "crashes",
            None,
            {"x": (-5.0, 5.0)},
            n_trials=TRIALS,
            sampler="random",
            backend=client,
            lease_s=3,
            retries=50,
        )
        study = tuning.study
        workers = [start(served, token, done) for _ in range(2)]
        killed = platform_kills = 0
        try:
            while killed < 6 or platform_kills < 2:
                before = len(done.read_text().splitlines())
                wait_for(
                    lambda seen=before: (
                        len(done.read_text().splitlines()) > seen + 1 or all(w.poll() == 0 for w in workers)
                    ),
                    within_s=90,
                )
                if all(worker.poll() == 0 for worker in workers):
                    break
                if killed % 3 == 2 and platform_kills < 2:
                    served.kill()
                    served.start()
                    platform_kills += 1
                place = chance.randrange(len(workers))
                if workers[place].poll() is None:
                    os.killpg(workers[place].pid, signal.SIGKILL)
                    workers[place].wait()
                    killed += 1
                workers[place] = start(served, token, done)
            for worker in workers:
                assert worker.wait(timeout=120) == 0, done.with_suffix(".said").read_text()
        finally:
            for worker in workers:
                if worker.poll() is None:
                    os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        assert killed >= 3
        trials = tuning.trials
        ended = tuning.study
        runs = {run.id: run for run in client.experiments.all_runs("crashes")}
        trial_runs = [trial.run_id for trial in trials]
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert ended.state is StudyState.FINISHED
    assert ended.trials.complete == TRIALS
    assert study.id == ended.id
    assert all(trial.values == [(trial.parameters["x"] - 1) ** 2] for trial in trials)
    assert sorted(trial_runs) == sorted(runs)  # a run a trial, and none besides
    assert all(runs[trial.run_id].metrics["value"] == trial.values[0] for trial in trials)
    assert {run.status for run in runs.values()} == {RunStatus.FINISHED}
    attempts = [line.split()[:2] for line in done.read_text().splitlines()]
    assert len({tuple(one) for one in attempts}) == len(attempts)  # no attempt was run by two


@pytest.mark.slow
def test_worker_processes_share_a_study(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    from objectives import broken, shared_bowl

    held = tmp_path / "held"
    held.mkdir()
    monkeypatch.setenv("TRIALS_HELD", str(held))
    with platform_process(tmp_path / "home") as platform, platform.client() as client:
        options = {"backend": client, "workers": "processes", "n_jobs": 2}
        tuning = HyperparameterTuning("s", shared_bowl, {"x": (-5.0, 5.0)}, n_trials=16, **options)
        tuning.optimize(progress=False)
        assert tuning.study.trials.complete == 16
        assert len({trial.holder for trial in tuning.trials}) == 2
        with pytest.raises(Exception, match="ended with exit code 1"):
            HyperparameterTuning("t", broken, {"x": (-5.0, 5.0)}, n_trials=16, **options).optimize(progress=False)


@pytest.mark.slow
def test_training_jobs_share_a_study(tmp_path):
    with platform_process(tmp_path / "home") as platform, platform.client() as client:
        client.data.create_dataset("nothing")
        client.data.create_dataset_version("nothing", b"a,b\n1,2\n", format="csv")
        tuning = HyperparameterTuning(
            "by jobs",
            "json:dumps",  # what a job finds by its name alone
            {"x": (-5.0, 5.0)},
            n_trials=12,  # so that one of the jobs has five that fail, however they are shared
            n_jobs=2,
            workers="jobs",
            dataset="nothing",
            backend=client,
        )
        with pytest.raises(Exception, match="did not succeed"):
            tuning.optimize(progress=False)
        failed = [trial for trial in tuning.trials if trial.state is TrialState.FAILED]
        assert len(failed) >= 5
        assert "TypeError" in failed[0].reason
        assert not any(trial.state is TrialState.COMPLETE for trial in tuning.trials)
        tuning = HyperparameterTuning(
            "installed",
            "modelops.testing.tasks:parabola",
            {"x": (-5.0, 5.0)},
            n_trials=12,
            n_jobs=2,
            workers="jobs",
            dataset="nothing",
            backend=client,
        )
        tuning.optimize(progress=False)
        assert tuning.study.trials.complete == 12
        runs = client.experiments.list_runs("installed").items
        assert len(runs) == 12
        assert all(run.job_id for run in runs)


@pytest.mark.slow
def test_ctrl_c_gives_the_trial_back(tmp_path):
    done = tmp_path / "done"
    done.touch()
    with platform_process(tmp_path / "home") as platform, platform.client() as client:
        token = client.identity.create_api_key("worker").secret
        tuning = HyperparameterTuning("crashes", None, {"x": (-5.0, 5.0)}, n_trials=500, backend=client)
        assert tuning.study.trials.total == 0
        worker = start(platform, token, done)
        wait_for(lambda: len(done.read_text().splitlines()) > 3, within_s=60)
        worker.send_signal(signal.SIGINT)
        worker.wait(timeout=60)
        deadline = time.monotonic() + 5
        while tuning.study.trials.running and time.monotonic() < deadline:
            time.sleep(0.05)
        counts = tuning.study.trials
        assert counts.running == 0
        assert counts.failed == 0
