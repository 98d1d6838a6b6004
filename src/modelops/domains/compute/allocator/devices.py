"""Where shares lie on devices: whole GPUs, turns on one, and MIG instances, which fit only where the hardware lets them begin.

The positions are those of `nvidia-smi mig -lgipp` and NVIDIA's MIG user guide
(https://docs.nvidia.com/datacenter/tesla/mig-user-guide/supported-mig-profiles.html). A bit of a GPU's bitmap is one slice of
its memory; its compute slices need no bitmap of their own, since no legal set of positions asks for more than there are.
"""

from dataclasses import dataclass
from functools import cache

from modelops.domains.compute.allocator.model import Pool, PoolMode


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of MIG instance: its compute slices, its memory slices, where it may begin, and how many a GPU may have."""

    name: str
    shares: int
    size: int
    starts: tuple[int, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """A model of a GPU: how many compute slices (shares) and memory slices it has, and its profiles by name."""

    shares: int
    slices: int
    profiles: dict[str, Profile]


def _profiles(*rows: tuple[str, int, int, tuple[int, ...], int]) -> dict[str, Profile]:
    return {row[0]: Profile(*row) for row in rows}


def _seven(one: str, one_wide: str, two: str, three: str, four: str, seven: str) -> Gpu:
    """Return a GPU of seven compute and eight memory slices; what is given is the memory of each profile."""
    anywhere, pairs = (0, 1, 2, 3, 4, 5, 6), (0, 2, 4, 6)
    return Gpu(
        7,
        8,
        _profiles(
            (f"1g.{one}", 1, 1, anywhere, 7),
            (f"1g.{one}+me", 1, 1, anywhere, 1),
            (f"1g.{one_wide}", 1, 2, pairs, 4),
            (f"2g.{two}", 2, 2, (0, 2, 4), 3),
            (f"3g.{three}", 3, 4, (0, 4), 2),
            (f"4g.{four}", 4, 4, (0,), 1),
            (f"7g.{seven}", 7, 8, (0,), 1),
        ),
    )


GPUS: dict[str, Gpu] = {
    "A30": Gpu(
        4,
        4,
        _profiles(
            ("1g.6gb", 1, 1, (0, 1, 2, 3), 4),
            ("1g.6gb+me", 1, 1, (0, 1, 2, 3), 1),
            ("2g.12gb", 2, 2, (0, 2), 2),
            ("2g.12gb+me", 2, 2, (0, 2), 1),
            ("4g.24gb", 4, 4, (0,), 1),
        ),
    ),
    "A100-40GB": _seven("5gb", "10gb", "10gb", "20gb", "20gb", "40gb"),
    "A100-80GB": _seven("10gb", "20gb", "20gb", "40gb", "40gb", "80gb"),
    "H100-80GB": _seven("10gb", "20gb", "20gb", "40gb", "40gb", "80gb"),
    "H100-96GB": _seven("12gb", "24gb", "24gb", "48gb", "48gb", "96gb"),
    "H200-141GB": _seven("18gb", "35gb", "35gb", "71gb", "71gb", "141gb"),
}
"""The GPUs that can be partitioned, by the name that a pool gives as its `model`."""


def shares_of_device(pool: Pool) -> int:
    """Return how many shares one of a pool's devices has: 1 whole, its compute slices, or its replicas."""
    if pool.mode is PoolMode.MIG:
        return GPUS[pool.model].shares
    return pool.timeslice_replicas if pool.mode is PoolMode.TIME_SLICE else 1


def shares_of_pool(pool: Pool) -> int:
    """Return how many shares a pool has in all."""
    return shares_of_device(pool) * len(pool.devices)


def offers(pool: Pool, profile: str) -> bool:
    """Tell whether a pool's devices can be asked for `profile` (empty: a whole GPU, or a turn on one)."""
    if pool.mode is PoolMode.MIG:
        return pool.model in GPUS and profile in GPUS[pool.model].profiles
    return not profile


@cache
def room(model: str, taken: int, profile: str) -> int:
    """Return how many instances of a profile still fit on a GPU whose slices `taken` (a bitmap) are in use."""
    kind = GPUS[model].profiles[profile]
    fitting = sum(1 for start in kind.starts if not taken & (((1 << kind.size) - 1) << start))
    return min(fitting, kind.limit)  # the positions of one profile never overlap one another


@cache
def starts(model: str, taken: int, profile: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Return where a profile may begin, best first, each with what is lost by it.

    What is lost is how many instances fewer will fit afterwards, of the largest profile first: so that what is left stays as
    large as can be.
    """
    gpu = GPUS[model]
    kind = gpu.profiles[profile]
    largest_first = sorted(gpu.profiles.values(), key=lambda each: (-each.size, -each.shares, each.name))
    found = []
    for start in kind.starts:
        bits = ((1 << kind.size) - 1) << start
        if not taken & bits:
            lost = tuple(room(model, taken, each.name) - room(model, taken | bits, each.name) for each in largest_first)
            found.append((lost, start))
    return tuple(sorted(found))
