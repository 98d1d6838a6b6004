"""What a workload is in a cluster: a Deployment, and what belongs to it."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from modelops.adapters.kubernetes import names
from modelops.adapters.kubernetes.cluster import Document
from modelops.adapters.kubernetes.pods import GRPC_PORT, PORT, pod_spec, spec_secret
from modelops.adapters.kubernetes.settings import Site
from modelops.adapters.local.commands import Command
from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import ClusterScaling, WorkloadSpec

DELETION_GRACE_S = 60.0
"""What a replica has to end in when somebody else deletes or evicts its pod."""

LINGER_S = 2.0
"""How long a replica that is to end takes requests yet: until then others may not have heard that it goes."""

SCALERS = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}
"""The kind of the object that scales a workload, by who does."""


def deployment_document(spec: WorkloadSpec, site: Site, template: Document, replicas: int | None) -> Document:
    """Return the Deployment of a workload, to which all else belongs.

    Args:
        template: What its pods are; kept in an annotation, so that a later version of the platform changes none.
        replicas: How many there shall be; None leaves that to the cluster.
    """
    labels = labels_of(spec.name, site)
    told = {
        names.FULL_NAME: spec.name,
        names.FINGERPRINT: fingerprint(spec),
        names.TEMPLATE: json.dumps(template, sort_keys=True, separators=(",", ":")),
    }
    inner: Document = {
        "selector": {"matchLabels": labels},
        "revisionHistoryLimit": 0,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": template,
    }
    if replicas is not None:
        inner["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_about(spec, site), "annotations": told},
        "spec": inner,
    }


def template_document(spec: WorkloadSpec, site: Site) -> Document:
    """Return what the pods of a workload are."""
    name = names.object_name(spec.name, site.instance)
    env = {
        "MODELOPS_BIND": "0.0.0.0",  # noqa: S104 - within the pod, whose address it is
        "MODELOPS_BIND_PORT": str(PORT),
        "MODELOPS_BIND_GRPC_PORT": str(GRPC_PORT),
        "MODELOPS_KEEPER_PORT": str(PORT),
        "MODELOPS_KEEPER_GRPC_PORT": str(GRPC_PORT),
        "MODELOPS_KEEPER_LINGER_S": f"{LINGER_S:g}",
    }
    inner = pod_spec(
        name, site, spec.limits, spec.placement, grace_s=DELETION_GRACE_S, waits=False, env=env, serves=True
    )
    marks = {names.GRPC: "true"} if spec.grpc else {}
    return {"metadata": {"labels": labels_of(spec.name, site), "annotations": marks}, "spec": inner}


def secret_document(spec: WorkloadSpec, site: Site, owner: Document) -> Document:
    """Return the Secret with what a replica that starts is told."""
    about = _about(spec, site)
    command = Command(spec.argv, spec.env, spec.files, spec.limits)
    secret = spec_secret(about["name"], about["namespace"], about["labels"], site, command)
    # Of `stringData` the API server keeps no owner; it is for those who write by hand.
    plain = secret.pop("stringData")
    secret["data"] = {name: base64.b64encode(text.encode()).decode() for name, text in plain.items()}
    return {**secret, "metadata": {**about, "ownerReferences": _owners(owner)}}


def service_document(spec: WorkloadSpec, site: Site, owner: Document) -> Document:
    """Return the Service by which what runs in the cluster reaches a workload."""
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": PORT}]
    if spec.grpc:
        ports.append({"name": "grpc", "protocol": "TCP", "port": GRPC_PORT, "targetPort": GRPC_PORT})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**_about(spec, site), "ownerReferences": _owners(owner)},
        "spec": {"type": "ClusterIP", "selector": labels_of(spec.name, site), "ports": ports},
    }


def budget_document(spec: WorkloadSpec, site: Site, owner: Document) -> Document:
    """Return the budget that lets one replica at a time be evicted: an only one, too, or no node could be emptied."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {**_about(spec, site), "ownerReferences": _owners(owner)},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels_of(spec.name, site)}},
    }


