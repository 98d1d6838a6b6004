"""Jobs in queues: they begin when they are admitted, give way and come back, and leave nothing behind."""

import json
import random

import pytest

from modelops.adapters.kubernetes.pods import pod_spec
from modelops.adapters.kubernetes.settings import Site
from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.ports import Phase
from modelops.domains.compute.drawing import pool_lines
from modelops.domains.compute.schemas import (
    ClusterQueueSpec,
    FlavorQuotas,
    PoolSpec,
    PreemptionSpec,
    PriorityClassSpec,
    QueueSpec,
    QuotaLimit,
    QuotaLimits,
    QuotaSpec,
    ResourceGroup,
)
from modelops.domains.training.lifecycle import leaks
from modelops.domains.training.schemas import JobReport, JobResult, JobState, Resources, Retry, RetryCause
from modelops.domains.training.tables import JobRow
from modelops.sdk.jobs import submit_function, submit_job


def quota(flavor, **amounts):
    """Return a group of one flavor."""
    quotas = {resource: QuotaSpec(nominal=amount) for resource, amount in amounts.items()}
    return ResourceGroup(flavors=[FlavorQuotas(flavor=flavor, quotas=quotas)])


@pytest.fixture
def gpus(stage):
    """A stage with two whole GPUs behind the queue `main`."""
    return with_gpus(stage)


def with_gpus(stage, count=2, **preemption):
    compute = stage.client.compute
    compute.set_pool("a100", PoolSpec(mode="WHOLE", gpu_count=count, device_names={"0": "GPU-0", "1": "GPU-1"}))
    spec = ClusterQueueSpec(groups=[quota("a100", gpu_shares=count)], preemption=PreemptionSpec(**preemption))
    compute.set_cluster_queue("research", spec)
    compute.set_queue("main", QueueSpec(cluster_queue="research"))
    return stage


def submit(stage, shares=1, **options):
    return stage.submit(resources=Resources(gpu_shares=shares), **options)


def report(stage, attempt):
    stage.trainer(attempt).rest.request(
        "POST", f"/jobs/{attempt.rpartition('-')[0]}/result", json=JobReport(result=JobResult())
    )


def allocations(stage):
    return stage.client.compute.list_pool_allocations("a100").items


def test_jobs_begin_as_their_queue_admits_them(gpus):
    jobs = [submit(gpus) for _ in range(3)]
    gpus.turn(3)
    assert gpus.backend.starts == [f"{job.id}-1" for job in jobs[:2]]
    assert {one.job_id for one in allocations(gpus)} == {job.id for job in jobs[:2]}
    assert [one.device for one in allocations(gpus)] == [0, 1]
    assert gpus.client.compute.get_pool("a100").allocated_shares == 2
    assert gpus.client.compute.get_pool("a100").pending == 1
    report(gpus, f"{jobs[0].id}-1")
    gpus.backend.end(f"{jobs[0].id}-1")
    gpus.turn(3)
    assert gpus.state(jobs[0])[0] == "succeeded"
    assert gpus.state(jobs[2])[0] == "running"
    assert {one.job_id for one in allocations(gpus)} == {jobs[1].id, jobs[2].id}


