"""The HTTP face of a replica."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelops.contracts.errors import InvalidInput, MLOpsError, NotFound
from modelops.runtime.serving.answers import problem_body, problem_headers, reply_headers
from modelops.runtime.serving.bodies import read_body, whole_number
from modelops.runtime.serving.counting.metrics import CONTENT_TYPE, Counts
from modelops.runtime.serving.engine.asks import Outcome
from modelops.runtime.serving.limits import deadline_of
from modelops.runtime.serving.openinference.metadata import model_metadata, server_metadata
from modelops.runtime.serving.replica import Replica
from modelops.runtime.serving.steering import Steering
from modelops.runtime.serving.tracing import RequestSpan, span_of
from modelops.runtime.serving.variants.served import Door, Kind, Served
from modelops.runtime.serving.variants.shadows import follow
from modelops.runtime.serving.variants.variant import Variant, Way

TIMEOUT_HEADER, JSON_LENGTH_HEADER = "x-request-timeout-ms", "inference-header-content-length"
_JSON = "application/json"
_COUNTS, _TRACE = "modelops.counts", "modelops.trace"
_TOO_LARGE = "Send fewer rows at once, or raise the deployment's `max_body_bytes`."

_log = logging.getLogger(__name__)

Handler = Callable[[Replica, Request], Awaitable[Response]]


def build_app(replica: Replica, steering: Steering) -> Starlette:
    """Return the app: predict and explain, health and readiness (both open), metrics, and what the platform steers."""
    return Starlette(
        routes=[
            _prediction(replica, "/predict", "/predict"),
            *_open_inference(replica),
            Route("/explain", _measured(replica, "/explain", _explain), methods=["POST"]),
            Route("/metrics", _measured(replica, "/metrics", _metrics), methods=["GET"]),
            Route("/stats", _measured(replica, "/stats", steering.get_stats), methods=["GET"]),
            Route("/revision", _measured(replica, "/revision", steering.get_revision), methods=["GET"]),
            Route("/revision", _measured(replica, "/revision", steering.put_revision), methods=["PUT"]),
            Route("/healthz", _healthz, methods=["GET"]),
            Route("/readyz", _readyz(replica), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _unknown_path},
    )


def _prediction(replica: Replica, path: str, label: str) -> Route:
    return Route(path, _measured(replica, label, _predict), methods=["POST"])


def _open_inference(replica: Replica) -> list[Route]:
    """Return the routes of the Open Inference Protocol."""
    routes = [
        Route("/v2", _server, methods=["GET"]),
        Route("/v2/health/live", _live, methods=["GET"]),
        Route("/v2/health/ready", _readyz(replica), methods=["GET"]),
    ]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(path, _measured(replica, "/v2/models", _model), methods=["GET"]),
            Route(f"{path}/ready", _measured(replica, "/v2/models/ready", _model_ready), methods=["GET"]),
            _prediction(replica, f"{path}/infer", "/v2/models/infer"),
        ]
    return routes


async def _predict(replica: Replica, request: Request) -> Response:
    began = time.perf_counter()
    headers = request.headers
    await replica.admit(headers.get("authorization"), predicting=True)
    served = replica.current
    way = served.way(_door(served, request), headers).draw()
    with _held(way.variant, request):
        body = await read_body(request, served.document.limits.max_body_bytes, _TOO_LARGE)
        outcome = await asked(served, way, body, _told(request), began)
    if isinstance(outcome, MLOpsError):
        raise outcome
    content, reply = reply_headers(outcome)
    return Response(content, headers=reply)


class Told(NamedTuple):
    """What came with a body: how much of it is JSON, how long its caller waits, its id, and the trace that it is part of."""

    json_length: int | None
    timeout_ms: int | None
    request_id: str | None
    trace: RequestSpan | None = None


def _told(request: Request) -> Told:
    headers = request.headers
    timeout_ms, json_length = whole_number(headers, TIMEOUT_HEADER), whole_number(headers, JSON_LENGTH_HEADER)
    return Told(json_length, timeout_ms, headers.get("x-request-id"), request.scope.get(_TRACE))


async def asked(served: Served, way: Way, body: bytes, told: Told, began: float) -> Outcome:
    """Ask a variant, and have those that are its shadows follow."""
    loop = asyncio.get_running_loop()
    json_length, timeout_ms, request_id, trace = told
    future: asyncio.Future[Outcome] = loop.create_future()
    done: Callable[[Outcome], None] = future.set_result
    if served.shadows:
        request_id = request_id or (None if way.log is None else uuid4().hex)
        done = follow(served.shadows, way, body, json_length, request_id, done)
    given = (body, json_length, timeout_ms, began, done)
    if way.form.is_quick(body, json_length):
        ask = way.ask(*given)
    else:
        ask = await loop.run_in_executor(None, way.ask, *given)
    if way.log is not None:
        ask.logged = way.log.pick(request_id)
    if trace is not None:
        trace.watch(ask, way.variant.part)
    way.variant.engine.submit(ask)
    try:
        return await future
    finally:
        ask.gone = True


def _door(served: Served, request: Request) -> Door:
    """Return where a request comes in.

    Raises:
        NotFound: its path names another model or version than those served.
    """
    asked = request.path_params
    if "model" not in asked:
        return Door(Kind.PLAIN, None)
    variant, version = served.model(asked["model"], asked.get("version")), asked.get("version")
    return Door(Kind.OPEN, None if variant is served.champion and version is None else variant)


@contextmanager
def _held(variant: Variant, request: Request) -> Iterator[None]:
    """Keep a variant from ending while a request is on its way to it, and count the answer as its own."""
    request.scope[_COUNTS] = variant.part.counts
    variant.users += 1
    try:
        yield
    finally:
        variant.users -= 1


async def _explain(replica: Replica, request: Request) -> Response:
    began = time.perf_counter()
    await replica.admit(request.headers.get("authorization"), predicting=True)
    served = replica.current
    variant = served.overridden(request.headers) or served.champion
    with _held(variant, request), replica.explanations:
        body = await read_body(request, served.document.limits.max_body_bytes, _TOO_LARGE)
        given = whole_number(request.headers, TIMEOUT_HEADER)
        deadline = deadline_of(served.document.limits, given, began)
        content = await replica.explanations.run(replica.explain, variant, body, deadline)
    return Response(content, media_type=_JSON)


async def _metrics(replica: Replica, request: Request) -> Response:
    await replica.admit(request.headers.get("authorization"), predicting=False)
    return Response(replica.exposition(), headers={"content-type": CONTENT_TYPE})


async def _server(_request: Request) -> Response:
    return JSONResponse(server_metadata())


async def _live(_request: Request) -> Response:
    return JSONResponse({"live": True})


async def _model(replica: Replica, request: Request) -> Response:
    await replica.admit(request.headers.get("authorization"), predicting=False)
    served = replica.current
    variant = _told_of(served, request)
    part = variant.part.variant
    return JSONResponse(model_metadata(part, served.versions(part.model), variant.package.predictor))


async def _model_ready(replica: Replica, request: Request) -> Response:
    await replica.admit(request.headers.get("authorization"), predicting=False)
    name = _told_of(replica.current, request).part.variant.model
    return JSONResponse({"name": name, "ready": not replica.draining}, 503 if replica.draining else 200)


def _told_of(served: Served, request: Request) -> Variant:
    """Return the variant that a request for a model's description means."""
    named = served.model(request.path_params["model"], request.path_params.get("version"))
    return served.overridden(request.headers) or named


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "alive"})


