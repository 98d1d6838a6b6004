"""What replicas tell of themselves, read over HTTP."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pydantic import ValidationError

from modelops.domains.serving.replicas.figures import Counted, Reading, Spread, Told
from modelops.domains.serving.replicas.gateway import Gateway
from modelops.domains.serving.schemas import ReplicaStats

_TIMEOUT_S = 1.0
_AT_ONCE = 16


def read_replicas(gateway: Gateway, endpoints: Sequence[str], token: str, at: float) -> Reading:
    """Ask replicas what they do, all at once, and within a second.

    Args:
        token: The platform's, for calls to replicas.
        at: The present on a monotonic clock.
    """
    read = partial(_read, gateway, token)
    if len(endpoints) < 2:
        return Reading(at, {endpoint: read(endpoint) for endpoint in endpoints})
    with ThreadPoolExecutor(min(len(endpoints), _AT_ONCE)) as pool:
        return Reading(at, dict(zip(endpoints, pool.map(read, endpoints), strict=True)))


def told_by(stats: ReplicaStats) -> Told:
    """Return a replica's figures as they are reckoned with."""
    bounds = tuple(stats.bounds_s)
    return Told(
        inflight=sum(process.inflight for process in stats.processes),
        waiting=sum(process.queue_depth for process in stats.processes),
        explanations=stats.explanations,
        variants={
            name: Counted(
                requests=one.requests,
                errors=one.errors,
                rejected=one.rejected,
                latencies=Spread(bounds, tuple(one.latencies), one.latency_sum_s),
                waits=Spread(bounds, tuple(one.waits), one.wait_sum_s),
            )
            for name, one in stats.variants.items()
        },
    )


def _read(gateway: Gateway, token: str, endpoint: str) -> Told | None:
    answer = gateway.read(endpoint, "/stats", {"authorization": f"Bearer {token}"}, _TIMEOUT_S)
    if answer is None or answer.status != 200:
        return None
    try:
        return told_by(ReplicaStats.model_validate_json(answer.body))
    except ValidationError:  # a replica of another version of the platform
        return None
