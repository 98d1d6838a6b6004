"""The edge of a request: who calls, one unit of work, the same answer to a repeated create, and the audit record.

A domain's routes are plain functions on a `Router`. One that takes `ctx: Context` runs inside a unit of work that this
module opens and commits. One that takes `scope: Scope` is authenticated and opens short units of work itself: streams,
and whatever talks to the world, must not hold a transaction meanwhile.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError

from modelops.contracts.errors import Conflict, IdempotencyMismatch, InvalidInput, PermissionDenied
from modelops.kernel import audit
from modelops.kernel.callers import credentials_of, find_caller
from modelops.kernel.context import Actor, Context
from modelops.kernel.listing import PageQuery
from modelops.kernel.problems import documented
from modelops.kernel.scope import Outrun, Scope, outlast_races
from modelops.kernel.tables import IdempotencyRow
from modelops.kernel.work import Workplace

Listing = Annotated[PageQuery, Query()]
"""The query of a listing."""

Ref = Annotated[str, Path(min_length=1, max_length=250, description="A name or an id.")]
"""A resource in a path."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class _Route(APIRoute):
    """A route that knows its caller before it reads the body: a stranger learns nothing, not even that his JSON is wrong."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route."""
        handle = super().get_route_handler()
        if not getattr(self.endpoint, "needs_caller", False):
            return handle

        async def handle_for_caller(request: Request) -> Response:
            place: Workplace = request.app.state.place
            request.state.actor = await find_caller(place, credentials_of(request))
            return await handle(request)

        return handle_for_caller


class Router(APIRouter):
    """Routes of a domain. The operation id of a route is `<domain>.<function name>`."""

    def __init__(self, domain: str, **options: Any) -> None:
        super().__init__(tags=[domain], route_class=_Route, **options)
        self.domain = domain

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Add a route that runs at the edge."""
        operation = options.pop("operation_id", None) or f"{self.domain}.{endpoint.__name__}"
        options["responses"] = {**documented(), **(options.get("responses") or {})}
        options["status_code"] = options.get("status_code") or 200
        options["summary"] = options.get("summary") or (inspect.getdoc(endpoint) or "").partition("\n")[0].rstrip(".")
        wrapped = _at_the_edge(endpoint, operation, options["status_code"])
        super().add_api_route(path, wrapped, operation_id=operation, **options)


def body_of(schema: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that a route reads itself, for its `openapi_extra`."""
    document = schema.model_json_schema()
    whole = _with_definitions(document, document.pop("$defs", {}))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": whole}}}}


