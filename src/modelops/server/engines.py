"""Where jobs and workloads run: on this machine, or where agents are."""

import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelops.adapters.agents.door import AgentDoor
from modelops.adapters.agents.forwarding import AgentDeployer, AgentJobBackend
from modelops.adapters.agents.registry import Registry, free_room
from modelops.adapters.local.deployer import LocalDeployer
from modelops.adapters.local.jobs import LocalJobBackend
from modelops.contracts.clock import Clock
from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import Deployer, JobBackend
from modelops.contracts.settings import Settings
from modelops.kernel.secrets import SecretBox
from modelops.kernel.work import JobRoom, Workplace


@dataclass(frozen=True)
class Engines:
    """The ports of jobs and workloads, and what releases them."""

    ports: Mapping[type, Any]
    close: Callable[[], None]


def local_engines(settings: Settings, clock: Clock) -> Engines:
    """Return the engines of this machine."""
    deployer = LocalDeployer(settings.home / "deployments", clock, host=own_address(settings))
    return Engines({JobBackend: LocalJobBackend(settings.home / "jobs"), Deployer: deployer}, deployer.close)


def own_address(settings: Settings) -> str | None:
    """Return the address by which other machines reach this one; None where only this machine is to reach it.

    Raises:
        InvalidInput: the name that the settings give is unknown here.
    """
    name = socket.gethostname() if settings.agent_host == "auto" else settings.agent_host
    try:
        address = str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as wrong:
        raise InvalidInput(
            f"The address '{name}' of this machine cannot be looked up: {wrong.strerror}.",
            hint="Set `MODELOPS_AGENT_HOST` to an address by which the platform reaches this machine.",
        ) from wrong
    return None if ipaddress.ip_address(address).is_loopback else address


def agent_engines(place: Workplace) -> Engines:
    """Return the engines of the machines where agents are."""
    box: SecretBox = place.ports[SecretBox]
    registry = Registry(place.database, place.clock, place.settings.agent_timeout_s)
    door = AgentDoor(box, place.clock)
    given = (registry, place.clock, box, door, place.wake)
    room = JobRoom(free_room(place.settings.agent_timeout_s))
    return Engines({JobBackend: AgentJobBackend(*given), Deployer: AgentDeployer(*given), JobRoom: room}, door.close)
