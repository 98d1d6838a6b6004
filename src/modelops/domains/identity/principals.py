"""Users and service accounts, and who manages them."""

from sqlalchemy import select

from modelops.contracts.errors import AlreadyExists, Conflict, PermissionDenied
from modelops.contracts.ids import new_id
from modelops.contracts.roles import Role
from modelops.contracts.schemas import Page
from modelops.domains.identity.finding import administered_projects, made_now, principal_named
from modelops.domains.identity.rules import administers, check_grant
from modelops.domains.identity.schemas import (
    Principal,
    PrincipalKind,
    PrincipalUpdate,
    ServiceAccountCreate,
    UserCreate,
)
from modelops.domains.identity.tables import MembershipRow, PrincipalRow, ProjectRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows


def create_user(ctx: Context, body: UserCreate) -> Principal:
    """Make a user of the tenant with a role in the current project."""
    return _create_principal(ctx, PrincipalKind.USER, body.name, body.email, body.role)


def list_users(ctx: Context, page: PageQuery) -> Page[Principal]:
    """List the users of the tenant."""
    return _list_principals(ctx, PrincipalKind.USER, page)


def get_user(ctx: Context, user: str) -> Principal:
    """Return a user of the tenant, by name or id."""
    ctx.require("principals.read")
    return _principal(principal_named(ctx, user, ctx.actor.tenant_id, PrincipalKind.USER))


def update_user(ctx: Context, user: str, body: PrincipalUpdate) -> Principal:
    """Change a user that the caller administers."""
    return _update_principal(ctx, principal_named(ctx, user, ctx.actor.tenant_id, PrincipalKind.USER), body)


def create_service_account(ctx: Context, body: ServiceAccountCreate) -> Principal:
    """Make a service account of the tenant with a role in the current project."""
    return _create_principal(ctx, PrincipalKind.SERVICE_ACCOUNT, body.name, None, body.role)


def list_service_accounts(ctx: Context, page: PageQuery) -> Page[Principal]:
    """List the service accounts of the tenant."""
    return _list_principals(ctx, PrincipalKind.SERVICE_ACCOUNT, page)


def get_service_account(ctx: Context, account: str) -> Principal:
    """Return a service account of the tenant, by name or id."""
    ctx.require("principals.read")
    return _principal(principal_named(ctx, account, ctx.actor.tenant_id, PrincipalKind.SERVICE_ACCOUNT))


def update_service_account(ctx: Context, account: str, body: PrincipalUpdate) -> Principal:
    """Change a service account that the caller administers."""
    return _update_principal(
        ctx, principal_named(ctx, account, ctx.actor.tenant_id, PrincipalKind.SERVICE_ACCOUNT), body
    )


def _create_principal(ctx: Context, kind: PrincipalKind, name: str, email: str | None, role: Role) -> Principal:
    ctx.require("principals.write")
    check_grant(ctx.actor.role, role)
    project = ctx.session.get_one(ProjectRow, ctx.project_id)
    query = select(PrincipalRow.id).where(PrincipalRow.tenant_id == project.tenant_id, PrincipalRow.name == name)
    if ctx.session.scalars(query).first():
        raise AlreadyExists(f"There is a user or service account '{name}' already.")
    row = PrincipalRow(
        id=new_id("usr" if kind is PrincipalKind.USER else "svc"),
        kind=kind,
        tenant_id=project.tenant_id,
        name=name,
        email=email,
        platform_admin=False,
        disabled=False,
        default_project_id=project.id,
        revision=1,
        **made_now(ctx),
    )
    ctx.session.add(row)
    ctx.session.flush()
    ctx.session.add(MembershipRow(principal_id=row.id, project_id=project.id, role=role))
    ctx.emit("modelops.identity.principal_created", row.id, kind=kind, name=name)
    return _principal(row)


def _list_principals(ctx: Context, kind: PrincipalKind, page: PageQuery) -> Page[Principal]:
    ctx.require("principals.read")
    query = select(PrincipalRow).where(PrincipalRow.kind == kind, PrincipalRow.tenant_id == ctx.actor.tenant_id)
    fields = {"name": PrincipalRow.name, "disabled": PrincipalRow.disabled, "created_at": PrincipalRow.created_at}
    found = list_rows(ctx, query, PrincipalRow.id, fields, page)
    return Page(items=[_principal(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def _update_principal(ctx: Context, row: PrincipalRow, body: PrincipalUpdate) -> Principal:
    must_manage(ctx, row)
    if body.disabled and row.id == ctx.actor.id:
        raise Conflict("You cannot disable yourself.", hint="Ask another administrator.")
    if body.platform_admin is not None and not ctx.actor.platform_admin:
        raise PermissionDenied("Only a platform administrator makes or unmakes another.")
    if body.platform_admin is False and row.id == ctx.actor.id:
        raise Conflict(
            "You cannot take the platform's administration from yourself.", hint="Ask another administrator."
        )
    ctx.check_revision(row)
    if body.platform_admin is not None:
        row.platform_admin = body.platform_admin
    if body.disabled is not None:
        row.disabled = body.disabled
    if body.email is not None:
        row.email = body.email
    ctx.emit("modelops.identity.principal_updated", row.id, disabled=row.disabled)
    return _principal(row)


def must_manage(ctx: Context, row: PrincipalRow) -> None:
    """Refuse a caller who does not administer everything that somebody belongs to."""
    ctx.require("principals.write")
    if not manages(ctx, row):
        raise PermissionDenied(f"'{row.name}' also belongs where you are no administrator.")


def manages(ctx: Context, row: PrincipalRow) -> bool:
    """Tell whether the caller administers everything that somebody belongs to."""
    if ctx.actor.platform_admin:
        return True
    if row.platform_admin or not ctx.can("principals.write"):
        return False
    member_of = ctx.session.scalars(select(MembershipRow.project_id).where(MembershipRow.principal_id == row.id)).all()
    return administers(administered_projects(ctx), set(member_of))


def managed_principals(ctx: Context) -> list[PrincipalRow]:
    """Return those whom the caller manages."""
    if not ctx.can("principals.write"):
        return []
    rows = ctx.session.scalars(select(PrincipalRow).where(PrincipalRow.tenant_id == ctx.actor.tenant_id)).all()
    return [row for row in rows if manages(ctx, row)]


def _principal(row: PrincipalRow) -> Principal:
    return Principal.model_validate(row, from_attributes=True)
