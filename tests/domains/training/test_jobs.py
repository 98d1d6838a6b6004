"""Jobs as they really run: each ends in a true state with a reason that helps, whatever happens to its process."""

import os
import signal
import time

import psutil
import pytest
from sklearn.datasets import load_breast_cancer

from modelops.contracts.errors import InvalidInput, NotFound, PermissionDenied
from modelops.domains.compute.schemas import (
    ClusterQueueSpec,
    FlavorQuotas,
    PoolSpec,
    PreemptionSpec,
    PriorityClassSpec,
    QueueSpec,
    QuotaSpec,
    ResourceGroup,
)
from modelops.domains.training.drawing import drawn
from modelops.domains.training.rules import JobEnded
from modelops.domains.training.schemas import JobReport, JobState, Resources
from modelops.sdk.jobs import submit_function, submit_job
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

CSV = b"a,b,target\n" + b"".join(b"%d,%d,%d\n" % (n, n * n % 11, n % 2) for n in range(60))


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with platform_process(tmp_path_factory.mktemp("jobs") / "home", controller_interval_s="0.1") as process:
        with process.client() as client:
            client.data.create_dataset("d")
            client.data.create_dataset_version("d", CSV, format="csv")
        yield process


@pytest.fixture
def client(platform):
    with platform.client() as client:
        yield client


def submit(client, task, resources=None, **arguments):
    parameters = {"function": f"modelops.testing.tasks:{task}", "arguments": arguments}
    return client.training.submit_job("python-function", "d", parameters=parameters, resources=resources, name=task)


def running(client, job):
    """Wait until the job's recipe is at work, and return its process."""
    wait_for(lambda: client.training.get_job(job.id).state is JobState.RUNNING and runs_of(client, job))
    return next(p for p in psutil.process_iter(["cmdline"]) if _is_trainer(p, job))


def _is_trainer(process, job):
    try:
        return "train" in process.cmdline() and job.id in process.environ().get("MODELOPS_WORKDIR", "")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def runs_of(client, job):
    return client.experiments.list_runs(filter=f'job_id = "{job.id}"').items


def test_a_job_runs_and_reports(client):
    job = client.training.wait_for_job(submit(client, "work").id, within_s=60)
    assert (job.state, job.reason, job.exit_code, job.attempt) == (JobState.SUCCEEDED, None, 0, 1)
    assert job.result.metrics == {"loss": 0.2}
    assert job.cpu_seconds > 0
    assert [run.status for run in runs_of(client, job)] == ["finished"]
    with pytest.raises(JobEnded):
        client.training.cancel_job(job.id)


def test_a_recipe_that_raises_fails_with_its_words(client):
    job = client.training.wait_for_job(submit(client, "crash", why="the data smelled").id, within_s=60)
    assert job.state is JobState.FAILED
    assert job.reason == "RuntimeError: the data smelled"
    assert "Traceback" in client.training.get_job_log(job.id).text
    assert [run.status for run in runs_of(client, job)] == ["failed"]


def test_a_process_that_ends_without_a_word_fails_and_its_run_with_it(client):
    job = client.training.wait_for_job(submit(client, "leave", code=3).id, within_s=60)
    assert job.state is JobState.FAILED
    assert job.exit_code == 3
    assert [(run.status, run.reason) for run in runs_of(client, job)] == [("failed", job.reason)]


def test_a_trainer_that_is_killed_fails_with_the_signal(client):
    job = submit(client, "hang")
    running(client, job).send_signal(signal.SIGKILL)
    job = client.training.wait_for_job(job.id, within_s=60)
    assert job.state is JobState.FAILED
    assert "SIGKILL" in job.reason
    assert [run.status for run in runs_of(client, job)] == ["failed"]


def test_a_job_whose_supervisor_is_killed_goes_on_from_its_checkpoint(client):
    job = submit(client, "count_on", until=2_000)
    checkpoints = wait_for(lambda: client.training.list_job_artifacts(job.id, role="checkpoint").items, within_s=60)
    assert client.training.get_job(job.id).progress.of == 2_000
    trainer = running(client, job)
    psutil.Process(trainer.ppid()).send_signal(signal.SIGKILL)
    wait_for(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)
    wait_for(lambda: client.training.get_job(job.id).attempt == 2, within_s=30)
    wait_for(lambda: "goes on from" in client.training.get_job_log(job.id).text, within_s=60)
    assert (
        int(client.training.get_job_log(job.id).text.rpartition("goes on from ")[2].split()[0]) >= checkpoints[0].step
    )
    first = client.training.list_job_attempts(job.id).items[0]
    assert (first.cause, "supervisor was killed" in first.reason) == ("lost", True)
    assert [run.status for run in runs_of(client, job)][-1] == "failed"
    client.training.cancel_job(job.id)
    job = client.training.wait_for_job(job.id, within_s=60)
    assert [one.cause for one in client.training.list_job_attempts(job.id).items] == ["lost", "canceled"]


