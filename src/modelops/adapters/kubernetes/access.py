"""What the platform must be allowed to do in a cluster: what `mops doctor` asks, and what a ClusterRole grants."""

from typing import Any

from modelops.adapters.kubernetes.cluster import Cluster

RIGHTS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("", ("namespaces",), ("get", "create", "patch")),
    ("", ("configmaps", "secrets", "services", "serviceaccounts"), ("get", "list", "create", "patch", "delete")),
    ("", ("resourcequotas",), ("get", "create", "patch")),
    ("", ("pods",), ("get", "list", "create", "patch", "delete")),
    ("", ("pods/log",), ("get",)),
    ("", ("events",), ("list", "create")),
    ("apps", ("deployments",), ("get", "list", "create", "patch", "delete")),
    ("autoscaling", ("horizontalpodautoscalers",), ("get", "create", "patch", "delete")),
    ("batch", ("jobs",), ("get", "list", "create", "patch", "delete")),
    ("networking.k8s.io", ("networkpolicies",), ("get", "create", "patch")),
    ("keda.sh", ("scaledobjects",), ("get", "create", "patch", "delete")),
    ("policy", ("poddisruptionbudgets",), ("get", "create", "patch", "delete")),
)
"""API group, resources, verbs."""


def missing_rights(cluster: Cluster) -> list[str]:
    """Return what the cluster does not let the platform do, in words."""
    return [
        f"{verb} {resource}"
        for group, resources, verbs in RIGHTS
        for resource in resources
        for verb in verbs
        if not cluster.may(verb, group, resource)
    ]


def cluster_role(name: str) -> dict[str, Any]:
    """Return the ClusterRole that grants all of it, and nothing else."""
    rules = [
        {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)} for group, resources, verbs in RIGHTS
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
