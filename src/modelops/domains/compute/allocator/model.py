"""What is shared and who wants it: the allocator's snapshot, in Kueue's terms.

Everything is immutable and compares by value. A `Mapping` in it is never changed by the allocator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

UNIT = 1000
"""One CPU, one GPU, one share: quantities are thousandths."""


class PreemptionPolicy(StrEnum):
    """Whom a queue's workload may preempt."""

    NEVER = "Never"
    LOWER_PRIORITY = "LowerPriority"
    LOWER_OR_NEWER_EQUAL_PRIORITY = "LowerOrNewerEqualPriority"
    ANY = "Any"


class QueueingStrategy(StrEnum):
    """`StrictFIFO`: nothing overtakes a head that does not fit. `BestEffortFIFO`: what fits overtakes."""

    STRICT_FIFO = "StrictFIFO"
    BEST_EFFORT_FIFO = "BestEffortFIFO"


class StopPolicy(StrEnum):
    """`Hold`: nothing more is admitted. `HoldAndDrain`: what was admitted is evicted, too."""

    NONE = "None"
    HOLD = "Hold"
    HOLD_AND_DRAIN = "HoldAndDrain"


class WhenCanBorrow(StrEnum):
    """Whether a flavor that fits only by borrowing is taken, or the next is tried first."""

    BORROW = "Borrow"
    TRY_NEXT_FLAVOR = "TryNextFlavor"


class WhenCanPreempt(StrEnum):
    """Whether a flavor that fits only by preemption is taken, or the next is tried first."""

    PREEMPT = "Preempt"
    TRY_NEXT_FLAVOR = "TryNextFlavor"


class FungibilityPreference(StrEnum):
    """Of flavors of which none fits as it is: whether borrowing is better than preemption, or the other way."""

    BORROWING_OVER_PREEMPTION = "BorrowingOverPreemption"
    PREEMPTION_OVER_BORROWING = "PreemptionOverBorrowing"


class FairStrategy(StrEnum):
    """When a queue may preempt another for the sake of a fair share: a victim's queue keeps, after it, at least the share that
    the preemptor's will have (final share), or had, before it, more than that (initial share)."""

    LESS_THAN_OR_EQUAL_TO_FINAL_SHARE = "LessThanOrEqualToFinalShare"
    LESS_THAN_INITIAL_SHARE = "LessThanInitialShare"


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps workloads off a flavor that do not tolerate it. Effects: `NoSchedule`, `NoExecute`, `PreferNoSchedule`."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True)
class Toleration:
    """What a workload puts up with. `operator`: `Equal` or `Exists`; an empty key with `Exists` tolerates everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class ResourceFlavor:
    """A kind of a resource: the nodes that have it, and what they do not put up with."""

    name: str
    node_labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class Quota:
    """What a queue or cohort has of one resource in one flavor.

    `borrowing_limit`: how much more it may use of what others leave (`None`: all of it). `lending_limit`: how much of
    `nominal` others may use (`None`: all of it). Neither counts without a cohort.
    """

    nominal: int
    borrowing_limit: int | None = None
    lending_limit: int | None = None


@dataclass(frozen=True, slots=True)
class FlavorQuotas:
    """The quotas in one flavor, by resource."""

    flavor: str
    resources: Mapping[str, Quota]


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    """Resources that are always taken from the same flavor, and the flavors in the order in which they are tried."""

    covered: tuple[str, ...]
    flavors: tuple[FlavorQuotas, ...]


@dataclass(frozen=True, slots=True)
class BorrowWithinCohort:
    """Whether a workload may preempt others in its cohort although it borrows then, and up to which priority of theirs."""

    policy: PreemptionPolicy = PreemptionPolicy.NEVER
    max_priority_threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Preemption:
    """Whom a queue's workloads may preempt: in their own queue, and those in the cohort that borrow."""

    within_cluster_queue: PreemptionPolicy = PreemptionPolicy.NEVER
    reclaim_within_cohort: PreemptionPolicy = PreemptionPolicy.NEVER
    borrow_within_cohort: BorrowWithinCohort = BorrowWithinCohort()


@dataclass(frozen=True, slots=True)
class FlavorFungibility:
    """When the next flavor is tried although this one would do by borrowing or by preemption."""

    when_can_borrow: WhenCanBorrow = WhenCanBorrow.BORROW
    when_can_preempt: WhenCanPreempt = WhenCanPreempt.TRY_NEXT_FLAVOR
    preference: FungibilityPreference = FungibilityPreference.BORROWING_OVER_PREEMPTION


