"""What the platform does itself in a run: training jobs and notifications."""

from tests.domains.pipelines.theatre import function, output

from modelops.contracts.ports import Observation, Phase
from modelops.domains.compute.schemas import (
    ClusterQueueSpec,
    FlavorQuotas,
    FlavorSpec,
    PriorityClassSpec,
    QueueSpec,
    QuotaSpec,
    ResourceGroup,
)
from modelops.domains.pipelines.document import ValueType
from modelops.domains.pipelines.schemas import ValueRef
from modelops.domains.pipelines.watching import JobSeen, job_model
from modelops.domains.training.schemas import JobReport, JobResult, JobState

CSV = b"a,b,target\n" + b"".join(b"%d,%d,%d\n" % (n, n * n % 11, n % 2) for n in range(20))


def trained(theatre, job, **report):
    """Play the trainer of a job to its end."""
    name = next(name for name in theatre.backend.specs if name.startswith(job))
    with theatre.platform.client(theatre.backend.specs[name].files["token"]) as trainer:
        trainer.training.finish_job(job, JobReport(**report))
    theatre.backend.seen[name] = Observation(Phase.EXITED, exit_code=0 if "result" in report else 1, cpu_seconds=1.5)


def with_job(theatre, **job):
    theatre.client.data.create_dataset("d")
    theatre.client.data.create_dataset_version("d", CSV, format="csv")
    work = {"recipe": "python-function", "dataset": "d", "parameters": {"function": "a:b"}, **job}
    steps = {
        "choose": function("choose"),
        "train": {"job": work, "inputs": {"parameters": output("choose")}},
        "use": function("use", inputs={"metrics": output("train", "metrics")}),
    }
    theatre.register(steps=steps)
    run = theatre.start()
    theatre.until_step(run, "choose", "ready")
    worker = theatre.worker(run)
    return run, worker


def test_a_job_is_submitted_once_and_its_result_is_the_steps_outputs(theatre):
    run, worker = with_job(theatre)
    worker.succeed(worker.take(), result={"function": "c:d"})
    step = theatre.until_step(run, "train", "running")
    job = theatre.client.training.get_job(step.job_id)
    assert job.parameters["function"] == "c:d"
    for _ in range(4):
        theatre.turn()
    assert len(theatre.client.training.list_jobs().items) == 1
    trained(theatre, job.id, result=JobResult(metrics={"accuracy": 0.9}))
    theatre.until_step(run, "use", "ready")
    task = worker.take()
    assert worker.read(task.references["metrics"]) == {"accuracy": 0.9}
    worker.succeed(task, result=1)
    assert theatre.until(run, "succeeded")
    assert theatre.pipelines.get_step(run.id, "train").cpu_seconds == 1.5


def test_a_steps_job_waits_where_the_step_says_and_all_that_is_started_is_its_tenants(sqlite_theatre):
    theatre = sqlite_theatre
    compute, me = theatre.client.compute, theatre.client.identity.get_me()
    compute.set_flavor("nodes", FlavorSpec())
    quotas = FlavorQuotas(flavor="nodes", quotas={"cpus": QuotaSpec(nominal=2)})
    compute.set_cluster_queue("all", ClusterQueueSpec(groups=[ResourceGroup(flavors=[quotas])]))
    compute.set_queue("main", QueueSpec(cluster_queue="all"))
    compute.set_priority_class("urgent", PriorityClassSpec(value=9))
    run, worker = with_job(theatre, queue="main", priority="urgent", resources={"cpus": 2}, timeout_s=60)
    assert {spec.tenant for spec in theatre.backend.specs.values()} == {me.tenant_id}
    worker.succeed(worker.take(), result={})
    step = theatre.until_step(run, "train", "running")
    job = theatre.client.training.get_job(step.job_id)
    assert (job.queue, job.priority, job.resources.cpus, job.resources.timeout_s) == ("main", "urgent", 2, 60)
    assert compute.get_workload(job.id).requests == {"cpus": 2}


def test_a_job_that_cannot_be_submitted_fails_its_step(sqlite_theatre):
    run, worker = with_job(sqlite_theatre, recipe="nonsense")
    worker.succeed(worker.take(), result={})
    found = sqlite_theatre.until(run, "failed")
    assert "nonsense" in found.reason
    assert sqlite_theatre.states(run)["use"] == "skipped"


def test_a_cancelled_runs_job_is_cancelled(sqlite_theatre):
    run, worker = with_job(sqlite_theatre)
    worker.succeed(worker.take(), result={})
    step = sqlite_theatre.until_step(run, "train", "running")
    sqlite_theatre.until_job(step.job_id, "running")
    sqlite_theatre.pipelines.cancel_run(run.id)
    assert sqlite_theatre.until(run, "canceled")
    assert sqlite_theatre.client.training.get_job(step.job_id).state == "canceled"


def test_the_version_that_a_job_made_is_its_output_too():
    facts = {
        "job_id": "job_1",
        "state": JobState.SUCCEEDED,
        "reason": None,
        "cpu_seconds": None,
        "peak_memory_bytes": None,
    }
    made = JobSeen(result=JobResult(model_version_id="mver_1"), cancel=False, **facts)
    assert job_model(made) == {"model": ValueRef(type=ValueType.MODEL, model_version_id="mver_1")}
    assert job_model(JobSeen(result=JobResult(), cancel=False, **facts)) == {}
