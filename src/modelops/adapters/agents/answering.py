"""Asking an agent for output: the agent's side."""

from typing import Any

from modelops.adapters.agents import wire
from modelops.contracts.ports import Deployer, JobBackend

_MOST_BYTES = 16 * 1024 * 1024


def answer(jobs: JobBackend, deployer: Deployer, asked: dict[str, Any]) -> bytes:
    """Return what was asked for: a piece of output, or samples as JSON.

    Raises:
        InvalidInput: the name cannot be a process's.
    """
    if asked["what"] == "usage":
        return wire.SAMPLES.dump_json(jobs.usage(asked["name"]))
    offset, limit = asked["offset"], min(asked["limit"], _MOST_BYTES)
    if asked["kind"] == wire.JOB:
        return jobs.log(asked["name"], offset=offset, limit=limit)
    return deployer.log(asked["name"], asked["index"], offset=offset, limit=limit)
