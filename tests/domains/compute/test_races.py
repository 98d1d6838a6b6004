"""Many controllers decide at once, in threads and in processes, and some are killed: nothing is ever admitted twice or too
much, and nothing is lost."""

import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter

import pytest
from sqlalchemy import select

from modelops.domains.compute import service
from modelops.domains.compute.admission import run_cycle
from modelops.domains.compute.ledger import hold_ledger
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
    WorkloadRequest,
)
from modelops.domains.compute.tables import AllocationRow, WorkloadRow
from modelops.kernel.work import Workplace
from modelops.server.platform import open_platform

GPUS, JOBS, MOST = 3, 24, 7
"""`MOST`: the project's quota of jobs, over both of its queues."""


@pytest.fixture
def queue(platform):
    """A platform with a MIG pool of few GPUs behind two queues, and many jobs that want parts of it."""
    compute = platform.client().compute
    compute.set_pool("mig", PoolSpec(mode="MIG", gpu_count=GPUS, gpu_model="A100-80GB"))
    quotas = FlavorQuotas(flavor="mig", quotas={"gpu_shares": QuotaSpec(nominal=GPUS * 7 - 2)})
    gives_way = PreemptionSpec(within_cluster_queue="LowerPriority")
    spec = ClusterQueueSpec(groups=[ResourceGroup(flavors=[quotas])], preemption=gives_way)
    for name in ("cluster", "other"):
        compute.set_cluster_queue(name, spec)
    compute.set_queue("main", QueueSpec(cluster_queue="cluster"))
    compute.set_queue("second", QueueSpec(cluster_queue="other"))
    compute.set_priority_class("urgent", PriorityClassSpec(value=1))
    compute.set_quota("project", "default", QuotaLimits(limits=[QuotaLimit(resource="jobs", limit=MOST)]))
    project = platform.client().identity.get_me().project_id
    chance = random.Random(3)
    with platform.place.work() as ctx:
        inside = ctx.within(project)
        for number in range(JOBS):
            profile = chance.choice(["1g.10gb", "2g.20gb", "3g.40gb"])
            asked = WorkloadRequest(
                queue=chance.choice(["main", "second"]),
                priority=chance.choice([None, None, "urgent"]),
                gpu_shares=2 if profile == "1g.10gb" else 1,
                min_gpu_shares=1,
                mig_profile=profile,
            )
            service.enqueue(inside, f"job_{number:03}", asked)
    return platform


def decide_and_end(place: Workplace, chance: random.Random, turns: int) -> None:
    """Do what controllers do: decide, take up, end."""
    for _ in range(turns):
        with place.work() as ctx:
            run_cycle(ctx)
        with place.work(write=False) as ctx:
            jobs = service.admitted_jobs(ctx)
        if not jobs:
            continue
        job = chance.choice(jobs)
        with place.work() as ctx:
            if service.take_up(ctx, job) and chance.random() < 0.7:
                service.finish(ctx, job)
            else:
                service.requeue(ctx, job, not_before=None, reason="again")


def check(place: Workplace) -> Counter[str]:
    """Hold what is written to the truth, apart from the allocator; return how many workloads are in each state."""
    sizes = {"1g.10gb": (1, 1), "2g.20gb": (2, 2), "3g.40gb": (3, 4)}
    with place.work() as ctx:
        hold_ledger(ctx)  # two statements see two moments on PostgreSQL
        held = ctx.session.scalars(select(AllocationRow)).all()
        rows = {row.id: row for row in ctx.session.scalars(select(WorkloadRow))}
    taken = Counter(
        (one.device, slice_) for one in held for slice_ in range(one.position, one.position + sizes[one.profile][1])
    )
    assert all(count == 1 for count in taken.values())
    assert all(0 <= device < GPUS and 0 <= slice_ < 8 for device, slice_ in taken)
    assert all(one.shares == sizes[one.profile][0] for one in held)
    used = Counter()
    for one in held:
        used[rows[one.workload_id].cluster_queue] += one.shares
    assert max(used.values(), default=0) <= GPUS * 7 - 2
    assert {one.workload_id for one in held} == {key for key, row in rows.items() if row.state == "admitted"}
    got = Counter(one.workload_id for one in held)
    assert all(1 <= count <= rows[key].device_count for key, count in got.items())
    assert len(got) <= MOST
    return Counter(row.state for row in rows.values())


def test_threads_that_decide_at_once_never_admit_too_much(queue):
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            decide_and_end(queue.place, random.Random(seed), 5)
        except BaseException as wrong:
            failures.append(wrong)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        check(queue.place)
        time.sleep(0.3)
    for thread in threads:
        thread.join()
    assert failures == []
    states = check(queue.place)
    assert sum(states.values()) == JOBS
    assert states["finished"] > 0


def _controller(settings, seed):
    platform = open_platform(settings)
    decide_and_end(platform.place, random.Random(seed), 10_000)


@pytest.mark.slow
def test_processes_that_are_killed_leave_no_share_behind(queue):
    settings = queue.platform.settings
    context = multiprocessing.get_context("spawn")
    chance = random.Random(11)
    processes = [context.Process(target=_controller, args=(settings, seed)) for seed in range(2)]
    for process in processes:
        process.start()
    for seed in range(3):
        time.sleep(chance.uniform(4, 6))
        victim = processes.pop(chance.randrange(len(processes)))
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        check(queue.place)
        processes.append(context.Process(target=_controller, args=(settings, 10 + seed)))
        processes[-1].start()
    for process in processes:
        process.kill()
        process.join()
    check(queue.place)
    for _ in range(400):
        decide_and_end(queue.place, chance, 1)
        if check(queue.place)["finished"] == JOBS:
            break
    assert check(queue.place) == {"finished": JOBS}
