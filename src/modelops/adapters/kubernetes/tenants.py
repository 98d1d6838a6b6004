"""A tenant's namespace: who may enter it, what it may use, and the programs that its pods begin with."""

import hashlib
import threading
import time
from pathlib import Path

from modelops.adapters.kubernetes.cluster import Cluster, Document
from modelops.adapters.kubernetes.drift import put_right
from modelops.adapters.kubernetes.names import DOMAIN, INSTANCE, MANAGED_BY, MANAGER, TENANT, namespace_of
from modelops.adapters.kubernetes.settings import Site
from modelops.adapters.local import nvml, supervisor

ACCOUNT = "modelops-runner"
CHECK_EVERY_S = 60.0
"""How often a namespace that is used is compared with what it should be."""

CONTROL_PLANE = f"{DOMAIN}/control-plane"
"""The label of namespaces whose pods may reach those of tenants: where the platform runs, and what stands before it."""


def programs() -> dict[str, str]:
    """Return the files that every pod of ours begins with, by name."""
    sources = [Path(__file__).with_name("keeper.py"), Path(supervisor.__file__), Path(nvml.__file__)]
    return {path.name: path.read_text(encoding="utf-8") for path in sources}


def programs_name() -> str:
    """Return the name of the ConfigMap of those files: another for every version of them, so that none changes."""
    text = "\0".join(f"{name}\0{source}" for name, source in sorted(programs().items()))
    return f"modelops-programs-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def tenant_documents(site: Site, tenant: str | None) -> list[Document]:
    """Return what a tenant's namespace is and has, in the order in which it is made."""
    namespace = namespace_of(site.namespace, tenant)
    labels = {MANAGED_BY: MANAGER}
    whose = {TENANT: tenant} if tenant else {}
    level = "privileged" if site.mounts else "restricted"
    security = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn", "audit")}
    inside = {"namespace": namespace, "labels": labels}
    documents: list[Document] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {**labels, **security}, "annotations": whose},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, **inside},
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": programs_name(), **inside},
            "data": programs(),
            "immutable": True,
        },
    ]
    if site.tenant_policies:
        documents.append(_policy(inside))
    if site.quota:
        documents.append(
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "modelops", **inside},
                "spec": {"hard": dict(site.quota)},
            }
        )
    return documents


def _policy(inside: Document) -> Document:
    """Return the policy that admits to a tenant's pods its own and those of the control plane, and no others."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "modelops", **inside},
        "spec": {
            "podSelector": {"matchExpressions": [{"key": INSTANCE, "operator": "Exists"}]},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [
                        {"podSelector": {}},
                        {"namespaceSelector": {"matchLabels": {CONTROL_PLANE: "true"}}},
                    ]
                }
            ],
        },
    }


class Tenants:
    """Makes tenants' namespaces before something is put into them."""

    def __init__(self, cluster: Cluster, site: Site) -> None:
        self._cluster = cluster
        self._site = site
        self._made: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def ensure(self, tenant: str | None) -> str:
        """Make a tenant's namespace what it should be, and return its name. What was edited by hand is told and put right
        when this process needs the namespace, at most once a minute, and when the namespace was made anew meanwhile.

        Raises:
            Unavailable: the namespace is being deleted.
        """
        name = namespace_of(self._site.namespace, tenant)
        with self._lock:
            found = self._cluster.get("Namespace", name)
            uid = None if found is None else found["metadata"]["uid"]
            made, checked_at = self._made.get(name, (None, 0.0))
            if uid is None or made != uid or time.monotonic() > checked_at + CHECK_EVERY_S:
                for document in tenant_documents(self._site, tenant):
                    was_there = made is not None and made == uid
                    applied = put_right(self._cluster, self._site.instance, document, was_there=was_there)
                    if document["kind"] == "Namespace":
                        uid = applied["metadata"]["uid"]
                self._made[name] = (str(uid), time.monotonic())
        return name
