"""The spans of requests that a replica answers, and of their parts."""

import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from modelops.contracts.tracing import Span, Tracing, open_tracing, read_traceparent
from modelops.domains.serving.schemas import RevisionDocument
from modelops.runtime.serving.engine.asks import Answers, Ask, Framed
from modelops.runtime.serving.variants.variant import Part

PICKED = "modelops.picked"
"""Where a request's ASGI scope says that it is to be traced."""

_FAILED = 500


def tracing_of(document: RevisionDocument, replica: str, environ: Mapping[str, str]) -> Tracing | None:
    """Return what a replica traces with; None where the environment names no collector."""
    own = {
        "modelops.tenant": document.tenant_id,
        "modelops.project": document.project_id,
        "modelops.deployment": document.deployment,
        "modelops.deployment_id": document.deployment_id,
        "service.instance.id": replica,
    }
    return open_tracing("modelops-runtime", own, environ)


def span_of(tracing: Tracing, request: Request, path: str, began: float) -> "RequestSpan | None":
    """Return the span of a request that is traced.

    Args:
        path: What stands for the request's path in metrics.
        began: When the request came, in seconds of `time.perf_counter`.
    """
    about = {"http.request.method": request.method, "http.route": path}
    return _begun(tracing, f"{request.method} {path}", about, request.headers, began, is_picked=PICKED in request.scope)


def span_of_call(
    tracing: Tracing, service: str, method: str, headers: Mapping[str, str], began: float
) -> "RequestSpan | None":
    """Return the span of a gRPC call that is traced; `began` is as of `span_of`."""
    about = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    return _begun(tracing, f"{service}/{method}", about, headers, began, is_picked=False)


def _begun(
    tracing: Tracing, name: str, about: Mapping[str, str], headers: Mapping[str, str], began: float, *, is_picked: bool
) -> "RequestSpan | None":
    caller = read_traceparent(headers.get("traceparent"))
    if not is_picked and not tracing.wants(None if caller is None else caller.sampled):
        return None
    offset_ns = time.time_ns() - time.perf_counter_ns()
    span = tracing.serve(name, caller, offset_ns + int(began * 1e9))
    span.note(about)
    if request_id := headers.get("x-request-id"):
        span.note({"modelops.request_id": request_id})
    return RequestSpan(span, began, offset_ns)


class RequestSpan:
    """A request's span, with a child for each part of its way: reading the body, waiting, the model, writing the reply."""

    def __init__(self, span: Span, began: float, offset_ns: int) -> None:
        self._span, self._began, self._offset_ns = span, began, offset_ns

    def watch(self, ask: Ask, part: Part) -> None:
        """Follow what becomes of a request that was just read. Call it before the engine of the variant has it."""
        parsed, render = time.perf_counter(), ask.render
        self._span.note(
            {
                "modelops.revision": part.document.revision,
                "modelops.variant": part.variant.name,
                "modelops.model": part.variant.model,
                "modelops.model.version": part.variant.version,
            }
        )
        self._part("parse", self._began, parsed, {"modelops.rows": ask.count, "modelops.bytes": ask.size})

        def traced(answers: Answers, start: int, stop: int) -> bytes | Framed:
            rendering = time.perf_counter()
            asked, answered = answers.asked or (rendering, rendering)
            self._part("queue", parsed, asked)
            self._part("model", asked, answered, {"modelops.batch_rows": len(answers.answer.values)})
            outcome = render(answers, start, stop)
            self._part("render", rendering, time.perf_counter())
            return outcome

        ask.render = traced

    def end(self, status: int) -> None:
        """End it with the answer's status."""
        self._span.note({"http.response.status_code": status})
        if status >= _FAILED:
            self._span.fail()
        self._span.end()

    def _part(self, name: str, began: float, ended: float, attributes: Mapping[str, Any] | None = None) -> None:
        child = self._span.child(name, attributes, began_ns=self._offset_ns + int(began * 1e9))
        child.end(self._offset_ns + int(ended * 1e9))
