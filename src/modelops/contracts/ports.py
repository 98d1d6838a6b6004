"""Ports: what the platform asks of the outside world. Adapters implement them; contract suites in `modelops.testing` hold
every adapter to the same behaviour.

Every implementation is thread-safe, owns what it opens, and may be called again after a crash of the caller: starting
and stopping are idempotent.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import BinaryIO, Protocol, runtime_checkable


@dataclass(frozen=True)
class BlobInfo:
    """What a blob store knows of a blob. `size` is of the content, `stored_size` of what the store keeps, in bytes."""

    digest: str
    size: int
    stored_size: int


@dataclass(frozen=True)
class StoredBlob:
    """A blob as a listing shows it: `stored_at` is when its content was last put, `stored_size` in bytes."""

    digest: str
    stored_size: int
    stored_at: datetime


@runtime_checkable
class BlobStore(Protocol):
    """Content-addressed blobs: the name of a content is its digest, `sha256:<hex>` of the uncompressed bytes."""

    def put(self, chunks: Iterable[bytes], *, expected: str | None = None) -> BlobInfo:
        """Store a content, atomically and durably; storing it a second time keeps one copy and renews its age.

        Raises:
            InvalidInput: the bytes do not have the digest `expected`; nothing is kept.
            StorageFull: there is no room; nothing is kept.
        """
        ...

    def read(self, digest: str) -> Iterator[bytes]:
        """Yield the content in chunks and verify it on the way.

        The last chunk is yielded only after the whole content has proved to have its digest.

        Raises:
            NotFound: no such blob.
            ArtifactCorrupted: the stored bytes no longer have the digest.
        """
        ...

    def open(self, digest: str) -> BinaryIO:
        """Return a seekable file of the verified content. The caller closes it. Raises as `read`."""
        ...

    def stat(self, digest: str) -> BlobInfo | None:
        """Return what is known of the blob, or None where there is none."""
        ...

    def read_range(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to, not including, `stop`; fewer where the content ends before.

        A part cannot be held to the digest of the whole: whoever puts parts together verifies the whole. A store that
        encrypts notices every change all the same.

        Raises: as `read`.
        """
        ...

    def delete(self, digest: str, *, unless_put_since: datetime | None = None) -> bool:
        """Remove the blob and return whether it was removed; one that is not there is no error.

        Args:
            digest: Of the content.
            unless_put_since: Keep a blob whose content was put at this moment or later. A `put` that has returned, or
                returns later, is never undone by such a deletion.
        """
        ...

    def walk(self, after: str | None = None) -> Iterator[StoredBlob]:
        """Yield every blob in the order of digests, those behind `after` alone."""
        ...

    def link(self, digest: str, *, seconds: int, filename: str, media_type: str) -> str | None:
        """Return a URL that hands out the content to anyone for so long, or None where this store has no such URLs.

        Raises:
            NotFound: no such blob.
        """
        ...

    def check(self) -> str:
        """Return a sentence about where the blobs lie, after having seen that they can be written and read.

        Raises:
            MLOpsError: they cannot; the error says why and what to do.
        """
        ...


@dataclass(frozen=True)
class Rewrapping:
    """What a pass over the keys of encrypted blobs did: blobs whose key was wrapped anew, those that were right already,
    and those that no key at hand opens."""

    rewrapped: int
    current: int
    failed: list[str]


@runtime_checkable
class EncryptedStore(Protocol):
    """A blob store that encrypts each blob with a key of its own, wrapped by one of several master keys."""

    def rewrap_keys(self) -> Rewrapping:
        """Wrap every blob's key with the first master key; the blobs themselves are not written."""
        ...


@dataclass(frozen=True)
class Limits:
    """What a process may use. None means unlimited.

    Attributes:
        cpus: Threads that numeric libraries may start.
        memory_bytes: Resident memory of the process and its children, beyond which it is ended.
        timeout_s: Seconds it may run.
        log_bytes: Bytes of output that are kept; what comes after is dropped and the log says so.
    """

    cpus: int | None = None
    memory_bytes: int | None = None
    timeout_s: float | None = None
    log_bytes: int = 64 * 1024 * 1024


