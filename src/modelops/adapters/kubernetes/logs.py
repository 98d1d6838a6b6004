"""Output that is read from a cluster and kept: a node rotates it away, and drops it with the pod."""

from contextlib import suppress
from datetime import UTC, datetime

from modelops.adapters.kubernetes.cluster import Cluster
from modelops.adapters.kubernetes.outputs import Mark, Outputs
from modelops.contracts.errors import InvalidInput, NotFound

READ_BYTES = 8 * 1024 * 1024
JOIN = b"\x1e"
GAP = b"\n[modelops: output is missing here: the node dropped it before it was read]\n"


class Archive:
    """The output of one pod after another under a name. Any number of processes may follow the same output.

    Args:
        outputs: Where it is kept.
        cluster: Where the output comes from.
    """

    def __init__(self, outputs: Outputs, cluster: Cluster) -> None:
        self._outputs = outputs
        self._cluster = cluster

    def read(self, name: str, offset: int, limit: int) -> bytes:
        """Return a piece of what is kept."""
        return self._outputs.read(name, offset, limit)

    def follow(self, name: str, pod: str, namespace: str) -> None:
        """Read what is new of a pod's output. A pod that is gone, or has not begun, has none."""
        with suppress(NotFound, InvalidInput):
            while self._read_on(name, pod, namespace):
                pass

    def remove(self, name: str) -> None:
        """Delete what is kept."""
        self._outputs.remove(name)

    def _read_on(self, name: str, pod: str, namespace: str) -> bool:
        """Keep the next lines; tell whether there may be more. Another process may be faster: then its lines are kept."""
        before = self._outputs.mark(name)
        at = before or Mark()
        if at.pod != pod:
            at = Mark(pod, size=at.size)
        since, limit = _time(at.last) if at.last else None, READ_BYTES
        data = self._cluster.log(pod, namespace, since=since, limit=limit)
        while len(data) >= limit and data.rpartition(b"\n")[0].rpartition(b"\n")[2] <= at.last.encode() + b" ":
            limit *= 4  # more than that was written in the second of the last line
            data = self._cluster.log(pod, namespace, since=since, limit=limit)
        after, new = _new_lines(at, data)
        if not new:
            return False
        kept = self._outputs.add(name, before, after, new)
        return not kept or len(data) >= limit


def _new_lines(at: Mark, data: bytes) -> tuple[Mark, bytes]:
    """Return what of a node's answer was not read before, as it was written, and how far it goes."""
    seen, new, found = 0, [], not at.last
    last, same = at.last, at.same
    for line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]:
        stamp, _, text = line.partition(b" ")
        time = stamp.decode("ascii", "replace")
        if time < at.last:
            continue
        if time == at.last:
            found, seen = True, seen + 1
            if seen <= at.same:
                continue
        same = same + 1 if time == last else 1
        last = time
        new.append(text[:-1] if text.endswith(JOIN) else text + b"\n")
    if not new:
        return at, b""
    kept = (b"" if found else GAP) + b"".join(new)
    return Mark(at.pod, last, same, at.size + len(kept)), kept


def _time(stamp: str) -> datetime:
    """Return the second of a time that has nine digits after the point."""
    zone = stamp[19:].lstrip(".0123456789")
    return datetime.fromisoformat(stamp[:19] + (zone.replace("Z", "") or "+00:00")).astimezone(UTC)
