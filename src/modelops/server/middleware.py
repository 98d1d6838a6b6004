"""What every request passes: a request id and trace, headers that protect browsers, and a limit on its body."""

import re
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelops.contracts.errors import TooLarge
from modelops.contracts.tracing import Tracing, read_traceparent
from modelops.kernel.door import Door
from modelops.kernel.logs import request_id, trace_id
from modelops.kernel.problems import respond
from modelops.kernel.scope import LIMIT_KEY
from modelops.server.traced import Traced

_REQUEST_ID = re.compile(rb"^[A-Za-z0-9._-]{1,100}$")
_DOCS_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)


class RequestContext:
    """Gives a request its id (the caller's `X-Request-Id`, or a new one) and its trace (`traceparent`, W3C Trace Context),
    and sends the id back. With `tracing`, requests that are sampled have a span."""

    def __init__(self, app: ASGIApp, tracing: Tracing | None = None) -> None:
        self.app, self.tracing = app, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        name = given.decode() if _REQUEST_ID.match(given) else f"req_{token_hex(16)}"
        caller = read_traceparent(headers.get(b"traceparent", b"").decode("latin-1"))
        scope.setdefault("state", {})["request_id"] = name
        tokens = request_id.set(name), trace_id.set(f"{caller.trace_id:032x}" if caller else None)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_headers(name, scope["path"])]
            await send(message)

        app = self.app if self.tracing is None else Traced(self.app, self.tracing, caller)
        try:
            await app(scope, receive, send_with_headers)
        finally:
            request_id.reset(tokens[0])
            trace_id.reset(tokens[1])


class Doors:
    """Sends a request for another protocol's path to its door, past the application's own routes."""

    def __init__(self, app: ASGIApp, doors: Sequence[Door]) -> None:
        self.app = app
        self.doors = tuple(doors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            for door in self.doors:
                if door.owns(scope["path"]):
                    await door(scope, receive, send)
                    return
        await self.app(scope, receive, send)


class BodyLimit:
    """Ends a request whose body is longer than it may be: small by default, large where a route asked for an upload."""

    def __init__(self, app: ASGIApp, json_bytes: int, upload_bytes: int) -> None:
        self.app = app
        self.json_bytes = json_bytes
        self.upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit: dict[str, Any] = {"bytes": self.json_bytes, "upload": self.upload_bytes}
        scope[LIMIT_KEY] = limit
        received = 0
        started = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit["bytes"]:
                raise TooLarge(
                    f"The body is longer than {limit['bytes']} bytes.",
                    hint="Send less at once; the platform's operator can raise `max_body_bytes` or `max_upload_bytes`.",
                )
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except TooLarge as error:
            if started:
                raise
            await respond(error, scope["state"]["request_id"])(scope, receive, send)


def _headers(name: str, path: str) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"x-request-id", name.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
    ]
    if path.startswith("/docs"):
        headers.append((b"content-security-policy", _DOCS_POLICY))
    return headers
