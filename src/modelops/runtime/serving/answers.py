"""What both lanes write: the headers of predictions, and errors as RFC 9457 problem documents."""

import json
import math
from uuid import uuid4

from modelops.contracts.errors import MLOpsError, RateLimited, TooLarge, Unauthenticated, Unavailable
from modelops.runtime.serving.engine.asks import Framed

_JSON_HEADERS = {"content-type": "application/json"}


def problem_body(error: MLOpsError, path: str, request_id: str | None) -> bytes:
    """Return the document; a request without an id of its own gets one.

    Below `/v2` it has the member `error` too, where clients of the Open Inference Protocol look.
    """
    document = {**error.problem(), "request_id": request_id or uuid4().hex}
    if path.startswith("/v2"):
        document["error"] = error.detail
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def reply_headers(outcome: bytes | Framed) -> tuple[bytes, dict[str, str]]:
    """Return a prediction's body, and its headers but for the length."""
    if isinstance(outcome, Framed):
        return outcome.body, {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(outcome.json_length),
        }
    return outcome, _JSON_HEADERS


def problem_headers(error: MLOpsError) -> dict[str, str]:
    """Return an error's headers but for the length."""
    headers = {"content-type": "application/problem+json"}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Unavailable | RateLimited):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, TooLarge):
        headers["connection"] = "close"  # what is left of the body is not worth reading
    return headers