def test_what_a_job_uses_is_drawn_while_it_runs_and_kept(client):
    job = submit(client, "burn", seconds=3.0)
    live = wait_for(lambda: len((found := client.training.get_job_usage(job.id)).seconds) > 3 and found, within_s=60)
    assert live.attempt == 1
    client.training.wait_for_job(job.id, within_s=60)
    usage = client.training.get_job_usage(job.id)
    assert usage.seconds == sorted(usage.seconds)
    assert max(usage.cpus) > 0.3
    assert usage.peak_memory_bytes >= max(usage.memory_bytes) > 10 * 2**20
    assert usage.cpu_seconds == pytest.approx(client.training.get_job(job.id).cpu_seconds)
    text = "\n".join(drawn(usage))
    assert "CPUs in use" in text
    assert "█" in text


def test_a_trainer_that_ignores_sigterm_is_ended_by_force_and_is_cancelled(client):
    job = submit(client, "ignore_sigterm")
    wait_for(lambda: "deaf" in client.training.get_job_log(job.id).text, within_s=60)
    client.training.cancel_job(job.id, reason="enough")
    job = client.training.wait_for_job(job.id, within_s=60)
    assert (job.state, job.cause, job.reason) == (JobState.CANCELED, "canceled", "enough")


def test_a_job_that_hangs_is_ended_by_its_time_limit(client):
    job = client.training.wait_for_job(submit(client, "hang", Resources(timeout_s=3)).id, within_s=60)
    assert job.state is JobState.FAILED
    assert "time limit of 3 s" in job.reason
    assert (job.cause, job.attempt) == ("time_limit", 1)


def test_a_job_that_takes_too_much_memory_is_ended_by_its_limit(client):
    job = client.training.wait_for_job(submit(client, "devour", Resources(memory_mb=400)).id, within_s=60)
    assert job.state is JobState.FAILED
    assert "memory limit" in job.reason
    assert (job.cause, job.attempt) == ("out_of_memory", 1)


def test_a_job_that_floods_its_output_succeeds_and_its_log_is_bounded(client, platform):
    job = client.training.wait_for_job(submit(client, "flood", mebibytes=100).id, within_s=60)
    assert job.state is JobState.SUCCEEDED
    (log,) = (platform.home / "jobs" / f"{job.id}-1").rglob("log")
    assert log.stat().st_size < 70 * 1024 * 1024


def test_a_running_job_is_cancelled_and_says_so(client):
    job = submit(client, "hang")
    running(client, job)
    assert client.training.cancel_job(job.id, reason="wrong data").state is JobState.CANCELING
    job = client.training.wait_for_job(job.id, within_s=60)
    assert (job.state, job.reason) == (JobState.CANCELED, "wrong data")
    assert [run.status for run in runs_of(client, job)] == ["canceled"]
    assert client.training.cancel_job(job.id).state is JobState.CANCELED


def test_more_jobs_than_room_wait_in_order_and_all_run(client):
    jobs = [submit(client, "work", seconds=0.2) for _ in range(4)]
    ended = [client.training.wait_for_job(job.id, within_s=90) for job in jobs]
    assert [job.state for job in ended] == [JobState.SUCCEEDED] * 4


def test_a_log_is_followed_to_its_end(client):
    job = submit(client, "crash", why="äöü")
    text = "".join(client.training.stream_job_log(job.id))
    assert "RuntimeError: äöü" in text
    assert "".join(client.training.follow_log(job.id)) == text