class Phase(StrEnum):
    """Where a process is in its life, as observed."""

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    LOST = "lost"


class EndedBy(StrEnum):
    """What ended a process that did not end by itself."""

    MEMORY = "memory"
    TIME = "time"
    REQUEST = "request"
    SIGNAL = "signal"
    EVICTION = "eviction"


@dataclass(frozen=True)
class Observation:
    """What was seen of a process.

    `ended_by` is of a process that has ended otherwise than by itself; None too where nothing is known of its end.
    `reason` is a sentence for people, set when it ended other than by exit code 0: the signal, the limit it broke, or
    how it was lost. `exit_code` is set when `phase` is `exited` and no signal ended it.
    """

    phase: Phase
    pid: int | None = None
    exit_code: int | None = None
    reason: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    ended_by: EndedBy | None = None

    @property
    def ended(self) -> bool:
        """Tell whether the process has ended for good."""
        return self.phase in (Phase.EXITED, Phase.LOST)


@dataclass(frozen=True)
class UsageSample:
    """What a process and all that it started had used by a moment.

    Attributes:
        at_s: Seconds since its start.
        cpu_seconds: Of all CPUs, until then.
        memory_bytes: Resident memory, the most since the sample before.
        read_bytes: From storage, until then.
        written_bytes: To storage, until then.
        gpu_percent: How much of the time the GPUs that it can see were in use just then, 100 for each; None without any.
        gpu_memory_bytes: Memory in use of those GPUs; None without any.
    """

    at_s: float
    cpu_seconds: float
    memory_bytes: float
    read_bytes: float
    written_bytes: float
    gpu_percent: float | None = None
    gpu_memory_bytes: float | None = None


@dataclass(frozen=True)
class Toleration:
    """Lets something run where a taint of this kind keeps others away, in Kubernetes' terms.

    `operator` is `Equal` or `Exists`; an empty `key` with `Exists` tolerates everything, an empty `effect` every effect.
    """

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True)
class Placement:
    """Where an attempt was admitted to run, and what was allocated to it there.

    Attributes:
        pool: The pool's name; None where it was given none of a pool's devices.
        queue: The queue that admitted it, of its project.
        node_selector: Labels that a node must have.
        tolerations: Taints of nodes that it may run on all the same.
        gpu_resource: What a cluster calls the resource, such as `nvidia.com/gpu` or `nvidia.com/mig-1g.10gb`.
        gpu_count: How many of that resource it may use.
        devices: What the allocated devices are called on this machine, for `CUDA_VISIBLE_DEVICES`; empty where it is not
            known, or a cluster chooses them.
        best_effort: Whether others may use the same devices at the same time, without isolation (time slicing).
    """

    pool: str | None = None
    queue: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    gpu_resource: str | None = None
    gpu_count: int = 0
    devices: tuple[str, ...] = ()
    best_effort: bool = False


@dataclass(frozen=True)
class JobSpec:
    """One attempt at a job: a command that runs to its end.

    `files` are written into its working directory before it starts (name -> content), readable by the owner alone.
    `placement` is there when a queue admitted it; without one it runs wherever the backend runs what it is given.
    `tenant` is whose it is, for backends that keep tenants apart.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    placement: Placement | None = None
    tenant: str | None = None


@runtime_checkable
class JobBackend(Protocol):
    """Runs commands to their end, outside of this process, so that they survive it."""

    def start(self, spec: JobSpec) -> None:
        """Start the attempt named `spec.name`; if it was started before, also by an earlier process, do nothing."""
        ...

    def observe(self, name: str) -> Observation:
        """Return what is seen of the attempt; `absent` where none was started."""
        ...

    def stop(self, name: str, *, grace_s: float = 10.0, reason: str = "stopped on request") -> None:
        """Ask it to end, and end it by force after `grace_s`. Returns at once; watch it with `observe`."""
        ...

    def log(self, name: str, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return up to `limit` bytes of its output from `offset`; empty where there is none (yet)."""
        ...

    def usage(self, name: str) -> list[UsageSample]:
        """Return what was sampled of its use of resources so far, oldest first; empty where nothing was (yet)."""
        ...

    def names(self) -> list[str]:
        """Return every attempt the backend still keeps."""
        ...

    def remove(self, name: str) -> None:
        """Forget an attempt that has ended, and delete its files."""
        ...


