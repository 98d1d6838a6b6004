"""OTLP's spans in JSON: protobuf's mapping, with ids in hex.

Source: OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding".
"""

import binascii
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.traces.spans import BadSpan, Batch, Happening, Link, Span, clean, keep_number

_DEEP = 32
_STATUS = {0: "UNSET", 1: "OK", 2: "ERROR"}
_STATUS_NAMES = {"STATUS_CODE_UNSET": "UNSET", "STATUS_CODE_OK": "OK", "STATUS_CODE_ERROR": "ERROR"}


def read_json(body: bytes) -> Batch:
    """Read an export in OTLP's JSON.

    Raises:
        InvalidInput: it is not one.
    """
    batch = Batch()
    try:
        document = msgspec.json.decode(body)
        for block in document.get("resourceSpans", []):
            resource = _attributes(block.get("resource", {}).get("attributes", []))
            for scope in block.get("scopeSpans", []):
                for span in scope.get("spans", []):
                    batch.keep(partial(_span, span, resource))
    except (ValueError, TypeError, AttributeError, RecursionError) as wrong:
        raise InvalidInput(f"The body is not an OTLP export in JSON: {wrong}.") from wrong
    return batch


def _span(span: Mapping[str, Any], resource: dict[str, Any]) -> Span:
    status = span.get("status", {})
    code = status.get("code", 0)
    return Span(
        trace_id=_hex(span.get("traceId")),
        span_id=_hex(span.get("spanId")),
        parent_id=_hex(span.get("parentSpanId")) or None,
        name=clean(str(span.get("name", ""))),
        kind=span["kind"] if span.get("kind") in range(6) else 0,
        started_ns=int(span.get("startTimeUnixNano") or 0),
        ended_ns=int(span.get("endTimeUnixNano") or 0) or None,
        attributes=_attributes(span.get("attributes", [])),
        events=tuple(
            Happening(
                clean(str(event.get("name", ""))),
                int(event.get("timeUnixNano") or 0),
                _attributes(event.get("attributes", [])),
            )
            for event in span.get("events", [])
        ),
        links=tuple(
            Link(_hex(link.get("traceId")), _hex(link.get("spanId")), _attributes(link.get("attributes", [])))
            for link in span.get("links", [])
        ),
        status=_STATUS_NAMES.get(str(code), _STATUS.get(code, "UNSET")),
        message=clean(str(status.get("message", ""))),
        resource=resource,
    )


def _hex(value: Any) -> str:
    if value is None:
        return ""
    try:
        return binascii.unhexlify(value).hex()
    except (binascii.Error, ValueError, TypeError):
        raise BadSpan(f"The id '{value}' is not in hex.") from None


def _attributes(items: Any, depth: int = 0) -> dict[str, Any]:
    return {clean(str(item.get("key", ""))): _any(item.get("value") or {}, depth) for item in items}


def _any(value: Mapping[str, Any], depth: int) -> Any:
    if depth > _DEEP:
        raise ValueError(f"values are nested more than {_DEEP} deep")
    for kind, item in value.items():
        if kind == "stringValue":
            return clean(str(item))
        if kind == "boolValue":
            return bool(item)
        if kind == "intValue":
            return int(item) if -(2**63) <= int(item) < 2**63 else keep_number(float(item))
        if kind == "doubleValue":
            return keep_number(float(item))
        if kind == "arrayValue":
            return [_any(one, depth + 1) for one in item.get("values", [])]
        if kind == "kvlistValue":
            return _attributes(item.get("values", []), depth + 1)
        if kind == "bytesValue":
            return clean(str(item))
    return None