def test_a_job_is_told_where_it_is_and_what_it_has(gpus):
    job = submit(gpus, 2)
    gpus.turn(3)
    spec = gpus.backend.specs[f"{job.id}-1"]
    assert spec.env["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"
    assert spec.env["MODELOPS_POOL"] == "a100"
    assert spec.env["MODELOPS_QUEUE"] == "main"
    assert spec.placement.gpu_resource == "nvidia.com/gpu"
    assert spec.placement.gpu_count == 2
    assert spec.placement.devices == ("GPU-0", "GPU-1")
    assert not spec.placement.best_effort


def test_a_job_is_admitted_as_a_whole_or_not_at_all(gpus):
    first, both = submit(gpus, 1), submit(gpus, 2)
    gpus.turn(3)
    assert gpus.state(first)[0] == "running"
    assert gpus.state(both)[0] == "queued"
    assert len(allocations(gpus)) == 1


def test_jobs_outside_of_queues_run_as_ever(gpus):
    inside, outside = submit(gpus), gpus.submit()
    gpus.turn(3)
    assert gpus.state(inside)[0] == gpus.state(outside)[0] == "running"
    assert "MODELOPS_POOL" not in gpus.backend.specs[f"{outside.id}-1"].env
    assert gpus.backend.specs[f"{outside.id}-1"].placement is None


def test_queues_do_not_count_against_the_machine(gpus):
    jobs = [submit(gpus), submit(gpus), gpus.submit(), gpus.submit(), gpus.submit()]
    gpus.turn(3)
    assert [gpus.state(job)[0] for job in jobs] == ["running"] * 4 + ["queued"]


def test_a_preempted_job_goes_back_and_comes_again(stage):
    with_gpus(stage, 1, within_cluster_queue="LowerPriority")
    stage.client.compute.set_priority_class("urgent", PriorityClassSpec(value=10))
    job = submit(stage, retry=Retry(max_attempts=1))
    stage.turn(3)
    urgent = submit(stage, priority="urgent")
    stage.turn(2)
    attempt = f"{job.id}-1"
    ((stopped, reason),) = stage.backend.stops
    assert stopped == attempt
    assert "higher priority" in reason
    stage.turn(3)
    assert stage.state(urgent)[0] == "running"
    state, reason = stage.state(job)
    assert state == "queued"
    assert "preempted" in reason
    (first,) = stage.training.list_job_attempts(job.id).items
    assert first.cause == "preempted"
    assert stage.client.compute.get_workload(job.id).preemptions == 1
    report(stage, f"{urgent.id}-1")
    stage.backend.end(f"{urgent.id}-1")
    stage.turn(4)
    assert stage.state(job)[0] == "running"
    assert stage.backend.starts[-1] == f"{job.id}-2"
    stage.backend.end(f"{job.id}-2", 1)  # its one attempt: the preempted one did not count
    stage.turn(2)
    assert stage.state(job)[0] == "failed"
    assert not allocations(stage)


def test_what_was_done_before_it_had_to_go_counts(stage):
    with_gpus(stage, 1, within_cluster_queue="LowerPriority")
    stage.client.compute.set_priority_class("urgent", PriorityClassSpec(value=10))
    job = submit(stage)
    stage.turn(3)
    report(stage, f"{job.id}-1")
    stage.backend.end(f"{job.id}-1")
    submit(stage, priority="urgent")
    stage.turn(4)
    assert stage.state(job)[0] == "succeeded"


def test_a_job_that_gives_way_can_be_cancelled(stage):
    with_gpus(stage, 1, within_cluster_queue="LowerPriority")
    stage.client.compute.set_priority_class("urgent", PriorityClassSpec(value=10))
    job = submit(stage)
    stage.turn(3)
    attempt = f"{job.id}-1"
    stage.backend.stop = lambda name, **_: stage.backend.stops.append(name)  # it takes its time
    urgent = submit(stage, priority="urgent")
    stage.turn(3)
    assert stage.state(job)[0] == "preempting"
    assert "higher priority" in stage.state(job)[1]
    assert stage.state(urgent)[0] == "queued"
    assert len(allocations(stage)) == 1  # it holds its GPU until it is gone
    stage.training.cancel_job(job.id)
    stage.turn(1)
    assert stage.state(job)[0] == "canceling"
    stage.backend.put(attempt, Phase.EXITED, exit_code=0)
    stage.turn(4)
    assert stage.state(job)[0] == "canceled"
    assert stage.state(urgent)[0] == "running"


def test_an_attempt_that_is_made_again_waits_for_its_turn(gpus):
    job = submit(gpus, 2, retry=Retry(max_attempts=2, causes=[RetryCause.FAILED], delay_s=60))
    gpus.turn(3)
    gpus.backend.end(f"{job.id}-1", 1)
    gpus.turn(1)
    other = submit(gpus, 2)
    gpus.turn(3)
    assert gpus.state(other)[0] == "running"  # while the first waits for its time
    assert "is tried again" in gpus.training.explain_job(job.id).waiting.waits[0].sentence
    gpus.clock.advance(61)
    gpus.turn(2)
    assert gpus.state(job)[0] == "queued"
    gpus.backend.end(f"{other.id}-1", 1)
    gpus.turn(4)
    assert gpus.state(job)[0] == "running"
    assert gpus.backend.starts[-1] == f"{job.id}-2"


def test_a_job_that_ended_can_join_the_line_again(gpus):
    job = submit(gpus)
    gpus.training.cancel_job(job.id)
    gpus.turn(2)
    assert gpus.state(job)[0] == "canceled"
    gpus.training.retry_job(job.id)
    gpus.turn(3)
    assert gpus.state(job)[0] == "running"
    assert len(allocations(gpus)) == 1


def test_it_is_told_at_once_what_no_queue_gives(stage):
    with pytest.raises(InvalidInput, match="no queue"):
        submit(stage)
    with_gpus(stage)
    for wrong in ({"queue": "none"}, {"pool": "none"}, {"priority": "none"}):
        with pytest.raises(InvalidInput, match="none"):
            submit(stage, **wrong)
    with pytest.raises(InvalidInput, match="parted"):
        stage.submit(resources=Resources(mig_profile="1g.10gb"))
    with pytest.raises(InvalidInput, match="no quota of anything"):  # it would run there without any limit
        stage.submit(queue="main")
    with pytest.raises(InvalidInput, match="GPU shares"):
        stage.submit(pool="a100")
    assert not stage.training.list_jobs().items


def test_it_is_said_why_a_job_waits(gpus):
    first, second = submit(gpus, 2), submit(gpus, 1)
    gpus.turn(3)
    running, waiting = gpus.training.explain_job(first.id), gpus.training.explain_job(second.id)
    assert not running.waits
    assert waiting.waits
    assert waiting.waiting.position == 1
    assert waiting.waiting.waits
    json.dumps(waiting.model_dump(mode="json"))
    assert "queue 'main'" in gpus.state(second)[1]
    outside = [gpus.submit() for _ in range(3)]
    gpus.turn(2)
    assert "2 of 2 jobs run" in gpus.training.explain_job(outside[2].id).reasons[0]
    with pytest.raises(NotFound):
        gpus.training.explain_job("job_none")


def test_what_leaked_is_found_and_counted(gpus):
    job = submit(gpus)
    gpus.turn(3)
    with gpus.platform.place.work() as ctx:
        ctx.session.get(JobRow, job.id).state = JobState.FAILED  # as if by hand
        ctx.session.flush()
        assert leaks(ctx) == [job.id]
    gpus.turn(2)
    assert not allocations(gpus)
    with gpus.platform.http(authorization=f"Bearer {gpus.platform.admin_key}") as http:
        assert "modelops_pool_repaired_total 1" in http.get("/metrics").text


def test_nothing_leaks_however_jobs_end(gpus):
    chance = random.Random(7)
    jobs = [submit(gpus, chance.choice([1, 1, 2]), retry=Retry(max_attempts=2)) for _ in range(12)]
    for _ in range(60):
        gpus.turn()
        held = sum(one.shares for one in allocations(gpus))
        assert held <= 2
        for name in [name for name, seen in gpus.backend.seen.items() if not seen.ended]:
            end = chance.random()
            if end < 0.2:
                gpus.backend.end(name, 1)
            elif end < 0.4:
                gpus.backend.put(name, Phase.LOST, reason="its machine is gone")
            elif end < 0.5:
                gpus.training.cancel_job(name.rpartition("-")[0])
            elif end < 0.7:
                report(gpus, name)
                gpus.backend.end(name)
        gpus.clock.advance(2)
    assert all(gpus.training.get_job(job.id).state.final for job in jobs)
    assert not allocations(gpus)
    assert gpus.client.compute.get_queue("main").used == {}


def test_a_job_that_may_do_with_fewer_is_told_what_it_got(gpus):
    one = submit(gpus)
    job = gpus.submit(resources=Resources(gpu_shares=2, min_gpu_shares=1))
    gpus.turn(3)
    spec = gpus.backend.specs[f"{job.id}-1"]
    assert (spec.env["MODELOPS_GPU_SHARES"], spec.placement.gpu_count) == ("1", 1)
    assert spec.env["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert json.loads(spec.files["job.json"])["gpu_shares"] == 1
    workload = gpus.client.compute.get_workload(job.id)
    assert (workload.requests["gpu_shares"], workload.device_count, workload.min_device_count) == (1, 2, 1)
    assert gpus.client.compute.get_workload(one.id).min_device_count is None
    assert gpus.training.get_job(job.id).resources.min_gpu_shares == 1
    with pytest.raises(InvalidInput, match="are asked for"):
        gpus.submit(resources=Resources(min_gpu_shares=1))


def test_a_quota_of_jobs_counts_each_and_why_tells_it(gpus):
    compute, me = gpus.client.compute, gpus.client.identity.get_me()
    compute.set_quota("tenant", me.tenant, QuotaLimits(limits=[QuotaLimit(resource="jobs", limit=1)]))
    with pytest.raises(InvalidInput, match="quota of anything"):
        gpus.submit()  # nobody would count it outside of a queue, and no queue of the project counts CPUs
    first, second = submit(gpus), submit(gpus)
    gpus.turn(3)
    assert [gpus.state(job)[0] for job in (first, second)] == ["running", "queued"]
    told = gpus.training.explain_job(second.id)
    assert f"By its quota the tenant {me.tenant} may hold 1 jobs and holds 1; 1 are asked for." in told.reasons
    assert told.remedies == [
        f"Raise the quota of the tenant {me.tenant} for jobs, or wait until its own workloads end."
    ]
    report(gpus, f"{first.id}-1")
    gpus.backend.end(f"{first.id}-1")
    gpus.turn(3)
    assert gpus.state(second)[0] == "running"
    compute.delete_quota("tenant", me.tenant)
    gpus.submit()


@pytest.mark.parametrize(
    ("spec", "asked", "resource", "count"),
    [
        (PoolSpec(mode="WHOLE", gpu_count=2), Resources(gpu_shares=2), "nvidia.com/gpu", 2),
        (PoolSpec(mode="TIME_SLICE", gpu_count=1, timeslice_replicas=3), Resources(gpu_shares=2), "nvidia.com/gpu", 2),
        (
            PoolSpec(mode="MIG", gpu_count=1, gpu_model="A30"),
            Resources(mig_profile="1g.6gb", gpu_shares=2),
            "nvidia.com/mig-1g.6gb",
            2,
        ),
        (
            PoolSpec(mode="TIME_SLICE", gpu_count=1, timeslice_replicas=2, gpu_resource_name="nvidia.com/gpu.shared"),
            Resources(gpu_shares=1),
            "nvidia.com/gpu.shared",
            1,
        ),
    ],
)
def test_what_a_pool_says_reaches_the_pod(stage, tmp_path, spec, asked, resource, count):
    """From the pool to the document that a cluster is sent: selectors, tolerations, and what it calls the devices."""
    where = {"node_selector": {"gpu": "big"}, "tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}
    compute = stage.client.compute
    pool = compute.set_pool("pool", PoolSpec.model_validate({**spec.model_dump(), **where}))
    compute.set_cluster_queue("all", ClusterQueueSpec(groups=[quota("pool", gpu_shares=pool.capacity_shares)]))
    compute.set_queue("main", QueueSpec(cluster_queue="all"))
    job = stage.submit(resources=asked)
    stage.turn(3)
    started = stage.backend.specs[f"{job.id}-1"]
    site = Site(image="registry.example.org/modelops:1", instance="one", namespace="modelops", logs=tmp_path)
    pod = pod_spec("secret", site, started.limits, started.placement, grace_s=30, waits=True)
    (container,) = pod["containers"]
    assert container["resources"]["limits"][resource] == container["resources"]["requests"][resource] == str(count)
    assert pod["nodeSelector"] == {"gpu": "big"}
    assert {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"} in pod["tolerations"]
    assert started.placement.best_effort == pool.best_effort == (spec.mode == "TIME_SLICE")
    assert (
        ("MODELOPS_GPU_BEST_EFFORT" in started.env)
        == ("best-effort" in pool_lines([pool])[0]["mode"])
        == pool.best_effort
    )


def test_each_way_to_submit_a_job_says_where_it_waits(gpus):
    gpus.client.compute.set_priority_class("urgent", PriorityClassSpec(value=10))
    where = {"queue": "main", "pool": "a100", "priority": "urgent", "resources": Resources(gpu_shares=1)}
    parameters = {"function": "a:b"}
    jobs = [
        submit_job("named", "python-function", parameters, "d", backend=gpus.client, **where),
        submit_function(quota, "d", backend=gpus.client, **where),
    ]
    for job in jobs:
        workload = gpus.client.compute.get_workload(job.id)
        assert (workload.queue, workload.pool, workload.priority) == ("main", "a100", 10)