@dataclass(frozen=True)
class ScalingTrigger:
    """What a cluster's own scaler goes by: `kind` and `settings` in KEDA's terms, such as `cpu` and `{"value": "70"}`."""

    kind: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterScaling:
    """Has a cluster decide how many replicas a workload has, from `min_replicas` (at least 1) to `max_replicas`.

    Attributes:
        by: `hpa`, a HorizontalPodAutoscaler, which goes by `cpu_percent` alone, or `keda`, a ScaledObject.
        cpu_percent: The share of the CPUs in use, of those reserved for the replicas, that it keeps to.
        triggers: What a ScaledObject goes by besides.
    """

    by: str
    min_replicas: int
    max_replicas: int
    cpu_percent: int | None = None
    triggers: tuple[ScalingTrigger, ...] = ()


@dataclass(frozen=True)
class WorkloadSpec:
    """A set of equal long-running processes that serve HTTP, as they should be.

    Each process writes `endpoint.json` (`{"url": "http://…"}`, and `"grpc": "host:port"` where it has such a port) into its
    working directory, which is in its environment as `MODELOPS_WORKDIR`, once it listens; it answers `/readyz` with 200
    when it takes requests, and ends on SIGTERM after it has drained.

    `files` lie in the working directory of each process that starts; they may change under a name, and processes that
    run keep those that they started with. `tenant` is whose it is, for deployers that keep tenants apart; `target` names
    the deployer, where there are several. `grpc` tells that the processes have a port for gRPC.

    With `scaling`, which may come and go under a name, `replicas` is how many there are at first: from then on the cluster
    decides, and `scaled` tells what. Deployers without a cluster refuse it.
    """

    name: str
    replicas: int
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    placement: Placement | None = None
    tenant: str | None = None
    target: str | None = None
    grpc: bool = False
    scaling: ClusterScaling | None = None


@dataclass(frozen=True)
class ReplicaObservation:
    """What was seen of one replica. `restarts` counts how often its process was started again."""

    index: int
    phase: Phase
    ready: bool
    endpoint: str | None
    pid: int | None
    restarts: int
    reason: str | None
    started_at: datetime | None
    grpc_endpoint: str | None = None


@runtime_checkable
class Deployer(Protocol):
    """Keeps workloads running, outside of this process, so that they survive it."""

    def apply(self, spec: WorkloadSpec) -> None:
        """Move the world one step towards `spec`: start what is missing, restart what died (with back-off), end what is
        too many. Returns at once; call it again until `observe` shows what you want. Idempotent."""
        ...

    def observe(self, name: str) -> list[ReplicaObservation]:
        """Return what is seen of the workload's replicas by index, readiness included; empty where there is none."""
        ...

    def scaled(self, name: str) -> int | None:
        """Return how many replicas the world itself wants of the workload; None where who applies it decides."""
        ...

    def log(self, name: str, index: int, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return up to `limit` bytes of a replica's output from `offset`."""
        ...

    def remove(self, name: str, *, grace_s: float = 10.0) -> bool:
        """End the workload after draining. Returns True once nothing of it is left; call it again until then."""
        ...

    def names(self) -> list[str]:
        """Return every workload that the deployer still keeps."""
        ...
