"""The manifest: how a domain enters the platform, whether it ships with the product or comes from a stranger's package.

An entry point in the group `modelops.domains` names one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelops.contracts import plugins
from modelops.contracts.roles import Role
from modelops.kernel.context import RolePermissions
from modelops.kernel.door import Door
from modelops.kernel.edge import Router
from modelops.kernel.holding import Holders, Holds
from modelops.kernel.outbox import Handler, Handlers
from modelops.kernel.reconciler import Reconciler
from modelops.kernel.work import Workplace
from modelops.kernel.workflows import Workflow


@dataclass(frozen=True)
class Manifest:
    """What a domain brings.

    Attributes:
        name: The domain's name; its operations are `<name>.<verb>`.
        router: Its routes, mounted below `/v1` and `/api/v1`.
        door: The routes of a protocol that others defined, at the paths that it names.
        permissions: Each permission it asks for, and the least role that has it.
        reconcilers: What it drives outside of the database.
        on: Event type -> idempotent handler.
        workflows: Name -> what makes the workflow of that name for a workplace. A name is never given another meaning:
            stories that were begun under it go on after an upgrade.
        holds: Tells which blobs its rows refer to; what nobody holds is collected in time.
        provides: Port -> what this domain implements of it for the rooms below.
    """

    name: str
    router: Router | None = None
    door: Door | None = None
    permissions: Mapping[str, Role] = field(default_factory=dict)
    reconcilers: Sequence[Reconciler] = ()
    on: Mapping[str, Handler] = field(default_factory=dict)
    workflows: Mapping[str, Callable[[Workplace], Workflow]] = field(default_factory=dict)
    holds: Holds | None = None
    provides: Mapping[type, Any] = field(default_factory=dict)


def discover() -> list[Manifest]:
    """Load every installed domain, by name."""
    return [manifest for manifest in plugins.load_all("modelops.domains").values() if isinstance(manifest, Manifest)]


def handlers_of(manifests: Sequence[Manifest]) -> Handlers:
    """Return every domain's handlers by event type; a handler's name is `<domain>:<function>`."""
    found: dict[str, list[tuple[str, Handler]]] = {}
    for manifest in manifests:
        for kind, handler in manifest.on.items():
            name = f"{manifest.name}:{getattr(handler, '__name__', 'handler')}"
            found.setdefault(kind, []).append((name, handler))
    return found


def holders_of(manifests: Sequence[Manifest]) -> Holders:
    """Return what tells which blobs are needed."""
    return Holders({manifest.name: manifest.holds for manifest in manifests if manifest.holds is not None})


def workflows_of(manifests: Sequence[Manifest], place: Workplace) -> dict[str, Workflow]:
    """Return every domain's workflows, made for a workplace."""
    return {name: make(place) for manifest in manifests for name, make in manifest.workflows.items()}


def permissions_of(manifests: Sequence[Manifest]) -> RolePermissions:
    """Return the permissions that each role has: those whose least role it includes."""
    least = {name: role for manifest in manifests for name, role in manifest.permissions.items()}
    return RolePermissions(
        {role: frozenset(name for name, needed in least.items() if role.includes(needed)) for role in Role}
    )
