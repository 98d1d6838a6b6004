"""A door for a protocol that others defined: its own paths and errors, typed by msgspec, before the application's routes.

A handler is a plain function whose first parameter tells how it runs:

    def get_run(ctx: Context, query: GetRun) -> Answer          in a unit of work, in a thread; a GET promises not to write
    def upload(scope: Scope, path: str) -> Answer                 in a thread; opens short units of work itself
    async def log_batch(scope: Scope, body: LogBatch) -> Answer   on the event loop; must not wait for a database

The second parameter, if it is a `msgspec.Struct`, is read from the JSON body, or from the query of a GET; parameters that the
path names come by name. An answer is JSON: bytes as they are, anything else encoded, None as `{}`; or a response.
"""

import inspect
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from modelops.contracts.errors import InvalidInput, MLOpsError, NotFound
from modelops.kernel.bodies import decode
from modelops.kernel.callers import credentials_of, find_caller
from modelops.kernel.context import Context
from modelops.kernel.failures import DATABASE_ERRORS, translate
from modelops.kernel.scope import Scope, request_id_of
from modelops.kernel.work import Workplace

log = logging.getLogger(__name__)

Answer = Any


@dataclass(frozen=True, slots=True)
class _Handler:
    run: Callable[..., Answer]
    operation: str
    body: msgspec.json.Decoder[Any] | None
    query: Any
    in_context: bool
    in_thread: bool
    reads: bool


class Door:
    """The routes of one protocol.

    Args:
        domain: Names its operations, `<domain>.<function>`.
        prefixes: A path that begins with one is the door's, known or not; one without a slash at its end is that path alone.
        refuse: Renders a failure in the protocol's own form.
        project_header: The header by which the protocol's clients name a project.
        missing: The error of a path that the protocol lacks.
        unreadable: Tells what is wrong with a payload, of what msgspec says and the payload's bytes or query.
    """

    def __init__(
        self,
        domain: str,
        prefixes: Iterable[str],
        refuse: Callable[[MLOpsError, str | None], Response],
        *,
        project_header: str = "x-project",
        missing: type[NotFound] = NotFound,
        unreadable: Callable[[Exception, Any], MLOpsError] | None = None,
    ) -> None:
        self.domain = domain
        self.refuse = refuse
        self.project_header = project_header
        self.missing = missing
        self.unreadable = unreadable or _unreadable
        self._folders = tuple(prefix for prefix in prefixes if prefix.endswith("/"))
        self._alone = frozenset(prefix for prefix in prefixes if not prefix.endswith("/"))
        self._exact: dict[tuple[str, str], _Handler] = {}
        self._patterns: list[tuple[str, re.Pattern[str], _Handler]] = []

    def owns(self, path: str) -> bool:
        """Tell whether a path is this protocol's."""
        return path.startswith(self._folders) or path in self._alone

    def operations(self) -> list[tuple[str, str, str]]:
        """Return every route as (method, path with `{names}`, operation)."""
        exact = [(method, path, handler.operation) for (method, path), handler in self._exact.items()]
        return exact + [(method, _readable(pattern), h.operation) for method, pattern, h in self._patterns]

    def route(
        self, method: str, *paths: str, reads: bool | None = None
    ) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
        """Add a handler under paths; `{name}` takes a part of one, `{name:path}` all that is left of it.

        Args:
            reads: It changes nothing, whatever its method; by default told by the method.
        """

        def add(function: Callable[..., Answer]) -> Callable[..., Answer]:
            handler = _describe(function, method, self.domain, method == "GET" if reads is None else reads)
            for path in paths:
                if "{" in path:
                    self._patterns.append((method, _compile(path), handler))
                else:
                    self._exact[method, path] = handler
            return function

        return add

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except MLOpsError as refused:
            response = self.refuse(refused, request_id_of(request))
        except DATABASE_ERRORS as wrong:
            response = self.refuse(_known(wrong, request), request_id_of(request))
        except Exception as wrong:
            response = self.refuse(_defect(wrong, request), request_id_of(request))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        place: Workplace = request.app.state.place
        actor = await find_caller(place, credentials_of(request, self.project_header))
        handler, named = self._find(request)
        scope = Scope(place, actor, request, handler.operation)
        arguments: list[Any] = [await self._read(handler, request)] if handler.body is not None else []
        if handler.in_context:
            answer = await run_in_threadpool(_run_in_context, handler, scope, arguments, named)
        elif handler.in_thread:
            answer = await run_in_threadpool(handler.run, scope, *arguments, **named)
        else:
            answer = await handler.run(scope, *arguments, **named)
        return _respond(answer)

    async def _read(self, handler: _Handler, request: Request) -> Any:
        sent: Any = b""
        try:
            if handler.query is not None:
                sent = _query_of(request, handler.query)
                return msgspec.convert(sent, handler.query, strict=False)
            sent = await request.body() or b"{}"
            return decode(handler.body, sent)  # type: ignore[arg-type]
        except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
            raise self.unreadable(wrong, sent) from wrong

    def _find(self, request: Request) -> tuple[_Handler, dict[str, str]]:
        method, path = request.method, request.scope["path"]
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact, {}
        for wanted, pattern, handler in self._patterns:
            if wanted == method and (match := pattern.fullmatch(path)):
                return handler, match.groupdict()
        raise self.missing(
            f"There is no operation {method} {path}.", hint="The documentation lists what is spoken here."
        )


