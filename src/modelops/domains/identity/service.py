"""What identity does. Context first, one verb a function; the edge commits."""

import secrets
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import or_, select, update

from modelops.contracts.errors import AlreadyExists, Conflict, InvalidInput, NotFound, PermissionDenied
from modelops.contracts.ids import new_id
from modelops.contracts.roles import Role
from modelops.contracts.schemas import Page
from modelops.contracts.signing import Signature
from modelops.domains.identity import keys, tokens
from modelops.domains.identity.authentication import KEY_PREFIX, find_project, hash_secret, principal_actor
from modelops.domains.identity.rules import administers, check_grant
from modelops.domains.identity.schemas import (
    AccessToken,
    ApiKey,
    ApiKeyCreate,
    ApiKeyCreated,
    AuditRecord,
    JsonWebKeySet,
    KeyPurpose,
    KeyRotation,
    Me,
    Member,
    MemberSet,
    Principal,
    PrincipalKind,
    PrincipalUpdate,
    Project,
    ProjectCreate,
    ProjectUpdate,
    ServiceAccountCreate,
    SigningKey,
    Tenant,
    TenantCreate,
    TokenCreate,
    UserCreate,
)
from modelops.domains.identity.tables import (
    ApiKeyRow,
    GrantRow,
    MembershipRow,
    PrincipalRow,
    ProjectRow,
    SigningKeyRow,
    TenantRow,
)
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows
from modelops.kernel.tables import AuditRow


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


def create_tenant(ctx: Context, body: TenantCreate) -> Tenant:
    """Make a tenant, with a first project `default`."""
    ctx.require("tenants.write")
    if ctx.session.scalars(select(TenantRow.id).where(TenantRow.name == body.name)).first():
        raise AlreadyExists(f"There is a tenant '{body.name}' already.")
    row = TenantRow(id=new_id("ten"), name=body.name, display_name=body.display_name, **_made(ctx))
    ctx.session.add(row)
    ctx.session.flush()
    _add_project(ctx, row.id, "default", "")
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
    return _tenant(_find_tenant(ctx, tenant))


def create_project(ctx: Context, body: ProjectCreate) -> Project:
    """Make a project; its maker administers it."""
    ctx.require("projects.write")
    tenant_id = _find_tenant(ctx, body.tenant).id if body.tenant else ctx.actor.tenant_id
    if tenant_id is None:
        raise InvalidInput("No tenant is named, and you belong to none.")
    query = select(ProjectRow.id).where(ProjectRow.tenant_id == tenant_id, ProjectRow.name == body.name)
    if ctx.session.scalars(query).first():
        raise AlreadyExists(f"There is a project '{body.name}' already.")
    row = _add_project(ctx, tenant_id, body.name, body.description)
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
    return _project(_find_project(ctx, project))


def update_project(ctx: Context, project: str, body: ProjectUpdate) -> Project:
    """Change a project that the caller administers."""
    row = _administered(ctx, project)
    ctx.check_revision(row)
    if body.description is not None:
        row.description = body.description
    return _project(row)


def list_members(ctx: Context, project: str) -> Page[Member]:
    """List who has which role in a project."""
    row = _find_project(ctx, project)
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
    row = _administered(ctx, project)
    check_grant(ctx.actor.role, body.role)
    who = _find_principal(ctx, principal, row.tenant_id)
    membership = ctx.session.get(MembershipRow, (who.id, row.id))
    if membership is None:
        ctx.session.add(MembershipRow(principal_id=who.id, project_id=row.id, role=body.role))
    else:
        membership.role = body.role
    ctx.emit("modelops.identity.member_set", who.id, project=row.id, role=body.role)
    return _member(who, body.role)


def remove_member(ctx: Context, project: str, principal: str) -> None:
    """Take a principal out of a project that the caller administers; the last administrator stays."""
    row = _administered(ctx, project)
    who = _find_principal(ctx, principal, row.tenant_id)
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


def create_user(ctx: Context, body: UserCreate) -> Principal:
    """Make a user of the tenant with a role in the current project."""
    return _create_principal(ctx, PrincipalKind.USER, body.name, body.email, body.role)


def list_users(ctx: Context, page: PageQuery) -> Page[Principal]:
    """List the users of the tenant."""
    return _list_principals(ctx, PrincipalKind.USER, page)


def get_user(ctx: Context, user: str) -> Principal:
    """Return a user of the tenant, by name or id."""
    ctx.require("principals.read")
    return _principal(_find_principal(ctx, user, ctx.actor.tenant_id, PrincipalKind.USER))