@dataclass(frozen=True, slots=True)
class ClusterQueue:
    """A queue with quota. `fair_weight` in thousandths; 0: everybody else goes first."""

    name: str
    groups: tuple[ResourceGroup, ...] = ()
    cohort: str | None = None
    preemption: Preemption = Preemption()
    strategy: QueueingStrategy = QueueingStrategy.BEST_EFFORT_FIFO
    fungibility: FlavorFungibility = FlavorFungibility()
    fair_weight: int = UNIT
    stop_policy: StopPolicy = StopPolicy.NONE


@dataclass(frozen=True, slots=True)
class Cohort:
    """Queues and cohorts that share what they leave, and what the cohort has of its own. One that is only named by its members
    need not be listed."""

    name: str
    parent: str | None = None
    groups: tuple[ResourceGroup, ...] = ()
    fair_weight: int = UNIT


@dataclass(frozen=True, slots=True)
class Budget:
    """What its holder may hold at once over all the local queues that name it, by flavor (none: in all of them together) and
    resource; no preemption gets a workload past it. `told`: what people call the holder. (Kueue has no budgets.)"""

    name: str
    limits: Mapping[tuple[str | None, str], int]
    told: str = ""


@dataclass(frozen=True, slots=True)
class LocalQueue:
    """A project's way into a cluster queue. `limits`: what its workloads may hold at once of a resource, in all flavors: a
    budget of its own. `budgets`: the names of those that it is charged to besides."""

    name: str
    cluster_queue: str
    limits: Mapping[str, int] = field(default_factory=dict)
    stop_policy: StopPolicy = StopPolicy.NONE
    budgets: tuple[str, ...] = ()


class PoolMode(StrEnum):
    """How a pool's devices are shared: not at all, in slices of their own, or in turns (best-effort: nothing is guaranteed)."""

    WHOLE = "WHOLE"
    MIG = "MIG"
    TIME_SLICE = "TIME_SLICE"


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU. `healthy`: whether anything new may be placed on it."""

    name: str
    node: str = ""
    healthy: bool = True


@dataclass(frozen=True, slots=True)
class Pool:
    """The devices behind a flavor. `model`: the key of a GPU in `devices.GPUS`, needed for MIG."""

    name: str
    flavor: str
    mode: PoolMode
    devices: tuple[Device, ...]
    model: str = ""
    timeslice_replicas: int = 1


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What every pod of a set needs of a device.

    `resource`: the requested resource whose flavor tells the pool. `profile`: a MIG profile such as `2g.12gb`; empty for
    whole GPUs and for shares of a time-sliced one. `count`: how many per pod.
    """

    resource: str
    profile: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class PodSet:
    """Pods that are alike. `requests` are per pod, `once` is needed however many they are. `min_count`: with how few it may
    start, where it may at all."""

    name: str
    count: int
    requests: Mapping[str, int]
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    min_count: int | None = None
    device: DeviceRequest | None = None
    once: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is admitted as a whole or not at all. `queued_at`: takes the place of `created_at` in the order of a queue when it
    was put back at its end; what was preempted keeps its place and has none. `beside`: what it counts for in budgets alone."""

    key: str
    queue: str
    pod_sets: tuple[PodSet, ...]
    priority: int = 0
    created_at: float = 0.0
    queued_at: float | None = None
    local_queue: str = ""
    beside: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The flavors of a pod set, by resource, and with how many pods it was admitted."""

    pod_set: str
    count: int
    flavors: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one share lies: on `device` of `pool`, from memory slice `start` on where it is a MIG instance, else as replica
    number `start` of a time-sliced device (0 of a whole one)."""

    pod_set: str
    pod: int
    pool: str
    device: str
    profile: str = ""
    start: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """That a workload holds its quota since `admitted_at`, and where its shares lie."""

    key: str
    queue: str
    admitted_at: float
    assignments: tuple[Assignment, ...]
    placed: tuple[Placed, ...] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A workload that holds quota. `evicted`: it was told to go, and holds its quota until it is gone."""

    workload: Workload
    admission: Admission
    evicted: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision depends on. `fair_strategies`: fair sharing is on where there are any, tried in order."""

    flavors: tuple[ResourceFlavor, ...] = ()
    cluster_queues: tuple[ClusterQueue, ...] = ()
    cohorts: tuple[Cohort, ...] = ()
    local_queues: tuple[LocalQueue, ...] = ()
    pools: tuple[Pool, ...] = ()
    pending: tuple[Workload, ...] = ()
    admitted: tuple[Admitted, ...] = ()
    fair_strategies: tuple[FairStrategy, ...] = ()
    budgets: tuple[Budget, ...] = ()
