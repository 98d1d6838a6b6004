"""Jobs of several processes of PyTorch as they really run: they agree, end together, and go on as if nothing had been."""

import re
import signal

import psutil
import pytest
from sklearn.datasets import load_digits, load_iris

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
from modelops.domains.training.schemas import JobState, Resources
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG_S = 240
NETWORK = {"target": "target", "epochs": 30, "patience": 30, "hidden": [16]}


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with platform_process(tmp_path_factory.mktemp("torch") / "home", controller_interval_s="0.1") as process:
        with process.client() as client:
            for name, load in (("iris", load_iris), ("digits", load_digits)):
                client.data.create_dataset(name)
                client.data.create_dataset_version(name, load(as_frame=True).frame)
        yield process


@pytest.fixture
def client(platform):
    with platform.client() as client:
        yield client


def submit(client, task, *, processes=2, patience_s=120, memory_mb=None, **arguments):
    function = f"modelops.testing.torch_tasks:{task}"
    parameters = {"function": function, "arguments": arguments, "collective_timeout_s": patience_s}
    resources = Resources(processes=processes, cpus=2, memory_mb=memory_mb)
    return client.training.submit_job("torch-function", "iris", parameters=parameters, resources=resources, name=task)


def learn(client, dataset, processes=2, **options):
    resources = Resources(processes=processes, gpu_shares=options.pop("gpu_shares", 0))
    parameters = {**NETWORK, "model": f"{dataset}-{processes}", **options.pop("parameters", {})}
    return client.training.submit_job(
        "torch-classification", dataset, parameters=parameters, resources=resources, **options
    )


def ended(client, job):
    return client.training.wait_for_job(job.id, within_s=LONG_S)


def processes_of(job, part):
    return [process for process in psutil.process_iter(["cmdline"]) if _is_part(process, job, part)]


def _is_part(process, job, part):
    try:
        mine = job.id in process.environ().get("MODELOPS_WORKDIR", "") and part in process.cmdline()
        return mine and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def waiting(client):
    """Return a job whose two processes are at work, with their pids by rank."""
    job = submit(client, "wait")
    wait_for(lambda: len(pids_of(client, job)) == 2 and runs_of(client, job), within_s=LONG_S)
    return job, pids_of(client, job)


def pids_of(client, job):
    text = client.training.get_job_log(job.id).text
    return {int(rank): int(pid) for rank, pid in re.findall(r"^\[(\d)\] pid (\d+)$", text, re.MULTILINE)}


def runs_of(client, job):
    return client.experiments.list_runs(filter=f'job_id = "{job.id}"').items


def test_processes_agree_and_one_of_them_records(client):
    job = ended(client, submit(client, "agree", processes=3))
    assert (job.state, job.reason) == (JobState.SUCCEEDED, None)
    assert job.result.metrics == {"total": 6.0, "rows": 150.0, "threads": 1.0}
    assert job.result.summary == {"same": True, "restored": 1, "backend": "gloo"}
    assert [(run.status, run.metrics) for run in runs_of(client, job)] == [("finished", {"total": 6.0})]
    lines = client.training.get_job_log(job.id).text.splitlines()
    assert {f"[{rank}] process {rank} of 3" for rank in range(3)} <= set(lines)
    (checkpoint,) = client.training.list_job_artifacts(job.id, role="checkpoint").items
    assert checkpoint.step == 1


@pytest.mark.parametrize(
    ("how", "reason", "cause"),
    [
        ("raise", "ValueError: the data smelled (process 1 of 2)", "failed"),
        ("memory", "MemoryError: no more (process 1 of 2)", "out_of_memory"),
        ("exit", "Process 1 of 2 ended with exit code 3; the log says more.", "failed"),
        ("register", "job.rank == 0", "failed"),
    ],
)
def test_what_one_process_says_is_the_reason_and_the_others_end(client, how, reason, cause):
    job = ended(client, submit(client, "fail", how=how))
    assert (job.state, job.cause) == (JobState.FAILED, cause)
    assert reason in job.reason
    assert [run.status for run in runs_of(client, job)] == ["failed"]
    assert processes_of(job, "rank") == []


def test_a_process_that_is_killed_takes_the_others_along(client):
    job, pids = waiting(client)
    psutil.Process(pids[1]).send_signal(signal.SIGKILL)
    job = ended(client, job)
    assert job.state is JobState.FAILED
    assert job.reason.startswith("Process 1 of 2 was ended by signal 9 (SIGKILL")
    assert [run.status for run in runs_of(client, job)] == ["failed"]
    assert processes_of(job, "rank") == []


