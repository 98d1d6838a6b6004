"""Finding tenants, projects and principals, as far as the caller may see them."""

from sqlalchemy import or_, select

from modelops.contracts.errors import NotFound, PermissionDenied
from modelops.contracts.roles import Role
from modelops.domains.identity.authentication import find_project
from modelops.domains.identity.schemas import PrincipalKind
from modelops.domains.identity.tables import MembershipRow, PrincipalRow, ProjectRow, TenantRow
from modelops.kernel.context import Context


def tenant_named(ctx: Context, tenant: str) -> TenantRow:
    """Return a tenant that the caller may see. Raises NotFound."""
    row = ctx.session.scalars(select(TenantRow).where(or_(TenantRow.id == tenant, TenantRow.name == tenant))).first()
    if row is None or (row.id != ctx.actor.tenant_id and not ctx.can("tenants.read")):
        raise NotFound(f"There is no tenant '{tenant}'.")
    return row


def project_of_caller(ctx: Context, project: str) -> ProjectRow:
    """Return a project that the caller belongs to, by name or id. Raises NotFound."""
    principal = ctx.session.get(PrincipalRow, ctx.actor.id)
    if principal is not None:
        return find_project(ctx, principal, project)
    row = ctx.session.get(ProjectRow, ctx.actor.project_id) if ctx.actor.project_id else None
    if row is None or project not in (row.id, row.name):
        raise NotFound(f"There is no project '{project}' that you belong to.")
    return row


def principal_named(ctx: Context, name: str, tenant_id: str | None, kind: PrincipalKind | None = None) -> PrincipalRow:
    """Return a user or service account of a tenant, by name or id. Raises NotFound."""
    query = select(PrincipalRow).where(
        PrincipalRow.tenant_id == tenant_id, or_(PrincipalRow.id == name, PrincipalRow.name == name)
    )
    row = ctx.session.scalars(query.where(PrincipalRow.kind == kind) if kind else query).first()
    if row is None:
        raise NotFound(f"There is no {'user or service account' if kind is None else kind.replace('_', ' ')} '{name}'.")
    return row


def administered_project(ctx: Context, project: str) -> ProjectRow:
    """Return a project that the caller administers. Raises NotFound and PermissionDenied."""
    row = project_of_caller(ctx, project)
    if not ctx.actor.platform_admin and row.id not in administered_projects(ctx):
        raise PermissionDenied(f"You are no administrator of '{row.name}'.")
    return row


def administered_projects(ctx: Context) -> set[str]:
    """Return the projects that the caller administers."""
    if ctx.session.get(PrincipalRow, ctx.actor.id) is None:  # a developer's `X-Actor`
        return {ctx.actor.project_id} if ctx.actor.project_id and ctx.actor.role is Role.PROJECT_ADMIN else set()
    return set(
        ctx.session.scalars(
            select(MembershipRow.project_id).where(
                MembershipRow.principal_id == ctx.actor.id, MembershipRow.role == Role.PROJECT_ADMIN
            )
        )
    )


def made_now(ctx: Context) -> dict[str, object]:
    """Return when and by whom a row is made."""
    return {"created_at": ctx.clock.now(), "created_by": ctx.actor.id}
