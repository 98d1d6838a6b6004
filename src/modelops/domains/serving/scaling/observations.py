"""What this process has seen of deployments' load. It is kept in memory alone: who starts anew begins to watch anew."""

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from modelops.domains.serving.policies.demand import Demand
from modelops.domains.serving.replicas.figures import Reading

KEPT_S = 10.0
"""How long readings are kept, to tell rates from their differences."""

_MOST = 4_096
"""Of how many deployments something is remembered; the one looked at longest ago is forgotten first."""


@dataclass
class Watched:
    """What is known of one deployment. `asked_at` is when a request came through this process; `demand` belongs to the
    loop that scales."""

    readings: deque[Reading] = field(default_factory=deque)
    asked_at: float = float("-inf")
    demand: Demand = field(default_factory=Demand)


class Observations:
    """Readings and requests by deployment id. Thread-safe. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: OrderedDict[str, Watched] = OrderedDict()

    def asked(self, deployment_id: str, at: float) -> None:
        """Note that somebody asks a deployment through this process."""
        with self._lock:
            self._watched(deployment_id).asked_at = at

    def asked_at(self, deployment_id: str) -> float:
        """Return when somebody asked last; minus infinity where nobody did."""
        with self._lock:
            found = self._of.get(deployment_id)
            return found.asked_at if found else float("-inf")

    def add(self, deployment_id: str, reading: Reading) -> None:
        """Keep a reading for a while."""
        with self._lock:
            readings = self._watched(deployment_id).readings
            readings.append(reading)
            while readings[0].at < reading.at - KEPT_S:
                readings.popleft()

    def before(self, deployment_id: str, at: float) -> Reading | None:
        """Return the last reading of that moment or earlier, else the first one; None where none is kept that is not
        too old."""
        with self._lock:
            found = self._of.get(deployment_id)
            kept = [one for one in found.readings if one.at >= at - KEPT_S] if found else []
        return next((one for one in reversed(kept) if one.at <= at), kept[0] if kept else None)

    def latest(self, deployment_id: str) -> Reading | None:
        """Return the last reading."""
        with self._lock:
            found = self._of.get(deployment_id)
            return found.readings[-1] if found and found.readings else None

    def demand(self, deployment_id: str) -> Demand:
        """Return what the scaling loop remembers of a deployment."""
        with self._lock:
            return self._watched(deployment_id).demand

    def rest(self, deployment_id: str) -> None:
        """Forget what is remembered of a deployment's load: it has no replica now."""
        with self._lock:
            found = self._of.get(deployment_id)
            if found is not None:
                found.demand = Demand()
                found.readings.clear()

    def _watched(self, deployment_id: str) -> Watched:
        found = self._of.setdefault(deployment_id, Watched())
        self._of.move_to_end(deployment_id)
        if len(self._of) > _MOST:
            self._of.popitem(last=False)
        return found
