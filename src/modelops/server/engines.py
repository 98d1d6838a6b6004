"""Where jobs and workloads run: on this machine, or in a cluster, as the settings say."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelops.adapters.local.deployer import LocalDeployer
from modelops.adapters.local.jobs import LocalJobBackend
from modelops.adapters.targets import DeployerByTarget
from modelops.contracts.clock import Clock
from modelops.contracts.errors import InvalidInput, MissingExtra, MLOpsError
from modelops.contracts.platform import HealthCheck
from modelops.contracts.ports import Deployer, JobBackend
from modelops.contracts.settings import Settings

if TYPE_CHECKING:
    from modelops.adapters.kubernetes.cluster import Cluster
    from modelops.adapters.kubernetes.settings import Site


@dataclass
class Engines:
    """The adapters that the settings name. `local_jobs` and `local_deployer` are those whose processes are children of this
    machine, and end with the platform; what runs in a cluster goes on without it."""

    jobs: JobBackend
    deployer: Deployer
    local_jobs: JobBackend
    local_deployer: Deployer
    check: Callable[[], HealthCheck] | None = None
    closers: list[Callable[[], None]] = field(default_factory=list)


def open_engines(settings: Settings, clock: Clock) -> Engines:
    """Return the adapters for jobs and deployments.

    Raises:
        InvalidInput: a cluster is to be used, and no image is set.
        MissingExtra: lightkube is not installed.
        Unavailable: no cluster is configured.
    """
    local_deployer = LocalDeployer(settings.home / "deployments", clock)
    deployers: dict[str, Deployer] = {"local": local_deployer}
    if "kubernetes" not in (settings.jobs, settings.deployments) and settings.kubernetes_image is None:
        jobs = LocalJobBackend(settings.home / "jobs")
        return Engines(jobs, local_deployer, jobs, local_deployer, closers=[local_deployer.close])
    cluster, site = _cluster(settings)
    from modelops.adapters.kubernetes.deployer import KubernetesDeployer
    from modelops.adapters.kubernetes.jobs import KubernetesJobBackend

    deployers["kubernetes"] = KubernetesDeployer(cluster, site, clock)
    local_jobs = LocalJobBackend(settings.home / "jobs")
    return Engines(
        jobs=local_jobs if settings.jobs == "local" else KubernetesJobBackend(cluster, site),
        deployer=DeployerByTarget(deployers, settings.deployments),
        local_jobs=local_jobs,
        local_deployer=local_deployer,
        check=lambda: check_cluster(cluster, site),
        closers=[local_deployer.close, cluster.close],
    )


def check_cluster(cluster: "Cluster", site: "Site") -> HealthCheck:
    """Tell whether the cluster answers, and whether the platform may do there what it has to. Talks to the world."""
    from modelops.adapters.kubernetes.access import missing_rights

    try:
        version, missing = cluster.version(), missing_rights(cluster)
    except MLOpsError as wrong:
        return HealthCheck(name="cluster", healthy=False, detail=str(wrong))
    where = f"Kubernetes {version} at {cluster.server} answers"
    if missing:
        return HealthCheck(name="cluster", healthy=False, detail=f"{where}, but does not let us {'; '.join(missing)}.")
    return HealthCheck(name="cluster", healthy=True, detail=f"{where}; namespaces begin with '{site.namespace}'.")


def _cluster(settings: Settings) -> "tuple[Cluster, Site]":
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
        logs=settings.home / "cluster-logs",
        python=settings.kubernetes_python,
        pull_secret=settings.kubernetes_pull_secret,
        quota=dict(settings.kubernetes_quota),
        read_only_root=settings.kubernetes_read_only_root,
        mounts=tuple(settings.kubernetes_mounts),
        cpu_reserved=settings.kubernetes_cpu_reserved,
        tenant_policies=settings.kubernetes_network_policies,
    )
    return cluster, site