def _unreadable(wrong: Exception, sent: Any) -> MLOpsError:
    return InvalidInput(f"The request cannot be read: {wrong}.")


def _describe(function: Callable[..., Answer], method: str, domain: str, reads: bool) -> _Handler:
    parameters = list(inspect.signature(function).parameters.values())
    kind = parameters[0].annotation
    if kind not in (Context, Scope):
        raise TypeError(f"The first parameter of {function.__name__} is a Context or a Scope.")
    payload = parameters[1].annotation if len(parameters) > 1 else None
    typed = isinstance(payload, type) and issubclass(payload, msgspec.Struct)
    return _Handler(
        run=function,
        operation=f"{domain}.{function.__name__}",
        body=msgspec.json.Decoder(payload, strict=False) if typed else None,
        query=payload if typed and method == "GET" else None,
        in_context=kind is Context,
        in_thread=not inspect.iscoroutinefunction(function),
        reads=reads,
    )


def _compile(path: str) -> re.Pattern[str]:
    pattern = re.sub(r"\\\{(\w+):path\\\}", r"(?P<\1>.+)", re.escape(path).replace(r"\:", ":"))
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern))


def _readable(pattern: re.Pattern[str]) -> str:
    return re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", pattern.pattern).replace("\\", "")


def _query_of(request: Request, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the query as a document: a parameter of a list may stand in it several times."""
    lists = {f.encode_name for f in msgspec.structs.fields(kind) if "list" in str(f.type)}
    query = request.query_params
    return {name: query.getlist(name) if name in lists else query[name] for name in query}


def _run_in_context(handler: _Handler, scope: Scope, arguments: list[Any], named: dict[str, str]) -> Answer:
    with scope.work(write=not handler.reads) as ctx:
        return handler.run(ctx, *arguments, **named)


def _respond(answer: Answer) -> Response:
    if isinstance(answer, Response):
        return answer
    content = b"{}" if answer is None else answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
    return Response(content, media_type="application/json")


def _known(wrong: Exception, request: Request) -> MLOpsError:
    known = translate(wrong)
    return known if isinstance(known, MLOpsError) else _defect(wrong, request)


def _defect(wrong: Exception, request: Request) -> MLOpsError:
    if isinstance(wrong.__cause__, MLOpsError):  # raised while the body was read, such as its limit
        return wrong.__cause__
    log.error("request failed", exc_info=wrong, extra={"path": request.url.path, "request_id": request_id_of(request)})
    return MLOpsError(
        "The platform failed on this request, and the failure is logged.",
        hint="Report it with the request id; `mops doctor` tells whether a part is broken.",
    )
