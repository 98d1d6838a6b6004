"""Tenants, their projects, and who belongs to them."""

from sqlalchemy import select

from modelops.contracts.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.roles import Role
from modelops.contracts.schemas import Page
from modelops.domains.identity.finding import (
    administered_project,
    made_now,
    principal_named,
    project_of_caller,
    tenant_named,
)
from modelops.domains.identity.rules import check_grant
from modelops.domains.identity.schemas import (
    Member,
    MemberSet,
    PrincipalKind,
    Project,
    ProjectCreate,
    ProjectUpdate,
    Tenant,
    TenantCreate,
)
from modelops.domains.identity.tables import MembershipRow, PrincipalRow, ProjectRow, TenantRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows


def create_tenant(ctx: Context, body: TenantCreate) -> Tenant:
    """Make a tenant, with a first project `default`."""
    ctx.require("tenants.write")
    if ctx.session.scalars(select(TenantRow.id).where(TenantRow.name == body.name)).first():
        raise AlreadyExists(f"There is a tenant '{body.name}' already.")
    row = TenantRow(id=new_id("ten"), name=body.name, display_name=body.display_name, **made_now(ctx))
    ctx.session.add(row)
    ctx.session.flush()
    add_project(ctx, row.id, "default", "")
    ctx.emit("modelops.identity.tenant_created", row.id, name=row.name)
    return _tenant(row)


def list_tenants(ctx: Context, page: PageQuery) -> Page[Tenant]:
    """List the tenants that the caller may know of."""
    query = select(TenantRow)
    if not ctx.can("tenants.read"):
        query = query.where(TenantRow.id == ctx.actor.tenant_id)
    found = list_rows(ctx, query, TenantRow.id, {"name": TenantRow.name, "created_at": TenantRow.created_at}, page)
    return Page(items=[_tenant(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_tenant(ctx: Context, tenant: str) -> Tenant:
    """Return a tenant, by name or id."""
    return _tenant(tenant_named(ctx, tenant))


def create_project(ctx: Context, body: ProjectCreate) -> Project:
    """Make a project; its maker administers it."""
    ctx.require("projects.write")
    tenant_id = tenant_named(ctx, body.tenant).id if body.tenant else ctx.actor.tenant_id
    if tenant_id is None:
        raise InvalidInput("No tenant is named, and you belong to none.")
    query = select(ProjectRow.id).where(ProjectRow.tenant_id == tenant_id, ProjectRow.name == body.name)
    if ctx.session.scalars(query).first():
        raise AlreadyExists(f"There is a project '{body.name}' already.")
    row = add_project(ctx, tenant_id, body.name, body.description)
    maker = ctx.session.get(PrincipalRow, ctx.actor.id)
    if maker is not None and maker.tenant_id == tenant_id:
        ctx.session.add(MembershipRow(principal_id=maker.id, project_id=row.id, role=Role.PROJECT_ADMIN))
    return _project(row)


def list_projects(ctx: Context, page: PageQuery) -> Page[Project]:
    """List the projects that the caller belongs to; for a platform administrator, all."""
    query = select(ProjectRow)
    if not ctx.actor.platform_admin:
        query = query.where(ProjectRow.id.in_(_own_projects(ctx)))
    fields = {"name": ProjectRow.name, "created_at": ProjectRow.created_at, "tenant_id": ProjectRow.tenant_id}
    found = list_rows(ctx, query, ProjectRow.id, fields, page)
    return Page(items=[_project(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_project(ctx: Context, project: str) -> Project:
    """Return a project of the caller, by name or id."""
    return _project(project_of_caller(ctx, project))


def update_project(ctx: Context, project: str, body: ProjectUpdate) -> Project:
    """Change a project that the caller administers."""
    row = administered_project(ctx, project)
    ctx.check_revision(row)
    if body.description is not None:
        row.description = body.description
    return _project(row)


def list_members(ctx: Context, project: str) -> Page[Member]:
    """List who has which role in a project."""
    row = project_of_caller(ctx, project)
    query = (
        select(PrincipalRow, MembershipRow.role)
        .join(MembershipRow, MembershipRow.principal_id == PrincipalRow.id)
        .where(MembershipRow.project_id == row.id)
        .order_by(PrincipalRow.name)
    )
    members = [_member(principal, role) for principal, role in ctx.session.execute(query)]
    return Page(items=members, next_cursor=None, total=len(members))


def set_member(ctx: Context, project: str, principal: str, body: MemberSet) -> Member:
    """Give a principal of the tenant a role in a project that the caller administers."""
    row = administered_project(ctx, project)
    check_grant(ctx.actor.role, body.role)
    who = principal_named(ctx, principal, row.tenant_id)
    membership = ctx.session.get(MembershipRow, (who.id, row.id))
    if membership is None:
        ctx.session.add(MembershipRow(principal_id=who.id, project_id=row.id, role=body.role))
    else:
        membership.role = body.role
    ctx.emit("modelops.identity.member_set", who.id, project=row.id, role=body.role)
    return _member(who, body.role)


def remove_member(ctx: Context, project: str, principal: str) -> None:
    """Take a principal out of a project that the caller administers; the last administrator stays."""
    row = administered_project(ctx, project)
    who = principal_named(ctx, principal, row.tenant_id)
    membership = ctx.session.get(MembershipRow, (who.id, row.id))
    if membership is None:
        raise NotFound(f"'{who.name}' is no member of '{row.name}'.")
    admins = ctx.session.scalars(
        select(MembershipRow.principal_id).where(
            MembershipRow.project_id == row.id, MembershipRow.role == Role.PROJECT_ADMIN
        )
    ).all()
    if admins == [who.id]:
        raise Conflict(f"'{who.name}' is the last administrator of '{row.name}'.", hint="Make another one first.")
    ctx.session.delete(membership)


def tenant_of(ctx: Context, project_id: str) -> str:
    """Return the tenant that a project belongs to (for the domains above)."""
    return ctx.session.get_one(ProjectRow, project_id).tenant_id


def _own_projects(ctx: Context) -> set[str]:
    own = set(ctx.session.scalars(select(MembershipRow.project_id).where(MembershipRow.principal_id == ctx.actor.id)))
    return own | ({ctx.actor.project_id} if ctx.actor.project_id else set())


def add_project(ctx: Context, tenant_id: str, name: str, description: str) -> ProjectRow:
    """Add a project to a tenant."""
    row = ProjectRow(
        id=new_id("prj"), tenant_id=tenant_id, name=name, description=description, revision=1, **made_now(ctx)
    )
    ctx.session.add(row)
    ctx.session.flush()
    return row


def _tenant(row: TenantRow) -> Tenant:
    return Tenant.model_validate(row, from_attributes=True)


def _project(row: ProjectRow) -> Project:
    return Project.model_validate(row, from_attributes=True)


def _member(row: PrincipalRow, role: str) -> Member:
    return Member(principal_id=row.id, name=row.name, kind=PrincipalKind(row.kind), role=Role(role))
