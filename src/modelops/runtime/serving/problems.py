"""Errors as both lanes write them: RFC 9457 problem documents."""

import json
import math
from uuid import uuid4

from modelops.contracts.errors import MLOpsError, RateLimited, TooLarge, Unauthenticated, Unavailable

MEDIA_TYPE = "application/problem+json"


def problem_body(error: MLOpsError, request_id: str | None) -> bytes:
    """Return the document; a request without an id of its own gets one."""
    document = {**error.problem(), "request_id": request_id or uuid4().hex}
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def problem_headers(error: MLOpsError) -> dict[str, str]:
    """Return what a caller must know beside the document."""
    if isinstance(error, Unauthenticated):
        return {"www-authenticate": "Bearer"}
    if isinstance(error, Unavailable | RateLimited):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, TooLarge):
        return {"connection": "close"}  # what is left of the body is not worth reading
    return {}
