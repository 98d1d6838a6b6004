"""Where jobs and workloads run: on this machine, where agents are, or in a cluster, as the settings say."""

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelops.adapters.agents.door import AgentDoor
from modelops.adapters.agents.forwarding import AgentDeployer, AgentJobBackend
from modelops.adapters.agents.registry import Registry, free_room
from modelops.adapters.kubernetes.outputs import Outputs
from modelops.adapters.local.deployer import LocalDeployer
from modelops.adapters.local.jobs import LocalJobBackend
from modelops.adapters.targets import DeployerByTarget
from modelops.contracts.clock import Clock
from modelops.contracts.errors import InvalidInput, MissingExtra, MLOpsError
from modelops.contracts.platform import HealthCheck
from modelops.contracts.ports import Deployer, JobBackend
from modelops.contracts.settings import Settings
from modelops.kernel.database import Database
from modelops.kernel.secrets import SecretBox
from modelops.kernel.work import JobRoom, Workplace

if TYPE_CHECKING:
    from modelops.adapters.kubernetes.cluster import Cluster
    from modelops.adapters.kubernetes.settings import Site


@dataclass(frozen=True)
class Machines:
    """What runs jobs and workloads as plain processes: on this machine, or on those where agents are. `room` tells how many jobs
    may run there at once, where that is not a setting."""

    jobs: JobBackend
    deployer: Deployer
    close: Callable[[], None]
    room: JobRoom | None = None


@dataclass
class Engines:
    """The adapters that the settings name. `local_jobs` and `local_deployer` are those whose processes are of machines, and end
    with a platform that is one process tree; what runs in a cluster goes on without it."""

    jobs: JobBackend
    deployer: Deployer
    local_jobs: JobBackend
    local_deployer: Deployer
    room: JobRoom | None = None
    check: Callable[[], HealthCheck] | None = None
    closers: list[Callable[[], None]] = field(default_factory=list)


def this_machine(settings: Settings, clock: Clock) -> Machines:
    """Return what runs processes here.

    Raises:
        InvalidInput: the settings' name of this machine is unknown here.
    """
    deployer = LocalDeployer(settings.home / "deployments", clock, host=own_address(settings))
    return Machines(LocalJobBackend(settings.home / "jobs"), deployer, deployer.close)


def machines_of_agents(place: Workplace) -> Machines:
    """Return what runs processes where agents are."""
    box: SecretBox = place.ports[SecretBox]
    registry = Registry(place.database, place.clock, place.settings.agent_timeout_s)
    door = AgentDoor(box, place.clock)
    given = (registry, place.clock, box, door, place.wake)
    room = JobRoom(free_room(place.settings.agent_timeout_s))
    return Machines(AgentJobBackend(*given), AgentDeployer(*given), door.close, room)


def own_address(settings: Settings) -> str | None:
    """Return the address by which other machines reach this one; None where only this machine is to reach it.

    Raises:
        InvalidInput: the name that the settings give is unknown here.
    """
    name = socket.gethostname() if settings.agent_host == "auto" else settings.agent_host
    try:
        address = str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as wrong:
        raise InvalidInput(
            f"The address '{name}' of this machine cannot be looked up: {wrong.strerror}.",
            hint="Set `MODELOPS_AGENT_HOST` to an address by which the platform reaches this machine.",
        ) from wrong
    return None if ipaddress.ip_address(address).is_loopback else address


def open_engines(settings: Settings, clock: Clock, database: Database, machines: Machines) -> Engines:
    """Return the adapters for jobs and deployments.

    Raises:
        InvalidInput: a cluster is to be used, and no image is set.
        MissingExtra: lightkube is not installed.
        Unavailable: no cluster is configured.
    """
    deployers: dict[str, Deployer] = {"local": machines.deployer}
    if "kubernetes" not in (settings.jobs, settings.deployments) and settings.kubernetes_image is None:
        jobs, deployer = machines.jobs, machines.deployer
        return Engines(jobs, deployer, jobs, deployer, machines.room, closers=[machines.close])
    cluster, site = _cluster(settings, Outputs(database, clock))
    from modelops.adapters.kubernetes.deployer import KubernetesDeployer
    from modelops.adapters.kubernetes.jobs import KubernetesJobBackend

    deployers["kubernetes"] = KubernetesDeployer(cluster, site)
    is_local = settings.jobs == "local"
    return Engines(
        jobs=machines.jobs if is_local else KubernetesJobBackend(cluster, site),
        deployer=DeployerByTarget(deployers, settings.deployments),
        local_jobs=machines.jobs,
        local_deployer=machines.deployer,
        room=machines.room if is_local else None,
        check=lambda: check_cluster(cluster, site),
        closers=[machines.close, cluster.close],
    )


def check_cluster(cluster: "Cluster", site: "Site") -> HealthCheck:
    """Tell whether the cluster answers, and whether the platform may do there what it has to. Talks to the world."""
    from modelops.adapters.kubernetes.access import missing_rights
    from modelops.adapters.kubernetes.drift import told

    try:
        version, missing, keda = cluster.version(), missing_rights(cluster), cluster.serves("keda.sh")
        changed = [] if missing else told(cluster, site.instance)
    except MLOpsError as wrong:
        return HealthCheck(name="cluster", healthy=False, detail=str(wrong))
    where = f"Kubernetes {version} at {cluster.server} answers"
    if missing:
        return HealthCheck(name="cluster", healthy=False, detail=f"{where}, but does not let us {'; '.join(missing)}.")
    scalers = "an HPA and by KEDA" if keda else "an HPA; KEDA is not installed"
    detail = f"{where}; namespaces begin with '{site.namespace}'; it scales deployments by {scalers}."
    if changed:
        detail += f" Of what is ours there, others changed of late: {' '.join(changed[:3])}"
    return HealthCheck(name="cluster", healthy=True, detail=detail)


def _cluster(settings: Settings, outputs: Outputs) -> "tuple[Cluster, Site]":
    if settings.kubernetes_image is None:
        raise InvalidInput(
            "Jobs or deployments are to run in a cluster, and no image is set for them.",
            hint="Set MODELOPS_KUBERNETES_IMAGE to an image with Python and this version of modelops.",
        )
    try:
        from modelops.adapters.kubernetes.cluster import Cluster
        from modelops.adapters.kubernetes.settings import Site
    except ModuleNotFoundError as missing:
        raise MissingExtra(
            f"A cluster needs '{missing.name}', which is not installed.", hint='pip install "modelops[kubernetes]"'
        ) from missing
    kubeconfig = None if settings.kubeconfig is None else str(settings.kubeconfig)
    cluster = Cluster(kubeconfig, settings.kubernetes_context)
    site = Site(
        image=settings.kubernetes_image,
        instance=settings.kubernetes_instance,
        namespace=settings.kubernetes_namespace,
        logs=outputs,
        python=settings.kubernetes_python,
        pull_secret=settings.kubernetes_pull_secret,
        quota=dict(settings.kubernetes_quota),
        read_only_root=settings.kubernetes_read_only_root,
        mounts=tuple(settings.kubernetes_mounts),
        cpu_reserved=settings.kubernetes_cpu_reserved,
        tenant_policies=settings.kubernetes_network_policies,
    )
    return cluster, site
