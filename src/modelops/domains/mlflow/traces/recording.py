"""Recording traces: what a client tells of a whole one, and spans as they come, in any order and as often as they come."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import select, update

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.traces.assessing import add_assessments
from modelops.domains.mlflow.traces.conventions import translate
from modelops.domains.mlflow.traces.filters import SESSION
from modelops.domains.mlflow.traces.forms import TraceInfo, read_duration, to_ms
from modelops.domains.mlflow.traces.places import find_active, find_run
from modelops.domains.mlflow.traces.previews import preview
from modelops.domains.mlflow.traces.spans import COST, INPUTS, KIND, OUTPUTS, USAGE, Span, add_up, clean, plain
from modelops.domains.mlflow.traces.tables import LabelRow, LinkRow, SpanRow, TraceRow
from modelops.domains.mlflow.traces.writing import insert, upsert
from modelops.kernel.context import Context

STATES = ("STATE_UNSPECIFIED", "OK", "ERROR", "IN_PROGRESS")
SPANS_LOCATION = "mlflow.trace.spansLocation"
ARTIFACT_LOCATION = "mlflow.artifactLocation"
OURS = frozenset({SPANS_LOCATION, ARTIFACT_LOCATION})
_TAG_PREFIX = "mlflow.traceTag."
_SUMS: dict[str, tuple[Any, dict[str, float]]] = {
    "mlflow.trace.tokenUsage": (SpanRow.usage, {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}),
    "mlflow.trace.cost": (SpanRow.cost, {"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.0}),
}
_DERIVED = {
    SESSION: ("session.id", "gen_ai.conversation.id"),
    "mlflow.trace.user": ("user.id",),
}
_LONGEST_KEY = 250


def record_trace(ctx: Context, told: TraceInfo) -> str:
    """Keep what a client tells of a trace, new or known; sent again, it changes nothing. Returns the trace's id.

    Raises:
        InvalidInput: the id, the state or a label cannot be kept.
        NotFound: there is no such experiment.
    """
    ctx.require("traces.write")
    place = told.trace_location.mlflow_experiment if told.trace_location else None
    experiment = find_active(ctx, place.experiment_id if place else "")
    trace_id = check_id(told.trace_id)
    if told.state not in STATES:
        raise InvalidInput(f"The state '{told.state}' is none of {', '.join(STATES)}.")
    values: dict[str, Any] = {
        "experiment_id": experiment,
        "started_ms": to_ms(told.request_time) if told.request_time else _now_ms(ctx),
        "duration_ms": read_duration(told.execution_duration),
        "state": told.state,
        "told": True,
    }
    values |= {
        name: clean(text)
        for name in ("client_request_id", "request_preview", "response_preview")
        if (text := getattr(told, name)) is not None
    }
    hold(ctx, experiment, trace_id, values["started_ms"])
    ctx.session.execute(_update(ctx, trace_id, values))
    write_labels(ctx, trace_id, "metadata", told.trace_metadata)
    write_labels(ctx, trace_id, "tag", {key: value for key, value in told.tags.items() if key not in OURS})
    add_assessments(ctx, trace_id, told.assessments)
    return trace_id


def record_spans(ctx: Context, experiment: str, spans: Iterable[Span], run: str | None = None) -> list[str]:
    """Keep spans, each once however often it comes, and tell of their traces what follows from them. Returns the traces' ids.

    Raises:
        NotFound: there is no such experiment, or no such run.
    """
    ctx.require("traces.write")
    experiment = find_active(ctx, experiment)
    run_id = find_run(ctx, run) if run else None
    by_trace: dict[str, list[Span]] = {}
    for span in spans:
        by_trace.setdefault(f"tr-{span.trace_id}", []).append(translate(span))
    for trace_id in sorted(by_trace):  # always in one order, so that two writers cannot wait for each other
        _record(ctx, experiment, trace_id, by_trace[trace_id])
    if run_id is not None:
        link(ctx, "run", run_id, by_trace)
    return list(by_trace)


def check_id(trace_id: str) -> str:
    """Return a trace's id. Raises InvalidInput if it cannot be one."""
    if not 0 < len(trace_id) <= _LONGEST_KEY or "/" in trace_id or "\x00" in trace_id:
        raise InvalidInput(f"A trace's id has 1 to {_LONGEST_KEY} characters and no slash.")
    return trace_id


def write_labels(ctx: Context, trace_id: str, kind: str, labels: dict[str, str], *, derived: bool = False) -> None:
    """Write tags or metadata; what is derived never replaces what a client said.

    Raises:
        InvalidInput: a key is empty or too long.
    """
    for key in labels:
        if not 0 < len(key) <= _LONGEST_KEY:
            raise InvalidInput(f"The key '{key[:50]}' exceeds the maximum length of {_LONGEST_KEY}, or is empty.")
    rows = [
        {
            "project_id": ctx.project_id,
            "trace_id": trace_id,
            "kind": kind,
            "key": clean(key),
            "value": clean(value),
            "derived": derived,
        }
        for key, value in sorted(labels.items())
    ]
    options = {"where": LabelRow.derived} if derived else {}
    upsert(ctx.session, LabelRow, rows, ["project_id", "trace_id", "kind", "key"], **options)


def link(ctx: Context, kind: str, target: str, trace_ids: Iterable[str]) -> None:
    """Tie traces to a run or to a version of a prompt; tied already, they stay so."""
    rows = [
        {"project_id": ctx.project_id, "trace_id": one, "kind": kind, "target": target} for one in sorted(trace_ids)
    ]
    if rows:
        ctx.session.execute(insert(ctx.session, LinkRow).on_conflict_do_nothing(), rows)


