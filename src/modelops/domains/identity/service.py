"""What identity does. Context first, one verb a function; the edge commits. Whole subjects lie in modules of their own."""

import secrets

from sqlalchemy import select

from modelops.contracts.ids import new_id
from modelops.contracts.roles import Role
from modelops.contracts.schemas import Page
from modelops.contracts.signing import Signature
from modelops.domains.identity import keys
from modelops.domains.identity.authentication import KEY_PREFIX, check_key, hash_secret
from modelops.domains.identity.credentials import (
    call_token,
    create_api_key,
    get_jwks,
    grant_token,
    issue_token,
    list_api_keys,
    list_signing_keys,
    revoke_api_key,
    revoke_grants,
    rotate_signing_keys,
)
from modelops.domains.identity.finding import made_now
from modelops.domains.identity.organisation import (
    add_project,
    create_project,
    create_tenant,
    get_project,
    get_tenant,
    list_members,
    list_projects,
    list_tenants,
    remove_member,
    set_member,
    tenant_of,
    update_project,
)
from modelops.domains.identity.principals import (
    create_service_account,
    create_user,
    get_service_account,
    get_user,
    list_service_accounts,
    list_users,
    update_service_account,
    update_user,
)
from modelops.domains.identity.schemas import AuditRecord, KeyPurpose, Me, PrincipalKind
from modelops.domains.identity.standing import permissions_today
from modelops.domains.identity.tables import ApiKeyRow, MembershipRow, PrincipalRow, ProjectRow, TenantRow
from modelops.domains.identity.tenancy import leads_tenant, names_of, project_of_tenant, tenants_of
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows
from modelops.kernel.tables import AuditRow

__all__ = [
    "call_token",
    "create_api_key",
    "create_project",
    "create_service_account",
    "create_tenant",
    "create_user",
    "get_jwks",
    "get_me",
    "get_project",
    "get_service_account",
    "get_tenant",
    "get_user",
    "grant_token",
    "issue_token",
    "leads_tenant",
    "list_api_keys",
    "list_audit_records",
    "list_members",
    "list_projects",
    "list_public_keys",
    "list_service_accounts",
    "list_signing_keys",
    "list_tenants",
    "list_users",
    "names_of",
    "permissions_today",
    "project_of_tenant",
    "remove_member",
    "revoke_api_key",
    "revoke_grants",
    "rotate_signing_keys",
    "set_member",
    "set_up",
    "sign_document",
    "sign_for_bundle",
    "tenant_of",
    "tenants_of",
    "update_project",
    "update_service_account",
    "update_user",
]


def get_me(ctx: Context) -> Me:
    """Tell the caller who the platform takes it for."""
    actor = ctx.actor
    project = ctx.session.get(ProjectRow, actor.project_id) if actor.project_id else None
    tenant = ctx.session.get(TenantRow, actor.tenant_id) if actor.tenant_id else None
    return Me(
        id=actor.id,
        name=actor.name,
        kind=actor.kind,
        tenant_id=actor.tenant_id,
        tenant=tenant.name if tenant else None,
        project_id=actor.project_id,
        project=project.name if project else None,
        role=actor.role,
        permissions=sorted(actor.permissions),
    )


def list_audit_records(ctx: Context, page: PageQuery) -> Page[AuditRecord]:
    """List what was done or denied in the current project, newest first."""
    ctx.require("audit.read")
    query = select(AuditRow).where(AuditRow.project_id == ctx.project_id)
    fields = {
        "time": AuditRow.time,
        "actor": AuditRow.actor,
        "operation": AuditRow.operation,
        "outcome": AuditRow.outcome,
        "resource": AuditRow.resource,
    }
    found = list_rows(ctx, query, AuditRow.id, fields, page, order="desc")
    items = [AuditRecord.model_validate(row, from_attributes=True) for row in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def sign_document(ctx: Context, purpose: KeyPurpose, payload_type: str, payload: bytes) -> Signature:
    """Sign a document with the platform's key of a purpose (for the domains above)."""
    return keys.sign_document(ctx, purpose, payload_type, payload)


def sign_for_bundle(ctx: Context, payload_type: str, payload: bytes) -> tuple[bytes, str]:
    """Sign a document by ECDSA: the signature in DER, and the public key as PEM (for the domains above)."""
    return keys.sign_for_bundle(ctx, payload_type, payload)


def list_public_keys(ctx: Context, purpose: KeyPurpose) -> dict[str, str]:
    """Return every public key of a purpose: key id -> base64url of the raw 32 bytes (for the domains above)."""
    return keys.public_keys(ctx, purpose)


def check_secret_key(ctx: Context) -> None:
    """See that this process has the secret key that the platform was made with.

    Raises:
        InvalidInput: it has another.
    """
    keys.check_secret_key(ctx)


def set_up(ctx: Context) -> str | None:
    """Make what a new platform needs: tenant, project, administrator. Returns the administrator's API key the first
    time, and None from then on. For one caller at a time.

    Raises:
        InvalidInput: the key that the settings name for the administrator is none.
    """
    if ctx.session.scalars(select(PrincipalRow.id).limit(1)).first() is not None:
        return None
    tenant = TenantRow(id=new_id("ten"), name="default", display_name="Default tenant", **made_now(ctx))
    ctx.session.add(tenant)
    ctx.session.flush()
    project = add_project(ctx, tenant.id, "default", "The first project")
    admin = PrincipalRow(
        id=new_id("usr"),
        kind=PrincipalKind.USER,
        tenant_id=tenant.id,
        name="admin",
        platform_admin=True,
        default_project_id=project.id,
        **made_now(ctx),
    )
    ctx.session.add(admin)
    ctx.session.flush()
    ctx.session.add(MembershipRow(principal_id=admin.id, project_id=project.id, role=Role.PROJECT_ADMIN))
    chosen = ctx.settings.admin_key
    secret = KEY_PREFIX + secrets.token_urlsafe(32) if chosen is None else check_key(chosen.get_secret_value())
    ctx.session.add(
        ApiKeyRow(
            id=new_id("key"),
            principal_id=admin.id,
            name="first sign-in",
            hint=secret[:9],
            secret_hash=hash_secret(secret),
            **made_now(ctx),
        )
    )
    for purpose in KeyPurpose:
        keys.active_key(ctx, purpose)
    return secret
