"""Access tokens: JWTs (RFC 7519) signed with Ed25519 (RFC 8037), and the grants of what runs."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelops.contracts.errors import Unauthenticated
from modelops.contracts.ids import new_id
from modelops.contracts.signing import decode
from modelops.domains.identity.keys import active_key
from modelops.domains.identity.schemas import KeyPurpose
from modelops.domains.identity.tables import GrantRow
from modelops.kernel.context import Context

AUDIENCE = "modelops"
ISSUER = "modelops"
_LEEWAY_S = 5


def mint(
    ctx: Context,
    subject: str,
    *,
    kind: str,
    project_id: str,
    permissions: Iterable[str],
    ttl_s: int,
    jti: str,
    **others: Any,
) -> str:
    """Return a signed token for one project.

    Args:
        subject: The id of whom it is for.
        kind: `principal` or `grant`: where its rights are looked up.
        jti: The API key or grant that it stands on; with it, the token is revoked.
        others: Further claims.
    """
    name, private = active_key(ctx, KeyPurpose.TOKENS)
    now = ctx.clock.now()
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "kind": kind,
        "project": project_id,
        "permissions": sorted(permissions),
        "jti": jti,
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(seconds=ttl_s)).timestamp()),
    } | others
    return jwt.encode(claims, private, algorithm="EdDSA", headers={"kid": name})


def read(token: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Verify a token and return its claims.

    Raises:
        Unauthenticated: it is malformed, expired, for somebody else, or signed by no key of ours.
    """
    try:
        kid = str(jwt.get_unverified_header(token).get("kid"))
        if kid not in keys:
            raise Unauthenticated("The access token is signed by a key that this platform does not have.")
        public = Ed25519PublicKey.from_public_bytes(decode(keys[kid]))
        claims: dict[str, Any] = jwt.decode(
            token,
            public,
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            issuer=ISSUER,
            leeway=_LEEWAY_S,
            options={"require": ["exp", "sub", "jti", "kind", "project", "permissions"]},
        )
    except jwt.ExpiredSignatureError as wrong:
        raise Unauthenticated(
            "The access token has expired.", hint="Ask for a new one: `mops login`, or `POST /v1/auth/token`."
        ) from wrong
    except jwt.PyJWTError as wrong:
        raise Unauthenticated(f"The access token is not valid: {wrong}.") from wrong
    return claims


def grant(ctx: Context, subject: str, permissions: Sequence[str], *, tenant_id: str, ttl_s: int) -> str:
    """Give something that runs rights in the current project, and return its token.

    Args:
        subject: The id of the job or deployment.
        permissions: What it may do; nothing else.
        ttl_s: How long at most; `revoke_grants` ends it before.
    """
    now = ctx.clock.now()
    row = GrantRow(
        id=new_id("grt"),
        project_id=ctx.project_id,
        tenant_id=tenant_id,
        subject=subject,
        permissions=sorted(permissions),
        expires_at=now + timedelta(seconds=ttl_s),
        created_at=now,
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    return mint(ctx, subject, kind="grant", project_id=ctx.project_id, permissions=permissions, ttl_s=ttl_s, jti=row.id)