def test_a_trainer_that_is_killed_leaves_no_process_behind(client):
    job, _ = waiting(client)
    (trainer,) = processes_of(job, "train")
    trainer.send_signal(signal.SIGKILL)
    job = ended(client, job)
    assert (job.state, job.cause) == (JobState.FAILED, "killed")
    wait_for(lambda: not processes_of(job, "rank"))


def test_a_job_that_is_cancelled_ends_in_all_its_processes(client):
    job, pids = waiting(client)
    client.training.cancel_job(job.id, reason="enough")
    job = ended(client, job)
    assert (job.state, job.reason) == (JobState.CANCELED, "enough")
    assert [run.status for run in runs_of(client, job)] == ["canceled"]
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


def test_a_process_that_never_comes_does_not_hold_the_others_for_ever(client):
    job = ended(client, submit(client, "miss", patience_s=3))
    assert job.state is JobState.FAILED
    assert "process 0 of 2" in job.reason
    assert processes_of(job, "rank") == []


def test_the_memory_limit_is_that_of_all_processes_together(client):
    job = ended(client, submit(client, "hold", mebibytes=300, memory_mb=700))
    assert (job.state, job.cause) == (JobState.FAILED, "out_of_memory")
    assert "memory limit of 700 MiB" in job.reason
    assert processes_of(job, "rank") == []


def test_one_process_learns_as_well_as_two(client):
    accuracies = {}
    for processes in (1, 2):
        job = ended(client, learn(client, "iris", processes))
        assert job.state is JobState.SUCCEEDED, job.reason
        accuracies[processes] = job.result.metrics["accuracy"]
        version = client.models.get_version(f"iris-{processes}", 1)
        assert (version.id, version.job_id, version.flavour) == (job.result.model_version_id, job.id, "pytorch")
        assert version.parameters["processes"] == processes
        history = client.experiments.get_metric_history(job.result.run_id, "loss").items
        assert [point.step for point in history] == list(range(30))
        assert history[-1].value < history[0].value / 3
    assert min(accuracies.values()) > 0.85
    assert abs(accuracies[1] - accuracies[2]) < 0.1


def test_a_training_that_gave_way_ends_with_the_weights_of_one_that_never_did(client):
    compute = client.compute
    compute.set_pool("gpu", PoolSpec(mode="WHOLE", gpu_count=1))
    quotas = FlavorQuotas(flavor="gpu", quotas={"gpu_shares": QuotaSpec(nominal=1)})
    preemption = PreemptionSpec(within_cluster_queue="LowerPriority")
    spec = ClusterQueueSpec(groups=[ResourceGroup(flavors=[quotas])], preemption=preemption)
    compute.set_cluster_queue("shared", spec)
    compute.set_queue("main", QueueSpec(cluster_queue="shared"))
    compute.set_priority_class("urgent", PriorityClassSpec(value=1))
    whole = ended(client, learn(client, "digits", gpu_shares=1))
    assert whole.result.metrics["accuracy"] > 0.9, whole.reason

    job = learn(client, "digits", gpu_shares=1)
    checkpoints = "checkpoint"
    wait_for(lambda: client.training.list_job_artifacts(job.id, role=checkpoints).items, within_s=LONG_S)
    parameters = {"function": "modelops.testing.tasks:work"}
    urgent = client.training.submit_job(
        "python-function", parameters=parameters, resources=Resources(gpu_shares=1), priority="urgent"
    )
    assert ended(client, urgent).state is JobState.SUCCEEDED
    job = ended(client, job)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2), job.reason
    attempts = client.training.list_job_attempts(job.id).items
    assert [one.cause for one in attempts] == ["preempted", "succeeded"]
    behind = int(re.search(r"goes on after (\d+) epochs", client.training.get_job_log(job.id).text).group(1))
    assert 0 < behind < NETWORK["epochs"]
    assert job.result.summary == whole.result.summary  # with the digest of the weights
    assert job.result.metrics == whole.result.metrics
    last = client.experiments.get_metric_history(job.result.run_id, "loss").items[-1]
    assert last.value == client.experiments.get_metric_history(whole.result.run_id, "loss").items[-1].value
