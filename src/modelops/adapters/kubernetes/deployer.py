"""Workloads as Deployments of a cluster, whose own controllers keep the replicas, whether the platform is there or not.

All that belongs to a workload is owned by its Deployment, and goes with it. Everything is made by server-side apply, with no
other fields than those that the platform decides about; where the cluster scales, the number of replicas is not among them.
"""

import math
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.cluster import Cluster, Document
from modelops.adapters.kubernetes.ledger import Ledger, lives, read_ledger, settled, starts_again, write_ledger
from modelops.adapters.kubernetes.logs import Archive
from modelops.adapters.kubernetes.observing import NODE_PATIENCE, time_of
from modelops.adapters.kubernetes.replicas import replicas_seen
from modelops.adapters.kubernetes.settings import Site
from modelops.adapters.kubernetes.tenants import Tenants
from modelops.adapters.kubernetes.workloads import (
    SCALERS,
    annotations_of,
    budget_document,
    deployment_document,
    files_digest,
    fingerprint,
    handover_document,
    labels_of,
    owns_replicas,
    replicas_of,
    scaler_document,
    secret_document,
    service_document,
    template_document,
    template_of,
)
from modelops.adapters.local.processes import checked_name
from modelops.contracts.errors import Conflict, InvalidInput, NotFound, Unavailable
from modelops.contracts.ports import ClusterScaling, ReplicaObservation, WorkloadSpec

CORRECT_EVERY_S = 10.0
"""How often what somebody else may have changed is put right."""

_Wanted = tuple[int, str, ClusterScaling | None]


