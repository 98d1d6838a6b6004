"""Decisions about pools and queues, without a database."""

from collections.abc import Mapping, Sequence

from modelops.contracts.errors import Conflict, InvalidInput, MLOpsError
from modelops.domains.compute.allocator.model import UNIT, PoolMode
from modelops.domains.compute.schemas import (
    PoolSpec,
    QuotaLimit,
    QuotaResource,
    Resource,
    ResourceGroup,
    WorkloadRequest,
)

POOL_LABEL = "modelops/pool"
"""The label that a pool's flavor has, by which a job is kept to the pool."""

MOST_QUEUED_JOBS = 100_000


class ComputeError(MLOpsError):
    """What is asked of the pools cannot be."""

    code, status, title = "compute_error", 409, "The pools refuse"


class InUse(Conflict):
    """Work depends on it."""

    code, title = "compute.in_use", "It is in use"


def thousandths(amount: float) -> int:
    """Return an amount as the allocator counts it."""
    return round(amount * UNIT)


def amount(thousandths: int) -> float:
    """Return what people read of a count of the allocator."""
    return thousandths / UNIT


def slices_of(profile: str) -> int:
    """Return how many compute slices a MIG profile has: `3g.40gb` has 3."""
    return int(profile.partition("g")[0])


def least_of(asked: WorkloadRequest) -> int | None:
    """Return with how few devices work may begin; None where it needs all.

    Raises:
        InvalidInput: that is more than it asks for.
    """
    least = asked.min_gpu_shares
    if least is not None and least > asked.gpu_shares:
        raise InvalidInput(
            f"`min_gpu_shares` is {least}, and {asked.gpu_shares} are asked for.",
            hint="Ask for the most that it can use in `gpu_shares`, and for the least that will do in `min_gpu_shares`.",
        )
    return None if least == asked.gpu_shares else least


def covered(groups: Sequence[ResourceGroup]) -> frozenset[Resource]:
    """Return the resources that groups have quotas of."""
    return frozenset(resource for group in groups for resource in group.flavors[0].quotas)


def check_groups(groups: Sequence[ResourceGroup], flavors: frozenset[str]) -> None:
    """Refuse groups that the allocator could not read.

    Raises:
        InvalidInput: a flavor is unknown or named twice, the flavors of a group are of different resources, or two groups
            are of the same one.
    """
    seen: set[Resource] = set()
    names: set[str] = set()
    for group in groups:
        resources = set(group.flavors[0].quotas)
        for one in group.flavors:
            if one.flavor not in flavors:
                raise InvalidInput(
                    f"There is no flavor '{one.flavor}'.", hint="Make a pool or a flavor first: mops pools set-pool"
                )
            if one.flavor in names:
                raise InvalidInput(f"The flavor '{one.flavor}' is named twice; once is enough.")
            if set(one.quotas) != resources:
                raise InvalidInput(
                    "The flavors of a group have quotas of different resources.",
                    hint="Give each flavor of the group a quota of the same resources, 0 where it has none.",
                )
            names.add(one.flavor)
        if both := resources & seen:
            raise InvalidInput(f"Two groups have quotas of '{min(both)}'; a resource belongs to one.")
        seen |= resources


def check_limits(limits: Sequence[QuotaLimit], flavors: frozenset[str]) -> None:
    """Refuse limits of a quota that contradict each other.

    Raises:
        InvalidInput: a flavor is unknown, jobs are limited in one, or something is limited twice.
    """
    seen: set[tuple[str, str | None]] = set()
    for one in limits:
        if one.flavor is not None and one.resource is QuotaResource.JOBS:
            raise InvalidInput("Jobs are counted whatever flavors they hold: leave the flavor out.")
        if one.flavor is not None and one.flavor not in flavors:
            raise InvalidInput(f"There is no flavor '{one.flavor}'.", hint="mops pools list; mops flavors list")
        if (one.resource, one.flavor) in seen:
            raise InvalidInput(f"'{one.resource}' is limited twice; once is enough.")
        seen.add((one.resource, one.flavor))


def check_tree(name: str, parent: str | None, parents: Mapping[str, str | None]) -> None:
    """Refuse a parent that makes cohorts their own ancestors.

    Raises:
        InvalidInput: it does.
    """
    above, passed = parent, {name}
    while above is not None:
        if above in passed:
            raise InvalidInput(f"The cohort '{name}' would be its own ancestor, by '{above}'.")
        passed.add(above)
        above = parents.get(above)


def check_pool(spec: PoolSpec) -> None:
    """Refuse a pool that contradicts itself.

    Raises:
        InvalidInput: it does.
    """
    if spec.mode is not PoolMode.TIME_SLICE and spec.timeslice_replicas != 1:
        raise InvalidInput("Only a pool of the mode TIME_SLICE has `timeslice_replicas`.")
    if spec.mode is PoolMode.TIME_SLICE and spec.timeslice_replicas < 2:
        raise InvalidInput("A time-sliced pool needs `timeslice_replicas` of 2 or more.")
    if beyond := [device for device in spec.cordoned if device >= spec.gpu_count]:
        raise InvalidInput(f"There is no GPU {beyond[0]}: they are counted from 0 to {spec.gpu_count - 1}.")
    if bad := [name for name in spec.device_names if not name.partition("/")[0].isdecimal()]:
        raise InvalidInput(f"'{bad[0]}' names no device; write `0`, or `0/1g.10gb/4`.")
