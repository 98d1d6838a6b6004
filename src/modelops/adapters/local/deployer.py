"""Workloads as processes of this machine: `<root>/<workload>/` holds its replicas' folders and its fingerprint."""

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from modelops.adapters.local import durable
from modelops.adapters.local.backoff import restart_delay_s
from modelops.adapters.local.commands import Command
from modelops.adapters.local.probing import Prober, endpoint_of, grpc_endpoint_of
from modelops.adapters.local.processes import checked_name, folders
from modelops.adapters.local.replicas import Incarnation, Replicas
from modelops.adapters.local.scaling import refuse_scaling
from modelops.contracts.clock import Clock
from modelops.contracts.errors import Conflict, InvalidInput
from modelops.contracts.ports import Phase, ReplicaObservation, WorkloadSpec

_SURPLUS_GRACE_S = 10.0
_PROBES_AT_ONCE = 8
_FINGERPRINT = "workload.json"


class LocalDeployer:
    """A Deployer of local processes; see `Deployer` for what its methods promise.

    A replica that ends is started again by the next `apply`: at once the first time, then after 1, 2, 4, … up to 30
    seconds; one that was up for a minute begins anew. Close it after use, or use it in a `with` block: the workloads go
    on.

    Args:
        root: The folder for the workloads' folders; made when missing.
        clock: What measures the time between restarts.
        host: The address of this machine that replicas listen on; None means loopback.
    """

    def __init__(self, root: Path, clock: Clock, *, host: str | None = None) -> None:
        self._root = root
        self._host = host
        self._clock = clock
        self._prober = Prober()
        self._lock = threading.Lock()
        self._ended_since: dict[Path, float] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (root, *folders(root)):
            durable.sweep(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the connections. The workloads go on."""
        self._prober.close()

    def apply(self, spec: WorkloadSpec) -> None:
        """Move one step towards `spec`. Raises Conflict when more than `replicas` and `files` differ from when it was made."""
        if spec.replicas < 0:
            raise InvalidInput(f"A workload cannot have {spec.replicas} replicas.")
        refuse_scaling(spec)
        command = Command(spec.argv, spec.env, spec.files, spec.limits)
        with self._lock:
            folder = self._root / checked_name(spec.name)
            _claim(folder, spec)
            replicas = Replicas(folder)
            latest = replicas.latest()
            for index in sorted(latest.keys() | range(spec.replicas)):
                if index >= spec.replicas:
                    self._retire(replicas, latest[index])
                elif index not in latest:
                    replicas.start_first(index, _named(command, spec.name, index))
                else:
                    self._keep_up(replicas, latest[index], _named(command, spec.name, index))

    def observe(self, name: str) -> list[ReplicaObservation]:
        """Return what is seen of the replicas, by index. Takes as long as the slowest probe, two seconds at most for
        each eight replicas."""
        latest = list(Replicas(self._root / checked_name(name)).latest().values())
        if len(latest) < 2:
            return [self._look(one) for one in latest]
        with ThreadPoolExecutor(min(len(latest), _PROBES_AT_ONCE)) as pool:
            return list(pool.map(self._look, latest))

    def scaled(self, name: str) -> int | None:
        """Return None: nobody else scales processes of this machine."""
        return None

    def log(self, name: str, index: int, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return a piece of the output of a replica's last incarnation."""
        incarnation = Replicas(self._root / checked_name(name)).latest().get(index)
        return b"" if incarnation is None else incarnation.process.log(offset, limit)

    def remove(self, name: str, *, grace_s: float = 10.0) -> bool:
        """End the workload after draining; return True once nothing of it is left."""
        with self._lock:
            folder = self._root / checked_name(name)
            if not Replicas(folder).stop(grace_s, "its workload was removed"):
                return False
            durable.delete_tree(folder)
            for path in [path for path in self._ended_since if path.parent == folder.absolute()]:
                del self._ended_since[path]
            return True

    def names(self) -> list[str]:
        """Return every workload that is still kept, sorted."""
        return [folder.name for folder in folders(self._root)]

    def _retire(self, replicas: Replicas, surplus: Incarnation) -> None:
        if surplus.process.observe().ended:
            replicas.remove(surplus.index)
        else:
            surplus.process.stop(_SURPLUS_GRACE_S, "one replica too many")

    def _keep_up(self, replicas: Replicas, latest: Incarnation, command: Command) -> None:
        seen = latest.process.observe()
        if seen.phase is Phase.STARTING:
            # Whoever started it may have died half-way; where not, this does nothing.
            latest.process.start(command)
        if not seen.ended:
            return
        now = self._clock.monotonic()
        since = self._ended_since.setdefault(latest.process.path, now)
        failures = latest.failures(seen)
        if now - since >= restart_delay_s(failures):
            replicas.start_again(latest, command, failures)
            self._ended_since.pop(latest.process.path)

    def _look(self, incarnation: Incarnation) -> ReplicaObservation:
        seen = incarnation.process.observe()
        endpoint = endpoint_of(incarnation.process.work, self._host) if seen.phase is Phase.RUNNING else None
        return ReplicaObservation(
            index=incarnation.index,
            phase=seen.phase,
            ready=endpoint is not None and self._prober.is_ready(endpoint),
            endpoint=endpoint,
            pid=seen.pid,
            restarts=incarnation.number,
            reason=seen.reason,
            started_at=seen.started_at,
            grpc_endpoint=None if endpoint is None else grpc_endpoint_of(incarnation.process.work, self._host),
        )


def _named(command: Command, workload: str, index: int) -> Command:
    """Tell a replica its name: what it answers and reports under."""
    return replace(command, env={"MODELOPS_REPLICA": f"{workload}/{index}", **command.env})


def _claim(folder: Path, spec: WorkloadSpec) -> None:
    """Make the workload's folder with the fingerprint of its spec, or check that it is of the same spec."""
    fingerprint = _fingerprint(spec)
    path = folder / _FINGERPRINT
    if path.exists():
        # Workloads from before their files could change were known by those too.
        if json.loads(path.read_bytes())["sha256"] not in (fingerprint, _fingerprint(spec, with_files=True)):
            raise Conflict(
                f"The workload {spec.name} exists with another command, environment or limits.",
                hint="Only replicas and files can change: give the changed workload a name of its own.",
            )
        return
    with durable.full_disk_as_error(f"the workload {spec.name}"):
        folder.mkdir(mode=0o700, exist_ok=True)
        durable.replace(path, json.dumps({"sha256": fingerprint}).encode())
        durable.sync_folder(folder.parent)


def _fingerprint(spec: WorkloadSpec, *, with_files: bool = False) -> str:
    """Return a digest of what cannot change. The spec itself is not kept: it may hold secrets."""
    files = [dict(spec.files)] if with_files else []
    members = [list(spec.argv), dict(spec.env), *files, asdict(spec.limits)]
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()
