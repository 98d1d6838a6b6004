"""What an analysis compares: readings of candidate and champion, and the port that gets them from monitoring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from modelops.domains.serving.schemas import RevisionVariant


@dataclass(frozen=True)
class OutputCounts:
    """How often each value of an output was predicted.

    Numbers: `edges` are the bins' inner boundaries, ascending (bin i holds edges[i-1] < x <= edges[i]), and `counts` has
    one entry more. Classes: `categories`, and a last entry in `counts` for all others.
    """

    name: str
    counts: Sequence[int]
    edges: Sequence[float] | None = None
    categories: Sequence[str] | None = None


@dataclass(frozen=True)
class Reading:
    """What a variant answered since the step began. `latencies` are counts over `bounds_s` and above the last of them."""

    requests: int = 0
    errors: int = 0
    rows: int = 0
    bounds_s: Sequence[float] = ()
    latencies: Sequence[int] = ()
    latency_sum_s: float = 0.0
    outputs: Sequence[OutputCounts] = ()


@dataclass(frozen=True)
class Sample:
    """Values of a business metric: how many, their mean, and the sum of their squared distances from it."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def plus(self, other: "Sample") -> "Sample":
        """Return both together (Chan, Golub and LeVeque's update, 1979)."""
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * other.count / count
        return Sample(count, mean, self.squares + other.squares + apart**2 * self.count * other.count / count)


@dataclass(frozen=True)
class Pair:
    """Candidate and champion, side by side. A reading is None where no telemetry of the variant came."""

    champion: Reading | None = None
    candidate: Reading | None = None
    business: Mapping[str, tuple[Sample, Sample]] = field(default_factory=dict)


class TrafficReadings(Protocol):
    """Reads what variants of a revision answered; monitoring, which lies above serving, provides it."""

    def __call__(
        self, ctx: Any, deployment_id: str, revision: int, since: datetime, variants: Sequence[RevisionVariant]
    ) -> Mapping[str, Reading]:
        """Return a reading by the name of each variant that reported anything since then."""
        ...
