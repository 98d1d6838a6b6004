"""Traces as MLflow's protocol writes them in JSON: what comes in as structs, what goes out as documents."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.traces.spans import REQUEST_ID, Span, kept_number, plain

_START = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s")


Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
"""A time: milliseconds since 1970, before the year 10000."""


class InExperiment(msgspec.Struct):
    """The experiment that holds a trace."""

    experiment_id: str = ""


class Location(msgspec.Struct):
    """Where a trace lies; of MLflow's kinds of places, an experiment is the one that exists here."""

    mlflow_experiment: InExperiment | None = None


class Source(msgspec.Struct, omit_defaults=True):
    """Who or what assessed."""

    source_type: str = "SOURCE_TYPE_UNSPECIFIED"
    source_id: str = ""


class Assessment(msgspec.Struct, omit_defaults=True):
    """A feedback, an expectation, or a reference to an issue: one of the three is set."""

    assessment_id: str = ""
    assessment_name: str = ""
    trace_id: str = ""
    span_id: str | None = None
    source: Source | None = None
    create_time: datetime | None = None
    last_update_time: datetime | None = None
    feedback: dict[str, Any] | None = None
    expectation: dict[str, Any] | None = None
    issue: dict[str, Any] | None = None
    rationale: str | None = None
    error: dict[str, Any] | None = None
    metadata: dict[str, str] = {}
    overrides: str | None = None
    valid: bool | None = None


class TraceInfo(msgspec.Struct):
    """What a client tells of a trace."""

    trace_id: str = ""
    trace_location: Location | None = None
    client_request_id: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    request_time: datetime | None = None
    execution_duration: str | None = None
    state: str = "STATE_UNSPECIFIED"
    trace_metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    assessments: list[Assessment] = []


def to_ms(moment: datetime) -> int:
    """Return milliseconds since 1970."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _START) // timedelta(milliseconds=1)


def write_time(ms: int) -> str:
    """Return a protobuf `Timestamp` in JSON."""
    return (_START + timedelta(milliseconds=ms)).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def read_duration(text: str | None) -> int | None:
    """Return the milliseconds of a protobuf `Duration` in JSON, such as `1.5s`."""
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    if found is None:
        raise InvalidInput(f"The duration '{text}' is not in seconds, such as 1.5s.")
    ms = int(found[2]) * 1_000 + int((found[3] or "").ljust(9, "0")[:3])
    return -ms if found[1] else ms


def write_duration(ms: int) -> str:
    """Reverse `read_duration`."""
    seconds, rest = divmod(abs(ms), 1_000)
    return f"{'-' if ms < 0 else ''}{seconds}.{rest:03d}s"


def as_otlp(span: Span, trace_id: str) -> dict[str, Any]:
    """Return a span as OTLP's message in protobuf's JSON; it carries MLflow's name of its trace."""
    known = {**span.attributes, REQUEST_ID: trace_id}
    return {
        "trace_id": _base64(span.trace_id),
        "span_id": _base64(span.span_id),
        "parent_span_id": _base64(span.parent_id or ""),
        "name": span.name,
        "kind": span.kind,
        "start_time_unix_nano": str(span.started_ns),
        "end_time_unix_nano": str(span.ended_ns or 0),
        "attributes": _pairs(known),
        "events": [
            {"time_unix_nano": str(one.time_ns), "name": one.name, "attributes": _pairs(one.attributes)}
            for one in span.events
        ],
        "links": [
            {"trace_id": _base64(one.trace_id), "span_id": _base64(one.span_id), "attributes": _pairs(one.attributes)}
            for one in span.links
        ],
        "status": {"code": f"STATUS_CODE_{span.status}", "message": span.message},
    }


def as_file(span: Span, trace_id: str) -> dict[str, Any]:
    """Return a span as MLflow's file of a trace has it: the values of attributes are texts in JSON."""
    known = {**span.attributes, REQUEST_ID: trace_id}
    return {
        "trace_id": _base64(span.trace_id),
        "span_id": _base64(span.span_id),
        "parent_span_id": _base64(span.parent_id) if span.parent_id else None,
        "name": span.name,
        "start_time_unix_nano": span.started_ns,
        "end_time_unix_nano": span.ended_ns,
        "events": [
            {"name": one.name, "time_unix_nano": one.time_ns, "attributes": one.attributes} for one in span.events
        ],
        "status": {"code": f"STATUS_CODE_{span.status}", "message": span.message},
        "attributes": {key: json.dumps(plain(value), ensure_ascii=False) for key, value in known.items()},
        "links": [
            {"trace_id": f"tr-{one.trace_id}", "span_id": one.span_id, "attributes": one.attributes}
            for one in span.links
        ],
    }


def _base64(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()


def _pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any(value)} for key, value in attributes.items()]


def _any(value: Any) -> dict[str, Any]:
    """Return an `AnyValue` in protobuf's JSON."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"bool_value": value}
    if isinstance(value, int):
        return {"int_value": str(value)} if -(2**63) <= value < 2**63 else {"double_value": float(value)}
    if isinstance(value, float):
        return {"double_value": value}
    if isinstance(value, str):
        return {"string_value": value}
    if isinstance(value, list):
        return {"array_value": {"values": [_any(item) for item in value]}}
    if (name := kept_number(value)) is not None:
        return {"double_value": name}
    return {"kvlist_value": {"values": _pairs(value)}}
