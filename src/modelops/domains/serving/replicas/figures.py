"""What replicas count, as they tell it, and what follows from two such tellings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spread:
    """A histogram: how many durations lay at or below each bound, in seconds, but above the one before; the last is
    for those beyond all bounds. `total_s` is their sum."""

    bounds_s: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    total_s: float = 0.0

    def since(self, before: "Spread") -> "Spread":
        """Return what was counted since; all of it where the counting began anew."""
        if before.bounds_s != self.bounds_s:
            return self
        grown = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return self if min(grown, default=0) < 0 else Spread(self.bounds_s, grown, self.total_s - before.total_s)

    def quantile_ms(self, share: float) -> float | None:
        """Return a quantile in milliseconds, as if durations lay evenly within each bucket; None where nothing was
        counted. One beyond all bounds reads as the highest bound."""
        total = sum(self.counts)
        if total == 0:
            return None
        rank, below = share * total, 0
        for index, count in enumerate(self.counts):
            if count and below + count >= rank:
                low = self.bounds_s[index - 1] if index else 0.0
                high = self.bounds_s[min(index, len(self.bounds_s) - 1)]
                return 1000 * (low + max(0.0, high - low) * (rank - below) / count)
            below += count
        return 1000 * self.bounds_s[-1]


def together(spreads: Iterable[Spread]) -> Spread:
    """Add histograms of the same bounds; those without bounds count for nothing."""
    found = [spread for spread in spreads if spread.bounds_s]
    if not found:
        return Spread()
    alike = [spread for spread in found if spread.bounds_s == found[0].bounds_s]
    counts = tuple(sum(column) for column in zip(*(spread.counts for spread in alike), strict=True))
    return Spread(found[0].bounds_s, counts, sum(spread.total_s for spread in alike))


@dataclass(frozen=True)
class Counted:
    """What was counted of one variant: requests answered, those of them that failed on our side, those refused for lack
    of room."""

    requests: int = 0
    errors: int = 0
    rejected: int = 0
    latencies: Spread = Spread()
    waits: Spread = Spread()

    def since(self, before: "Counted") -> "Counted":
        """Return what was counted since; all of it where the process began anew."""
        if self.requests < before.requests:
            return self
        return Counted(
            self.requests - before.requests,
            max(0, self.errors - before.errors),
            max(0, self.rejected - before.rejected),
            self.latencies.since(before.latencies),
            self.waits.since(before.waits),
        )


def summed(counts: Iterable[Counted]) -> Counted:
    """Add what several replicas counted."""
    found = list(counts)
    return Counted(
        sum(one.requests for one in found),
        sum(one.errors for one in found),
        sum(one.rejected for one in found),
        together(one.latencies for one in found),
        together(one.waits for one in found),
    )


@dataclass(frozen=True)
class Told:
    """What a replica told at one moment. `inflight` and `waiting` are requests at a model, and waiting for it;
    `explanations` were answered until then."""

    inflight: int = 0
    waiting: int = 0
    explanations: int = 0
    variants: Mapping[str, Counted] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """What a deployment's replicas told at one look: endpoint -> what it told, None where it did not answer."""

    at: float
    told: Mapping[str, Told | None]

    @property
    def answered(self) -> Sequence[Told]:
        """Return what those told that answered."""
        return [told for told in self.told.values() if told is not None]

    def since(self, before: "Reading | None") -> dict[str, Counted]:
        """Return by variant what was counted since another look, by the replicas that answered now.

        Of a replica that did not answer then, nothing is known of the time before, so nothing counts.
        """
        grown: dict[str, list[Counted]] = {}
        for endpoint, told in self.told.items():
            then = None if before is None else before.told.get(endpoint)
            if told is None or (before is not None and endpoint in before.told and then is None):
                continue
            for variant, counted in told.variants.items():
                known = Counted() if then is None else then.variants.get(variant, Counted())
                grown.setdefault(variant, []).append(counted.since(known))
        return {variant: summed(counts) for variant, counts in grown.items()}

    def explained_since(self, before: "Reading | None") -> bool:
        """Tell whether a replica that answered now has explained something since another look."""
        for endpoint, told in self.told.items():
            then = None if before is None else before.told.get(endpoint)
            if told is not None and told.explanations != (0 if then is None else then.explanations):
                return True
        return False
