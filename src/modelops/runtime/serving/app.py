"""The HTTP face of a replica."""

import logging
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelops.contracts.errors import InvalidInput, MLOpsError, NotFound, TooLarge, Unauthenticated, Unavailable
from modelops.runtime.serving.metrics import CONTENT_TYPE
from modelops.runtime.serving.replica import Replica

_JSON = "application/json"

_log = logging.getLogger(__name__)

Handler = Callable[[Replica, Request], Awaitable[Response]]


def build_app(replica: Replica) -> Starlette:
    """Return the app: predict and explain, health and readiness (both open), and metrics."""
    return Starlette(
        routes=[
            Route("/predict", _measured(replica, "/predict", _predict), methods=["POST"]),
            Route("/explain", _measured(replica, "/explain", _explain), methods=["POST"]),
            Route("/metrics", _measured(replica, "/metrics", _metrics), methods=["GET"]),
            Route("/healthz", _healthz, methods=["GET"]),
            Route("/readyz", _readyz(replica), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _unknown_path},
    )


async def _predict(replica: Replica, request: Request) -> Response:
    await replica.admit(request.headers.get("authorization"), predicting=True)
    with replica.predictions:
        body = await _body(request, replica.document.limits.max_body_bytes)
        try:
            reply = await replica.predictions.run(replica.predict, body)
        except InvalidInput:
            raise
        except Exception:
            replica.tap.count(failed=True)
            raise

    async def tell() -> None:
        replica.tap.count(failed=False)
        replica.tap.offer(reply.rows, reply.answer, reply.count)

    return Response(reply.body, media_type=_JSON, background=BackgroundTask(tell))


async def _explain(replica: Replica, request: Request) -> Response:
    await replica.admit(request.headers.get("authorization"), predicting=True)
    with replica.explanations:
        body = await _body(request, replica.document.limits.max_body_bytes)
        return Response(await replica.explanations.run(replica.explain, body), media_type=_JSON)


async def _metrics(replica: Replica, request: Request) -> Response:
    await replica.admit(request.headers.get("authorization"), predicting=False)
    return Response(replica.metrics.render(), headers={"content-type": CONTENT_TYPE})


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "alive"})


def _readyz(replica: Replica) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(_request: Request) -> Response:
        if replica.draining:
            return JSONResponse({"status": "draining"}, status_code=503)
        return JSONResponse({"status": "ready"})

    return readyz


def _measured(replica: Replica, path: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler: errors become problem documents, and every answer is counted and timed."""

    async def endpoint(request: Request) -> Response:
        began = replica.asked_at = time.monotonic()
        response = await _answered(replica, request, handler)
        if replica.draining:
            response.headers["connection"] = "close"
        replica.metrics.answered(path, response.status_code, time.monotonic() - began)
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
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Unavailable):
        headers["retry-after"] = "1"
    if isinstance(error, TooLarge):
        headers["connection"] = "close"  # what is left of the body is not worth reading
    document = {**error.problem(), "request_id": request.headers.get("x-request-id") or uuid4().hex}
    return JSONResponse(document, error.status, headers, media_type="application/problem+json")


async def _body(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The body is larger than {limit:,} bytes, the limit of this deployment.",
        hint="Send fewer rows at once, or raise the deployment's `max_body_bytes`.",
    )


async def _unknown_path(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        wrong: MLOpsError = InvalidInput(
            f"{request.method} is not for {request.url.path}.", hint="Predictions take POST."
        )
    else:
        wrong = NotFound(
            f"A replica has no {request.url.path}.",
            hint="It has POST /predict and /explain, and GET /healthz, /readyz and /metrics.",
        )
    response = _problem(wrong, request)
    response.status_code = error.status_code if isinstance(error, HTTPException) else 500
    return response
