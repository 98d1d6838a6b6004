"""A platform: everything one process needs, opened from settings and closed again."""

import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from modelops.adapters.dbos.workflows import DbosWorkflows
from modelops.contracts.clock import Clock, SystemClock
from modelops.contracts.ports import BlobStore, Deployer, JobBackend
from modelops.contracts.settings import Settings
from modelops.contracts.tracing import Tracing, open_tracing
from modelops.domains.data import service as data
from modelops.domains.experiments.ports import ArtifactCatalog, ArtifactRelease
from modelops.domains.identity import service as identity
from modelops.kernel.context import Context, RolePermissions
from modelops.kernel.database import Database, sqlite_url
from modelops.kernel.holding import Holders
from modelops.kernel.housekeeping import Housekeeping
from modelops.kernel.leases import expire_leases
from modelops.kernel.manifest import Manifest, discover, handlers_of, holders_of, permissions_of, workflows_of
from modelops.kernel.reconciler import Controller
from modelops.kernel.secrets import SecretBox
from modelops.kernel.work import JobRoom, PlatformUrl, Watching, Workplace
from modelops.kernel.workflows import Workflows
from modelops.server.app import build_app
from modelops.server.artifacts import open_blobs
from modelops.server.bell import Bell
from modelops.server.engines import Engines, machines_of_agents, open_engines, this_machine
from modelops.server.migrate import take_turn, upgrade


@dataclass
class Platform:
    """An open platform. `first_key` is the administrator's API key, the first time a platform is opened on its data."""

    settings: Settings
    place: Workplace
    manifests: list[Manifest]
    app: FastAPI
    controller: Controller
    url: PlatformUrl
    first_key: str | None = None
    _closers: list[Any] = field(default_factory=list)

    def start_controller(self, *, alone: bool = True) -> None:
        """Start the reconcilers.

        Args:
            alone: Earlier controllers of the home folder are gone, as whoever holds its lock knows.
        """
        if alone:
            with self.place.work() as ctx:
                expire_leases(ctx.session, ctx.clock, _holder_prefix(self.settings.home))
        self.watch()
        self.launch_workflows()
        self.controller.start()
        self._closers.append(self.controller.stop)

    def watch(self) -> None:
        """Note that from now on this process hears whoever tells the platform that he lives."""
        self.place.ports[Watching].since = self.place.clock.now()

    def listen(self, *, wakes_controller: bool) -> None:
        """Tell the other processes of a cluster what is changed here, and be woken by what they change."""
        bell = Bell(self.place.database, self.place.changed.set if wakes_controller else None)
        self.place.heralds.append(bell.ring)
        self._closers.append(bell.close)

    def launch_workflows(self) -> None:
        """Begin to execute workflows. For whoever runs the controller."""
        self.place.ports[Workflows].launch(workflows_of(self.manifests, self.place))

    def close(self) -> None:
        """Release what it holds."""
        for close in reversed(self._closers):
            close()


def open_platform(settings: Settings, *, clock: Clock | None = None, by_agents: bool = False) -> Platform:
    """Open a platform on its data: make the home folder, bring the database to the newest schema, set up what is missing.

    Args:
        settings: What holds.
        clock: The time; by default the system's.
        by_agents: Jobs and workloads run where agents are, and not on this machine.

    Raises:
        MLOpsError: the data cannot be opened; the error says why and what to do.
    """
    home = settings.home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(database_url(settings), pool=settings.database_pool, echo=settings.debug)
    upgrade(database)
    manifests = discover()
    url = PlatformUrl(settings.public_url)
    clock = clock or SystemClock()
    workflows = DbosWorkflows(
        database,
        home,
        clock,
        holder=_holder(home),
        lease_ttl_s=settings.lease_ttl_s,
        keep_s=settings.workflow_retention_s,
    )
    ports: dict[type, Any] = {
        BlobStore: open_blobs(settings),
        Workflows: workflows,
        SecretBox: open_box(settings),
        RolePermissions: permissions_of(manifests),
        Holders: holders_of(manifests),
        PlatformUrl: url,
        Watching: Watching(),
    }
    ports[ArtifactCatalog] = _artifact_facts
    ports[ArtifactRelease] = data.release_artifacts
    for manifest in manifests:
        ports.update(manifest.provides)
    tracing = open_tracing("modelops-api", {}, os.environ)
    if tracing is not None:
        ports[Tracing] = tracing
    place = Workplace(database, ports, clock, settings)
    machines = machines_of_agents(place) if by_agents else this_machine(settings, clock)
    engines = open_engines(settings, clock, database, machines)
    ports.update({JobBackend: engines.jobs, Deployer: engines.deployer, Engines: engines})
    if engines.room is not None:
        ports[JobRoom] = engines.room
    closers = [database.close, place.writer.close, *engines.closers, workflows.close]
    try:
        with place.work() as ctx:
            take_turn(ctx.session)
            identity.check_secret_key(ctx)
            first_key = identity.set_up(ctx)
    except BaseException:
        for close in reversed(closers):
            close()
        raise
    reconcilers = [Housekeeping(), *(reconciler for manifest in manifests for reconciler in manifest.reconcilers)]
    controller = Controller(place, reconcilers, handlers_of(manifests), _holder(home))
    platform = Platform(settings, place, manifests, build_app(place, manifests), controller, url, first_key)
    platform._closers.extend(closers)
    if tracing is not None:
        platform._closers.append(tracing.close)
    return platform


def _holder_prefix(home: Path) -> str:
    return f"{socket.gethostname()}:{home}:"[:150]


def _holder(home: Path) -> str:
    return f"{_holder_prefix(home)}{os.getpid()}:{secrets.token_hex(4)}"


def database_url(settings: Settings) -> Any:
    """Return the database's URL: the one set, or SQLite in the home folder."""
    if settings.database is not None:
        return settings.database.get_secret_value()
    return sqlite_url(settings.home / "modelops.db")


def _artifact_facts(ctx: Context, digest: str) -> tuple[int, str]:
    """Tell experiments what data knows: the two are neighbours on one floor and do not import each other."""
    artifact = data.hold_artifacts(ctx, [digest])[digest]
    return artifact.size, artifact.media_type


def open_box(settings: Settings) -> SecretBox:
    """Return what seals and opens secrets, by the platform's secret key or that of the home folder."""
    if settings.secret_key is not None:
        return SecretBox(settings.secret_key.get_secret_value().encode())
    return SecretBox(_key_file(settings.home / "secret.key"))


def _key_file(path: Path) -> bytes:
    """Read the key file, made at the first need; of two processes that make it, both read the winner's."""
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()
