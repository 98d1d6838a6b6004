"""What somebody changed in a cluster of what is the platform's: found, told, and put right."""

import logging
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from modelops.adapters.kubernetes.cluster import Cluster, Document
from modelops.adapters.kubernetes.names import INSTANCE, MANAGED_BY, MANAGER

REASON = "PutRight"
"""The reason of the Events by which the cluster itself tells of it."""

_SHOWN = 5

log = logging.getLogger(__name__)


def put_right(cluster: Cluster, instance: str, document: Document, *, was_there: bool) -> Document:
    """Make an object what the document says, and tell where it was otherwise; return what it is then.

    Args:
        cluster: Where it is.
        instance: Whose it is.
        document: What it should be.
        was_there: It had been made before: when it is missing, somebody deleted it.
    """
    about = document["metadata"]
    found = cluster.get(document["kind"], about["name"], about.get("namespace"))
    changed = (["all of it: it was deleted"] if was_there else []) if found is None else differences(document, found)
    applied = cluster.apply(document)
    if changed:
        tell(cluster, instance, document, changed)
    return applied


def differences(wanted: Any, found: Any, at: str = "") -> list[str]:
    """Return the places, such as `spec.hard.pods`, where what was found is not what is wanted. What else was added to an
    object is not looked at; a list is wanted as it is."""
    if isinstance(wanted, dict):
        there = found if isinstance(found, dict) else {}
        places = [differences(value, there.get(name), f"{at}.{name}".strip(".")) for name, value in wanted.items()]
        return [place for some in places for place in some]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        places = [differences(one, other, at) for one, other in zip(wanted, found, strict=True)]
        return [at] if any(places) else []
    return [] if wanted == found else [at]


def tell(cluster: Cluster, instance: str, document: Document, changed: list[str]) -> None:
    """Say in the log, and by an Event beside the object, what was changed and is put right."""
    about, kind = document["metadata"], document["kind"]
    namespace = about.get("namespace") or about["name"]
    words = f"changed by somebody else, and put right: {', '.join(changed[:_SHOWN])}"
    log.warning("the %s '%s' in '%s' was %s", kind, about["name"], namespace, words)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {MANAGED_BY: MANAGER, INSTANCE: instance}
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about['name'][:200]}.{uuid4().hex[:16]}", "namespace": namespace, "labels": labels},
            "involvedObject": {"kind": kind, "name": about["name"], "namespace": namespace},
            "type": "Warning",
            "reason": REASON,
            "message": f"It was {words}."[:1000],
            "source": {"component": MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
    )


def told(cluster: Cluster, instance: str) -> list[str]:
    """Return what was put right of late, for as long as the cluster keeps Events (an hour, by default), the newest first."""
    events = [
        one for one in cluster.list("Event", {MANAGED_BY: MANAGER, INSTANCE: instance}) if one.get("reason") == REASON
    ]
    events.sort(key=lambda one: str(one.get("lastTimestamp") or ""), reverse=True)
    return [
        f"{one['involvedObject']['kind']} {one['involvedObject']['name']} in {one['metadata']['namespace']}: {one['message']}"
        for one in events
    ]
