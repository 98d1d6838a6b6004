"""Output that was read from a cluster, kept on disk: a node rotates it away, and drops it with the pod."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from modelops.adapters.kubernetes.cluster import Cluster
from modelops.contracts.errors import InvalidInput, NotFound

READ_BYTES = 8 * 1024 * 1024
JOIN = b"\x1e"
GAP = b"\n[modelops: output is missing here: the node dropped it before it was read]\n"


@dataclass
class _Mark:
    """How far the output was read: the time of the last line, how many lines had that time, and the bytes kept."""

    pod: str = ""
    last: str = ""
    same: int = 0
    size: int = 0


class Archive:
    """The output of one pod after another under a name, in `<folder>/<name>.log`. Any number of processes may follow the
    same output into one folder.

    Args:
        folder: Where the files lie; made when missing.
        cluster: Where the output comes from.
    """

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self._folder = folder
        self._cluster = cluster

    def read(self, name: str, offset: int, limit: int) -> bytes:
        """Return a piece of what is kept."""
        try:
            with open(self._folder / f"{name}.log", "rb") as file:
                file.seek(max(0, offset))
                return file.read(max(0, limit))
        except FileNotFoundError:
            return b""

    def follow(self, name: str, pod: str, namespace: str) -> None:
        """Read what is new of a pod's output. A pod that is gone, or has not begun, has none."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked(name) as lock, open(self._folder / f"{name}.log", "ab") as file:
            mark = _load(lock)
            if mark.pod != pod:
                mark = _Mark(pod, size=0 if not mark.pod else mark.size)
            file.truncate(mark.size)
            with suppress(NotFound, InvalidInput):
                while self._read_on(mark, file.fileno(), namespace):
                    _save(lock, mark)
            _save(lock, mark)

    def remove(self, name: str) -> None:
        """Delete what is kept."""
        for suffix in ("log", "mark"):
            (self._folder / f"{name}.{suffix}").unlink(missing_ok=True)

    def _read_on(self, mark: _Mark, file: int, namespace: str) -> bool:
        """Keep the next lines; tell whether there may be more."""
        since, limit = _time(mark.last) if mark.last else None, READ_BYTES
        data = self._cluster.log(mark.pod, namespace, since=since, limit=limit)
        while len(data) >= limit and data.rpartition(b"\n")[0].rpartition(b"\n")[2] <= mark.last.encode() + b" ":
            limit *= 4  # more than that was written in the second of the last line
            data = self._cluster.log(mark.pod, namespace, since=since, limit=limit)
        whole = data[: data.rfind(b"\n") + 1]
        seen, new, found = 0, [], not mark.last
        last, same = mark.last, mark.same
        for line in whole.split(b"\n")[:-1]:
            stamp, _, text = line.partition(b" ")
            time = stamp.decode("ascii", "replace")
            if time < mark.last:
                continue
            if time == mark.last:
                found, seen = True, seen + 1
                if seen <= mark.same:
                    continue
            same = same + 1 if time == last else 1
            last = time
            new.append(text[:-1] if text.endswith(JOIN) else text + b"\n")
        if not new:
            return False
        kept = (b"" if found else GAP) + b"".join(new)
        os.write(file, kept)
        mark.last, mark.same, mark.size = last, same, mark.size + len(kept)
        return len(data) >= limit

    @contextmanager
    def _locked(self, name: str) -> Iterator[int]:
        descriptor = os.open(self._folder / f"{name}.mark", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _load(descriptor: int) -> _Mark:
    try:
        return _Mark(**json.loads(os.pread(descriptor, 4096, 0)))
    except ValueError:  # it was not written yet, or not wholly: then all is read again
        return _Mark()


def _save(descriptor: int, mark: _Mark) -> None:
    """Write the mark in one piece of a fixed length, so that no shorter one leaves a rest of a longer one."""
    os.pwrite(descriptor, json.dumps(asdict(mark)).encode().ljust(512), 0)


def _time(stamp: str) -> datetime:
    """Return the second of a time that has nine digits after the point."""
    zone = stamp[19:].lstrip(".0123456789")
    return datetime.fromisoformat(stamp[:19] + (zone.replace("Z", "") or "+00:00")).astimezone(UTC)
