"""OTLP's spans in protobuf.

Sources: OpenTelemetry Protocol 1.x, `opentelemetry/proto/{collector/trace,trace,common,resource}/v1`, and protobuf's wire format.
Reading it needs no protobuf library, whose version the packages of a user's own pin against each other.
"""

import base64
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.traces.spans import Batch, Happening, Link, Span, clean, keep_number

_DEEP = 32
_STATUS = {0: "UNSET", 1: "OK", 2: "ERROR"}


def read_protobuf(body: bytes) -> Batch:
    """Read an `ExportTraceServiceRequest`.

    Raises:
        InvalidInput: it is not one.
    """
    batch = Batch()
    try:
        for resource, spans in _resources(body):
            for content in spans:
                batch.keep(partial(_span, content, resource))
    except (ValueError, struct.error) as wrong:
        raise InvalidInput(f"The body is not an OTLP export in protobuf: {wrong}.") from wrong
    return batch


def write_answer(refused: list[str]) -> bytes:
    """Return an `ExportTraceServiceResponse`: empty, or how many spans were not kept and why the first was not."""
    if not refused:
        return b""
    partial = b"\x08" + _as_varint(len(refused)) + _as_bytes(2, refused[0].encode())
    return _as_bytes(1, partial)


Field = tuple[int, Any]


def _fields(data: bytes) -> Iterator[Field]:
    """Yield a message's fields as (number, value): an int, or bytes for all other kinds."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of the wire type {kind}")
        if at + size > end:
            raise ValueError("it ends within a field")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number does not end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def _resources(body: bytes) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    for number, block in _fields(body):
        if number != 1:
            continue
        resource: dict[str, Any] = {}
        spans: list[bytes] = []
        for part, content in _fields(_bytes(block)):
            if part == 1:
                resource = _attributes([value for n, value in _fields(_bytes(content)) if n == 1])
            elif part == 2:
                spans += [_bytes(value) for n, value in _fields(_bytes(content)) if n == 2]
        yield resource, spans


def _span(content: bytes, resource: dict[str, Any]) -> Span:
    found: dict[int, Any] = {}
    attributes, events, links = [], [], []
    for number, value in _fields(content):
        if number == 9:
            attributes.append(value)
        elif number == 11:
            events.append(_event(_bytes(value)))
        elif number == 13:
            links.append(_link(_bytes(value)))
        else:
            found[number] = value
    status = dict(_fields(_bytes(found.get(15, b""))))
    return Span(
        trace_id=_bytes(found.get(1, b"")).hex(),
        span_id=_bytes(found.get(2, b"")).hex(),
        parent_id=_bytes(found.get(4, b"")).hex() or None,
        name=_text(found.get(5, b"")),
        kind=found[6] if found.get(6) in range(6) else 0,
        started_ns=_fixed(found.get(7)),
        ended_ns=_fixed(found.get(8)) or None,
        attributes=_attributes(attributes),
        events=tuple(events),
        links=tuple(links),
        status=_STATUS.get(_number(status.get(3, 0)), "UNSET"),
        message=_text(status.get(2, b"")),
        resource=resource,
    )


def _event(content: bytes) -> Happening:
    fields = list(_fields(content))
    found = dict(fields)
    attributes = _attributes([value for number, value in fields if number == 3])
    return Happening(_text(found.get(2, b"")), _fixed(found.get(1)), attributes)


def _link(content: bytes) -> Link:
    fields = list(_fields(content))
    found = dict(fields)
    attributes = _attributes([value for number, value in fields if number == 4])
    return Link(_bytes(found.get(1, b"")).hex(), _bytes(found.get(2, b"")).hex(), attributes)


def _attributes(items: list[Any], depth: int = 0) -> dict[str, Any]:
    found = {}
    for item in items:
        pair = dict(_fields(_bytes(item)))
        found[_text(pair.get(1, b""))] = _any(_bytes(pair.get(2, b"")), depth)
    return found


def _any(content: bytes, depth: int) -> Any:
    """Return an `AnyValue`; the last field that is set counts."""
    if depth > _DEEP:
        raise ValueError(f"values are nested more than {_DEEP} deep")
    value: Any = None
    for number, item in _fields(content):
        if number == 1:
            value = _text(item)
        elif number == 2:
            value = bool(_number(item))
        elif number == 3:
            value = _number(item) - (2**64 if _number(item) >= 2**63 else 0)
        elif number == 4:
            value = keep_number(struct.unpack("<d", _bytes(item))[0])
        elif number == 5:
            value = [_any(_bytes(one), depth + 1) for n, one in _fields(_bytes(item)) if n == 1]
        elif number == 6:
            value = _attributes([one for n, one in _fields(_bytes(item)) if n == 1], depth + 1)
        elif number == 7:
            value = base64.b64encode(_bytes(item)).decode()
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a message or text belongs")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("a text where a number belongs")
    return value


def _text(value: Any) -> str:
    return clean(_bytes(value).decode(errors="replace"))


def _fixed(value: Any) -> int:
    return int(struct.unpack("<Q", _bytes(value))[0]) if value is not None else 0


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _as_bytes(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _as_varint(len(content)) + content
