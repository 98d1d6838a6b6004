"""What lies on a pool's devices, and where the next share goes: all of a workload's shares are placed, or none.

A pod's devices are always on one node. Whole devices and MIG instances are packed, so that what is left stays as large as can
be; turns on time-sliced devices are spread.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from modelops.domains.compute.allocator.devices import GPUS, offers, room, shares_of_device, starts
from modelops.domains.compute.allocator.model import Placed, Pool, PoolMode

_TRIES = 2000
"""How many places are tried for a mixture of shares before it counts as not placeable."""

_SEARCHED = 64
"""The most pods for which other places than the best are tried."""


@dataclass(slots=True, eq=False)
class Held:
    """A share that lies somewhere: on device number `device` of `bay`, from `start` on."""

    bay: "Bay"
    device: int
    profile: str
    start: int
    pod_set: str
    pod: int

    def placed(self) -> Placed:
        """Return it as it is told to others."""
        pool = self.bay.pool
        return Placed(self.pod_set, self.pod, pool.name, pool.devices[self.device].name, self.profile, self.start)


@dataclass(frozen=True, slots=True)
class Need:
    """What a pod needs of a pool, all of it on one node."""

    pod_set: str
    pod: int
    profile: str
    count: int


Spot = tuple[int, int]
"""Device number and start."""


class Bay:
    """A pool's devices and what lies on them; `taken` is a bitmap a device, `blocked` one of what nobody may take for now."""

    __slots__ = ("_counts", "_nodes", "_position", "blocked", "pool", "taken")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.taken = [0 for _ in pool.devices]
        self.blocked: dict[int, int] = {}
        self._counts: list[dict[str, int]] = [{} for _ in pool.devices]
        self._position = {device.name: number for number, device in enumerate(pool.devices)}
        self._nodes: dict[str, list[int]] = {}
        for number, device in enumerate(pool.devices):
            self._nodes.setdefault(device.node, []).append(number)

    def held(self, placed: Placed) -> Held | None:
        """Return what was placed, or nothing where the device or its partitioning is gone."""
        device = self._position.get(placed.device)
        if device is None or not offers(self.pool, placed.profile):
            return None
        return Held(self, device, placed.profile, placed.start, placed.pod_set, placed.pod)

    def take(self, held: Held) -> None:
        """Put it where it lies."""
        self.taken[held.device] |= self._bits(held.profile, held.start)
        counts = self._counts[held.device]
        counts[held.profile] = counts.get(held.profile, 0) + 1

    def free(self, held: Held) -> None:
        """Take it away."""
        self.taken[held.device] &= ~self._bits(held.profile, held.start)
        self._counts[held.device][held.profile] -= 1

    def block(self, held: Held) -> None:
        """Keep a place for somebody who waits for others to go."""
        self.blocked[held.device] = self.blocked.get(held.device, 0) | self._bits(held.profile, held.start)

    def _in_use(self, device: int) -> int:
        return self.taken[device] | self.blocked.get(device, 0) if self.blocked else self.taken[device]

    def place(self, needs: Sequence[Need]) -> list[Held] | None:
        """Put all of it somewhere, or nothing: then `None` is returned.

        The largest go first, each to the best of its places. That is exact for needs that are alike; for a mixture, other
        places are tried where the best lead nowhere, up to a number of them.
        """
        ordered = sorted(needs, key=lambda need: (-self._size(need.profile), -need.count, need.profile))
        done: list[Held] = []
        for need in ordered:
            best = next(iter(self._choices(need)), None)
            if best is None:
                self._undo(done, 0)
                break
            self._put(need, best, done)
        else:
            return done
        mixed = len({(need.profile, need.count) for need in needs}) > 1
        if mixed and len(needs) <= _SEARCHED and self._search(ordered, 0, done, [_TRIES]):
            return done
        return None

    def fits_when_empty(self, needs: Sequence[Need]) -> bool:
        """Tell whether all of it could be placed if nothing lay there."""
        empty = Bay(self.pool)
        return empty.place(needs) is not None

    def _search(self, needs: Sequence[Need], at: int, done: list[Held], tries: list[int]) -> bool:
        if at == len(needs):
            return True
        kept = len(done)
        for choice in self._choices(needs[at]):
            if tries[0] == 0:
                break
            tries[0] -= 1
            self._put(needs[at], choice, done)
            if self._search(needs, at + 1, done, tries):
                return True
            self._undo(done, kept)
        return False

    def _put(self, need: Need, spots: Iterable[Spot], done: list[Held]) -> None:
        for device, start in spots:
            held = Held(self, device, need.profile, start, need.pod_set, need.pod)
            self.take(held)
            done.append(held)

    def _undo(self, done: list[Held], kept: int) -> None:
        while len(done) > kept:
            self.free(done.pop())

    def _choices(self, need: Need) -> list[list[Spot]]:
        """Return the places for a pod, best first; of MIG devices that are alike, only the first."""
        if need.count == 1:
            return [[spot] for _, spot in self._spots(need.profile, range(len(self.taken)))]
        found = []
        for number, members in enumerate(self._nodes.values()):
            spots = self._together(need, members)
            if spots:
                free = sum(self._free_shares(device) for device in members)
                found.append((free, number, spots))
        return [spots for _, _, spots in sorted(found)]

    def _together(self, need: Need, members: Sequence[int]) -> list[Spot] | None:
        """Return where all of a pod's devices lie on one node."""
        done: list[Held] = []
        for _ in range(need.count):
            best = self._spots(need.profile, members)
            if not best:
                break
            self._put(need, [best[0][1]], done)
        spots = [(held.device, held.start) for held in done]
        self._undo(done, 0)
        return spots if len(spots) == need.count else None

    def _spots(self, profile: str, members: Iterable[int]) -> list[tuple[tuple[int, ...], Spot]]:
        """Return where one share may lie, best first, each with its rank."""
        healthy = [device for device in members if self.pool.devices[device].healthy]
        return sorted(self._slices(profile, healthy) if self.pool.mode is PoolMode.MIG else self._turns(healthy))

    def _slices(self, profile: str, members: Iterable[int]) -> Iterator[tuple[tuple[int, ...], Spot]]:
        model = self.pool.model
        limit = GPUS[model].profiles[profile].limit
        seen: set[int] = set()
        for device in members:
            taken = self._in_use(device)
            if taken in seen or self._counts[device].get(profile, 0) >= limit:
                continue
            seen.add(taken)
            for lost, start in starts(model, taken, profile):
                yield (*lost, -taken.bit_count(), device, start), (device, start)

    def _turns(self, members: Iterable[int]) -> Iterator[tuple[tuple[int, ...], Spot]]:
        width = shares_of_device(self.pool)
        free: dict[str, int] = {}
        for node, devices in self._nodes.items():
            free[node] = sum(not self._in_use(device) for device in devices)
        for device in members:
            taken = self._in_use(device)
            if taken.bit_count() < width:
                start = (~taken & (taken + 1)).bit_length() - 1  # the lowest that is not taken
                yield (taken.bit_count(), free[self.pool.devices[device].node], device), (device, start)

    def _bits(self, profile: str, start: int) -> int:
        return ((1 << self._size(profile)) - 1) << start

    def _size(self, profile: str) -> int:
        return GPUS[self.pool.model].profiles[profile].size if profile else 1

    def _free_shares(self, device: int) -> int:
        if self.pool.mode is not PoolMode.MIG:
            return shares_of_device(self.pool) - self.taken[device].bit_count()
        return room(self.pool.model, self.taken[device], min(GPUS[self.pool.model].profiles))
