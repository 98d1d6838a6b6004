"""Workloads as pods of a cluster, each replica with a place of its own.

A replica is told what to serve while it runs, and is known by its index. No controller of the cluster keeps both, so the
pods are made here: `<workload>-<index>-<incarnation>`. The names are the restart counters, and of two processes that both
want to start a replica again, one makes the pod. A Service stands for the workload and owns the rest of it.
"""

import hashlib
import json
import math
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.cluster import Cluster, Document
from modelops.adapters.kubernetes.logs import Archive
from modelops.adapters.kubernetes.observing import NODE_PATIENCE, is_ready, judge, listens, time_of
from modelops.adapters.kubernetes.pods import GRPC_PORT, PORT, pod_spec, spec_secret
from modelops.adapters.kubernetes.settings import Site
from modelops.adapters.kubernetes.tenants import Tenants
from modelops.adapters.local.backoff import failures_in_a_row, restart_delay_s
from modelops.adapters.local.commands import Command
from modelops.adapters.local.processes import checked_name
from modelops.contracts.clock import Clock
from modelops.contracts.errors import Conflict, InvalidInput, NotFound, Unavailable
from modelops.contracts.ports import Phase, ReplicaObservation, WorkloadSpec

DELETION_GRACE_S = 60.0
"""What a replica has to end in when somebody else deletes or evicts its pod."""

LINGER_S = 2.0
"""How long a replica that is to end takes requests yet: until then others may not have heard that it goes."""

CORRECT_EVERY_S = 10.0
_SURPLUS_GRACE_S = 10.0


