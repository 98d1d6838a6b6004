"""What a replica is told: environment, revision document and token."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from modelops.contracts.errors import DeploymentError
from modelops.domains.serving.schemas import RevisionDocument


@dataclass(frozen=True)
class Worker:
    """One of a replica's processes, and what it has from its parent: descriptors of the socket to listen on, of a pipe to
    tell through that it listens, of one that ends when the parent does, and of the socket that holds the port for gRPC."""

    index: int
    count: int
    listener: int
    ready: int
    life: int
    grpc: int | None


@dataclass(frozen=True)
class ReplicaConfig:
    """Where a replica lives and how it behaves. Durations in seconds.

    Attributes:
        workdir: Its own folder: `revision.json` and `token` lie there, `endpoint.json` and `packages/` appear there.
        cache: Folder of downloaded files by digest, shared among replicas.
        spool: Folder of telemetry batches that the platform has not taken yet, shared among replicas.
        host: The address to listen on.
        port: The port there for HTTP, and `grpc_port` the one for gRPC; 0 takes a free one.
        source: Names this process and no other, ever: the first half of a batch's identity.
        drain_s: How long it may finish requests after SIGTERM.
        max_concurrency: How many requests it takes at once, whatever the deployment's limits say; None for what they say.
        worker: Which of the replica's processes this is; None where it is the only one, or the parent.
    """

    workdir: Path
    cache: Path
    spool: Path
    replica: str
    source: str
    host: str
    port: int
    grpc_port: int
    flush_s: float
    drain_s: float
    download_timeout_s: float
    max_concurrency: int | None
    worker: Worker | None

    @property
    def orphan_after_s(self) -> float:
        """Return after how long others' telemetry is taken over: who wrote it has likely died."""
        return 10 * self.flush_s

    @property
    def packages(self) -> Path:
        """The folder that verified packages are put in, each in one of its own."""
        return self.workdir / ("packages" if self.worker is None else f"packages-{self.worker.index}")

    def token(self) -> str:
        """Return the replica's token for the platform, read anew each time: it may be renewed while we run."""
        try:
            return (self.workdir / "token").read_text(encoding="utf-8").strip()
        except OSError as wrong:
            raise DeploymentError(f"The replica's token cannot be read: {wrong}.") from wrong


def read_config(environ: Mapping[str, str] = os.environ) -> ReplicaConfig:
    """Read the environment.

    Raises:
        DeploymentError: `MODELOPS_WORKDIR` is missing, or a number is none.
    """
    if not environ.get("MODELOPS_WORKDIR"):
        raise DeploymentError(
            "The environment variable MODELOPS_WORKDIR is not set.",
            hint="It names the folder with `revision.json` and `token`; the platform sets it.",
        )
    workdir = Path(environ["MODELOPS_WORKDIR"]).absolute()
    replica = environ.get("MODELOPS_REPLICA") or workdir.name
    return ReplicaConfig(
        workdir=workdir,
        cache=Path(environ.get("MODELOPS_CACHE") or workdir / "cache").absolute(),
        spool=Path(environ.get("MODELOPS_SPOOL") or workdir / "spool").absolute(),
        replica=replica,
        source=f"{re.sub(r'[^A-Za-z0-9_.]+', '-', replica)[:100]}-{uuid4().hex}",
        host=environ.get("MODELOPS_BIND") or "127.0.0.1",
        port=_port(environ, "MODELOPS_BIND_PORT"),
        grpc_port=_port(environ, "MODELOPS_BIND_GRPC_PORT"),
        flush_s=_seconds(environ, "MODELOPS_FLUSH_S", 2.0),
        drain_s=_seconds(environ, "MODELOPS_DRAIN_S", 10.0),
        download_timeout_s=_seconds(environ, "MODELOPS_DOWNLOAD_TIMEOUT_S", 60.0),
        max_concurrency=_most_requests(environ),
        worker=_worker(environ),
    )


def read_document(config: ReplicaConfig) -> RevisionDocument:
    """Read `revision.json`.

    Raises:
        DeploymentError: it is missing or not a revision document.
    """
    path = config.workdir / "revision.json"
    try:
        return RevisionDocument.model_validate_json(path.read_bytes())
    except OSError as wrong:
        raise DeploymentError(f"The revision document cannot be read: {wrong}.") from wrong
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise DeploymentError(
            f"{path.name} is not a revision document: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
            hint="The platform and the runtime must be of the same version.",
        ) from wrong


def _worker(environ: Mapping[str, str]) -> Worker | None:
    if not environ.get("MODELOPS_WORKER_FDS"):
        return None
    listener, ready, life, *grpc = map(int, environ["MODELOPS_WORKER_FDS"].split(","))
    count = int(environ["MODELOPS_WORKERS"])
    return Worker(int(environ["MODELOPS_WORKER"]), count, listener, ready, life, grpc[0] if grpc else None)


def _most_requests(environ: Mapping[str, str]) -> int | None:
    text = environ.get("SERVING_MAX_CONCURRENCY")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 10_000):
        raise DeploymentError(f"SERVING_MAX_CONCURRENCY must be a whole number from 1 to 10,000, not '{text[:40]}'.")
    return int(text)


def _port(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name) or "0"
    if not (text.isascii() and text.isdigit() and int(text) < 65_536):
        raise DeploymentError(f"{name} must be a port, not '{text[:40]}'.")
    return int(text)


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(environ.get(name) or default)
    except ValueError:
        value = -1.0
    if not 0 < value < 86_400:
        raise DeploymentError(f"{name} must be a number of seconds above 0, not '{environ[name]}'.")
    return value
