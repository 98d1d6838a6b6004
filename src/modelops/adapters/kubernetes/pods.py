"""What a pod of ours looks like: what runs in it, what it may use, and how little else it may do."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from modelops.adapters.kubernetes.cluster import Document
from modelops.adapters.kubernetes.settings import MIB, Site
from modelops.adapters.kubernetes.tenants import ACCOUNT, programs_name
from modelops.adapters.local.commands import THREADS, Command
from modelops.contracts.errors import TooLarge
from modelops.contracts.ports import Limits, Placement

CONTAINER = "main"
PORT, GRPC_PORT = 8080, 8081
USER = 10001
ROOT = "/modelops"
OVERHEAD_BYTES = 64 * MIB
"""What the keeper and the supervisor may use beyond the limit of what they run."""

SECRET_BYTES = 1000 * 1024
FOLDERS = {
    "MODELOPS_CACHE": f"{ROOT}/run/cache",
    "MODELOPS_ENVIRONMENTS": f"{ROOT}/run/environments",
    "MODELOPS_SPOOL": f"{ROOT}/run/spool",
}
"""Folders that a process is told of: those of the platform's machine are not there, nor could be written, within a pod."""

_NODE_GONE_S = 60
_BACKSTOP_S = 600


def spec_secret(name: str, namespace: str, labels: Mapping[str, str], site: Site, command: Command) -> Document:
    """Return the Secret with all that a pod is told: command, environment, files and limits.

    Raises:
        InvalidInput: the command, its environment or a file's name cannot be used.
        TooLarge: it does not fit into a Secret.
    """
    command.check()
    defaults = {"PYTHONUNBUFFERED": "1", "HOME": f"{ROOT}/run/work", "TMPDIR": "/tmp"}  # noqa: S108 - within the pod
    if command.limits.cpus is not None:
        defaults |= dict.fromkeys(THREADS, str(command.limits.cpus))
    document = {
        "argv": site.command(command.argv),
        "defaults": defaults,
        "env": {name: FOLDERS.get(name, value) for name, value in command.env.items()},
        "files": dict(command.files),
        "memory_bytes": command.limits.memory_bytes,
        "timeout_s": command.limits.timeout_s,
        "log_bytes": command.limits.log_bytes,
    }
    text = json.dumps(document)
    if len(text) > SECRET_BYTES:
        raise TooLarge(
            f"The files and the environment of {name} have {len(text):,} bytes; a cluster keeps {SECRET_BYTES:,}.",
            hint="Let the process download what is large.",
        )
    meta = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "stringData": {"spec.json": text}}


def pod_spec(
    secret: str,
    site: Site,
    limits: Limits,
    placement: Placement | None,
    *,
    grace_s: float,
    waits: bool,
    env: Mapping[str, str] | None = None,
    serves: bool = False,
) -> Document:
    """Return the specification of a pod.

    Args:
        secret: The name of the Secret that says what it runs.
        site: What all pods have in common.
        limits: What the process may use.
        placement: Where it may run.
        grace_s: Seconds from a deletion to the end by force.
        waits: Whether it waits for the annotation that lets it begin.
        env: Variables of the container; nothing secret.
        serves: Whether it serves HTTP, and so is probed, and started again whenever it ends.
    """
    variables: list[Document] = [
        {"name": "MODELOPS_KEEPER", "value": ROOT},
        {"name": "MODELOPS_KEEPER_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        *({"name": name, "value": value} for name, value in (env or {}).items()),
    ]
    if waits:
        variables.append({"name": "MODELOPS_KEEPER_WAITS", "value": "1"})
    if serves:
        variables.append({"name": "MODELOPS_KEEPER_SERVES", "value": "1"})
        variables.append({"name": "MODELOPS_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    container: Document = {
        "name": CONTAINER,
        "image": site.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [site.python, "-I", "-S", f"{ROOT}/bin/keeper.py"],
        "env": variables,
        "resources": resources(site, limits, placement),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": site.read_only_root,
        },
        "volumeMounts": [
            {"name": "bin", "mountPath": f"{ROOT}/bin", "readOnly": True},
            {"name": "spec", "mountPath": f"{ROOT}/spec", "readOnly": True},
            {"name": "control", "mountPath": f"{ROOT}/control", "readOnly": True},
            {"name": "run", "mountPath": f"{ROOT}/run"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - within the pod
            *({"name": f"host-{at}", "mountPath": path, "readOnly": True} for at, path in enumerate(site.mounts)),
        ],
    }
    if serves:
        container |= _probes()
    spec: Document = {
        "restartPolicy": "Always" if serves else "Never",
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": max(1, math.ceil(grace_s)),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "bin", "configMap": {"name": programs_name(), "defaultMode": 0o444}},
            {"name": "spec", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "control", "downwardAPI": {"items": [_annotations()]}},
            {"name": "run", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            *({"name": f"host-{at}", "hostPath": {"path": path}} for at, path in enumerate(site.mounts)),
        ],
        "tolerations": [*_patience(), *_tolerations(placement)],
    }
    if limits.timeout_s is not None and not serves:
        # The supervisor keeps the limit to the tenth of a second; this is for a supervisor that cannot.
        spec["activeDeadlineSeconds"] = math.ceil(limits.timeout_s) + _BACKSTOP_S
    if placement is not None and placement.node_selector:
        spec["nodeSelector"] = dict(placement.node_selector)
    if site.pull_secret:
        spec["imagePullSecrets"] = [{"name": site.pull_secret}]
    return spec


def resources(site: Site, limits: Limits, placement: Placement | None) -> Document:
    """Return what a container asks for, and may use at most."""
    asks: dict[str, Any] = {}
    most: dict[str, Any] = {}
    if limits.cpus is not None:
        asks["cpu"] = f"{max(1, round(limits.cpus * site.cpu_reserved * 1000))}m"
        most["cpu"] = str(limits.cpus)
    if limits.memory_bytes is not None:
        asks["memory"] = most["memory"] = str(limits.memory_bytes + OVERHEAD_BYTES)
    if placement is not None and placement.gpu_resource and placement.gpu_count:
        asks[placement.gpu_resource] = most[placement.gpu_resource] = str(placement.gpu_count)
    return {"requests": asks, "limits": most} if asks else {}


def _tolerations(placement: Placement | None) -> list[Document]:
    """Return the taints that the pod's pool puts up with; a member that says nothing is left out."""
    found = placement.tolerations if placement is not None else ()
    return [{name: value for name, value in asdict(one).items() if value} for one in found]


def _annotations() -> Document:
    return {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}


def _patience() -> list[Document]:
    """Return how long a pod stays bound to a node that no longer answers."""
    keys = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    rest = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _NODE_GONE_S}
    return [{"key": key, **rest} for key in keys]


def _probes() -> Document:
    """Return how a pod that serves is probed: first whether it listens, then whether it takes requests."""
    return {
        "ports": [{"name": "http", "containerPort": PORT}, {"name": "grpc", "containerPort": GRPC_PORT}],
        "startupProbe": {
            "tcpSocket": {"port": PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": 86_400,
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
    }
