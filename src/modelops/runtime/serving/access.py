"""Who may ask this replica: access tokens, verified here without the platform.

Verifying an Ed25519 signature costs some 80 us, so verified tokens are kept until they expire.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelops.contracts.errors import PermissionDenied, Unauthenticated
from modelops.contracts.signing import decode

PERMISSION, CONFIGURE = "deployments.predict", "deployments.configure"
REFRESH_S = 10.0
"""The keys are asked for at most this often, however many unknown ones callers show."""

LEEWAY_S = 5
"""How long a token holds beyond its end: clocks differ."""

_REQUIRED = ["exp", "sub", "aud"]

_log = logging.getLogger(__name__)

FetchKeys = Callable[[], dict[str, str]]
"""Gets the platform's present token keys: key id -> base64url of the raw 32 bytes. May block, and may fail."""


class Gatekeeper:
    """Checks access tokens: JWTs (RFC 7519) signed with Ed25519 (RFC 8037). Thread-safe.

    Args:
        keys: The token keys known from the start, by key id.
        audience: What a token must be for.
        project_id: The project that it must be for, unless it is the platform's own (claim `platform`).
        fetch: Gets newer keys when a token names an unknown one.
        capacity: How many verified tokens are kept; the least recently used goes first.
    """

    def __init__(
        self, keys: Mapping[str, str], audience: str, project_id: str, fetch: FetchKeys, *, capacity: int = 4096
    ) -> None:
        self._keys = dict(keys)
        self._audience, self._project_id = audience, project_id
        self._fetch = fetch
        self._capacity = capacity
        self._verified: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._refreshed_at = -REFRESH_S
        self.generation = 0
        """Changes when verified tokens must be looked at anew."""

    def fetch_by(self, fetch: FetchKeys) -> None:
        """Get newer keys in this way from now on."""
        self._fetch = fetch

    def known(self, authorization: str | None) -> dict[str, Any] | None:
        """Return the claims of a token that was verified before and holds still; None where `admit` must look."""
        token = _bearer(authorization)
        with self._lock:
            claims = self._verified.get(token)
            if claims is None:
                return None
            if claims["exp"] + LEEWAY_S <= time.time():
                del self._verified[token]
                return None
            self._verified.move_to_end(token)
            return claims

    def admit(self, authorization: str | None) -> dict[str, Any]:
        """Verify a token and return its claims. Blocks while it asks for newer keys.

        Raises:
            Unauthenticated: no token, or one that is malformed, expired, for somebody else, or by an unknown key.
            PermissionDenied: the token is for another project.
        """
        token = _bearer(authorization)
        kid, claims = self._verify(token)
        if claims.get("project") != self._project_id and claims.get("platform") is not True:
            raise PermissionDenied("The access token is for another project than this deployment's.")
        with self._lock:
            if kid not in self._keys:
                raise Unauthenticated("The access token is signed by a key that was taken back.")
            self._verified[token] = claims
            while len(self._verified) > self._capacity:
                self._verified.popitem(last=False)
        return claims

    def _verify(self, token: str) -> tuple[str, dict[str, Any]]:
        try:
            kid = str(jwt.get_unverified_header(token).get("kid"))
            public = Ed25519PublicKey.from_public_bytes(decode(self._key(kid)))
            claims: dict[str, Any] = jwt.decode(
                token,
                public,
                algorithms=["EdDSA"],
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": _REQUIRED},
            )
        except jwt.ExpiredSignatureError as wrong:
            raise Unauthenticated("The access token has expired.") from wrong
        except (jwt.PyJWTError, ValueError) as wrong:
            raise Unauthenticated(f"The access token is not valid: {wrong}.") from wrong
        return kid, claims

    def _key(self, kid: str) -> str:
        if kid not in self._keys:
            self._refresh(kid)
        public = self._keys.get(kid)
        if public is None:
            raise Unauthenticated("The access token is signed by a key that is not known here.")
        return public

    def _refresh(self, kid: str) -> None:
        with self._refreshing:
            if kid in self._keys or time.monotonic() - self._refreshed_at < REFRESH_S:
                return
            self._refreshed_at = time.monotonic()
            try:
                keys = self._fetch()
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as wrong:
                _log.warning("the platform's token keys could not be fetched: %r", wrong)
                return
            with self._lock:
                # A key that the platform took back must not live on in tokens that were verified with it.
                self._keys = keys
                self._verified.clear()
                self.generation += 1


def require_permission(claims: Mapping[str, Any], deployment_id: str, permission: str = PERMISSION) -> None:
    """Refuse a token whose permissions do not include predicting, or another one, or that is for other deployments.

    A token that names no deployments (claim `deployments`, ids) is for all of its project.

    Raises:
        PermissionDenied: they do not, or it is.
    """
    permissions = claims.get("permissions")
    if not isinstance(permissions, list) or permission not in permissions:
        raise PermissionDenied(f"The access token lacks the permission '{permission}'.")
    deployments = claims.get("deployments")
    if deployments is not None and (not isinstance(deployments, list) or deployment_id not in deployments):
        raise PermissionDenied("The access token is for other deployments than this one.")


def require_platform(claims: Mapping[str, Any], deployment_id: str) -> None:
    """Refuse a token that is not the platform's own, with the permission to configure deployments.

    Raises:
        PermissionDenied: it is not.
    """
    if claims.get("platform") is not True:
        raise PermissionDenied("Only the platform itself steers its replicas.")
    require_permission(claims, deployment_id, CONFIGURE)


def jwks_fetcher(platform_url: str) -> FetchKeys:
    """Return what gets the platform's keys from `/.well-known/jwks.json` (RFC 7517; OKP keys, RFC 8037)."""

    def fetch() -> dict[str, str]:
        answer = httpx.get(f"{platform_url.rstrip('/')}/.well-known/jwks.json", timeout=5.0)
        answer.raise_for_status()
        keys = [key for key in answer.json()["keys"] if key.get("kty") == "OKP" and key.get("crv") == "Ed25519"]
        if not keys:
            raise ValueError("the platform shows no token keys")  # a platform has one; its lack must not lock all out
        return {key["kid"]: key["x"] for key in keys}

    return fetch


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("The request has no access token.")
    return token.strip()