def _record(ctx: Context, experiment: str, trace_id: str, spans: list[Span]) -> None:
    started = min(span.started_ns for span in spans) // 1_000_000
    row = hold(ctx, experiment, trace_id, started)
    upsert(
        ctx.session,
        SpanRow,
        [_row(ctx, trace_id, span) for span in spans],
        ["project_id", "trace_id", "span_id"],
    )
    root = next((span for span in spans if span.parent_id is None), None)
    changes: dict[str, Any] = {"has_spans": True}
    if not row.told:
        changes |= _extent(row, spans, started)
    if root is not None:
        if row.state in ("IN_PROGRESS", "STATE_UNSPECIFIED"):
            changes["state"] = "ERROR" if root.status == "ERROR" else "OK"
        if row.request_preview is None:
            changes["request_preview"] = preview(root.attributes.get(INPUTS), "user")
        if row.response_preview is None:
            changes["response_preview"] = preview(root.attributes.get(OUTPUTS), "assistant")
    ctx.session.execute(_update(ctx, trace_id, changes))
    write_labels(ctx, trace_id, "tag", _tags(spans, root))
    _derive(ctx, trace_id, spans)


def hold(ctx: Context, experiment: str, trace_id: str, started_ms: int) -> TraceRow:
    """Return the trace's row, made if it is missing, and held until the unit of work ends."""
    new = {
        "project_id": ctx.project_id,
        "id": trace_id,
        "experiment_id": experiment,
        "started_ms": started_ms,
        "state": "IN_PROGRESS",
        "told": False,
        "has_spans": False,
    }
    ctx.session.execute(insert(ctx.session, TraceRow).on_conflict_do_nothing(), new)
    query = ctx.query(TraceRow).where(TraceRow.id == trace_id).with_for_update()
    return ctx.session.scalars(query.execution_options(populate_existing=True)).one()


def _update(ctx: Context, trace_id: str, values: dict[str, Any]) -> Any:
    return (
        update(TraceRow)
        .where(TraceRow.project_id == ctx.project_id, TraceRow.id == trace_id)
        .values(values)
        .execution_options(synchronize_session="fetch")
    )


def _extent(row: TraceRow, spans: list[Span], started: int) -> dict[str, int]:
    """Return when the trace began and how long it took, as far as its spans tell."""
    first = min(started, row.started_ms)
    ends = [span.ended_ns // 1_000_000 for span in spans if span.ended_ns is not None]
    if row.duration_ms is not None:
        ends.append(row.started_ms + row.duration_ms)
    return {"started_ms": first, **({"duration_ms": max(ends) - first} if ends else {})}


def _row(ctx: Context, trace_id: str, span: Span) -> dict[str, Any]:
    kind = span.attributes.get(KIND)
    return {
        "project_id": ctx.project_id,
        "trace_id": trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": span.name,
        "type": kind if isinstance(kind, str) else None,
        "status": span.status,
        "started_ns": span.started_ns,
        "ended_ns": span.ended_ns,
        "usage": _numbers(span.attributes.get(USAGE)),
        "cost": _numbers(span.attributes.get(COST)),
        "content": msgspec.json.encode(span).decode(),
    }


def _numbers(value: Any) -> str | None:
    """Return the numbers of a mapping, sent as one or as its JSON; None if there are none."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError):
            return None
    if not isinstance(value, dict):
        return None
    numbers = {k: v for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return json.dumps(numbers) if numbers else None


def _tags(spans: list[Span], root: Span | None) -> dict[str, str]:
    """Return the tags that spans bring: of the program they come from, and those that were put on the trace."""
    resource = next((span.resource for span in spans if span.resource), {})
    tags = {
        key: value if isinstance(value, str) else json.dumps(plain(value))
        for key, value in resource.items()
        if not key.startswith(("telemetry.sdk.", "mlflow."))
    }
    if root is not None:
        put = {k.removeprefix(_TAG_PREFIX): v for k, v in root.attributes.items() if k.startswith(_TAG_PREFIX)}
        tags |= {key: value if isinstance(value, str) else json.dumps(plain(value)) for key, value in put.items()}
    return {key: value for key, value in tags.items() if 0 < len(key) <= _LONGEST_KEY and key not in OURS}


def _derive(ctx: Context, trace_id: str, spans: list[Span]) -> None:
    """Write what the spans tell of session, user, tokens and costs."""
    labels = select(LabelRow.key).where(
        LabelRow.project_id == ctx.project_id, LabelRow.trace_id == trace_id, LabelRow.kind == "metadata"
    )
    known = set(ctx.session.scalars(labels.where(LabelRow.key.in_([*_SUMS, *_DERIVED]))))
    found: dict[str, str] = {}
    for key, names in _DERIVED.items():
        texts = [text for span in spans for name in names if (text := span.text(name))]
        if key not in known and texts:
            found[key] = texts[0][:_LONGEST_KEY]
    for key, attribute in zip(_SUMS, (USAGE, COST), strict=True):
        if key in known or any(attribute in span.attributes for span in spans):
            column, zeros = _SUMS[key]
            query = select(SpanRow.span_id, SpanRow.parent_id, column).where(
                SpanRow.project_id == ctx.project_id, SpanRow.trace_id == trace_id
            )
            rows = ctx.session.execute(query)
            totals = add_up(
                {span: (parent, json.loads(numbers) if numbers else None) for span, parent, numbers in rows}
            )
            if totals:
                found[key] = json.dumps(zeros | totals)
    write_labels(ctx, trace_id, "metadata", found, derived=True)


def _now_ms(ctx: Context) -> int:
    return to_ms(ctx.clock.now())