def update_user(ctx: Context, user: str, body: PrincipalUpdate) -> Principal:
    """Change a user that the caller administers."""
    return _update_principal(ctx, _find_principal(ctx, user, ctx.actor.tenant_id, PrincipalKind.USER), body)


def create_service_account(ctx: Context, body: ServiceAccountCreate) -> Principal:
    """Make a service account of the tenant with a role in the current project."""
    return _create_principal(ctx, PrincipalKind.SERVICE_ACCOUNT, body.name, None, body.role)


def list_service_accounts(ctx: Context, page: PageQuery) -> Page[Principal]:
    """List the service accounts of the tenant."""
    return _list_principals(ctx, PrincipalKind.SERVICE_ACCOUNT, page)


def get_service_account(ctx: Context, account: str) -> Principal:
    """Return a service account of the tenant, by name or id."""
    ctx.require("principals.read")
    return _principal(_find_principal(ctx, account, ctx.actor.tenant_id, PrincipalKind.SERVICE_ACCOUNT))


def update_service_account(ctx: Context, account: str, body: PrincipalUpdate) -> Principal:
    """Change a service account that the caller administers."""
    return _update_principal(
        ctx, _find_principal(ctx, account, ctx.actor.tenant_id, PrincipalKind.SERVICE_ACCOUNT), body
    )


def create_api_key(ctx: Context, body: ApiKeyCreate) -> ApiKeyCreated:
    """Make an API key. Its secret is in the answer and nowhere else."""
    if body.principal is None:
        who = ctx.session.get(PrincipalRow, ctx.actor.id)
        if who is None:
            raise InvalidInput("You are no user or service account that could own a key.", hint="Name a `principal`.")
    else:
        who = _find_principal(ctx, body.principal, ctx.actor.tenant_id)
        _must_manage(ctx, who)
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    now = ctx.clock.now()
    row = ApiKeyRow(
        id=new_id("key"),
        principal_id=who.id,
        name=body.name,
        hint=secret[:9],
        secret_hash=hash_secret(secret),
        expires_at=now + timedelta(days=body.expires_in_days) if body.expires_in_days else None,
        **_made(ctx),
    )
    ctx.session.add(row)
    return ApiKeyCreated(**_api_key(row, who.name).model_dump(), secret=secret)


