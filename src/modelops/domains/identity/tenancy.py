"""Who leads a tenant, and which projects are its own: for domains that keep something for tenants."""

from collections.abc import Collection, Mapping

from sqlalchemy import or_, select

from modelops.contracts.errors import NotFound
from modelops.contracts.roles import Role
from modelops.domains.identity.finding import administered_projects
from modelops.domains.identity.organisation import get_project
from modelops.domains.identity.schemas import Project
from modelops.domains.identity.tables import ProjectRow, TenantRow
from modelops.kernel.context import Context

FIRST_PROJECT = "default"
"""The project that a tenant begins with; who administers it leads the tenant."""


def leads_tenant(ctx: Context) -> bool:
    """Tell whether the caller speaks for the tenant that it works in: as an administrator of its first project, or of the
    platform (for the domains above)."""
    if ctx.actor.platform_admin:
        return True
    first = select(ProjectRow.id).where(ProjectRow.tenant_id == ctx.actor.tenant_id, ProjectRow.name == FIRST_PROJECT)
    return ctx.actor.role is Role.PROJECT_ADMIN and ctx.session.scalars(first).first() in administered_projects(ctx)


def project_of_tenant(ctx: Context, project: str) -> Project:
    """Return a project, by name or id: any of its tenant for who leads that, else one that the caller belongs to (for the
    domains above).

    Raises:
        NotFound: there is none that the caller may know of.
    """
    if ctx.actor.platform_admin or not leads_tenant(ctx):
        return get_project(ctx, project)
    named = or_(ProjectRow.id == project, ProjectRow.name == project)
    row = ctx.session.scalars(select(ProjectRow).where(ProjectRow.tenant_id == ctx.actor.tenant_id, named)).first()
    if row is None:
        raise NotFound(f"There is no project '{project[:250]}' in your tenant.")
    return Project.model_validate(row, from_attributes=True)


def tenants_of(ctx: Context, projects: Collection[str]) -> Mapping[str, str]:
    """Return the tenants of projects, ids by ids (for the domains above)."""
    query = select(ProjectRow.id, ProjectRow.tenant_id).where(ProjectRow.id.in_(list(projects)))
    return dict(ctx.session.execute(query).all())


def names_of(ctx: Context, ids: Collection[str]) -> Mapping[str, str]:
    """Return what tenants and projects are called, by their ids (for the domains above)."""
    found: dict[str, str] = {}
    for row in (TenantRow, ProjectRow):
        found |= dict(ctx.session.execute(select(row.id, row.name).where(row.id.in_(list(ids)))).all())
    return found