def test_a_real_table_becomes_a_registered_model(client):
    cancer = load_breast_cancer(as_frame=True).frame
    client.data.create_dataset("cancer")
    data = client.data.create_dataset_version("cancer", cancer)
    parameters = {"target": "target", "model": "diagnosis", "trees": 20, "folds": 3, "metric": "roc_auc"}
    job = submit_job("diagnose", "tabular-classification", parameters, "cancer", backend=client)
    job = client.training.wait_for_job(job.id, within_s=120)
    assert job.state is JobState.SUCCEEDED, job.reason
    runs = {run.id: run for run in runs_of(client, job)}
    board = job.result.summary["leaderboard"]
    assert {run.name for run in runs.values()} == {"logistic_regression", "random_forest", "hist_gradient_boosting"}
    assert board[0]["run_id"] == job.result.run_id
    for line in board:
        history = client.experiments.get_metric_history(line["run_id"], "fold_roc_auc").items
        assert [point.step for point in history] == [0, 1, 2]
        assert line["mean"] == pytest.approx(sum(point.value for point in history) / 3)
        assert runs[line["run_id"]].metrics["roc_auc"] == line["mean"]
    version = client.models.get_version("diagnosis", 1)
    assert (version.id, version.job_id) == (job.result.model_version_id, job.id)
    assert (version.run_id, version.dataset_version_id) == (job.result.run_id, data.id)
    assert version.metrics == job.result.metrics
    assert version.code_digest is not None
    assert any(line.startswith("scikit-learn==") for line in version.requirements)
    assert {file.path for file in version.files} >= {"reference.json", "sample.json"}
    assert [feature.name for feature in version.signature.inputs] == list(cancer.columns[:-1])
    assert "best:" in client.training.get_job_log(job.id).text


def test_a_restart_in_the_middle_costs_the_job_nothing(platform):
    with platform.client() as client:
        job = submit(client, "work", seconds=4, steps=20)
        running(client, job)
    platform.kill()
    platform.start()
    with platform.client() as client:
        job = client.training.wait_for_job(job.id, within_s=90)
        assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
        (run,) = runs_of(client, job)
        assert (run.status, run.metrics) == ("finished", {"loss": 0.05})
        assert len(client.experiments.get_metric_history(run.id, "loss").items) == 20


def test_a_machine_that_goes_down_whole_costs_an_attempt_and_not_the_job(platform):
    with platform.client() as client:
        job = submit(client, "count_on", until=60)
        wait_for(lambda: client.training.list_job_artifacts(job.id, role="checkpoint").items, within_s=60)
        trainer = running(client, job)
    supervisor = psutil.Process(trainer.ppid())
    platform.kill()
    supervisor.send_signal(signal.SIGKILL)
    wait_for(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)
    platform.start()
    with platform.client() as client:
        job = client.training.wait_for_job(job.id, within_s=120)
        assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
        assert job.result.summary["first"] >= 10
        assert [one.cause for one in client.training.list_job_attempts(job.id).items] == ["lost", "succeeded"]


def test_a_quiet_recipe_is_not_taken_for_gone(tmp_path):
    with platform_process(tmp_path / "home", controller_interval_s="0.1", run_heartbeat_timeout_s="2") as platform:
        with platform.client() as client:
            client.data.create_dataset("d")
            client.data.create_dataset_version("d", CSV, format="csv")
            job = submit(client, "work", seconds=6, steps=1)
            job = client.training.wait_for_job(job.id, within_s=60)
            assert (job.state, job.reason) == (JobState.SUCCEEDED, None)
            assert [run.status for run in runs_of(client, job)] == ["finished"]


