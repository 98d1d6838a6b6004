"""What each call answers. All of them run on the replica's own event loop."""

import functools
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.runtime.serving.app import TIMEOUT_HEADER, Told, asked
from modelops.runtime.serving.engine.asks import Framed
from modelops.runtime.serving.failures import ModelFailed
from modelops.runtime.serving.openinference.metadata import model_metadata, server_metadata
from modelops.runtime.serving.replica import Replica
from modelops.runtime.serving.rpc.messages import MESSAGES, SERVICE
from modelops.runtime.serving.rpc.tensors import body_of, reply_of
from modelops.runtime.serving.tracing import RequestSpan, span_of_call
from modelops.runtime.serving.variants.served import Door, Kind, Served
from modelops.runtime.serving.variants.variant import Variant, Way

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

_log = logging.getLogger(__name__)

Call = Callable[[Any, Any], Awaitable[Any]]


def handlers(replica: Replica) -> Any:
    """Return what the server asks for each of the service's methods."""
    calls = _Calls(replica)
    methods = {
        "ServerLive": calls.server_live,
        "ServerReady": calls.server_ready,
        "ModelReady": calls.model_ready,
        "ServerMetadata": calls.server_metadata,
        "ModelMetadata": calls.model_metadata,
        "ModelInfer": calls.model_infer,
    }
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(call),
                request_deserializer=MESSAGES[f"{name}Request"].FromString,
                response_serializer=MESSAGES[f"{name}Response"].SerializeToString,
            )
            for name, call in methods.items()
        },
    )


def _guarded(call: Call) -> Call:
    """Have what goes wrong told as gRPC tells it: a code, a sentence, and the error's own code beside it."""

    @functools.wraps(call)
    async def guarded(request: Any, context: Any) -> Any:
        try:
            return await call(request, context)
        except MLOpsError as wrong:
            error = wrong
        except Exception:
            _log.exception("a call failed")
            error = MLOpsError("The runtime failed.", hint="The replica's log has the traceback.")
        told = [("modelops-code", error.code)]
        if error.retry_after_s:
            told.append(("retry-after", str(max(1, math.ceil(error.retry_after_s)))))
        await context.abort(
            _CODES.get(error.status, grpc.StatusCode.INTERNAL), f"{error.detail} {error.hint}".strip(), tuple(told)
        )
        raise AssertionError  # it raises, which its type does not tell

    return guarded


class _Calls:
    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def server_live(self, _request: Any, _context: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def server_ready(self, _request: Any, _context: Any) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=not self._replica.draining)

    async def server_metadata(self, _request: Any, _context: Any) -> Any:
        return MESSAGES["ServerMetadataResponse"](**server_metadata())

    async def model_ready(self, request: Any, context: Any) -> Any:
        await self._named(request.name, request.version, context)
        return MESSAGES["ModelReadyResponse"](ready=not self._replica.draining)

    async def model_metadata(self, request: Any, context: Any) -> Any:
        variant = await self._named(request.name, request.version, context)
        part = variant.part.variant
        versions = self._replica.current.versions(part.model)
        return MESSAGES["ModelMetadataResponse"](**model_metadata(part, versions, variant.package.predictor))

    async def model_infer(self, request: Any, context: Any) -> Any:
        began, replica = time.perf_counter(), self._replica
        replica.asked_at = began
        counted, headers = replica.current.champion.open, _headers(context)
        trace = None
        if replica.tracing is not None:
            trace = span_of_call(replica.tracing, SERVICE, "ModelInfer", headers, began)
        try:
            await replica.admit(headers.get("authorization"), predicting=True)
            served = replica.current
            counted = _way(served, request, headers)
            about = (_timeout_ms(headers, context), headers.get("x-request-id"), trace)
            answer = await _asked(served, counted, request, about, began)
        except Exception as wrong:  # who leaves is not counted
            status = wrong.status if isinstance(wrong, MLOpsError) else 500
            counted.tally.answered(str(status), time.perf_counter() - began)
            if trace is not None:
                trace.end(status)
            raise
        counted.tally.answered("200", time.perf_counter() - began)
        if trace is not None:
            trace.end(200)
        return answer

    async def _named(self, model: str, version: str, context: Any) -> Variant:
        headers = _headers(context)
        await self._replica.admit(headers.get("authorization"), predicting=False)
        served = self._replica.current
        found = served.model(model, version or None)
        return served.overridden(headers) or found


def _way(served: Served, request: Any, headers: dict[str, str]) -> Way:
    """Return where a request goes, as if it had come to the path of its model."""
    named = served.model(request.model_name, request.model_version or None)
    plain = named is served.champion and not request.model_version
    return served.way(Door(Kind.OPEN, None if plain else named), headers).draw()


async def _asked(
    served: Served, way: Way, request: Any, about: tuple[int | None, str | None, RequestSpan | None], began: float
) -> Any:
    way.variant.users += 1  # which keeps it from ending meanwhile
    try:
        body, json_length = body_of(request)
        outcome = await asked(served, way, body, Told(json_length, *about), began)
    finally:
        way.variant.users -= 1
    if isinstance(outcome, MLOpsError):
        raise outcome
    if not isinstance(outcome, Framed):
        raise ModelFailed("The reply has no tensors.")
    return reply_of(outcome, raw=bool(request.raw_input_contents))


def _headers(context: Any) -> dict[str, str]:
    """Return a call's metadata; names are in lower case."""
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}


def _timeout_ms(headers: dict[str, str], context: Any) -> int | None:
    """Return how long the caller waits: by the call's own deadline, or the header that the HTTP port takes."""
    told = headers.get(TIMEOUT_HEADER)
    if told is not None and not (told.isascii() and told.isdigit() and len(told) < 10):
        raise InvalidInput(f"{TIMEOUT_HEADER} must be a whole number, not '{told[:40]}'.")
    left = context.time_remaining()
    limits = [int(told)] if told is not None else []
    limits += [max(0, int(left * 1000))] if left is not None and math.isfinite(left) and left < 1e6 else []
    return min(limits) if limits else None
