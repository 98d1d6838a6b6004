"""Payloads of pools, queues and workloads.

Resources are counted as jobs ask for them: `cpus` in threads, `memory_mb` in MiB, `gpu_shares` in shares of a pool's devices: a
whole GPU, a turn of a time-sliced one, or a compute slice of a GPU that is parted by MIG.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelops.contracts.schemas import Json, Key, Name, Schema, Text, UtcTime
from modelops.domains.compute.allocator.model import (
    PoolMode,
    PreemptionPolicy,
    QueueingStrategy,
    StopPolicy,
    WhenCanBorrow,
    WhenCanPreempt,
)

Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
"""How much of a resource, down to a thousandth."""

Label = Annotated[str, Field(max_length=253, pattern=r"^[^\x00]*$")]
Labels = Annotated[dict[Key, Label], Field(max_length=50)]
MigProfile = Annotated[str, Field(max_length=40, pattern=r"^[1-9]g\.[0-9]+gb(\+[a-z.]+)?$")]
"""A slice of a GPU, as NVIDIA names it: `1g.10gb`."""


class Resource(StrEnum):
    """What quotas are of."""

    CPUS = "cpus"
    MEMORY_MB = "memory_mb"
    GPU_SHARES = "gpu_shares"


class TolerationSpec(Schema):
    """A taint that work puts up with, as Kubernetes has it on pods."""

    key: Label = ""
    operator: Annotated[str, Field(pattern=r"^(Equal|Exists)$")] = "Equal"
    value: Label = ""
    effect: Annotated[str, Field(pattern=r"^(|NoSchedule|NoExecute|PreferNoSchedule)$")] = ""


class FlavorSpec(Schema):
    """A kind of resource: the nodes that have it, and what jobs must tolerate there."""

    node_labels: Labels = {}
    tolerations: Annotated[list[TolerationSpec], Field(max_length=50)] = []


class Flavor(Schema):
    """A kind of resource that queues have quotas of. `pool` is the one that provides it, if one does."""

    id: str
    name: str
    pool: str | None
    node_labels: dict[str, str]
    tolerations: list[TolerationSpec]
    created_at: UtcTime
    created_by: str
    revision: int


class PoolSpec(Schema):
    """GPUs that are alike, and how they are shared: `WHOLE`, in slices of their own (`MIG`), or in turns (`TIME_SLICE`: best
    effort, nothing keeps one from the other's memory or time)."""

    mode: PoolMode
    gpu_count: Annotated[int, Field(ge=1, le=10_000)]
    gpu_model: Annotated[str, Field(max_length=60, description="Such as `A100-80GB`; MIG needs it.")] = ""
    timeslice_replicas: Annotated[int, Field(ge=1, le=1_000, description="How many share one GPU in turns.")] = 1
    gpu_resource_name: Annotated[
        str | None,
        Field(
            max_length=250,
            description="What a cluster calls it; by default `nvidia.com/gpu` or `nvidia.com/mig-PROFILE`.",
        ),
    ] = None
    node_selector: Labels = {}
    tolerations: Annotated[list[TolerationSpec], Field(max_length=50)] = []
    cordoned: Annotated[
        list[Annotated[int, Field(ge=0)]], Field(max_length=10_000, description="GPUs, from 0, that get nothing new.")
    ] = []
    device_names: Annotated[
        dict[Key, Key],
        Field(
            max_length=10_000,
            description="What devices are called on this machine: `0`, or `0/1g.10gb/4` for the slice that begins at memory "
            "slice 4 of GPU 0 -> what `CUDA_VISIBLE_DEVICES` takes.",
        ),
    ] = {}


class Pool(Schema):
    """A pool, how much it has and how much of it is allocated, in shares. `pending` counts workloads that wait and could run
    there. `best_effort` is true of time slicing. Its flavor has its name."""

    id: str
    name: str
    mode: PoolMode
    best_effort: bool
    gpu_model: str
    gpu_count: int
    timeslice_replicas: int
    gpu_resource_name: str | None
    node_selector: dict[str, str]
    tolerations: list[TolerationSpec]
    cordoned: list[int]
    device_names: dict[str, str]
    capacity_shares: int
    allocated_shares: int
    pending: int
    created_at: UtcTime
    created_by: str
    revision: int


class PoolAllocation(Schema):
    """What a job holds of a pool: on which GPU (from 0), and where on it: the first memory slice of a MIG instance, the turn
    of a time-sliced GPU, 0 of a whole one."""

    pool: str
    device: int
    position: int
    profile: str
    shares: int
    workload_id: str
    job_id: str
    tenant_id: str
    project_id: str
    since: UtcTime


class QuotaSpec(Schema):
    """How much of a resource: `nominal` is one's own, `borrowing_limit` how much more of what others in the cohort leave (null:
    all), `lending_limit` how much of one's own they may use (null: all)."""

    nominal: Amount
    borrowing_limit: Amount | None = None
    lending_limit: Amount | None = None


class FlavorQuotas(Schema):
    """The quotas of a flavor, by resource."""

    flavor: Name
    quotas: Annotated[dict[Resource, QuotaSpec], Field(min_length=1)]


class ResourceGroup(Schema):
    """Resources that are taken from the same flavor, the first in this order that fits. Each flavor has the same resources."""

    flavors: Annotated[list[FlavorQuotas], Field(min_length=1, max_length=16)]


Groups = Annotated[list[ResourceGroup], Field(max_length=16)]


class PreemptionSpec(Schema):
    """Who must give way to this queue's workloads: in the queue itself, others of the cohort that borrow, and these even while
    this queue borrows, up to a priority."""

    within_cluster_queue: PreemptionPolicy = PreemptionPolicy.NEVER
    reclaim_within_cohort: PreemptionPolicy = PreemptionPolicy.NEVER
    borrow_within_cohort: PreemptionPolicy = PreemptionPolicy.NEVER
    max_priority_threshold: Annotated[int | None, Field(ge=-(2**31), lt=2**31)] = None


class ClusterQueueSpec(Schema):
    """A queue with quotas. With a `tenant`, it is that tenant's alone: its quota. `fair_weight` is its part in a cohort where
    shares are fair."""

    tenant: Annotated[str | None, Field(min_length=1, max_length=250, description="By name or id.")] = None
    cohort: Name | None = None
    groups: Groups = []
    preemption: PreemptionSpec = PreemptionSpec()
    strategy: QueueingStrategy = QueueingStrategy.BEST_EFFORT_FIFO
    when_can_borrow: WhenCanBorrow = WhenCanBorrow.BORROW
    when_can_preempt: WhenCanPreempt = WhenCanPreempt.TRY_NEXT_FLAVOR
    fair_weight: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 1.0
    stop_policy: StopPolicy = StopPolicy.NONE


class Usage(Schema):
    """How much of a quota is used; what is beyond `nominal` is borrowed."""

    flavor: str
    resource: Resource
    nominal: float
    used: float
    borrowed: float


class ClusterQueue(Schema):
    """A queue with quotas, what is used of them, and how many workloads wait and are admitted."""

    id: str
    name: str
    tenant_id: str | None
    cohort: str | None
    groups: list[ResourceGroup]
    preemption: PreemptionSpec
    strategy: QueueingStrategy
    when_can_borrow: WhenCanBorrow
    when_can_preempt: WhenCanPreempt
    fair_weight: float
    stop_policy: StopPolicy
    usage: list[Usage]
    pending: int
    admitted: int
    created_at: UtcTime
    created_by: str
    revision: int


class CohortSpec(Schema):
    """Queues, and cohorts below, that lend each other what they leave; and quotas of its own that they share."""

    parent: Name | None = None
    groups: Groups = []
    fair_weight: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 1.0


class Cohort(Schema):
    """A cohort, with the queues that belong to it."""

    id: str
    name: str
    parent: str | None
    groups: list[ResourceGroup]
    fair_weight: float
    cluster_queues: list[str]
    created_at: UtcTime
    created_by: str
    revision: int


class QueueSpec(Schema):
    """A project's way into a cluster queue. `limits` are the project's quota: what its workloads hold at most at a time."""

    cluster_queue: Name
    limits: dict[Resource, Amount] = {}
    stop_policy: StopPolicy = StopPolicy.NONE


class Queue(Schema):
    """A project's queue, and what its workloads hold of each resource."""

    id: str
    project_id: str
    name: str
    cluster_queue: str
    limits: dict[Resource, float]
    stop_policy: StopPolicy
    used: dict[Resource, float]
    pending: int
    admitted: int
    created_at: UtcTime
    created_by: str
    revision: int


class QuotaScope(StrEnum):
    """Whose a quota is: a tenant's, over all its projects and queues, or one project's."""

    TENANT = "tenant"
    PROJECT = "project"


class QuotaResource(StrEnum):
    """What a tenant's or project's quota limits: how many jobs run at a time, and what they hold together."""

    JOBS = "jobs"
    CPUS = "cpus"
    MEMORY_MB = "memory_mb"
    GPU_SHARES = "gpu_shares"


class QuotaLimit(Schema):
    """The most of a resource: of one flavor (a pool's has its name), or in all together."""

    resource: QuotaResource
    flavor: Name | None = None
    limit: Amount


class QuotaLimits(Schema):
    """What a tenant or a project holds at most at a time. What is not named is not limited."""

    limits: Annotated[list[QuotaLimit], Field(min_length=1, max_length=100)]


class QuotaUsage(Schema):
    """A limit, and how much of it jobs hold. More than the limit where it was lowered: nothing is ended for it."""

    resource: QuotaResource
    flavor: str | None
    limit: float
    used: float


class Quota(Schema):
    """What a tenant, or with a `project` one of its projects, holds at most at a time, over all its queues."""

    id: str
    scope: QuotaScope
    tenant_id: str
    tenant: str
    project_id: str | None
    project: str | None
    limits: list[QuotaUsage]
    created_at: UtcTime
    created_by: str
    revision: int


class PriorityClassSpec(Schema):
    """What a priority is called. Higher values go first; without a class, a workload has 0."""

    value: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    description: Text = ""


class PriorityClass(Schema):
    """A priority by name."""

    id: str
    name: str
    value: int
    description: str
    created_at: UtcTime
    created_by: str
    revision: int


class WorkloadState(StrEnum):
    """`pending` -> `admitted` -> `finished`; `preempting` while an admitted one gives way, on its way back to `pending`."""

    PENDING = "pending"
    ADMITTED = "admitted"
    PREEMPTING = "preempting"
    FINISHED = "finished"


class WorkloadRequest(Schema):
    """What a job wants of a queue; `queue` may be left out where the project has one queue that fits."""

    queue: str | None = None
    pool: str | None = None
    priority: str | None = None
    cpus: float | None = None
    memory_mb: float | None = None
    gpu_shares: int = 0
    min_gpu_shares: int | None = None
    mig_profile: str | None = None


class Workload(Schema):
    """A job in a queue. `requests` is what it counts for; `flavors` where from, once it is admitted. With `min_device_count`,
    so few of its `device_count` GPUs, turns or MIG instances will do, and `requests` are of those that it got. `preemptions`
    counts how often it gave way."""

    id: str
    project_id: str
    job_id: str
    queue: str
    cluster_queue: str
    pool: str | None
    priority_class: str | None
    priority: int
    requests: dict[Resource, float]
    mig_profile: str | None
    device_count: int
    min_device_count: int | None
    state: WorkloadState
    reason: str | None
    flavors: dict[Resource, str]
    allocations: list[PoolAllocation]
    preemptions: int
    not_before: UtcTime | None
    admitted_at: UtcTime | None
    ended_at: UtcTime | None
    created_at: UtcTime
    created_by: str
    revision: int


class Wait(Schema):
    """One thing that a workload waits for: a sentence, and the facts behind it, quantities in thousandths."""

    reason: str
    sentence: str
    facts: dict[str, Json]


class Waiting(Schema):
    """Why a workload waits, what would let it run, and its place in its queue, from 1."""

    workload_id: str
    queue: str
    cluster_queue: str
    state: WorkloadState
    position: int | None
    waits: list[Wait]
    remedies: list[str]