def scaler_document(spec: WorkloadSpec, site: Site, owner: Document, scaling: ClusterScaling) -> Document:
    """Return the object that has the cluster scale a workload.

    Raises:
        InvalidInput: nobody by that name scales, or its CPUs are to be counted and none are reserved.
    """
    if scaling.by not in SCALERS:
        raise InvalidInput(f"A cluster does not scale by '{scaling.by}'; it does by {' and '.join(SCALERS)}.")
    if scaling.cpu_percent is not None and spec.limits.cpus is None:
        raise InvalidInput(
            "The cluster is to scale by the CPUs in use, and none are reserved for a replica.",
            hint="Say in the limits how many CPUs a replica has: `cpus`.",
        )
    about = {**_about(spec, site), "ownerReferences": _owners(owner)}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"]}
    if scaling.by == "hpa":
        inner: Document = {
            "scaleTargetRef": target,
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "targetCPUUtilizationPercentage": scaling.cpu_percent,
        }
        return {"apiVersion": "autoscaling/v1", "kind": SCALERS["hpa"], "metadata": about, "spec": inner}
    triggers: list[Document] = [{"type": one.kind, "metadata": dict(one.settings)} for one in scaling.triggers]
    if scaling.cpu_percent is not None:
        value = {"value": str(scaling.cpu_percent)}
        triggers.insert(0, {"type": "cpu", "metricType": "Utilization", "metadata": value})
    inner = {
        "scaleTargetRef": target,
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "triggers": triggers,
    }
    return {"apiVersion": "keda.sh/v1alpha1", "kind": SCALERS["keda"], "metadata": about, "spec": inner}


def handover_document(deployment: Document, scaling: ClusterScaling) -> Document:
    """Return what keeps the number of a Deployment's replicas, within the scaler's bounds, until that says one."""
    about, replicas = deployment["metadata"], replicas_of(deployment)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": about["name"], "namespace": about["namespace"]},
        "spec": {"replicas": max(scaling.min_replicas, min(replicas, scaling.max_replicas))},
    }


def owns_replicas(deployment: Document, manager: str) -> bool:
    """Tell whether a field manager decides how many replicas a Deployment has."""
    managed = deployment["metadata"].get("managedFields") or []
    return any(
        "f:replicas" in (one.get("fieldsV1") or {}).get("f:spec", {})
        for one in managed
        if one.get("manager") == manager and one.get("operation") == "Apply"
    )


def replicas_of(deployment: Document) -> int:
    """Return how many replicas a Deployment shall have."""
    found = (deployment.get("spec") or {}).get("replicas")
    return 1 if found is None else int(found)


def template_of(deployment: Document) -> Document | None:
    """Return what the pods of a workload were when it was made; None where that was taken away by hand."""
    try:
        kept = json.loads(annotations_of(deployment)[names.TEMPLATE])
    except (KeyError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def labels_of(name: str, site: Site) -> dict[str, str]:
    """Return the labels of all that belongs to a workload."""
    return names.labels_of(site.instance, names.WORKLOAD, name)


def annotations_of(document: Document) -> Mapping[str, str]:
    """Return an object's annotations."""
    return document["metadata"].get("annotations") or {}


def files_digest(spec: WorkloadSpec) -> str:
    """Return a digest of what may change of a Secret."""
    return hashlib.sha256(json.dumps(dict(spec.files), sort_keys=True).encode()).hexdigest()[:16]


def fingerprint(spec: WorkloadSpec) -> str:
    """Return a digest of what cannot change."""
    placement = None if spec.placement is None else asdict(spec.placement)
    members: list[Any] = [list(spec.argv), dict(spec.env), asdict(spec.limits), placement, spec.tenant, spec.grpc]
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()


def _about(spec: WorkloadSpec, site: Site) -> Document:
    return {
        "name": names.object_name(spec.name, site.instance),
        "namespace": names.namespace_of(site.namespace, spec.tenant),
        "labels": labels_of(spec.name, site),
    }


def _owners(deployment: Document) -> list[Document]:
    about = deployment["metadata"]
    return [{"apiVersion": "apps/v1", "kind": "Deployment", "name": about["name"], "uid": about["uid"]}]