class KubernetesDeployer:
    """A Deployer of a cluster; see `Deployer` for what its methods promise. Any number of processes may share it.

    Args:
        cluster: The cluster, which is closed with this.
        site: Where in it workloads are put, and their image.
        clock: What measures the time between restarts.
    """

    def __init__(self, cluster: Cluster, site: Site, clock: Clock) -> None:
        self._cluster = cluster
        self._site = site
        self._clock = clock
        self._tenants = Tenants(cluster, site)
        self._archive = Archive(site.logs, cluster)
        self._lock = threading.Lock()
        self._ended_since: dict[str, float] = {}
        self._corrected: dict[str, tuple[float, int]] = {}

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
        """Move one step towards `spec`. Raises Conflict when more than `replicas` and `files` differ from when it was made."""
        if spec.replicas < 0:
            raise InvalidInput(f"A workload cannot have {spec.replicas} replicas.")
        checked_name(spec.name)
        with self._lock:
            service = self._claim(spec)
            secret = self._secret(spec, service)
            pods = self._pods(service)
            for index in sorted(pods.keys() | range(spec.replicas)):
                if index >= spec.replicas:
                    self._retire(pods[index])
                elif index not in pods:
                    self._start(spec, service, secret, index, 0, 0)
                else:
                    self._keep_up(spec, service, secret, index, pods[index])
            self._forget_secrets(service, secret, pods)

    def observe(self, name: str) -> list[ReplicaObservation]:
        """Return what is seen of the replicas, by index."""
        service = self._service(name)
        if service is None:
            return []
        return [_seen(index, pods[-1]) for index, pods in sorted(self._pods(service).items())]

    def log(self, name: str, index: int, *, offset: int = 0, limit: int = 65_536) -> bytes:
        """Return a piece of the output of a replica's last incarnation."""
        service = self._service(name)
        pods = [] if service is None else self._pods(service).get(index, [])
        if not pods:
            return b""
        about = pods[-1]["metadata"]
        with suppress(Unavailable):  # its node does not answer; what was read before is there
            self._archive.follow(about["name"], about["name"], about["namespace"])
        return self._archive.read(about["name"], offset, limit)

    def remove(self, name: str, *, grace_s: float = 10.0) -> bool:
        """End the workload after draining; return True once nothing of it is left."""
        with self._lock:
            service = self._service(name)
            if service is None:
                return True
            pods = [pod for incarnations in self._pods(service).values() for pod in incarnations]
            for pod in pods:
                self._delete(pod, grace_s)
            if pods:
                return False
            about = service["metadata"]
            self._cluster.delete("PodDisruptionBudget", about["name"], about["namespace"])
            for secret in self._cluster.list("Secret", about["labels"], about["namespace"]):
                self._cluster.delete("Secret", secret["metadata"]["name"], about["namespace"])
            self._cluster.delete("Service", about["name"], about["namespace"])
            self._corrected.pop(about["name"], None)
            return True

    def names(self) -> list[str]:
        """Return every workload that is still kept, sorted."""
        labels = names.labels_of(self._site.instance, names.WORKLOAD, "")
        del labels[names.NAME]
        found = [one["metadata"] for one in self._cluster.list("Service", labels)]
        return sorted(one["annotations"][names.FULL_NAME] for one in found if "deletionTimestamp" not in one)

    def service_document(self, spec: WorkloadSpec) -> Document:
        """Return the Service that stands for a workload."""
        labels = names.labels_of(self._site.instance, names.WORKLOAD, spec.name)
        told = {names.FULL_NAME: spec.name, names.FINGERPRINT: _fingerprint(spec)}
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": names.object_name(spec.name, self._site.instance),
                "namespace": names.namespace_of(self._site.namespace, spec.tenant),
                "labels": labels,
                "annotations": told,
            },
            "spec": {
                "type": "ClusterIP",
                "selector": labels,
                "ports": [
                    {"name": "http", "protocol": "TCP", "port": 80, "targetPort": PORT},
                    {"name": "grpc", "protocol": "TCP", "port": GRPC_PORT, "targetPort": GRPC_PORT},
                ],
            },
        }

    def budget_document(self, service: Document, replicas: int) -> Document:
        """Return the budget that lets one replica at a time be evicted."""
        about = service["metadata"]
        return {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {**_inside(about), "name": about["name"], "ownerReferences": _owners(service)},
            "spec": {"minAvailable": replicas - 1, "selector": {"matchLabels": dict(about["labels"])}},
        }

    def pod_document(
        self, spec: WorkloadSpec, service: Document, secret: str, index: int, number: int, failures: int
    ) -> Document:
        """Return the pod of a replica's incarnation."""
        about = service["metadata"]
        env = {
            "MODELOPS_REPLICA": f"{spec.name}/{index}",
            "MODELOPS_BIND": "0.0.0.0",  # noqa: S104 - within the pod, whose address it is
            "MODELOPS_BIND_PORT": str(PORT),
            "MODELOPS_BIND_GRPC_PORT": str(GRPC_PORT),
            "MODELOPS_KEEPER_PORT": str(PORT),
            "MODELOPS_KEEPER_LINGER_S": f"{LINGER_S:g}",
        }
        told = {names.INDEX: str(index), names.INCARNATION: str(number), names.FAILURES: str(failures)}
        inner = pod_spec(
            secret,
            self._site,
            spec.limits,
            spec.placement,
            grace_s=DELETION_GRACE_S,
            waits=False,
            env=env,
            serves=True,
        )
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **_inside(about),
                "name": f"{about['name']}-{index}-{number}",
                "annotations": told,
                "ownerReferences": _owners(service),
            },
            "spec": inner,
        }

    def _service(self, name: str) -> Document | None:
        labels = names.labels_of(self._site.instance, names.WORKLOAD, checked_name(name))
        found = [one for one in self._cluster.list("Service", labels) if "deletionTimestamp" not in one["metadata"]]
        return found[0] if found else None

    def _claim(self, spec: WorkloadSpec) -> Document:
        """Return the workload's Service, made or put right where it is not as it should be."""
        service, wanted = self._service(spec.name), self.service_document(spec)
        if service is not None:
            if service["metadata"].get("annotations", {}).get(names.FINGERPRINT) != _fingerprint(spec):
                raise Conflict(
                    f"The workload {spec.name} exists with another command, environment or limits.",
                    hint="Only replicas and files can change: give the changed workload a name of its own.",
                )
            at, replicas = self._corrected.get(service["metadata"]["name"], (-math.inf, -1))
            if time.monotonic() - at < CORRECT_EVERY_S and replicas == spec.replicas:
                return service
        self._tenants.ensure(spec.tenant)
        try:
            service = {**self._cluster.apply(wanted), "kind": "Service"}
        except NotFound as wrong:
            raise Unavailable(f"The namespace of {spec.name} is being deleted.", hint="It is tried again.") from wrong
        self._keep_budget(service, spec.replicas)
        self._corrected[service["metadata"]["name"]] = (time.monotonic(), spec.replicas)
        return service

    def _keep_budget(self, service: Document, replicas: int) -> None:
        about = service["metadata"]
        if replicas > 1:
            self._cluster.apply(self.budget_document(service, replicas))
        else:  # with a single replica it would keep a node from being emptied
            self._cluster.delete("PodDisruptionBudget", about["name"], about["namespace"])

    def _secret(self, spec: WorkloadSpec, service: Document) -> str:
        """Return the name of the Secret with what a replica that starts now is told, made where it is missing."""
        about = service["metadata"]
        command = Command(spec.argv, spec.env, spec.files, spec.limits)
        document = spec_secret(about["name"], about["namespace"], about["labels"], self._site, command)
        digest = hashlib.sha256(document["stringData"]["spec.json"].encode()).hexdigest()[:10]
        name = f"{about['name']}-{digest}"
        if self._cluster.get("Secret", name, about["namespace"]) is None:
            document["metadata"] |= {"name": name, "ownerReferences": _owners(service)}
            self._cluster.create({**document, "immutable": True})
        return name

    def _forget_secrets(self, service: Document, newest: str, pods: dict[int, list[Document]]) -> None:
        """Delete the Secrets that no pod was started with."""
        about = service["metadata"]
        used = {_secret_of(pod) for incarnations in pods.values() for pod in incarnations} | {newest}
        for secret in self._cluster.list("Secret", about["labels"], about["namespace"]):
            if secret["metadata"]["name"] not in used:
                self._cluster.delete("Secret", secret["metadata"]["name"], about["namespace"])

    def _pods(self, service: Document) -> dict[int, list[Document]]:
        """Return the incarnations of every replica in their order, by index."""
        about, found = service["metadata"], dict[int, list[Document]]()
        for pod in self._cluster.list("Pod", about["labels"], about["namespace"]):
            if names.INCARNATION in (pod["metadata"].get("annotations") or {}):
                found.setdefault(_number(pod, names.INDEX), []).append(pod)
        for incarnations in found.values():
            incarnations.sort(key=lambda pod: _number(pod, names.INCARNATION))
        return found

    def _start(
        self, spec: WorkloadSpec, service: Document, secret: str, index: int, number: int, failures: int
    ) -> None:
        self._cluster.create(self.pod_document(spec, service, secret, index, number, failures))

    def _retire(self, incarnations: list[Document]) -> None:
        for pod in incarnations:
            self._delete(pod, _SURPLUS_GRACE_S)

    def _keep_up(
        self, spec: WorkloadSpec, service: Document, secret: str, index: int, incarnations: list[Document]
    ) -> None:
        latest = incarnations[-1]
        for old in incarnations[:-1]:
            self._delete(old, _SURPLUS_GRACE_S)
        seen = judge(latest, datetime.now(UTC)).observation
        if not seen.ended:
            return
        name, now = latest["metadata"]["name"], self._clock.monotonic()
        since = self._ended_since.setdefault(name, now)
        failures = _number(latest, names.FAILURES)
        if seen.started_at is not None and seen.finished_at is not None:
            failures = failures_in_a_row(failures, (seen.finished_at - seen.started_at).total_seconds())
        if now - since >= restart_delay_s(failures):
            self._start(spec, service, secret, index, _number(latest, names.INCARNATION) + 1, failures + 1)
            self._ended_since.pop(name)

    def _delete(self, pod: Document, grace_s: float) -> None:
        """Delete a pod, and the sooner of two graces counts. One whose node is gone is deleted without its word."""
        about, grace = pod["metadata"], max(1, math.ceil(grace_s))
        due = time_of(about.get("deletionTimestamp"))
        if due is not None:
            if datetime.now(UTC) > due + NODE_PATIENCE:
                grace = 0
            elif int(about.get("deletionGracePeriodSeconds") or 0) <= grace:
                return
        self._cluster.delete("Pod", about["name"], about["namespace"], grace_s=grace)
        if judge(pod, datetime.now(UTC)).observation.ended:
            self._archive.remove(about["name"])
        self._ended_since.pop(about["name"], None)


