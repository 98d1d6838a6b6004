"""The HTTP face of a replica."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelops.contracts.errors import InvalidInput, MLOpsError, NotFound, TooLarge
from modelops.runtime.serving.answers import problem_body, problem_headers, reply_headers
from modelops.runtime.serving.engine.asks import Outcome
from modelops.runtime.serving.forms import Form
from modelops.runtime.serving.metrics import CONTENT_TYPE
from modelops.runtime.serving.openinference.metadata import model_metadata, model_paths, server_metadata
from modelops.runtime.serving.replica import Replica

TIMEOUT_HEADER, JSON_LENGTH_HEADER = "x-request-timeout-ms", "inference-header-content-length"
_JSON = "application/json"

_log = logging.getLogger(__name__)

Handler = Callable[[Replica, Request], Awaitable[Response]]


def build_app(replica: Replica) -> Starlette:
    """Return the app: predict and explain, health and readiness (both open), and metrics."""
    return Starlette(
        routes=[
            _prediction(replica, "/predict", replica.plain),
            *_open_inference(replica),
            Route("/explain", _measured(replica, "/explain", _explain), methods=["POST"]),
            Route("/metrics", _measured(replica, "/metrics", _metrics), methods=["GET"]),
            Route("/healthz", _healthz, methods=["GET"]),
            Route("/readyz", _readyz(replica), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _unknown_path},
    )


def _prediction(replica: Replica, path: str, form: Form) -> Route:
    return Route(path, _measured(replica, form.label, _predictions(form)), methods=["POST"])


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
            _prediction(replica, f"{path}/infer", replica.open),
        ]
    return routes


def _predictions(form: Form) -> Handler:
    async def predict(replica: Replica, request: Request) -> Response:
        began = time.perf_counter()
        headers = request.headers
        await replica.admit(headers.get("authorization"), predicting=True)
        _check_model(replica, request)
        timeout_ms, json_length = whole_number(headers, TIMEOUT_HEADER), whole_number(headers, JSON_LENGTH_HEADER)
        body = await _body(request, replica.document.limits.max_body_bytes)
        outcome = await _asked(replica, form, body, json_length, timeout_ms, began)
        if isinstance(outcome, MLOpsError):
            raise outcome
        content, reply = reply_headers(outcome)
        return Response(content, headers=reply)

    return predict


async def _asked(
    replica: Replica, form: Form, body: bytes, json_length: int | None, timeout_ms: int | None, began: float
) -> Outcome:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Outcome] = loop.create_future()
    given = (form, body, json_length, timeout_ms, began, future.set_result)
    if form.is_quick(body, json_length):
        ask = replica.ask(*given)
    else:
        ask = await loop.run_in_executor(None, replica.ask, *given)
    replica.engine.submit(ask)
    try:
        return await future
    finally:
        ask.gone = True


async def _explain(replica: Replica, request: Request) -> Response:
    began = time.perf_counter()
    await replica.admit(request.headers.get("authorization"), predicting=True)
    deadline = replica.deadline(whole_number(request.headers, TIMEOUT_HEADER), began)
    with replica.explanations:
        body = await _body(request, replica.document.limits.max_body_bytes)
        return Response(await replica.explanations.run(replica.explain, body, deadline), media_type=_JSON)


async def _metrics(replica: Replica, request: Request) -> Response:
    await replica.admit(request.headers.get("authorization"), predicting=False)
    return Response(replica.exposition(), headers={"content-type": CONTENT_TYPE})


async def _server(_request: Request) -> Response:
    return JSONResponse(server_metadata())


async def _live(_request: Request) -> Response:
    return JSONResponse({"live": True})


async def _model(replica: Replica, request: Request) -> Response:
    await replica.admit(request.headers.get("authorization"), predicting=False)
    _check_model(replica, request)
    return JSONResponse(model_metadata(replica.document, replica.package.predictor))


async def _model_ready(replica: Replica, request: Request) -> Response:
    await replica.admit(request.headers.get("authorization"), predicting=False)
    _check_model(replica, request)
    return JSONResponse(
        {"name": replica.document.model, "ready": not replica.draining}, 503 if replica.draining else 200
    )


def _check_model(replica: Replica, request: Request) -> None:
    """Refuse a path that names another model or version than the one served."""
    served, asked = replica.document, request.path_params
    if asked.get("model", served.model) != served.model or asked.get("version", str(served.version)) != str(
        served.version
    ):
        raise NotFound(
            f"This replica serves version {served.version} of the model '{served.model}' and no other.",
            hint=f"Ask {model_paths(served)[1]}.",
        )


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

    tally = replica.metrics.tally(path)

    async def endpoint(request: Request) -> Response:
        began = replica.asked_at = time.perf_counter()
        response = await _answered(replica, request, handler)
        if replica.draining:
            response.headers["connection"] = "close"
        tally.answered(str(response.status_code), time.perf_counter() - began)
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


async def _body(request: Request, limit: int) -> bytes:
    if (whole_number(request.headers, "content-length") or 0) > limit:
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


def whole_number(headers: Mapping[str, str], name: str) -> int | None:
    """Return a header's number; None where it is not there.

    Raises:
        InvalidInput: it is no whole number from 0 up to some 10^15.
    """
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidInput(f"The header '{name}' must be a whole number, not '{text[:40]}'.")
    return int(text)


async def _unknown_path(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        wrong: MLOpsError = InvalidInput(
            f"{request.method} is not for {request.url.path}.", hint="Predictions take POST."
        )
    else:
        wrong = NotFound(
            f"A replica has no {request.url.path}.",
            hint="It has POST /predict and /explain, GET /healthz, /readyz and /metrics, and /v2.",
        )
    response = _problem(wrong, request)
    response.status_code = error.status_code if isinstance(error, HTTPException) else 500
    return response
