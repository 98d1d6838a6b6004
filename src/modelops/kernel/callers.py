"""Callers: what a request says of who makes it, and finding out who that is."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fastapi.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.types import Scope

from modelops.contracts.errors import Unauthenticated
from modelops.kernel.context import Actor
from modelops.kernel.work import Workplace

_PROXIED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_THIS_MACHINE = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
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
    headers = {name: value.decode("latin-1") for name, value in reversed(request.scope["headers"])}
    project = headers.get(project_header.encode()) or headers.get(b"x-project")
    local = _is_local(request.scope, headers)
    return Credentials(_as_bearer(headers.get(b"authorization")), headers.get(b"x-actor"), project, local)


def _as_bearer(authorization: str | None) -> str | None:
    """Return a Basic header as what it carries: tools that know only user and password send a key as the password."""
    if authorization is None or authorization[:6].lower() != "basic ":
        return authorization
    try:
        pair = base64.b64decode(authorization[6:], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return authorization
    return f"Bearer {pair.partition(':')[2]}"


def _is_local(scope: Scope, headers: Mapping[bytes, str]) -> bool:
    if not _PROXIED.isdisjoint(headers):
        return False  # a proxy on this machine speaks for others
    if scope.get("modelops.embedded"):
        return True
    client, server = scope.get("client"), scope.get("server")
    if not (client and server and client[0] in _LOOPBACK and server[0] in _LOOPBACK):
        return False
    host = headers.get(b"host")
    return (
        host is None or _THIS_MACHINE.fullmatch(host) is not None
    )  # else a page whose name was rebound to this machine
