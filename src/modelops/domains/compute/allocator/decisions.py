"""What the allocator answers: who is admitted, who gives way, and why something waits."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelops.domains.compute.allocator.model import Admission


class EvictionReason(StrEnum):
    """Why an admitted workload gives way (the first four are Kueue's reasons of a preemption)."""

    IN_CLUSTER_QUEUE = "InClusterQueue"
    IN_COHORT_RECLAMATION = "InCohortReclamation"
    IN_COHORT_RECLAIM_WHILE_BORROWING = "InCohortReclaimWhileBorrowing"
    IN_COHORT_FAIR_SHARING = "InCohortFairSharing"
    STOPPED = "Stopped"


@dataclass(frozen=True, slots=True)
class Eviction:
    """That a workload must go, for the sake of `preemptor` (none where its queue was stopped). It holds its quota until
    `Engine.release` is called, or it is not in the next snapshot any more."""

    key: str
    queue: str
    reason: EvictionReason
    preemptor: str | None = None
    preemptor_queue: str | None = None


class WaitReason(StrEnum):
    """Why a workload is not admitted."""

    AHEAD = "ahead"
    QUEUE_UNKNOWN = "queue_unknown"
    QUEUE_STOPPED = "queue_stopped"
    LOCAL_LIMIT = "local_limit"
    OVER_QUOTA = "over_quota"
    RESOURCE_NOT_COVERED = "resource_not_covered"
    FLAVOR_UNKNOWN = "flavor_unknown"
    FLAVOR_MISMATCH = "flavor_mismatch"
    ABOVE_CAPACITY = "above_capacity"
    QUOTA_USED = "quota_used"
    NO_PLACEMENT = "no_placement"
    NO_VICTIMS = "no_victims"
    PREEMPTING = "preempting"
    OVERTAKEN = "overtaken"


@dataclass(frozen=True, slots=True)
class Wait:
    """One reason why a workload waits: a sentence, and the facts behind it (plain JSON values; quantities in thousandths)."""

    reason: WaitReason
    sentence: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a workload waits, what would let it run, and its place in its queue (from 1; none where it does not wait)."""

    key: str
    admitted: bool
    position: int | None
    waits: tuple[Wait, ...]
    remedies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is to be written: quota that was given, and workloads that must go. `waiting`: the keys of those that were tried
    in vain, of several alike only the first; `explaining.why` tells the reasons."""

    admitted: tuple[Admission, ...]
    evicted: tuple[Eviction, ...]
    waiting: tuple[str, ...]
