"""How many replicas a load needs: decided from what was seen of it, and from nothing else.

The rule is that of Kubernetes' Horizontal Pod Autoscaler (https://kubernetes.io/docs/concepts/workloads/autoscaling/
horizontal-pod-autoscale/): `ceil(replicas x measured / target)`, with a tolerance, the highest of several measures, and
stabilisation: fewer run only when that would have been enough throughout a window. From Knative Serving
(https://knative.dev/docs/serving/autoscaling/) come requests at once as the measure, averaged over a window, and zero.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from modelops.domains.serving.policies.autoscaling import Autoscaling

TOLERANCE = 0.1
"""A measure so near to its target, as a share of it, changes nothing."""

GAP_S = 10.0
"""Whoever did not look for so long begins to watch anew: what happened meanwhile is not known."""


@dataclass(frozen=True)
class Sample:
    """One look at a deployment's replicas.

    Attributes:
        at: When, in seconds of a monotonic clock.
        wanted: Replicas that shall run.
        answered: Replicas that told what they do.
        inflight: Requests in all of these, waiting ones included.
        wait_ms: The 95th percentile of the time that requests since the look before waited for the model; None where
            there were none, or that is not known.
        asked: Somebody has asked for something since the look before.
    """

    at: float
    wanted: int
    answered: int
    inflight: float
    wait_ms: float | None = None
    asked: bool = False

    @property
    def complete(self) -> bool:
        """Tell whether every replica that shall run has told what it does."""
        return self.answered >= self.wanted > 0


@dataclass(frozen=True)
class Decision:
    """How many replicas there shall be, and why."""

    replicas: int
    why: str


@dataclass
class Demand:
    """What was seen of a deployment's load, and what it would have needed at each look."""

    samples: deque[Sample] = field(default_factory=deque)
    needs: deque[tuple[float, int]] = field(default_factory=deque)
    watched_since: float | None = None
    quiet_since: float | None = None

    def decide(self, policy: Autoscaling, sample: Sample) -> Decision:
        """Take in a sample and return how many replicas there shall be now."""
        self._remember(policy, sample)
        need = self._need(policy, sample)
        self.needs.append((sample.at, need))
        wanted = sample.wanted
        if not policy.min_replicas <= wanted <= policy.max_replicas:
            return Decision(policy.bound(wanted), "Its bounds were changed.")
        if wanted == 0:
            return Decision(0, "Nobody asks.")
        if policy.sleeps and self.quiet_since is not None and sample.at - self.quiet_since >= policy.idle_s:
            return Decision(0, f"Nobody has asked for {policy.idle_s:g} s.")
        if need > wanted:
            return Decision(need, self._load(policy, sample))
        highest = max(needed for _, needed in self.needs)
        watched = self.watched_since is not None and sample.at - self.watched_since >= policy.scale_down_window_s
        if watched and highest < wanted:
            return Decision(highest, self._load(policy, sample))
        return Decision(wanted, self._load(policy, sample))

    def _remember(self, policy: Autoscaling, sample: Sample) -> None:
        if self.samples and not 0 <= sample.at - self.samples[-1].at <= GAP_S:
            self.samples.clear()
            self.needs.clear()
            self.watched_since = self.quiet_since = None
        self.samples.append(sample)
        while self.samples[0].at < sample.at - policy.scale_up_window_s:
            self.samples.popleft()
        while self.needs and self.needs[0][0] < sample.at - policy.scale_down_window_s:
            self.needs.popleft()
        if self.watched_since is None:
            self.watched_since = sample.at
        if not sample.complete or sample.asked or sample.inflight > 0:
            self.quiet_since = None
        elif self.quiet_since is None:
            self.quiet_since = sample.at

    def _need(self, policy: Autoscaling, sample: Sample) -> int:
        """Return how many replicas the load needs: at most twice those that work, and no fewer than wanted where some did
        not answer, since what these do is not known."""
        running = max(sample.answered, 1)
        inflight, wait_ms = self._means(sample)
        needed = _toward(running, inflight / policy.target_inflight)
        if wait_ms is not None and policy.target_queue_wait_ms is not None:
            needed = max(needed, _toward(running, running * wait_ms / policy.target_queue_wait_ms))
        needed = min(needed, max(2 * running, sample.wanted))
        return policy.bound(needed if sample.complete else max(needed, sample.wanted))

    def _means(self, sample: Sample) -> tuple[float, float | None]:
        """Return requests at once and the wait, on average over the window; waits alone of as many replicas as now."""
        alike = [one for one in self.samples if one.answered == sample.answered]
        waits = [one.wait_ms for one in alike if one.wait_ms is not None]
        return (
            sum(one.inflight for one in self.samples) / len(self.samples),
            sum(waits) / len(waits) if waits else None,
        )

    def _load(self, policy: Autoscaling, sample: Sample) -> str:
        inflight, wait_ms = self._means(sample)
        said = f"{inflight:.1f} requests at once on average"
        if wait_ms is not None and policy.target_queue_wait_ms is not None:
            said = f"{said}, which wait {wait_ms:.0f} ms (95th percentile)"
        return f"{said}."


def _toward(running: int, needed: float) -> int:
    """Return a whole number of replicas: those there are, where `needed` is within the tolerance of them."""
    if abs(needed / running - 1) <= TOLERANCE:
        return running
    return math.ceil(needed - 1e-9)
