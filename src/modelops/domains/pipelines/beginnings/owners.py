"""Whose rights something begins with: those of whoever set it up, as far as they have them still."""

from dataclasses import dataclass, replace

from modelops.domains.identity import service as identity
from modelops.domains.pipelines.permissions import STEP_PERMISSIONS
from modelops.kernel.context import SYSTEM, Actor, Context


@dataclass(frozen=True)
class Owner:
    """Who set a cause up, and what he could do then."""

    id: str
    permissions: list[str]


def owner_of(ctx: Context) -> Owner:
    """Return the caller as the owner of what is set up now."""
    return Owner(ctx.actor.id, [permission for permission in STEP_PERMISSIONS if ctx.can(permission)])


def as_platform(ctx: Context, project_id: str) -> Context:
    """Return a context of the platform itself in a project, in the same unit of work."""
    return replace(ctx, actor=SYSTEM).within(project_id, identity.tenant_of(ctx, project_id))


def in_place_of(ctx: Context, project_id: str, owner: Owner, cause: str) -> Context:
    """Return a context in the same unit of work, with no more rights in a project than an owner had, and has today.

    Raises:
        PermissionDenied: the owner is disabled, or has left the project.
    """
    held = identity.permissions_today(ctx, owner.id, project_id)
    permissions = frozenset(owner.permissions if held is None else held.intersection(owner.permissions))
    actor = Actor(
        id=owner.id,
        name=cause,
        kind="cause",
        tenant_id=identity.tenant_of(ctx, project_id),
        project_id=project_id,
        role=None,
        permissions=permissions,
    )
    return replace(ctx, actor=actor)
