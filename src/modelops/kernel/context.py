"""The context: everything a service function needs, given to it first.

It is built once at the edge (a request, an event, a reconcile step) and is the whole dependency injection: the session of
the unit of work, who acts, the ports, the clock, and `emit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from modelops.contracts.clock import Clock
from modelops.contracts.errors import InvalidInput, MissingExtra, NotFound, PermissionDenied, PreconditionFailed
from modelops.contracts.ids import new_id
from modelops.contracts.roles import Role
from modelops.contracts.settings import Settings
from modelops.kernel.database import InProject, Revised
from modelops.kernel.tables import EventRow

R = TypeVar("R", bound=InProject)
P = TypeVar("P")


@dataclass(frozen=True)
class Actor:
    """Who acts: a user, a service account, a grant (a job or deployment), or the system itself.

    `project_id` is the project that the request works in; `permissions` are the ones held there; `credential` is the id of
    the API key or token that the request came with.
    """

    id: str
    name: str
    kind: str
    tenant_id: str | None
    project_id: str | None
    role: Role | None
    permissions: frozenset[str]
    credential: str | None = None

    def can(self, permission: str) -> bool:
        """Tell whether the actor holds a permission in this project."""
        return "*" in self.permissions or permission in self.permissions

    def require(self, permission: str) -> None:
        """Refuse unless the actor holds the permission.

        Raises:
            PermissionDenied: it does not.
        """
        if not self.can(permission):
            role = f" as {self.role}" if self.role else ""
            raise PermissionDenied(f"'{self.name}' lacks the permission '{permission}'{role} here.")

    @property
    def platform_admin(self) -> bool:
        """Tell whether the actor reaches beyond its own tenant."""
        return self.role is Role.PLATFORM_ADMIN


def project_of(actor: Actor) -> str:
    """Return the project that an actor works in.

    Raises:
        InvalidInput: none is chosen.
    """
    if actor.project_id is None:
        raise InvalidInput(
            "No project is chosen, and you have no default one.",
            hint="Name it with the header `X-Project`, `mops --project NAME`, or `MODELOPS_PROJECT`.",
        )
    return actor.project_id


SYSTEM = Actor("system", "system", "system", None, None, Role.PLATFORM_ADMIN, frozenset({"*"}))
"""The platform itself: event handlers and reconcilers."""


@dataclass(frozen=True)
class RolePermissions:
    """The permissions of each role, gathered from the domains' manifests."""

    by_role: Mapping[Role, frozenset[str]]

    def of(self, role: Role | None) -> frozenset[str]:
        """Return the permissions of a role; none for no role."""
        return self.by_role[role] if role is not None else frozenset()


@dataclass
class Context:
    """One unit of work of one actor."""

    session: Session
    actor: Actor
    ports: Mapping[type, Any]
    clock: Clock
    settings: Settings
    request_id: str | None = None
    if_match: str | None = None
    emitted: list[EventRow] = field(default_factory=list)

    @property
    def project_id(self) -> str:
        """Return the project that is worked in."""
        return project_of(self.actor)

    def port(self, kind: type[P]) -> P:
        """Return the adapter that implements a port."""
        if kind not in self.ports:
            raise MissingExtra(
                f"No adapter for '{kind.__name__}' is configured.", hint="`mops doctor` tells what is missing."
            )
        return self.ports[kind]  # type: ignore[no-any-return]

    def can(self, permission: str) -> bool:
        """Tell whether the actor holds a permission in this project."""
        return self.actor.can(permission)

    def require(self, permission: str) -> None:
        """Refuse unless the actor holds the permission.

        Raises:
            PermissionDenied: it does not.
        """
        self.actor.require(permission)

    def query(self, row: type[R]) -> Select[R]:
        """Select the rows of this project alone."""
        return select(row).where(row.project_id == self.project_id)

    def one(self, row: type[R], what: str, *where: ColumnElement[bool]) -> R:
        """Return the one row of this project that fits.

        Raises:
            NotFound: there is none here; `what` names it to the reader, such as "experiment 'x'".
        """
        found = self.session.scalars(self.query(row).where(*where)).one_or_none()
        if found is None:
            raise NotFound(f"There is no {what} in this project.")
        return found

    def check_revision(self, row: Revised) -> None:
        """Refuse an update whose `If-Match` names another revision than the row's, then count the change."""
        if self.if_match is not None and self.if_match.strip() not in ("*", f'"{row.revision}"'):
            raise PreconditionFailed(f"The resource is at revision {row.revision} now, not {self.if_match}.")
        row.touch()

    def emit(self, type_: str, subject: str, **data: Any) -> None:
        """Record that something happened; it is delivered after this unit of work commits, or never.

        Args:
            type_: `modelops.<domain>.<fact>`, such as `modelops.models.version_registered`.
            subject: The id of what it is about. Events of one subject are delivered in order.
            data: JSON-able details.
        """
        row = EventRow(
            id=new_id("evt"),
            type=type_,
            source=f"modelops/{type_.split('.')[1]}",
            subject=subject,
            time=self.clock.now(),
            tenant_id=self.actor.tenant_id,
            project_id=self.actor.project_id,
            actor=self.actor.id,
            data=data,
        )
        self.session.add(row)
        self.emitted.append(row)

    def within(self, project_id: str, tenant_id: str | None = None) -> "Context":
        """Return this context narrowed to one project. For the system alone, which starts out in none."""
        if self.actor.kind != "system":
            raise PermissionDenied("Only the platform itself may move between projects within a unit of work.")
        return replace(self, actor=replace(self.actor, project_id=project_id, tenant_id=tenant_id))
