"""The spans of requests that the platform answers."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelops.contracts.tracing import Remote, Span, Tracing, current


class Traced:
    """One request's way through the application, with a span around it if it is sampled."""

    def __init__(self, app: ASGIApp, tracing: Tracing, caller: Remote | None) -> None:
        self.app, self.tracing, self.caller = app, tracing, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle it."""
        if not self.tracing.wants(None if self.caller is None else self.caller.sampled):
            await self.app(scope, receive, send)
            return
        span = self.tracing.serve(scope["method"], self.caller)
        token = current.set(span)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note_status(span, message["status"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except BaseException as wrong:
            span.fail(type(wrong).__name__)
            raise
        finally:
            current.reset(token)
            _describe(span, scope)
            span.end()


def _note_status(span: Span, status: int) -> None:
    span.note({"http.response.status_code": status})
    if status >= 500:
        span.fail()


def _describe(span: Span, scope: Scope) -> None:
    """Tell what is known only after the request was routed: which operation it was, and in which project."""
    state = scope["state"]
    told = {
        "http.request.method": scope["method"],
        "url.path": scope["path"],
        "modelops.request_id": state["request_id"],
    }
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        told["http.route"] = route
        span.rename(f"{scope['method']} {route}")
    actor = state.get("actor")
    if actor is not None:
        told |= {"modelops.tenant": actor.tenant_id or "", "modelops.project": actor.project_id or ""}
    span.note(told)
