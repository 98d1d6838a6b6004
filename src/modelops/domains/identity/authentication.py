"""Who calls: from a request's credentials to an actor in a project.

Outcomes are remembered for `revocation_delay_s`, so that a hot caller costs no database look-up and a revoked one is out
within that time.
"""

import hashlib
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from sqlalchemy import or_, select

from modelops.contracts.errors import InvalidInput, NotFound, Unauthenticated
from modelops.contracts.roles import Role
from modelops.domains.identity import keys, tokens
from modelops.domains.identity.rules import parse_x_actor
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.identity.tables import ApiKeyRow, GrantRow, MembershipRow, PrincipalRow, ProjectRow, TenantRow
from modelops.kernel.callers import Credentials
from modelops.kernel.context import Actor, Context, RolePermissions
from modelops.kernel.work import Workplace

KEY_PREFIX = "mops_"
_REMEMBERED = 10_000


@dataclass(frozen=True)
class _Remembered:
    actor: Actor
    until: float


class PlatformAuthenticator:
    """The platform's `Authenticator`. Thread-safe."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, place: Workplace, credentials: Credentials) -> Actor:
        """Return who calls. Raises as `Authenticator`."""
        known = self.remembered(place, credentials)
        if known is not None:
            return known
        now, name = place.clock.monotonic(), _name(credentials)
        with place.work(write=False) as ctx:
            actor = identify(ctx, credentials)
        with self._lock:
            self._remembered[name] = _Remembered(actor, now + place.settings.revocation_delay_s)
            self._remembered.move_to_end(name)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return actor

    def remembered(self, place: Workplace, credentials: Credentials) -> Actor | None:
        """Return who calls if that was found a moment ago."""
        known = self._remembered.get(_name(credentials))
        return known.actor if known is not None and known.until > place.clock.monotonic() else None


def _name(credentials: Credentials) -> bytes:
    said = credentials.authorization, credentials.x_actor, credentials.project, credentials.local
    return hashlib.sha256(repr(said).encode()).digest()


def identify(ctx: Context, credentials: Credentials) -> Actor:
    """Look up who calls. Raises as `Authenticator`."""
    if credentials.authorization is None:
        if credentials.x_actor is not None:
            return _developer(ctx, credentials)
        raise Unauthenticated("This operation needs a caller who is signed in.")
    scheme, _, secret = credentials.authorization.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated("The `Authorization` header is not of the form `Bearer …`.")
    if secret.startswith(KEY_PREFIX):
        return _by_key(ctx, secret, credentials.project)
    return _by_token(ctx, secret, credentials.project)


def hash_secret(secret: str) -> str:
    """Return what is kept of an API key: it has 256 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(secret.encode()).hexdigest()


def check_key(secret: str) -> str:
    """Return a secret that somebody chose for an API key, if it can be one.

    Raises:
        InvalidInput: it is too short to be safe, or not of the form.
    """
    if re.fullmatch(KEY_PREFIX + r"[A-Za-z0-9_-]{43,100}", secret) is None:
        raise InvalidInput(
            "`MODELOPS_ADMIN_KEY` is not of the form of an API key.",
            hint=f'Make one: echo "{KEY_PREFIX}$(openssl rand -hex 32)".',
        )
    return secret


def _by_key(ctx: Context, secret: str, project: str | None) -> Actor:
    row = ctx.session.scalars(select(ApiKeyRow).where(ApiKeyRow.secret_hash == hash_secret(secret))).one_or_none()
    return replace(principal_actor(ctx, _usable_key(ctx, row), project), credential=row.id if row else None)


def _usable_key(ctx: Context, row: ApiKeyRow | None) -> PrincipalRow:
    if row is None:
        raise Unauthenticated("The API key is unknown.")
    if row.revoked_at is not None:
        raise Unauthenticated("The API key was revoked.")
    if row.expires_at is not None and row.expires_at <= ctx.clock.now():
        raise Unauthenticated("The API key has expired.")
    principal = ctx.session.get_one(PrincipalRow, row.principal_id)
    if principal.disabled:
        raise Unauthenticated(f"'{principal.name}' is disabled.")
    return principal


def _by_token(ctx: Context, token: str, project: str | None) -> Actor:
    claims = tokens.read(token, keys.public_keys(ctx, KeyPurpose.TOKENS))
    if claims["kind"] == "grant":
        return _by_grant(ctx, claims["jti"], project)
    if claims["kind"] != "principal":
        raise Unauthenticated("This token is for a serving runtime, not for the platform.")
    principal = _principal_of_token(ctx, claims["sub"], claims["jti"])
    if project is not None and find_project(ctx, principal, project).id != claims["project"]:
        raise NotFound(
            "The access token is for another project.", hint="Ask for a token of the project you want to work in."
        )
    actor = principal_actor(ctx, principal, claims["project"])
    narrowed = actor.permissions & frozenset(claims["permissions"])
    return replace(actor, permissions=narrowed, credential=claims["jti"])


