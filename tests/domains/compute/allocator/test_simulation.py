"""Virtual time: a load runs to its end within the quotas, and what preemption costs is counted."""

from dataclasses import replace

from modelops.domains.compute.allocator.checking import violations
from modelops.domains.compute.allocator.model import (
    ClusterQueue,
    FlavorQuotas,
    PodSet,
    Preemption,
    PreemptionPolicy,
    Quota,
    ResourceFlavor,
    ResourceGroup,
    Snapshot,
    Workload,
)
from modelops.domains.compute.allocator.simulation import BASELINE, Job, Load, baseline, simulate


def test_what_was_done_since_the_last_checkpoint_is_lost():
    quotas = (FlavorQuotas("f", {"cpu": Quota(2000)}),)
    policy = Preemption(PreemptionPolicy.LOWER_PRIORITY)
    queue = ClusterQueue("q", (ResourceGroup(("cpu",), quotas),), preemption=policy)
    pods = (PodSet("main", 1, {"cpu": 2000}),)
    jobs = (Job(Workload("low", "q", pods), 100, "low"), Job(Workload("high", "q", pods, 1, 0.07), 10, "high"))
    load = Load(Snapshot((ResourceFlavor("f"),), (queue,)), jobs, checkpoint_ms=30)
    found = simulate(load)
    assert (found.preemptions, found.finished, found.admissions) == (1, 2, 3)
    assert found.lost == 2000 * 10, "it ran for 70 ms, and its last checkpoint was at 60"
    assert found.ended_ms == 70 + 10 + 40
    assert found.busy == 2000 * (70 + 10 + 40)
    assert simulate(replace(load, checkpoint_ms=None)).lost == 2000 * 70


def test_the_baseline_has_the_numbers_of_kueues():
    load = baseline(None)
    assert (len(load.jobs), len(load.snapshot.cluster_queues)) == (15_000, 30)
    assert {kind.name: (kind.count, kind.every_ms, kind.runs_ms, kind.priority, kind.cpus) for kind in BASELINE} == {
        "small": (350, 100, 200, 50, 1),
        "medium": (100, 500, 500, 100, 5),
        "large": (50, 1200, 1000, 200, 20),
    }


def test_a_small_baseline_runs_to_its_end_without_a_violation():
    kinds = [replace(kind, count=kind.count // 10) for kind in BASELINE]
    load = baseline(70, cohorts=1, queues=3, kinds=kinds)
    wrong = []
    found = simulate(load, lambda engine, _: wrong.extend(violations(engine.snapshot())))
    assert found.finished == len(load.jobs)
    assert found.preemptions
    assert wrong == []
