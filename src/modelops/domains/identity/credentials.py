"""What callers sign in with, and what the platform signs with: API keys, access tokens, signing keys."""

import secrets
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select, update

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.identity import keys, tokens
from modelops.domains.identity.authentication import KEY_PREFIX, hash_secret, principal_actor
from modelops.domains.identity.finding import made_now, principal_named
from modelops.domains.identity.organisation import tenant_of
from modelops.domains.identity.principals import managed_principals, manages, must_manage
from modelops.domains.identity.schemas import (
    AccessToken,
    ApiKey,
    ApiKeyCreate,
    ApiKeyCreated,
    JsonWebKeySet,
    KeyPurpose,
    KeyRotation,
    SigningKey,
    TokenCreate,
)
from modelops.domains.identity.tables import ApiKeyRow, GrantRow, PrincipalRow, SigningKeyRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows


def create_api_key(ctx: Context, body: ApiKeyCreate) -> ApiKeyCreated:
    """Make an API key. Its secret is in the answer and nowhere else."""
    if body.principal is None:
        who = ctx.session.get(PrincipalRow, ctx.actor.id)
        if who is None:
            raise InvalidInput("You are no user or service account that could own a key.", hint="Name a `principal`.")
    else:
        who = principal_named(ctx, body.principal, ctx.actor.tenant_id)
        must_manage(ctx, who)
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    now = ctx.clock.now()
    row = ApiKeyRow(
        id=new_id("key"),
        principal_id=who.id,
        name=body.name,
        hint=secret[:9],
        secret_hash=hash_secret(secret),
        expires_at=now + timedelta(days=body.expires_in_days) if body.expires_in_days else None,
        **made_now(ctx),
    )
    ctx.session.add(row)
    return ApiKeyCreated(**_api_key(row, who.name).model_dump(), secret=secret)


def list_api_keys(ctx: Context, page: PageQuery) -> Page[ApiKey]:
    """List the caller's own API keys, and those of the service accounts and users it administers."""
    mine = {ctx.actor.id} | {row.id for row in managed_principals(ctx)}
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
    if row is None or owner is None or (owner.id != ctx.actor.id and not manages(ctx, owner)):
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


def grant_token(ctx: Context, subject: str, permissions: Sequence[str], *, ttl_s: int) -> str:
    """Issue a token for something that runs in the current project (for the domains above)."""
    return tokens.grant(ctx, subject, permissions, tenant_id=tenant_of(ctx, ctx.project_id), ttl_s=ttl_s)


def revoke_grants(ctx: Context, subject: str) -> None:
    """End every token that was granted to something that ran (for the domains above)."""
    ctx.session.execute(
        update(GrantRow)
        .where(GrantRow.subject == subject, GrantRow.project_id == ctx.project_id, GrantRow.revoked_at.is_(None))
        .values(revoked_at=ctx.clock.now())
    )


def call_token(
    ctx: Context, permissions: Sequence[str], *, ttl_s: int, deployments: Sequence[str] | None = None
) -> str:
    """Issue the platform itself a short-lived token for the current project, to call a runtime with (for the
    domains above). The platform itself does not take it, so a runtime gains nothing by keeping it.

    Args:
        deployments: The only deployments that it is for. Such a token also says that it is the platform's own.
    """
    own = {} if deployments is None else {"platform": True, "deployments": list(deployments)}
    return tokens.mint(
        ctx,
        ctx.actor.id,
        kind="call",
        project_id=ctx.project_id,
        permissions=permissions,
        ttl_s=ttl_s,
        jti=new_id("tok"),
        **own,
    )


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