def _principal_of_token(ctx: Context, principal_id: str, stands_on: str) -> PrincipalRow:
    """Return the principal of a token: while the API key it was issued on lives, and it is not disabled."""
    if stands_on.startswith("key_"):
        return _usable_key(ctx, ctx.session.get(ApiKeyRow, stands_on))
    principal = ctx.session.get(PrincipalRow, principal_id)
    if principal is None or principal.disabled:
        raise Unauthenticated("The access token's owner is disabled or gone.")
    return principal


def _by_grant(ctx: Context, grant_id: str, project: str | None) -> Actor:
    row = ctx.session.get(GrantRow, grant_id)
    if row is None or row.revoked_at is not None or row.expires_at <= ctx.clock.now():
        raise Unauthenticated("What this token was issued for has ended.")
    if project is not None and project != row.project_id:
        raise NotFound("The token is for another project.")
    return Actor(
        id=row.subject,
        name=row.subject,
        kind="grant",
        tenant_id=row.tenant_id,
        project_id=row.project_id,
        role=None,
        permissions=frozenset(row.permissions),
    )


def principal_actor(ctx: Context, principal: PrincipalRow, project: str | None) -> Actor:
    """Return a principal as an actor in a project: the one named, or its default.

    Raises:
        NotFound: the project named is none of its own.
    """
    chosen = find_project(ctx, principal, project) if project is not None else _default_project(ctx, principal)
    role = Role.PLATFORM_ADMIN if principal.platform_admin else _role_in(ctx, principal, chosen)
    return Actor(
        id=principal.id,
        name=principal.name,
        kind=principal.kind,
        tenant_id=chosen.tenant_id if chosen else principal.tenant_id,
        project_id=chosen.id if chosen else None,
        role=role,
        permissions=ctx.port(RolePermissions).of(role),
    )


def find_project(ctx: Context, principal: PrincipalRow, name: str) -> ProjectRow:
    """Find a project by id, name, or for a platform administrator `tenant/name`, among those the principal may know of."""
    query = select(ProjectRow).where(or_(ProjectRow.id == name, ProjectRow.name == name))
    if principal.platform_admin:
        tenant, slash, inner = name.partition("/")
        if slash:
            query = (
                select(ProjectRow)
                .join(TenantRow, TenantRow.id == ProjectRow.tenant_id)
                .where(TenantRow.name == tenant, ProjectRow.name == inner)
            )
        rows = ctx.session.scalars(query).all()
        found = [row for row in rows if row.id == name or row.tenant_id == principal.tenant_id] or rows
    else:
        member = select(MembershipRow.project_id).where(MembershipRow.principal_id == principal.id)
        found = ctx.session.scalars(query.where(ProjectRow.id.in_(member))).all()
    if not found:
        raise NotFound(
            f"There is no project '{name}' that you belong to.", hint="`mops identity list-projects` lists yours."
        )
    return found[0]


def _default_project(ctx: Context, principal: PrincipalRow) -> ProjectRow | None:
    member = select(MembershipRow.project_id).where(MembershipRow.principal_id == principal.id)
    if principal.default_project_id is not None:
        default = ctx.session.get_one(ProjectRow, principal.default_project_id)
        if principal.platform_admin or default.id in ctx.session.scalars(member).all():
            return default
    return ctx.session.scalars(
        select(ProjectRow).where(ProjectRow.id.in_(member)).order_by(ProjectRow.id).limit(1)
    ).first()


def _role_in(ctx: Context, principal: PrincipalRow, project: ProjectRow | None) -> Role | None:
    if project is None:
        return None
    row = ctx.session.get(MembershipRow, (principal.id, project.id))
    return Role(row.role) if row else None


def _developer(ctx: Context, credentials: Credentials) -> Actor:
    """Take `X-Actor` at its word: in development, from this machine, on a platform that only this machine reaches."""
    settings = ctx.settings
    if settings.environment != "development" or not settings.loopback or not credentials.local:
        raise Unauthenticated(
            "The `X-Actor` header is taken only in development mode, on a loopback address, from this machine."
        )
    user, fields = parse_x_actor(credentials.x_actor or "")
    tenant = ctx.session.scalars(
        select(TenantRow).where(TenantRow.name == fields.get("tenant", "default"))
    ).one_or_none()
    if tenant is None:
        raise Unauthenticated(
            f"There is no tenant '{fields.get('tenant')}'.", hint="Name an existing one in `X-Actor`."
        )
    wanted = credentials.project or fields.get("project")
    query = select(ProjectRow).where(ProjectRow.tenant_id == tenant.id).order_by(ProjectRow.id)
    if wanted is not None:
        query = query.where(or_(ProjectRow.id == wanted, ProjectRow.name == wanted))
    project = ctx.session.scalars(query.limit(1)).first()
    if project is None and wanted is not None:
        raise NotFound(f"There is no project '{wanted}' in the tenant '{tenant.name}'.")
    role = Role(fields.get("role", "viewer"))
    return Actor(
        id=f"dev:{user}"[:100],
        name=user,
        kind="developer",
        tenant_id=tenant.id,
        project_id=project.id if project else None,
        role=role,
        permissions=ctx.port(RolePermissions).of(role),
    )
