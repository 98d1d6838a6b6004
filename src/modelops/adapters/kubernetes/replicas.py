"""What is seen of a workload's replicas: their pods, and those that the cluster refuses to make."""

from collections.abc import Sequence
from datetime import UTC, datetime

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.cluster import Document
from modelops.adapters.kubernetes.ledger import Ledger
from modelops.adapters.kubernetes.observing import container_of, is_ready, judge, listens
from modelops.adapters.kubernetes.pods import CONTAINER, GRPC_PORT, OVERHEAD_BYTES, PORT
from modelops.adapters.kubernetes.workloads import annotations_of, replicas_of
from modelops.contracts.ports import Observation, Phase, ReplicaObservation


def replicas_seen(deployment: Document, pods: Sequence[Document], ledger: Ledger) -> list[ReplicaObservation]:
    """Return what is seen of each replica, by index."""
    there = {pod["metadata"]["uid"]: pod for pod in pods}
    found = {
        index: _seen(index, there[place.pod], place.restarts) for index, place in ledger.items() if place.pod in there
    }
    refusal = _refusal(deployment)
    if refusal is not None:
        for index in set(range(replicas_of(deployment))) - found.keys():
            restarts = ledger[index].restarts if index in ledger else 0
            found[index] = ReplicaObservation(index, Phase.STARTING, False, None, None, restarts, refusal, None)
    return [found[index] for index in sorted(found)]


def observation_of(pod: Document, now: datetime) -> Observation:
    """Return what is seen of the process in a pod whose container is started again whenever it ends.

    While it waits for that, and until it is ready again, the reason tells how it ended before.
    """
    seen = judge(pod, now, memory_bytes=_memory_of(pod)).observation
    container = container_of(pod.get("status") or {})
    before = (container.get("lastState") or {}).get("terminated")
    if not before or seen.ended:
        return seen
    ended = judge(_with_state(pod, container, {"terminated": before}), now, memory_bytes=_memory_of(pod)).observation
    if seen.phase is Phase.STARTING and "deletionTimestamp" not in pod["metadata"]:
        return ended
    if seen.phase is Phase.RUNNING and not is_ready(pod):
        return Observation(Phase.RUNNING, reason=f"before, it {ended.reason}", started_at=seen.started_at)
    return seen


def _seen(index: int, pod: Document, restarts: int) -> ReplicaObservation:
    seen = observation_of(pod, datetime.now(UTC))
    address = (pod.get("status") or {}).get("podIP")
    serves = seen.phase is Phase.RUNNING and listens(pod) and bool(address)
    host = f"[{address}]" if ":" in str(address) else address
    grpc = serves and names.GRPC in annotations_of(pod)
    return ReplicaObservation(
        index=index,
        phase=seen.phase,
        ready=serves and is_ready(pod),
        endpoint=f"http://{host}:{PORT}" if serves else None,
        pid=None,
        restarts=restarts,
        reason=seen.reason,
        started_at=seen.started_at,
        grpc_endpoint=f"{host}:{GRPC_PORT}" if grpc else None,
    )


def _refusal(deployment: Document) -> str | None:
    """Return why the cluster does not make a workload's pods, in its own words."""
    for one in (deployment.get("status") or {}).get("conditions") or []:
        if one["type"] == "ReplicaFailure" and one["status"] == "True":
            return f"the cluster refuses its pod: {one.get('message') or one.get('reason')}"
    return None


def _with_state(pod: Document, container: Document, state: Document) -> Document:
    return {**pod, "status": {**pod["status"], "containerStatuses": [{**container, "state": state}]}}


def _memory_of(pod: Document) -> int | None:
    containers = (pod.get("spec") or {}).get("containers") or []
    limits = next(
        ((one.get("resources") or {}).get("limits") or {} for one in containers if one["name"] == CONTAINER), {}
    )
    text = str(limits.get("memory") or "")
    return int(text) - OVERHEAD_BYTES if text.isdigit() else None