def test_what_is_wrong_with_a_job_is_told_at_submission(client):
    with pytest.raises(NotFound, match="no plug-in"):
        client.training.submit_job("nope", "d")
    with pytest.raises(NotFound, match="no dataset"):
        client.training.submit_job("python-function", "nope", parameters={"function": "a:b"})
    with pytest.raises(InvalidInput, match="folds"):
        client.training.submit_job("tabular-classification", "d", parameters={"target": "t", "model": "m", "folds": 1})
    with pytest.raises(InvalidInput, match="nope"):
        client.training.submit_job("tabular-classification", "d", parameters={"target": "t", "model": "m", "nope": 1})


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"target": "nope"}, "no column 'nope'"),
        ({"target": "target", "features": ["zzz"]}, "no column 'zzz'"),
        ({"target": "a"}, "fewer than the 5 folds"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_told_in_words(client, parameters, reason):
    job = client.training.submit_job("tabular-classification", "d", parameters={"model": "m", **parameters})
    job = client.training.wait_for_job(job.id, within_s=60)
    assert job.state is JobState.FAILED
    assert reason in job.reason


def test_only_the_job_reports_its_result(client):
    job = submit(client, "work")
    with pytest.raises(PermissionDenied):
        client.training.finish_job(job.id, JobReport(failure="mine"))
    assert client.training.wait_for_job(job.id, within_s=60).state is JobState.SUCCEEDED


def test_a_function_of_a_file_of_ones_own_runs_without_a_package(client, tmp_path, monkeypatch):
    (tmp_path / "my_helper.py").write_text("FACTOR = 3\n")
    (tmp_path / "my_training.py").write_text(
        "import my_helper\n\ndef train(job, depth):\n"
        "    return {'summary': {'by': my_helper.FACTOR * depth, 'rows': job.table().num_rows}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import my_training

    job = submit_function(my_training.train, "d", arguments={"depth": 5}, backend=client)
    job = client.training.wait_for_job(job.id, within_s=60)
    assert (job.state, job.reason, job.name) == (JobState.SUCCEEDED, None, "train")
    assert job.result.summary == {"by": 15, "rows": 60}
    with pytest.raises(InvalidInput, match="made by another function"):
        submit_function(lambda job: None, backend=client)
    with pytest.raises(InvalidInput, match="installed package"):
        submit_function(load_breast_cancer, backend=client)


def test_nothing_is_left_running(client, platform):
    ours = {platform.process.pid}
    live = [p for p in psutil.process_iter() if _is_child_of(p, platform)]
    assert {p.pid for p in live} - ours == set()
    assert os.getpid() not in ours


def _is_child_of(process, platform):
    try:
        return str(platform.home) in process.environ().get("MODELOPS_WORKDIR", "")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


@pytest.mark.slow
def test_an_outage_longer_than_the_heartbeat_timeout_costs_the_job_nothing(tmp_path):
    with platform_process(tmp_path / "home", run_heartbeat_timeout_s="6", controller_interval_s="0.1") as platform:
        with platform.client() as client:
            client.data.create_dataset("d")
            client.data.create_dataset_version("d", CSV, format="csv")
            job = submit(client, "work", seconds=12, steps=12)
            running(client, job)
        platform.kill()
        down = time.monotonic()
        wait_for(lambda: time.monotonic() - down > 8)
        platform.start()
        with platform.client() as client:
            job = client.training.wait_for_job(job.id, within_s=90)
            assert job.state is JobState.SUCCEEDED, job.reason
            assert [run.status for run in runs_of(client, job)] == ["finished"]


def test_a_job_that_gives_way_goes_on_from_its_checkpoint(client):
    compute = client.compute
    compute.set_pool("gpu", PoolSpec(mode="WHOLE", gpu_count=1))
    quotas = FlavorQuotas(flavor="gpu", quotas={"gpu_shares": QuotaSpec(nominal=1)})
    preemption = PreemptionSpec(within_cluster_queue="LowerPriority")
    spec = ClusterQueueSpec(groups=[ResourceGroup(flavors=[quotas])], preemption=preemption)
    compute.set_cluster_queue("shared", spec)
    compute.set_queue("main", QueueSpec(cluster_queue="shared"))
    compute.set_priority_class("urgent", PriorityClassSpec(value=1))
    job = submit(client, "count_on", Resources(gpu_shares=1), until=2_000)
    checkpoints = wait_for(lambda: client.training.list_job_artifacts(job.id, role="checkpoint").items, within_s=60)
    parameters = {"function": "modelops.testing.tasks:work"}
    resources = Resources(gpu_shares=1)
    urgent = client.training.submit_job(
        "python-function", "d", parameters=parameters, resources=resources, priority="urgent"
    )
    assert client.training.wait_for_job(urgent.id, within_s=120).state is JobState.SUCCEEDED
    wait_for(lambda: client.training.get_job(job.id).attempt == 2, within_s=60)
    wait_for(lambda: "goes on from" in client.training.get_job_log(job.id).text, within_s=60)
    step = int(client.training.get_job_log(job.id).text.rpartition("goes on from ")[2].split()[0])
    assert step >= checkpoints[0].step
    first = client.training.list_job_attempts(job.id).items[0]
    assert (first.cause, "higher priority" in first.reason) == ("preempted", True)
    assert not client.training.explain_job(job.id).waits
    client.training.cancel_job(job.id)
    assert client.training.wait_for_job(job.id, within_s=60).state is JobState.CANCELED
    assert compute.list_pool_allocations("gpu").items == []
