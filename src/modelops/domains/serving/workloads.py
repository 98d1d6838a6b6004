"""The workload of a revision: its name, and its spec as it was fixed once and for all."""

import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modelops.contracts.ports import Limits, WorkloadSpec
from modelops.contracts.tracing import PASSED_ON
from modelops.domains.serving.schemas import RevisionDocument, ServingLimits

LOG_BYTES = 4 * 1024 * 1024
"""How much of a replica's output is kept."""

_PASSED_ON = (*PASSED_ON, "SERVING_MAX_CONCURRENCY", "SERVING_NVML_ENABLED")
"""What a replica takes over from the platform's environment, as it is when its revision is first brought up."""

_OURS = re.compile(r"dep_[0-9a-f]{32}-r[0-9]+")


def workload_name(deployment_id: str, number: int) -> str:
    """Return the name of a revision's workload."""
    return f"{deployment_id}-r{number}"


def is_ours(workload: str) -> bool:
    """Tell whether a workload is of a revision, by its name."""
    return _OURS.fullmatch(workload) is not None


def runs_our_runtime(spec: dict[str, Any]) -> bool:
    """Tell whether a workload's processes are of this version of the platform, and so understand its documents."""
    return bool(spec.get("runtime") == version("modelops"))


def fix_spec(document: RevisionDocument, python: str, home: Path | None, drain_s: float) -> dict[str, Any]:
    """Return the spec to keep: everything about the workload but its files and the number of its replicas.

    Args:
        python: The interpreter that the runtime runs in.
        home: The platform's home folder, where replicas share downloaded files and keep telemetry that is not yet sent;
            None where they do not see it, and have only folders of their own.
        drain_s: How long a replica that ends may finish its requests.
    """
    return {
        "runtime": version("modelops"),
        "argv": [python, "-m", "modelops.runtime", "serve"],
        "env": {
            **({} if home is None else _shared(home, document.deployment_id)),
            "MODELOPS_DRAIN_S": f"{max(drain_s, 0.1):g}",
            "TENANT_ID": document.tenant_id,
            "PROJECT_ID": document.project_id,
            "DEPLOYMENT_ID": document.deployment_id,
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        },
    }


def _shared(home: Path, deployment: str) -> dict[str, str]:
    return {"MODELOPS_CACHE": str(home / "cache"), "MODELOPS_SPOOL": str(home / "spool" / deployment)}


def workload_spec(
    name: str, replicas: int, spec: dict[str, Any], document: str, token: str, limits: ServingLimits
) -> WorkloadSpec:
    """Return a kept spec as the deployer takes it.

    Args:
        document: What a replica that starts now is to serve; those that run are told themselves.
    """
    return WorkloadSpec(
        name=name,
        replicas=replicas,
        argv=tuple(spec["argv"]),
        env=spec["env"],
        files={"revision.json": document, "token": token},
        limits=Limits(
            cpus=limits.cpus,
            memory_bytes=limits.memory_mb * 1024**2 if limits.memory_mb else None,
            log_bytes=LOG_BYTES,
        ),
        tenant=spec["env"].get("TENANT_ID"),
        target=spec.get("target", "local"),
        grpc=limits.grpc,
    )
