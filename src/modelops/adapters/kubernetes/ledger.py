"""Which pod is which replica of a workload: a Deployment's pods have no order of their own.

The ledger is an annotation of the workload's Service, written only if nobody else wrote meanwhile. Each place has an index,
the pod that is there, how often its container was started again when that was last seen, and how many starts there were at
this place before the pod. So indices stay while pods live, and restarts are counted for as long as there is the place.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.cluster import Document
from modelops.adapters.kubernetes.workloads import annotations_of

_OVER = ("Failed", "Succeeded")


@dataclass(frozen=True)
class Place:
    """A replica's place. `before` counts the starts again before this pod was there, `again` those of its container."""

    pod: str
    name: str
    again: int = 0
    before: int = 0

    @property
    def restarts(self) -> int:
        """Return how often the replica was started again."""
        return self.before + self.again


Ledger = Mapping[int, Place]


def read_ledger(service: Document | None) -> Ledger:
    """Return the ledger of a workload; an empty one where there is none, or somebody edited it to nonsense."""
    try:
        kept = json.loads(annotations_of(service or {"metadata": {}})[names.LEDGER])
        return {int(index): Place(**place) for index, place in kept.items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def write_ledger(ledger: Ledger) -> str:
    """Return a ledger as the annotation that it is kept in."""
    return json.dumps({str(index): asdict(place) for index, place in sorted(ledger.items())})


def settled(ledger: Ledger, pods: Sequence[Document], replicas: int) -> Ledger:
    """Return the ledger as it follows from the pods that there are.

    A pod keeps its place while it lives. One without a place takes the lowest that is free, older pods first: where the pod of
    a place ended or is ending, or was deleted. A pod beyond the number of replicas moves to a free place within it. A place
    beyond it is forgotten with its pod.

    Args:
        pods: All of the workload, those that end included.
        replicas: How many there shall be.
    """
    there = {pod["metadata"]["uid"]: pod for pod in pods}
    now = {index: _seen(place, there.get(place.pod)) for index, place in ledger.items()}
    now = {index: place for index, place in now.items() if place.pod in there or index < replicas}
    living = {uid for uid, pod in there.items() if lives(pod)}
    held = {place.pod: index for index, place in now.items() if place.pod in living}
    for pod in sorted(pods, key=lambda one: (str(one["metadata"].get("creationTimestamp")), one["metadata"]["name"])):
        uid = pod["metadata"]["uid"]
        if uid not in living:
            continue
        index = next(at for at in range(len(now) + 1) if at not in now or now[at].pod not in living)
        mine = held.get(uid)
        if mine is not None and (mine < replicas or index >= replicas):
            continue
        if mine is not None:
            del now[mine]
        old = now.get(index)
        place = Place(uid, pod["metadata"]["name"], before=0 if old is None else old.restarts + 1)
        now[index] = _seen(place, pod)
    return now


def lives(pod: Document) -> bool:
    """Tell whether a pod is one that its controller counts: neither over nor ending."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in _OVER and "deletionTimestamp" not in pod["metadata"]


def starts_again(pod: Document) -> int:
    """Return how often a pod's container was started again."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or [{}]
    return int(statuses[0].get("restartCount") or 0)


def _seen(place: Place, pod: Document | None) -> Place:
    again = place.again if pod is None else max(place.again, starts_again(pod))
    return Place(place.pod, place.name, again, place.before)
