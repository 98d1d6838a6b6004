"""Callers: what a request says of who makes it, and finding out who that is."""

import base64
import binascii
from dataclasses import dataclass
from typing import Protocol

from fastapi.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from modelops.contracts.errors import Unauthenticated
from modelops.kernel.context import Actor
from modelops.kernel.work import Workplace

_PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip")
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


@dataclass(frozen=True)
class Credentials:
    """What a request says of its caller. `local` tells that it came over this machine's loopback to a loopback address."""

    authorization: str | None
    x_actor: str | None
    project: str | None
    local: bool


class Authenticator(Protocol):
    """Turns credentials into an actor. The identity domain provides it."""

    def __call__(self, place: Workplace, credentials: Credentials) -> Actor:
        """Return who calls, narrowed to the project that is worked in.

        Raises:
            Unauthenticated: nobody, or nobody known.
            NotFound: the project named is none of the caller's.
        """
        ...

    def remembered(self, place: Workplace, credentials: Credentials) -> Actor | None:
        """Return who calls if that was found a moment ago, without waiting for anything."""
        ...


async def find_caller(place: Workplace, credentials: Credentials) -> Actor:
    """Return who calls. Raises as `Authenticator`."""
    authenticate: Authenticator | None = place.ports.get(Authenticator)
    if authenticate is None:
        raise Unauthenticated("No domain here can tell who calls.")
    known = authenticate.remembered(place, credentials)
    if known is not None:
        return known
    return await run_in_threadpool(authenticate.__call__, place, credentials)


def credentials_of(request: HTTPConnection, project_header: str = "x-project") -> Credentials:
    """Read a request's credentials; the project is named by one of two headers, ours last."""
    headers = request.headers
    return Credentials(
        authorization=_as_bearer(headers.get("authorization")),
        x_actor=headers.get("x-actor"),
        project=headers.get(project_header) or headers.get("x-project"),
        local=_is_local(request),
    )


def _as_bearer(authorization: str | None) -> str | None:
    """Return a Basic header as what it carries: tools that know only user and password send a key as the password."""
    if authorization is None or authorization[:6].lower() != "basic ":
        return authorization
    try:
        pair = base64.b64decode(authorization[6:], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return authorization
    return f"Bearer {pair.partition(':')[2]}"


def _is_local(request: HTTPConnection) -> bool:
    if any(name in request.headers for name in _PROXIED):
        return False  # a proxy on this machine speaks for others
    if request.scope.get("modelops.embedded"):
        return True
    if request.url.hostname not in ("127.0.0.1", "localhost", "::1"):
        return False  # a page whose name was rebound to this machine
    client, server = request.scope.get("client"), request.scope.get("server")
    return bool(client and server and client[0] in _LOOPBACK and server[0] in _LOOPBACK)