def list_api_keys(ctx: Context, page: PageQuery) -> Page[ApiKey]:
    """List the caller's own API keys, and those of the service accounts and users it administers."""
    mine = {ctx.actor.id} | {row.id for row in _managed_principals(ctx)}
    query = select(ApiKeyRow).where(ApiKeyRow.principal_id.in_(mine))
    fields = {"name": ApiKeyRow.name, "created_at": ApiKeyRow.created_at, "principal_id": ApiKeyRow.principal_id}
    found = list_rows(ctx, query, ApiKeyRow.id, fields, page)
    owners = {row.principal_id for row in found.rows}
    names = dict(
        ctx.session.execute(select(PrincipalRow.id, PrincipalRow.name).where(PrincipalRow.id.in_(owners))).all()
    )
    items = [_api_key(row, names[row.principal_id]) for row in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def revoke_api_key(ctx: Context, key_id: str) -> None:
    """End an API key and every access token issued on it, for good."""
    row = ctx.session.get(ApiKeyRow, key_id)
    owner = ctx.session.get(PrincipalRow, row.principal_id) if row else None
    if row is None or owner is None or (owner.id != ctx.actor.id and not _manages(ctx, owner)):
        raise NotFound(f"There is no API key '{key_id}' that you may revoke.")
    row.revoked_at = row.revoked_at or ctx.clock.now()


def issue_token(ctx: Context, body: TokenCreate) -> AccessToken:
    """Issue an access token for one project, on the credentials of the request."""
    principal = ctx.session.get(PrincipalRow, ctx.actor.id)
    if principal is None:
        raise InvalidInput("Access tokens are issued to users and service accounts.", hint="Sign in with an API key.")
    actor = principal_actor(ctx, principal, body.project or ctx.actor.project_id)
    if actor.project_id is None:
        raise InvalidInput("An access token is for one project, and none is named.", hint="Name a `project`.")
    ttl = body.expires_in_s or ctx.settings.token_ttl_s
    permissions = actor.permissions & ctx.actor.permissions
    if body.permissions is not None:
        permissions &= frozenset(body.permissions)
    token = tokens.mint(
        ctx,
        principal.id,
        kind="principal",
        project_id=actor.project_id,
        permissions=permissions,
        ttl_s=ttl,
        jti=ctx.actor.credential or new_id("tok"),
    )
    return AccessToken(access_token=token, token_type="Bearer", expires_in_s=ttl, project_id=actor.project_id)  # noqa: S106


def list_signing_keys(ctx: Context) -> Page[SigningKey]:
    """List the platform's public keys, newest first."""
    rows = ctx.session.scalars(select(SigningKeyRow).order_by(SigningKeyRow.created_at.desc())).all()
    return Page(items=[_signing_key(row) for row in rows], next_cursor=None, total=len(rows))


def rotate_signing_keys(ctx: Context, body: KeyRotation) -> SigningKey:
    """Sign with a new key from now on. What the old ones signed stays valid."""
    ctx.require("signing_keys.write")
    now = ctx.clock.now()
    ctx.session.execute(
        update(SigningKeyRow)
        .where(SigningKeyRow.purpose == body.purpose, SigningKeyRow.retired_at.is_(None))
        .values(retired_at=now)
    )
    row = keys.add_key(ctx, body.purpose)
    ctx.emit("modelops.identity.signing_key_rotated", row.id, purpose=body.purpose)
    return _signing_key(row)


def get_jwks(ctx: Context) -> JsonWebKeySet:
    """Return the public keys that verify access tokens, for anybody."""
    found = keys.public_keys(ctx, KeyPurpose.TOKENS)
    return JsonWebKeySet(
        keys=[
            {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": name, "x": public}
            for name, public in sorted(found.items())
        ]
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


def grant_token(ctx: Context, subject: str, permissions: Sequence[str], *, ttl_s: int) -> str:
    """Issue a token for something that runs in the current project (for the domains above)."""
    return tokens.grant(ctx, subject, permissions, tenant_id=tenant_of(ctx, ctx.project_id), ttl_s=ttl_s)


def sign_document(ctx: Context, purpose: KeyPurpose, payload_type: str, payload: bytes) -> Signature:
    """Sign a document with the platform's key of a purpose (for the domains above)."""
    return keys.sign_document(ctx, purpose, payload_type, payload)


def sign_for_bundle(ctx: Context, payload_type: str, payload: bytes) -> tuple[bytes, str]:
    """Sign a document by ECDSA: the signature in DER, and the public key as PEM (for the domains above)."""
    return keys.sign_for_bundle(ctx, payload_type, payload)


def list_public_keys(ctx: Context, purpose: KeyPurpose) -> dict[str, str]:
    """Return every public key of a purpose: key id -> base64url of the raw 32 bytes (for the domains above)."""
    return keys.public_keys(ctx, purpose)


def revoke_grants(ctx: Context, subject: str) -> None:
    """End every token that was granted to something that ran (for the domains above)."""
    ctx.session.execute(
        update(GrantRow)
        .where(GrantRow.subject == subject, GrantRow.project_id == ctx.project_id, GrantRow.revoked_at.is_(None))
        .values(revoked_at=ctx.clock.now())
    )


def tenant_of(ctx: Context, project_id: str) -> str:
    """Return the tenant that a project belongs to (for the domains above)."""
    return ctx.session.get_one(ProjectRow, project_id).tenant_id


def call_token(ctx: Context, permissions: Sequence[str], *, ttl_s: int) -> str:
    """Issue the platform itself a short-lived token for the current project, to call a runtime with (for the
    domains above). The platform itself does not take it, so a runtime gains nothing by keeping it."""
    return tokens.mint(
        ctx,
        ctx.actor.id,
        kind="call",
        project_id=ctx.project_id,
        permissions=permissions,
        ttl_s=ttl_s,
        jti=new_id("tok"),
    )


def set_up(ctx: Context) -> str | None:
    """Make what a new platform needs: tenant, project, administrator. Returns the administrator's API key the first
    time, and None from then on."""
    if ctx.session.scalars(select(PrincipalRow.id).limit(1)).first() is not None:
        return None
    tenant = TenantRow(id=new_id("ten"), name="default", display_name="Default tenant", **_made(ctx))
    ctx.session.add(tenant)
    ctx.session.flush()
    project = _add_project(ctx, tenant.id, "default", "The first project")
    admin = PrincipalRow(
        id=new_id("usr"),
        kind=PrincipalKind.USER,
        tenant_id=tenant.id,
        name="admin",
        platform_admin=True,
        default_project_id=project.id,
        **_made(ctx),
    )
    ctx.session.add(admin)
    ctx.session.flush()
    ctx.session.add(MembershipRow(principal_id=admin.id, project_id=project.id, role=Role.PROJECT_ADMIN))
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    ctx.session.add(
        ApiKeyRow(
            id=new_id("key"),
            principal_id=admin.id,
            name="first sign-in",
            hint=secret[:9],
            secret_hash=hash_secret(secret),
            **_made(ctx),
        )
    )
    for purpose in KeyPurpose:
        keys.active_key(ctx, purpose)
    return secret


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
        **_made(ctx),
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
    _must_manage(ctx, row)
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


def _must_manage(ctx: Context, row: PrincipalRow) -> None:
    ctx.require("principals.write")
    if not _manages(ctx, row):
        raise PermissionDenied(f"'{row.name}' also belongs where you are no administrator.")


def _manages(ctx: Context, row: PrincipalRow) -> bool:
    if ctx.actor.platform_admin:
        return True
    if row.platform_admin or not ctx.can("principals.write"):
        return False
    member_of = ctx.session.scalars(select(MembershipRow.project_id).where(MembershipRow.principal_id == row.id)).all()
    return administers(_admin_of(ctx), set(member_of))


def _managed_principals(ctx: Context) -> list[PrincipalRow]:
    if not ctx.can("principals.write"):
        return []
    rows = ctx.session.scalars(select(PrincipalRow).where(PrincipalRow.tenant_id == ctx.actor.tenant_id)).all()
    return [row for row in rows if _manages(ctx, row)]


def _admin_of(ctx: Context) -> set[str]:
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


def _own_projects(ctx: Context) -> set[str]:
    own = set(ctx.session.scalars(select(MembershipRow.project_id).where(MembershipRow.principal_id == ctx.actor.id)))
    return own | ({ctx.actor.project_id} if ctx.actor.project_id else set())


def _find_tenant(ctx: Context, tenant: str) -> TenantRow:
    row = ctx.session.scalars(select(TenantRow).where(or_(TenantRow.id == tenant, TenantRow.name == tenant))).first()
    if row is None or (row.id != ctx.actor.tenant_id and not ctx.can("tenants.read")):
        raise NotFound(f"There is no tenant '{tenant}'.")
    return row


def _find_project(ctx: Context, project: str) -> ProjectRow:
    principal = ctx.session.get(PrincipalRow, ctx.actor.id)
    if principal is not None:
        return find_project(ctx, principal, project)
    row = ctx.session.get(ProjectRow, ctx.actor.project_id) if ctx.actor.project_id else None
    if row is None or project not in (row.id, row.name):
        raise NotFound(f"There is no project '{project}' that you belong to.")
    return row


def _administered(ctx: Context, project: str) -> ProjectRow:
    row = _find_project(ctx, project)
    if not ctx.actor.platform_admin and row.id not in _admin_of(ctx):
        raise PermissionDenied(f"You are no administrator of '{row.name}'.")
    return row


def _find_principal(ctx: Context, name: str, tenant_id: str | None, kind: PrincipalKind | None = None) -> PrincipalRow:
    query = select(PrincipalRow).where(
        PrincipalRow.tenant_id == tenant_id, or_(PrincipalRow.id == name, PrincipalRow.name == name)
    )
    row = ctx.session.scalars(query.where(PrincipalRow.kind == kind) if kind else query).first()
    if row is None:
        raise NotFound(f"There is no {'user or service account' if kind is None else kind.replace('_', ' ')} '{name}'.")
    return row


def _add_project(ctx: Context, tenant_id: str, name: str, description: str) -> ProjectRow:
    row = ProjectRow(
        id=new_id("prj"), tenant_id=tenant_id, name=name, description=description, revision=1, **_made(ctx)
    )
    ctx.session.add(row)
    ctx.session.flush()
    return row


def _made(ctx: Context) -> dict[str, object]:
    return {"created_at": ctx.clock.now(), "created_by": ctx.actor.id}


def _tenant(row: TenantRow) -> Tenant:
    return Tenant.model_validate(row, from_attributes=True)


def _project(row: ProjectRow) -> Project:
    return Project.model_validate(row, from_attributes=True)


def _principal(row: PrincipalRow) -> Principal:
    return Principal.model_validate(row, from_attributes=True)


def _member(row: PrincipalRow, role: str) -> Member:
    return Member(principal_id=row.id, name=row.name, kind=PrincipalKind(row.kind), role=Role(role))


def _api_key(row: ApiKeyRow, owner: str) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        principal_id=row.principal_id,
        principal=owner,
        hint=row.hint,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def _signing_key(row: SigningKeyRow) -> SigningKey:
    return SigningKey.model_validate(row, from_attributes=True)