def _seen(index: int, pod: Document) -> ReplicaObservation:
    seen = judge(pod, datetime.now(UTC)).observation
    address = (pod.get("status") or {}).get("podIP")
    serves = seen.phase is Phase.RUNNING and listens(pod) and bool(address)
    host = f"[{address}]" if ":" in str(address) else address
    return ReplicaObservation(
        index=index,
        phase=seen.phase,
        ready=serves and is_ready(pod),
        endpoint=f"http://{host}:{PORT}" if serves else None,
        pid=None,
        restarts=_number(pod, names.INCARNATION),
        reason=seen.reason,
        started_at=seen.started_at,
    )


def _inside(about: Document) -> Document:
    return {"namespace": about["namespace"], "labels": dict(about["labels"])}


def _owners(service: Document) -> list[Document]:
    about = service["metadata"]
    return [{"apiVersion": "v1", "kind": "Service", "name": about["name"], "uid": about["uid"]}]


def _number(pod: Document, name: str) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(name) or 0)


def _secret_of(pod: Document) -> str | None:
    volumes = (pod.get("spec") or {}).get("volumes") or []
    return next((one["secret"]["secretName"] for one in volumes if one["name"] == "spec"), None)


def _fingerprint(spec: WorkloadSpec) -> str:
    """Return a digest of what cannot change."""
    placement = None if spec.placement is None else asdict(spec.placement)
    members = [list(spec.argv), dict(spec.env), asdict(spec.limits), placement, spec.tenant]
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()
