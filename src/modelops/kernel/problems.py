"""Errors on the wire: every failure of a request becomes an RFC 9457 problem document with a request id."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from modelops.contracts.errors import InvalidInput, MLOpsError, NotFound, RateLimited, Unavailable
from modelops.kernel.failures import translate

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class MethodNotAllowed(MLOpsError):
    """The path exists, but not with this method."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class BadRequest(MLOpsError):
    """The request is not one that HTTP allows."""

    code, status, title = "bad_request", 400, "The request is malformed"


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI responses for the statuses that any operation may answer, and `statuses`."""
    titles = {
        400: "The request is malformed",
        401: "Sign-in needed",
        403: "Permission denied",
        404: "Not found, or not yours to see",
        409: "Conflict with the present state",
        412: "It changed in the meantime",
        413: "Too large",
        422: "The input is not valid",
        429: "Too many requests",
        500: "A defect of the platform, or a damaged artifact",
        501: "An optional part is not installed",
        502: "A part behind the platform failed",
        503: "Not available now",
        507: "The storage is full",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    wanted = {400, 401, 403, 404, 409, 412, 413, 422, 429, 503, 507, *statuses}
    return {status: {"description": titles[status], "content": content} for status in sorted(wanted)}


def respond(error: MLOpsError, request_id: str | None) -> JSONResponse:
    """Return the response of an error."""
    headers = {}
    if isinstance(error, Unavailable | RateLimited):
        headers["Retry-After"] = str(error.extra.get("retry_after", 1))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = {**error.problem(), "request_id": request_id}
    return JSONResponse(body, error.status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make an application answer every failure with a problem document."""

    @app.exception_handler(MLOpsError)
    async def _own(request: Request, error: MLOpsError) -> JSONResponse:
        return respond(error, _request_id(request))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return respond(_from_validation(error), _request_id(request))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        return respond(_from_http(request, error), _request_id(request))

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, _error: ClientDisconnect) -> JSONResponse:
        cut = BadRequest("The connection ended before the whole body was sent.", hint="Send it again.")
        return respond(cut, _request_id(request))  # nobody reads it; it is what the log shows

    @app.exception_handler(DBAPIError)
    async def _database(request: Request, error: DBAPIError) -> JSONResponse:
        known = translate(error)
        return respond(known if isinstance(known, MLOpsError) else _defect(request, error), _request_id(request))

    @app.exception_handler(Exception)
    async def _unknown(request: Request, error: Exception) -> JSONResponse:
        return respond(_defect(request, error), _request_id(request))


def _from_validation(error: RequestValidationError) -> MLOpsError:
    problems = [
        {"where": ".".join(str(part) for part in item["loc"]), "what": item["msg"], "kind": item["type"]}
        for item in error.errors()
    ]
    shown = "; ".join(f"{item['where']}: {item['what']}" for item in problems[:3])
    return InvalidInput(
        f"{shown}{' …' if len(problems) > 3 else ''}.",
        hint="Correct the fields named; `/docs` shows what the operation takes.",
        extra={"errors": problems[:50]},
    )


def _from_http(request: Request, error: HTTPException) -> MLOpsError:
    if isinstance(error.__cause__, MLOpsError):  # raised while the body was read, such as its limit
        return error.__cause__
    if error.status_code == 404:
        return NotFound(f"There is nothing at {request.url.path}.", hint="`/docs` lists every operation.")
    if error.status_code == 405:
        return MethodNotAllowed(f"{request.method} is not possible at {request.url.path}.")
    if error.status_code < 500:
        return BadRequest(str(error.detail))
    return _defect(request, error)


def _defect(request: Request, error: Exception) -> MLOpsError:
    log.error("request failed", exc_info=error, extra={"path": request.url.path, "request_id": _request_id(request)})
    return MLOpsError(
        "The platform failed on this request, and the failure is logged.",
        hint="Report it with the request id; `mops doctor` tells whether a part is broken.",
    )


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)
