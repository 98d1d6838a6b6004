"""Traces: what one request made each process do, told to a collector by OpenTelemetry's protocol (OTLP over HTTP).

On where the environment names a collector, by OpenTelemetry's own variables. A request is traced if its `traceparent`
(W3C Trace Context) says so; one that has none, by chance. Off, it costs nothing but the question whether it is on.
"""

import logging
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from secrets import token_hex
from typing import Any, NamedTuple

from modelops.contracts.errors import InvalidInput

PASSED_ON = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "MODELOPS_TRACE_SAMPLE",
)
"""Variables that hold for a platform's replicas, too. Those that hold secrets, such as headers, are not among them."""

_ENDPOINTS = PASSED_ON[:2]
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_FLUSH_MS = 2_000

Attributes = Mapping[str, str | int | float | bool]

_log = logging.getLogger(__name__)


class Remote(NamedTuple):
    """The caller's span."""

    trace_id: int
    span_id: int
    sampled: bool


class Span:
    """Something that takes time in one process, under way until its `end`."""

    def __init__(self, tracer: Any, inner: Any) -> None:
        self._tracer, self._inner = tracer, inner

    @property
    def traceparent(self) -> str:
        """Return the header by which a callee's spans come under this one."""
        context = self._inner.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def child(self, name: str, attributes: Attributes | None = None, *, began_ns: int | None = None) -> "Span":
        """Begin a span under this one, perhaps at an earlier time, in nanoseconds since the epoch."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        parent = set_span_in_context(self._inner)
        kind = SpanKind.INTERNAL
        return Span(self._tracer, self._tracer.start_span(name, parent, kind, attributes, start_time=began_ns))

    def call(self, name: str, attributes: Attributes | None = None) -> "Span":
        """Begin the span of a call to another process."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        parent = set_span_in_context(self._inner)
        return Span(self._tracer, self._tracer.start_span(name, parent, SpanKind.CLIENT, attributes))

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._inner.update_name(name)

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._inner.set_attributes(dict(attributes))

    def fail(self, why: str = "") -> None:
        """Mark it as failed."""
        from opentelemetry.trace import StatusCode

        self._inner.set_status(StatusCode.ERROR, why or None)

    def end(self, at_ns: int | None = None) -> None:
        """End it, now or at a time in nanoseconds since the epoch."""
        self._inner.end(at_ns)


class Tracing:
    """What a process traces with. Thread-safe.

    Args:
        provider: An SDK's tracer provider, which samples all that is begun.
        rate: The share of requests to trace among those that do not say themselves, 0 to 1.
    """

    def __init__(self, provider: Any, rate: float) -> None:
        self._provider, self._rate = provider, rate
        self._tracer = provider.get_tracer("modelops")

    def wants(self, sampled: bool | None) -> bool:
        """Tell whether a request is traced: as its caller says, or by chance where that does not say."""
        return random.random() < self._rate if sampled is None else sampled  # noqa: S311 - no secret

    def serve(self, name: str, caller: Remote | None, began_ns: int | None = None) -> Span:
        """Begin the span of a request that this process answers."""
        from opentelemetry.trace import (
            NonRecordingSpan,
            SpanContext,
            SpanKind,
            TraceFlags,
            set_span_in_context,
        )

        parent = None
        if caller is not None:
            context = SpanContext(caller.trace_id, caller.span_id, is_remote=True, trace_flags=TraceFlags(1))
            parent = set_span_in_context(NonRecordingSpan(context))
        return Span(self._tracer, self._tracer.start_span(name, parent, SpanKind.SERVER, start_time=began_ns))

    def close(self) -> None:
        """Send what is there, for two seconds at most, and end."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()


current: ContextVar[Span | None] = ContextVar("span", default=None)
"""The span that the current code works for; threads started for a request inherit it."""


@contextmanager
def calling(name: str, headers: dict[str, str], attributes: Attributes | None = None) -> Iterator[Span | None]:
    """Trace a call to another process, if the current request is traced, and tell it so in its headers."""
    span = current.get()
    if span is None:
        yield None
        return
    call = span.call(name, attributes)
    headers["traceparent"] = call.traceparent
    try:
        yield call
    except Exception as wrong:
        call.fail(str(wrong))
        raise
    finally:
        call.end()


def read_traceparent(text: str | None) -> Remote | None:
    """Return the caller's span; None where the header is missing or says nothing valid."""
    found = _TRACEPARENT.fullmatch(text) if text else None
    if found is None:
        return None
    remote = Remote(int(found[1], 16), int(found[2], 16), bool(int(found[3], 16) & 1))
    return remote if remote.trace_id and remote.span_id else None


def untraced() -> str:
    """Return a `traceparent` that tells callees not to trace."""
    return f"00-{token_hex(16)}-{token_hex(8)}-00"


def open_tracing(service: str, attributes: Attributes, environ: Mapping[str, str]) -> Tracing | None:
    """Begin to trace where the environment names a collector; None where it does not, or the extra `otel` is missing.

    Args:
        service: The service's name, unless `OTEL_SERVICE_NAME` says otherwise.
        attributes: What is true of all spans of this process.
        environ: The process's environment; the exporter reads it by itself, too.

    Raises:
        InvalidInput: `MODELOPS_TRACE_SAMPLE` or `OTEL_TRACES_SAMPLER_ARG` is no share.
    """
    named = any(environ.get(name) for name in _ENDPOINTS)
    if not named or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    except ImportError:
        _log.warning("a collector of traces is named, but nothing can be sent: install `modelops[otel]`")
        return None
    rate = _rate(environ)
    resource = Resource.create({"service.name": environ.get("OTEL_SERVICE_NAME") or service, **attributes})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, rate)


def _rate(environ: Mapping[str, str]) -> float:
    ours, sampler = environ.get("MODELOPS_TRACE_SAMPLE"), environ.get("OTEL_TRACES_SAMPLER", "")
    if ours:
        return _share("MODELOPS_TRACE_SAMPLE", ours)
    if sampler.endswith("always_on"):
        return 1.0
    if sampler.endswith("traceidratio"):
        return _share("OTEL_TRACES_SAMPLER_ARG", environ.get("OTEL_TRACES_SAMPLER_ARG") or "1")
    return 0.0


def _share(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InvalidInput(f"{name} must be a number from 0 to 1, not '{text[:40]}'.")
    return value
