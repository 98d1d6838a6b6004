"""What passes between controllers and agents, as JSON: specs, sealed because they hold tokens, and observations."""

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from modelops.contracts.ports import JobSpec, Observation, ReplicaObservation, UsageSample, WorkloadSpec
from modelops.kernel.secrets import SecretBox

JOB, WORKLOAD = "job", "workload"
RUN, STOP, REMOVE = "run", "stop", "remove"

JOBS = TypeAdapter(JobSpec)
WORKLOADS = TypeAdapter(WorkloadSpec)
SEEN = TypeAdapter(Observation)
REPLICAS = TypeAdapter(list[ReplicaObservation])
SAMPLES = TypeAdapter(list[UsageSample])

_FOLDERS = {"MODELOPS_CACHE": "cache", "MODELOPS_ENVIRONMENTS": "environments", "MODELOPS_SPOOL": "spool"}
Spec = TypeVar("Spec", JobSpec, WorkloadSpec)


def seal(box: SecretBox, name: str, document: bytes) -> str:
    """Return a spec as its row keeps it."""
    return box.seal(document, _label(name))


def unseal(box: SecretBox, name: str, sealed: str) -> bytes:
    """Reverse `seal`.

    Raises:
        InvalidInput: the platform's secret key is another one here.
    """
    return box.open(sealed, _label(name))


def digest(document: bytes) -> str:
    """Return what tells whether a spec changed."""
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


def fixed(spec: WorkloadSpec) -> str:
    """Return the digest of what of a workload cannot change under its name."""
    return digest(WORKLOADS.dump_json(replace(spec, replicas=0, files={}, env=dict(sorted(spec.env.items())))))


def at_home(spec: Spec, home: Path, bind: str | None) -> Spec:
    """Return a spec as it is on this machine: its interpreter and folders are the agent's, and so is where it listens.

    Args:
        home: The agent's home folder.
        bind: The address that replicas listen on; None means loopback.
    """
    ours = spec.argv[1:3] == ("-m", "modelops.runtime")
    argv: tuple[str, ...] = (sys.executable, *spec.argv[1:]) if ours else spec.argv
    env = {name: _moved(name, value, home) for name, value in spec.env.items()}
    if bind is not None and isinstance(spec, WorkloadSpec):
        env["MODELOPS_BIND"] = bind
    return replace(spec, argv=argv, env=env)


def plain(adapter: TypeAdapter[Any], value: Any) -> Any:
    """Return a value as a column of JSON keeps it."""
    return adapter.dump_python(value, mode="json")


def _moved(name: str, value: str, home: Path) -> str:
    if name not in _FOLDERS:
        return value
    folder = home / _FOLDERS[name]
    return str(folder / os.path.basename(value) if name == "MODELOPS_SPOOL" else folder)


def _label(name: str) -> str:
    return f"process:{name}"