def _with_definitions(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_with_definitions(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _with_definitions(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {key: _with_definitions(value, definitions) for key, value in part.items()}


def before(prepare: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Run `prepare(scope, **arguments)` before the unit of work of a route that takes `ctx`.

    For what takes long, such as reading files, and is kept: a repeated request must not do it again.
    """

    def mark(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        vars(endpoint)["prepare"] = prepare
        return endpoint

    return mark


def _at_the_edge(endpoint: Callable[..., Any], operation: str, status: int) -> Any:
    signature = inspect.signature(endpoint)
    given = next((p for p in signature.parameters.values() if p.annotation in (Context, Scope)), None)
    if given is None:
        return endpoint
    call: Any
    if given.annotation is Context:
        prepare = getattr(endpoint, "prepare", None)

        def in_context(edge_request: Request, **arguments: Any) -> Any:
            if prepare is not None:
                prepare(_scope(edge_request, operation), **arguments)
            bound = functools.partial(endpoint, **arguments)
            return _in_context(edge_request, operation, status, bound, given.name)

        call = in_context
    elif inspect.iscoroutinefunction(endpoint):

        async def in_async_scope(edge_request: Request, **arguments: Any) -> Any:
            scope = _scope(edge_request, operation)
            return _respond(await endpoint(**arguments, **{given.name: scope}), status)

        call = in_async_scope
    else:

        def in_scope(edge_request: Request, **arguments: Any) -> Any:
            return _respond(endpoint(**arguments, **{given.name: _scope(edge_request, operation)}), status)

        call = in_scope
    call.needs_caller = True
    call.__name__, call.__doc__, call.__module__ = endpoint.__name__, endpoint.__doc__, endpoint.__module__
    request = inspect.Parameter("edge_request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
    others = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values() if p is not given]
    call.__signature__ = signature.replace(parameters=[request, *others])
    return call


def _scope(request: Request, operation: str) -> Scope:
    return Scope(request.app.state.place, request.state.actor, request, operation)


def _in_context(
    request: Request, operation: str, status: int, endpoint: Callable[..., Any], parameter: str
) -> Response:
    try:
        return outlast_races(lambda: _in_one_unit(request, operation, status, endpoint, parameter))
    except Conflict:
        # What is in the way may be what the same request made meanwhile: its answer was not there when this one looked.
        repeated = _replay_what_came_meanwhile(request)
        if repeated is None:
            raise
        return repeated


def _in_one_unit(
    request: Request, operation: str, status: int, endpoint: Callable[..., Any], parameter: str
) -> Response:
    place: Workplace = request.app.state.place
    actor: Actor = request.state.actor
    write = request.method not in SAFE_METHODS
    request_id = getattr(request.state, "request_id", None)
    if_match = request.headers.get("if-match")
    try:
        with place.work(actor, write=write, request_id=request_id, if_match=if_match) as ctx:
            repeated = _replay(ctx, request) if request.method == "POST" else None
            if repeated is not None:
                return repeated
            response = _respond(endpoint(**{parameter: ctx}), status)
            if write:
                audit.record(ctx, operation, request.url.path, "done")
                _remember(ctx, request, response)
            return response
    except IntegrityError as taken:
        raise Outrun from taken
    except PermissionDenied as denied:
        audit.record_denied(place, actor, operation, request.url.path, denied, request_id)
        raise


def _respond(result: Any, status: int) -> Response:
    if isinstance(result, Response):
        return result
    if result is None:
        return Response(status_code=204)
    if not isinstance(result, BaseModel):
        raise TypeError(f"A route returns a schema, a response or None, not {type(result).__name__}.")
    revision = getattr(result, "revision", None)
    headers = {"ETag": f'"{revision}"'} if isinstance(revision, int) else None
    return Response(result.model_dump_json(), status, headers, media_type="application/json")


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 200:
        raise InvalidInput("The `Idempotency-Key` must have 1 to 200 characters.")
    return key


def _fingerprint(request: Request) -> str:
    body: bytes = getattr(request, "_body", b"")
    text = f"{request.method} {request.url.path}?{request.url.query}\n{request.headers.get('x-project', '')}\n".encode()
    return hashlib.sha256(text + body).hexdigest()


def _replay(ctx: Context, request: Request) -> Response | None:
    key = _key(request)
    if key is None:
        return None
    kept = ctx.session.get(IdempotencyRow, (ctx.actor.id, key))
    if kept is None:
        return None
    if kept.fingerprint != _fingerprint(request):
        raise IdempotencyMismatch(f"The key '{key}' was used before, for another request.")
    headers = {"Idempotency-Replayed": "true", **({"ETag": kept.etag} if kept.etag else {})}
    return Response(kept.body, kept.status, headers, media_type="application/json" if kept.body else None)


def _replay_what_came_meanwhile(request: Request) -> Response | None:
    if request.method != "POST" or _key(request) is None:
        return None
    place: Workplace = request.app.state.place
    with place.work(request.state.actor, write=False) as ctx:
        return _replay(ctx, request)


def _remember(ctx: Context, request: Request, response: Response) -> None:
    key = _key(request) if request.method == "POST" else None
    if key is None or response.status_code >= 300 or response.headers.get("cache-control") == "no-store":
        return
    ctx.session.add(
        IdempotencyRow(
            actor=ctx.actor.id,
            key=key,
            fingerprint=_fingerprint(request),
            status=response.status_code,
            body=bytes(response.body).decode() or None,
            etag=response.headers.get("etag"),
            created_at=ctx.clock.now(),
        )
    )
