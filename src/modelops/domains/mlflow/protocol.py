"""The protocol's door: where its paths lie, how its errors read, and how its numbers are written.

Handlers are described in `modelops.kernel.door`. MLflow serves each path twice, as `/api/…` for clients and `/ajax-api/…` for
pages; so do we.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.responses import Response

from modelops.contracts.errors import (
    AlreadyExists,
    InvalidInput,
    MissingExtra,
    MLOpsError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from modelops.kernel.door import Answer, Door

WORKSPACE_HEADER = "x-mlflow-workspace"
"""The header by which MLflow's clients name what we call a project."""

_CODES: tuple[tuple[type[MLOpsError], str, int], ...] = (
    (AlreadyExists, "RESOURCE_ALREADY_EXISTS", 400),
    (InvalidInput, "INVALID_PARAMETER_VALUE", 400),
    (Unauthenticated, "UNAUTHENTICATED", 401),
    (PermissionDenied, "PERMISSION_DENIED", 403),
    (NotFound, "RESOURCE_DOES_NOT_EXIST", 404),
    (RateLimited, "REQUEST_LIMIT_EXCEEDED", 429),
    (PreconditionFailed, "RESOURCE_CONFLICT", 409),
    (MissingExtra, "NOT_IMPLEMENTED", 501),
    (Unavailable, "TEMPORARILY_UNAVAILABLE", 503),
)
_INFINITY = math.inf
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WRONG = re.compile(r"(?P<why>.*?)(?: - at `(?P<path>[^`]*)`)?")
_BY_STATUS = {409: "RESOURCE_CONFLICT", 413: "RESOURCE_EXHAUSTED", 507: "RESOURCE_EXHAUSTED"}


class EndpointNotFound(NotFound):
    """There is no such path in the protocol."""

    code, title = "mlflow.endpoint_not_found", "No such endpoint"


class NotSupported(MLOpsError):
    """MLflow has this operation, and this platform does not."""

    code, status, title = "mlflow.not_supported", 501, "Not supported here"


def refuse(error: MLOpsError, request_id: str | None) -> Response:
    """Render a failure as MLflow's clients read it: `error_code` and `message`."""
    name, status = _name_of(error)
    headers = {"Retry-After": str(error.extra.get("retry_after", 1))} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = {"error_code": name, "message": str(error), "code": error.code, "request_id": request_id}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def _name_of(error: MLOpsError) -> tuple[str, int]:
    if isinstance(error, EndpointNotFound):
        return "ENDPOINT_NOT_FOUND", 404
    if isinstance(error, NotSupported):
        return "NOT_IMPLEMENTED", 501
    for kind, name, status in _CODES:
        if isinstance(error, kind):
            return name, status
    return _BY_STATUS.get(error.status, "INTERNAL_ERROR"), error.status


def unreadable(wrong: Exception, sent: Any) -> MLOpsError:
    """Say of a payload that has not its form which value is wrong or missing, in the words that MLflow's clients look for."""
    found = _WRONG.fullmatch(str(wrong))
    if found is None or not isinstance(wrong, msgspec.ValidationError):
        return InvalidInput(f"The request cannot be read: {wrong}.")
    path = (found["path"] or "$").removeprefix("$").removeprefix(".")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", found["why"])
    if missing:
        return _missing(".".join(filter(None, (path, missing[1]))))
    path = re.sub(r"\[\.\.\.\]", "", path)
    value = _value_at(sent, path)
    if value is None:
        return _missing(path)
    written = json.dumps(value, sort_keys=True, separators=(",", ":"))[:200]
    return InvalidInput(f"Invalid value {written} for parameter '{path}' supplied: {found['why']}.")


def _missing(path: str) -> InvalidInput:
    return InvalidInput(
        f"Missing value for required parameter '{path}'.",
        hint="See the API docs for more information about request parameters.",
    )


def _value_at(sent: Any, path: str) -> Any:
    value = json.loads(sent) if isinstance(sent, bytes) else sent
    for part in re.findall(r"\w+", path):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
    return value


door = Door(
    "mlflow",
    [
        "/api/2.0/",
        "/api/3.0/",
        "/ajax-api/2.0/",
        "/ajax-api/3.0/",
        "/v1/traces",
        "/graphql",
        "/version",
        "/get-artifact",
        "/model-versions/get-artifact",
    ],
    refuse,
    project_header=WORKSPACE_HEADER,
    missing=EndpointNotFound,
    unreadable=unreadable,
)


def api(
    method: str, *paths: str, reads: bool | None = None
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Serve paths such as `2.0/mlflow/runs/create` below `/api/` and `/ajax-api/`; `reads` as in `Door.route`."""
    return door.route(method, *(f"/{root}/{path}" for path in paths for root in ("api", "ajax-api")), reads=reads)


def number(value: float, is_nan: bool = False) -> float | str:
    """Return a number as protobuf's JSON writes it: NaN and infinities, which JSON lacks, as texts."""
    if is_nan or value != value:
        return "NaN"
    if value in (_INFINITY, -_INFINITY):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def pairs(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a mapping as MLflow's list of `{"key", "value"}`."""
    return [{"key": key, "value": value} for key, value in values.items()]


def milliseconds(moment: datetime) -> int:
    """Return the milliseconds since 1970, in which MLflow counts time."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def moment_of(milliseconds: int, parameter: str) -> datetime:
    """Reverse `milliseconds`.

    Raises:
        InvalidInput: no calendar has the moment.
    """
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise InvalidInput(
            f"Invalid value {milliseconds} for parameter '{parameter}' supplied: no such time."
        ) from None
