"""Simulations in virtual time: what would become of a load of workloads, and how much of their work preemption costs.

Whatever is told to go is gone at once, waits again in its old place, and goes on from its last checkpoint when it is admitted
again; what it did since then is lost.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from modelops.domains.compute.allocator.decisions import Decisions
from modelops.domains.compute.allocator.engine import Engine
from modelops.domains.compute.allocator.model import (
    UNIT,
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


@dataclass(frozen=True, slots=True)
class Job:
    """A workload that comes at its `created_at`, and how long it runs, in milliseconds. `kind` is what reports sum up by."""

    workload: Workload
    runs_ms: int
    kind: str


@dataclass(frozen=True, slots=True)
class Load:
    """Queues and what comes to them. `checkpoint_ms`: a checkpoint is taken after every so much of running (none: never)."""

    snapshot: Snapshot
    jobs: tuple[Job, ...]
    checkpoint_ms: int | None


@dataclass(slots=True)
class Outcome:
    """What became of a load. `busy` and `lost` are requested quantities (of all resources) times milliseconds."""

    admissions: int = 0
    preemptions: int = 0
    finished: int = 0
    ended_ms: int = 0
    busy: int = 0
    lost: int = 0
    waited_ms: dict[str, list[int]] = field(default_factory=dict)

    @property
    def lost_fraction(self) -> float:
        """Which part of the busy time was lost to preemption."""
        return self.lost / self.busy if self.busy else 0.0


@dataclass(slots=True)
class _Course:
    job: Job
    amount: int
    done_ms: int = 0
    since_ms: int | None = None
    attempt: int = 0


def simulate(load: Load, watch: Callable[[Engine, Decisions], None] | None = None) -> Outcome:
    """Run a load to its end.

    Args:
        load: The queues, and what comes when.
        watch: Called after every settling that decided something, for those who check it.
    """
    engine = Engine(load.snapshot)
    return _Run(engine, load, watch).to_end()


class _Run:
    def __init__(self, engine: Engine, load: Load, watch: Callable[[Engine, Decisions], None] | None) -> None:
        self._engine = engine
        self._watch = watch
        self._checkpoint_ms = load.checkpoint_ms
        self._outcome = Outcome()
        self._courses = {job.workload.key: _Course(job, _amount(job.workload)) for job in load.jobs}
        self._ends: list[tuple[int, str, int]] = []
        came = [(round(job.workload.created_at * 1000), job.workload.key) for job in load.jobs]
        self._coming = sorted(came, reverse=True)

    def to_end(self) -> Outcome:
        ends, coming, engine = self._ends, self._coming, self._engine
        while ends or coming:
            now = min(each[0][0] for each in (ends, coming[-1:]) if each)
            while ends and ends[0][0] == now:
                _, key, attempt = heappop(ends)
                self._end(key, attempt, now)
            while coming and coming[-1][0] == now:
                engine.submit(self._courses[coming.pop()[1]].job.workload)
            while True:
                found = engine.settle(now / 1000)
                if self._watch is not None:
                    self._watch(engine, found)
                self._begin(found, now)
                if not found.evicted:
                    break
                for eviction in found.evicted:
                    self._preempt(eviction.key, now)
        return self._outcome

    def _end(self, key: str, attempt: int, now: int) -> None:
        course = self._courses[key]
        if attempt == course.attempt and course.since_ms is not None:
            self._engine.release(key)
            self._outcome.busy += course.amount * (now - course.since_ms)
            self._outcome.finished += 1
            self._outcome.ended_ms = now
            course.since_ms = None

    def _begin(self, found: Decisions, now: int) -> None:
        self._outcome.admissions += len(found.admitted)
        for admission in found.admitted:
            course = self._courses[admission.key]
            if course.attempt == 0:
                came = round(course.job.workload.created_at * 1000)
                self._outcome.waited_ms.setdefault(course.job.kind, []).append(now - came)
            course.attempt += 1
            course.since_ms = now
            heappush(self._ends, (now + course.job.runs_ms - course.done_ms, admission.key, course.attempt))

    def _preempt(self, key: str, now: int) -> None:
        course = self._courses[key]
        ran = now - (now if course.since_ms is None else course.since_ms)
        every = self._checkpoint_ms
        done = course.done_ms + ran
        kept = 0 if every is None else done // every * every
        self._outcome.preemptions += 1
        self._outcome.busy += course.amount * ran
        self._outcome.lost += course.amount * (done - kept)
        course.done_ms = kept
        course.since_ms = None
        self._engine.release(key)
        self._engine.submit(course.job.workload)


def _amount(workload: Workload) -> int:
    return sum(each.count * amount for each in workload.pod_sets for amount in each.requests.values())


@dataclass(frozen=True, slots=True)
class Kind:
    """Workloads that are alike: how many a queue gets, how often one comes, how long it runs, its priority and its CPUs."""

    name: str
    count: int
    every_ms: int
    runs_ms: int
    priority: int
    cpus: int


BASELINE = (
    Kind("small", 350, 100, 200, 50, 1),
    Kind("medium", 100, 500, 500, 100, 5),
    Kind("large", 50, 1200, 1000, 200, 20),
)
"""What each queue gets in the baseline of Kueue's performance test (`test/performance/scheduler/configs/baseline`)."""


def baseline(checkpoint_ms: int | None, *, cohorts: int = 5, queues: int = 6, kinds: Iterable[Kind] = BASELINE) -> Load:
    """Return Kueue's baseline: by default 15,000 workloads, 30 queues of 20 CPUs in five cohorts, each of which may borrow 100
    more, reclaims from any and preempts lower priorities of its own."""
    quota = FlavorQuotas("rf", {"cpu": Quota(20 * UNIT, 100 * UNIT)})
    policy = Preemption(PreemptionPolicy.LOWER_PRIORITY, PreemptionPolicy.ANY)
    specs = []
    jobs = []
    for cohort in range(cohorts):
        for number in range(queues):
            name = f"cohort-{cohort}-cq-{number}"
            specs.append(ClusterQueue(name, (ResourceGroup(("cpu",), (quota,)),), f"cohort-{cohort}", policy))
            for kind in kinds:
                pods = (PodSet("main", 1, {"cpu": kind.cpus * UNIT}),)
                for each in range(kind.count):
                    key = f"{name}-{kind.name}-{each:04}"
                    came = (each + 1) * kind.every_ms / 1000
                    jobs.append(Job(Workload(key, name, pods, kind.priority, came), kind.runs_ms, kind.name))
    return Load(Snapshot((ResourceFlavor("rf"),), tuple(specs)), tuple(jobs), checkpoint_ms)
