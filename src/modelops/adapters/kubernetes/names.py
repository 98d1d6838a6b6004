"""What things are called in a cluster: names, labels and annotations."""

import hashlib
import re

DOMAIN = "modelops.dev"
MANAGER = "modelops"
"""The field manager, and what the label `app.kubernetes.io/managed-by` says."""

SCALER = "modelops-scaling"
"""The field manager that keeps the number of replicas from the platform's last word to the cluster's first."""

MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = f"{DOMAIN}/instance"
KIND = f"{DOMAIN}/kind"
NAME = f"{DOMAIN}/name"
TENANT = f"{DOMAIN}/tenant"
INDEX = f"{DOMAIN}/replica"
FULL_NAME = f"{DOMAIN}/full-name"
BEGIN = f"{DOMAIN}/begin"
STOP = f"{DOMAIN}/stop"
POD = f"{DOMAIN}/pod"
ASKED = f"{DOMAIN}/asked-at"
VERDICT = f"{DOMAIN}/verdict"
LIMITS = f"{DOMAIN}/limits"
FINGERPRINT = f"{DOMAIN}/fingerprint"
TEMPLATE = f"{DOMAIN}/template"
LEDGER = f"{DOMAIN}/replicas"
FILES = f"{DOMAIN}/files"
GRPC = f"{DOMAIN}/grpc"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""What Kubernetes deletes first where a workload has a replica too many: the lowest, from 1.22 on."""

ATTEMPT = "attempt"
WORKLOAD = "workload"

_SLUG_CHARACTERS = 40


def object_name(name: str, instance: str = "") -> str:
    """Return the name that an object of ours has for a name of the platform's: a label of DNS, and no other's."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())[:_SLUG_CHARACTERS].strip("-") or "x"
    slug = slug if slug[0].isalpha() else f"x-{slug}"
    digest = hashlib.sha256(f"{instance}/{name}".encode()).hexdigest()
    return f"{slug}-{digest[:10]}"


def namespace_of(prefix: str, tenant: str | None) -> str:
    """Return the namespace of a tenant; without one, that of what belongs to no tenant."""
    return prefix if tenant is None else f"{prefix}-{_plain(tenant)}"


def labels_of(instance: str, kind: str, name: str) -> dict[str, str]:
    """Return the labels of an object that stands for this name."""
    return {MANAGED_BY: MANAGER, INSTANCE: instance, KIND: kind, NAME: object_name(name, instance)}


def selector(labels: dict[str, str]) -> str:
    """Return labels as a selector."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _plain(tenant: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", tenant.lower()).strip("-")
    return plain if plain == tenant and len(plain) <= _SLUG_CHARACTERS else object_name(tenant)
