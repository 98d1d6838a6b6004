"""Worlds made at random: trees of cohorts, queues of every policy, pools of every mode, and what happens there."""

from random import Random

from modelops.domains.compute.allocator.devices import GPUS
from modelops.domains.compute.allocator.model import (
    BorrowWithinCohort,
    Budget,
    ClusterQueue,
    Cohort,
    Device,
    DeviceRequest,
    FairStrategy,
    FlavorFungibility,
    FlavorQuotas,
    FungibilityPreference,
    LocalQueue,
    PodSet,
    Pool,
    PoolMode,
    Preemption,
    PreemptionPolicy,
    QueueingStrategy,
    Quota,
    ResourceFlavor,
    ResourceGroup,
    Snapshot,
    Taint,
    Toleration,
    WhenCanBorrow,
    WhenCanPreempt,
    Workload,
)

OWN = (PreemptionPolicy.NEVER, PreemptionPolicy.LOWER_PRIORITY, PreemptionPolicy.LOWER_OR_NEWER_EQUAL_PRIORITY)
COHORT = (*OWN, PreemptionPolicy.ANY, PreemptionPolicy.ANY, PreemptionPolicy.ANY)
FAIR = (FairStrategy.LESS_THAN_OR_EQUAL_TO_FINAL_SHARE, FairStrategy.LESS_THAN_INITIAL_SHARE)


def world(random: Random, *, devices: bool = False, fair: bool = False, limits: bool = True) -> Snapshot:
    """Return queues without workloads."""
    flavors = [
        ResourceFlavor("a", {"zone": "a"}, (Taint("spot"),) if random.random() < 0.1 else ()),
        ResourceFlavor("b", {"zone": "b"}),
    ]
    pools = [pool(random, flavor.name) for flavor in flavors] if devices else []
    cohorts = [
        Cohort(
            f"c{number}",
            random.choice([None, *(f"c{above}" for above in range(number))]),
            (group(random, limits),) if random.random() < 0.3 else (),
            random.choice([1000, 1000, 2000, 500]),
        )
        for number in range(random.randint(1, 3))
    ]
    queues = [queue(random, f"q{number}", cohorts, limits) for number in range(random.randint(2, 5))]
    budgets = [budget(random, name) for name in ("tenant", "project")] if limits and random.random() < 0.4 else []
    local = [
        LocalQueue(
            f"l{number}",
            each.name,
            {"cpu": random.randint(2, 9) * 1000} if limits and random.random() < 0.1 else {},
            budgets=tuple(one.name for one in budgets if random.random() < 0.7),
        )
        for number, each in enumerate(queues)
    ]
    return Snapshot(
        tuple(flavors),
        tuple(queues),
        tuple(cohorts),
        tuple(local),
        tuple(pools),
        fair_strategies=FAIR[: random.randint(1, 2)] if fair else (),
        budgets=tuple(budgets),
    )


def group(random: Random, limits: bool) -> ResourceGroup:
    names = random.choice([("a",), ("b",), ("a", "b"), ("b", "a")])
    return ResourceGroup(
        ("cpu", "gpu"),
        tuple(FlavorQuotas(name, {each: quota(random, limits) for each in ("cpu", "gpu")}) for name in names),
    )


def quota(random: Random, limits: bool) -> Quota:
    nominal = random.randint(0, 12) * 1000
    borrowing = random.choice([None, None, None, 0, random.randint(0, 6) * 1000]) if limits else None
    lending = random.choice([None, None, None, 0, random.randint(0, nominal)]) if limits else None
    return Quota(nominal, borrowing, lending)


def budget(random: Random, name: str) -> Budget:
    amounts = {
        (None, "jobs"): random.randint(1, 6),
        (None, "memory"): random.randint(0, 12),
        (None, "cpu"): random.randint(2, 16),
        ("a", "gpu"): random.randint(0, 4),
        ("b", "cpu"): random.randint(0, 8),
    }
    chosen = random.sample(sorted(amounts, key=str), random.randint(1, 3))
    return Budget(name, {key: amounts[key] * 1000 for key in chosen})


def queue(random: Random, name: str, cohorts: list[Cohort], limits: bool) -> ClusterQueue:
    borrow = BorrowWithinCohort(
        random.choice([PreemptionPolicy.NEVER, PreemptionPolicy.NEVER, PreemptionPolicy.LOWER_PRIORITY]),
        random.choice([None, 0, 1]),
    )
    return ClusterQueue(
        name,
        (group(random, limits),),
        random.choice([None, *3 * [each.name for each in cohorts]]),
        Preemption(random.choice(OWN), random.choice(COHORT), borrow),
        random.choice(list(QueueingStrategy)),
        FlavorFungibility(
            random.choice(list(WhenCanBorrow)),
            random.choice(list(WhenCanPreempt)),
            random.choice(list(FungibilityPreference)),
        ),
        random.choice([1000, 1000, 2000, 0]),
    )


def pool(random: Random, flavor: str) -> Pool:
    mode = random.choice(list(PoolMode))
    devices = tuple(Device(f"{flavor}{number}", f"n{number % 2}") for number in range(random.randint(1, 3)))
    return Pool(f"p{flavor}", flavor, mode, devices, random.choice(sorted(GPUS)), random.randint(1, 4))


def workload(random: Random, snapshot: Snapshot, key: str, now: float) -> Workload:
    """Return a workload of one or two pod sets for one of the queues."""
    number = random.randrange(len(snapshot.cluster_queues))
    pods = tuple(pod_set(random, snapshot, f"set{each}") for each in range(random.choice([1, 1, 1, 2])))
    beside = {"jobs": 1000, "memory": random.choice([0, 1000, 3000])}
    return Workload(key, f"q{number}", pods, random.randint(0, 3), now, local_queue=f"l{number}", beside=beside)


def pod_set(random: Random, snapshot: Snapshot, name: str) -> PodSet:
    count = random.choice([1, 1, 2])
    requests = {"cpu": random.randint(0, 4) * 1000, "gpu": random.choice([0, 0, 1, 2]) * 1000}
    device = None
    if snapshot.pools and random.random() < 0.7:
        wanted = random.choice(snapshot.pools)
        profiles = sorted(GPUS[wanted.model].profiles) if wanted.mode is PoolMode.MIG else [""]
        device = DeviceRequest("gpu", random.choice(profiles), random.choice([1, 1, 2]))
        requests["gpu"] = device.count * 500
    return PodSet(
        name,
        count,
        requests,
        random.choice([{}, {}, {}, {}, {"zone": "a"}, {"other": "x"}]),
        random.choice([(), (Toleration("spot", "Exists"),)]),
        random.choice([None, None, None, 1]),
        device,
        {"cpu": 1000} if random.random() < 0.2 else {},
    )