class KubernetesDeployer:
    """A Deployer of a cluster; see `Deployer` for what its methods promise. Any number of processes may share it.

    Args:
        cluster: The cluster, which is closed with this.
        site: Where in it workloads are put, and their image.
    """

    def __init__(self, cluster: Cluster, site: Site) -> None:
        self._cluster = cluster
        self._site = site
        self._tenants = Tenants(cluster, site)
        self._archive = Archive(site.logs, cluster)
        self._lock = threading.Lock()
        self._corrected: dict[str, tuple[float, _Wanted]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the connections. The workloads go on."""
        self._cluster.close()

    def apply(self, spec: WorkloadSpec) -> None:
        """Move one step towards `spec`.

        Raises:
            Conflict: more than `replicas`, `files` and `scaling` differ from when it was made.
            Unavailable: the cluster is to scale it by KEDA, which is not installed.
        """
        if spec.replicas < 0:
            raise InvalidInput(f"A workload cannot have {spec.replicas} replicas.")
        checked_name(spec.name)
        with self._lock:
            deployment = self._deployment(spec.name)
            if deployment is None:
                self._make(spec)
            elif annotations_of(deployment).get(names.FINGERPRINT) != fingerprint(spec):
                raise Conflict(
                    f"The workload {spec.name} exists with another command, environment or limits.",
                    hint="Only replicas and files can change: give the changed workload a name of its own.",
                )
            elif "deletionTimestamp" not in deployment["metadata"]:
                # What is counted and marked first is what the cluster goes by where there are replicas too many.
                self._count(spec, deployment)
                self._correct(spec, deployment)

    def observe(self, name: str) -> list[ReplicaObservation]:
        """Return what is seen of the replicas, by index."""
        deployment = self._deployment(name)
        if deployment is None:
            return []
        pods, ledger = self._look(deployment)
        return replicas_seen(deployment, pods, ledger)

    def scaled(self, name: str) -> int | None:
        """Return how many replicas the cluster wants of the workload; None where the platform decides."""
        deployment = self._deployment(name)
        if deployment is None or owns_replicas(deployment, names.MANAGER):
            return None
        return replicas_of(deployment)

    def log(self, name: str, index: int, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return a piece of the output of a replica's last incarnation."""
        deployment = self._deployment(name)
        if deployment is None:
            return b""
        pods, ledger = self._look(deployment)
        place = ledger.get(index)
        if place is None:
            return b""
        kept = _kept_as(place.name, place.again)
        if any(pod["metadata"]["uid"] == place.pod for pod in pods):
            with suppress(Unavailable):  # its node does not answer; what was read before is there
                self._archive.follow(kept, place.name, deployment["metadata"]["namespace"])
        return self._archive.read(kept, offset, limit)

    def remove(self, name: str, *, grace_s: float = 10.0) -> bool:
        """End the workload after draining; return True once nothing of it is left."""
        labels = labels_of(checked_name(name), self._site)
        with self._lock:
            deployment, pods = self._deployment(name), self._cluster.list("Pod", labels)
            if deployment is not None:
                about = deployment["metadata"]
                self._corrected.pop(about["name"], None)
                self._cluster.delete("Deployment", about["name"], about["namespace"], after_its_own=True)
            for pod in pods:
                self._delete(pod, grace_s)
            return deployment is None and not pods

    def names(self) -> list[str]:
        """Return every workload that is still kept, sorted."""
        labels = labels_of("", self._site)
        del labels[names.NAME]
        found = self._cluster.list("Deployment", labels)
        return sorted(annotations_of(one)[names.FULL_NAME] for one in found)

    def _deployment(self, name: str) -> Document | None:
        found = self._cluster.list("Deployment", labels_of(checked_name(name), self._site))
        return {**found[0], "kind": "Deployment"} if found else None

    def _look(self, deployment: Document) -> tuple[list[Document], Ledger]:
        """Return the workload's pods, and the ledger as it follows from them."""
        about = deployment["metadata"]
        pods = self._cluster.list("Pod", about["labels"], about["namespace"])
        service = self._cluster.get("Service", about["name"], about["namespace"])
        return pods, settled(read_ledger(service), pods, replicas_of(deployment))

    def _make(self, spec: WorkloadSpec) -> None:
        """Make a workload; one that was deleted by hand is made anew."""
        self._tenants.ensure(spec.tenant)
        wanted = deployment_document(spec, self._site, template_document(spec, self._site), spec.replicas)
        try:
            made = {**self._cluster.apply(wanted), "kind": "Deployment"}
        except NotFound as wrong:
            raise Unavailable(f"The namespace of {spec.name} is being deleted.", hint="It is tried again.") from wrong
        self._corrected.pop(made["metadata"]["name"], None)
        self._correct(spec, made)

    def _correct(self, spec: WorkloadSpec, deployment: Document) -> None:
        """Put right what is not as it should be. What starts next finds its files changed before it starts."""
        name, wanted = deployment["metadata"]["name"], (spec.replicas, files_digest(spec), spec.scaling)
        at, before = self._corrected.get(name, (-math.inf, None))
        if time.monotonic() - at < CORRECT_EVERY_S and wanted == before:
            return
        self._tenants.ensure(spec.tenant)
        for document in (
            secret_document(spec, self._site, deployment),
            service_document(spec, self._site, deployment),
            budget_document(spec, self._site, deployment),
        ):
            self._cluster.apply(document)
        template = template_of(deployment) or template_document(spec, self._site)
        if spec.scaling is None:
            if before is None or before[2] is not None:
                self._end_scaling(deployment, list(SCALERS.values()))
            self._cluster.apply(deployment_document(spec, self._site, template, spec.replicas))
        else:
            self._hand_over(spec, deployment, template, spec.scaling, anew=before is None or before[2] != spec.scaling)
        self._corrected[name] = (time.monotonic(), wanted)

    def _hand_over(
        self, spec: WorkloadSpec, deployment: Document, template: Document, scaling: ClusterScaling, *, anew: bool
    ) -> None:
        """Have the cluster scale a workload. What had decided until then keeps the number up to the scaler's first word."""
        scaler = scaler_document(spec, self._site, deployment, scaling)
        if anew:
            self._end_scaling(deployment, [kind for by, kind in SCALERS.items() if by != scaling.by])
        try:
            self._cluster.apply(scaler)
        except NotFound as missing:
            if scaling.by != "keda":
                raise
            self._cluster.apply(deployment_document(spec, self._site, template, spec.replicas))
            raise Unavailable(
                "KEDA is to scale the workload, and is not installed in the cluster.",
                hint="Install it (https://keda.sh/docs/latest/deploy/), or let a HorizontalPodAutoscaler scale: by=hpa.",
            ) from missing
        if owns_replicas(deployment, names.MANAGER):
            self._cluster.apply(handover_document(deployment, scaling), manager=names.SCALER)
        self._cluster.apply(deployment_document(spec, self._site, template, None))

    def _end_scaling(self, deployment: Document, kinds: list[str]) -> None:
        about = deployment["metadata"]
        for kind in kinds:
            self._cluster.delete(kind, about["name"], about["namespace"])

    def _count(self, spec: WorkloadSpec, deployment: Document) -> None:
        """Write down which pod is which replica, and mark the pods so. Where others do so, too, one of them does."""
        about = deployment["metadata"]
        service = self._cluster.get("Service", about["name"], about["namespace"])
        if service is None:
            self._corrected.pop(about["name"], None)
            return
        pods, before = self._cluster.list("Pod", about["labels"], about["namespace"]), read_ledger(service)
        ledger = settled(before, pods, replicas_of(deployment))
        if ledger != before:
            try:
                changed: dict[str, str | None] = {names.LEDGER: write_ledger(ledger)}
                self._cluster.annotate({**service, "kind": "Service"}, changed, unchanged=True)
            except Conflict:
                return
            self._forget_output(before, ledger)
        index_of, digest = {place.pod: index for index, place in ledger.items()}, files_digest(spec)
        for pod in pods:
            index = index_of.get(pod["metadata"]["uid"])
            if not lives(pod) and (index is None or "deletionTimestamp" in pod["metadata"]):
                self._delete(pod, None)
            elif index is not None and lives(pod):
                self._mark(pod, {names.INDEX: str(index), names.DELETION_COST: str(-index), names.FILES: digest})

    def _mark(self, pod: Document, marks: dict[str, str | None]) -> None:
        """Annotate a pod. A change of its files is among it, so that its node gets them at once and not in a minute."""
        if any(annotations_of(pod).get(name) != value for name, value in marks.items()):
            with suppress(NotFound):
                self._cluster.annotate({**pod, "kind": "Pod"}, marks)

    def _delete(self, pod: Document, grace_s: float | None) -> None:
        """Delete a pod, and the sooner of two graces counts. One whose node is gone is deleted without its word."""
        about = pod["metadata"]
        grace = None if grace_s is None else max(1, math.ceil(grace_s))
        due = time_of(about.get("deletionTimestamp"))
        if due is not None:
            if datetime.now(UTC) > due + NODE_PATIENCE:
                grace = 0
            elif grace is None or int(about.get("deletionGracePeriodSeconds") or 0) <= grace:
                return
        self._cluster.delete("Pod", about["name"], about["namespace"], grace_s=grace)
        for again in range(starts_again(pod) + 1):
            self._archive.remove(_kept_as(about["name"], again))

    def _forget_output(self, before: Ledger, now: Ledger) -> None:
        """Delete what was kept of the output of incarnations that are past."""
        kept = {_kept_as(place.name, place.again) for place in now.values()}
        for place in before.values():
            if (name := _kept_as(place.name, place.again)) not in kept:
                self._archive.remove(name)


def _kept_as(pod: str, again: int) -> str:
    """Return the name under which the output of a container's incarnation is kept."""
    return f"{pod}-{again}"