def _readyz(replica: Replica) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(_request: Request) -> Response:
        if replica.draining:
            return JSONResponse({"status": "draining", "ready": False}, status_code=503)
        return JSONResponse({"status": "ready", "ready": True})

    return readyz


def _measured(replica: Replica, path: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler: errors become problem documents, and every answer is counted and timed."""

    async def endpoint(request: Request) -> Response:
        began = replica.asked_at = time.perf_counter()
        trace = None
        if replica.tracing is not None:
            trace = request.scope[_TRACE] = span_of(replica.tracing, request, path, began)
        response = await _answered(replica, request, handler)
        if trace is not None:
            trace.end(response.status_code)
        if replica.draining:
            response.headers["connection"] = "close"
        counts: Counts = request.scope.get(_COUNTS) or replica.current.champion.part.counts
        counts.tally(path).answered(str(response.status_code), time.perf_counter() - began)
        return response

    return endpoint


async def _answered(replica: Replica, request: Request, handler: Handler) -> Response:
    try:
        return await handler(replica, request)
    except MLOpsError as wrong:
        return _problem(wrong, request)
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception:
        _log.exception("%s failed", request.url.path)
        return _problem(MLOpsError("The runtime failed.", hint="The replica's log has the traceback."), request)


def _problem(error: MLOpsError, request: Request) -> Response:
    body = problem_body(error, request.url.path, request.headers.get("x-request-id"))
    return Response(body, error.status, problem_headers(error))


async def _unknown_path(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        wrong: MLOpsError = InvalidInput(
            f"{request.method} is not for {request.url.path}.", hint="Predictions take POST."
        )
    else:
        wrong = NotFound(
            f"A replica has no {request.url.path}.",
            hint="It has POST /predict and /explain, GET /healthz, /readyz, /metrics and /stats, and /v2.",
        )
    response = _problem(wrong, request)
    response.status_code = error.status_code if isinstance(error, HTTPException) else 500
    return response
