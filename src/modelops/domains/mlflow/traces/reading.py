"""Reading traces back: what is told of them, and their spans."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import select

from modelops.contracts.errors import NotFound
from modelops.domains.mlflow.experiments import resolve
from modelops.domains.mlflow.traces.assessing import as_document
from modelops.domains.mlflow.traces.forms import as_file, as_otlp, write_duration, write_time
from modelops.domains.mlflow.traces.places import locate
from modelops.domains.mlflow.traces.recording import ARTIFACT_LOCATION, SPANS_LOCATION
from modelops.domains.mlflow.traces.spans import Span
from modelops.domains.mlflow.traces.tables import AssessmentRow, LabelRow, LinkRow, SpanRow, TraceRow
from modelops.domains.mlflow.traces.writing import chunks
from modelops.kernel.context import Context

SIZES = "mlflow.trace.sizeStats"
_spans = msgspec.json.Decoder(Span)
_TOLD = "mlflow.trace.infoFinalized"
_PROMPTS = "mlflow.linkedPrompts"


def get_infos(ctx: Context, rows: Sequence[TraceRow]) -> list[dict[str, Any]]:
    """Return what is told of traces, as MLflow's `TraceInfoV3` in JSON, in the order of the rows."""
    ids = [row.id for row in rows]
    labels: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for label in _of(ctx, LabelRow, ids):
        labels[label.trace_id, label.kind][label.key] = label.value
    assessments = defaultdict(list)
    for one in _of(ctx, AssessmentRow, ids):
        assessments[one.trace_id].append(one)
    prompts = defaultdict(list)
    for link in _of(ctx, LinkRow, ids):
        if link.kind == "prompt":
            name, _, version = link.target.rpartition("/")
            prompts[link.trace_id].append({"name": name, "version": version})
    places = locate(ctx, [row.experiment_id for row in rows])
    return [
        _info(
            row,
            places[row.experiment_id],
            labels[row.id, "tag"],
            labels[row.id, "metadata"],
            assessments[row.id],
            prompts[row.id],
        )
        for row in rows
        if row.experiment_id in places
    ]


def get_rows(ctx: Context, trace_ids: Iterable[str], experiment_ids: list[str] | None = None) -> list[TraceRow]:
    """Return the rows of those traces that are here, in the order asked for."""
    ctx.require("traces.read")
    wanted = list(dict.fromkeys(trace_ids))
    found: dict[str, TraceRow] = {}
    for chunk in chunks(wanted):
        query = ctx.query(TraceRow).where(TraceRow.id.in_(chunk))
        if experiment_ids is not None:
            query = query.where(TraceRow.experiment_id.in_(resolve(ctx, experiment_ids)))
        found |= {row.id: row for row in ctx.session.scalars(query)}
    return [found[one] for one in wanted if one in found]


def get_row(ctx: Context, trace_id: str) -> TraceRow:
    """Return a trace's row. Raises NotFound if it is none of this project."""
    rows = get_rows(ctx, [trace_id])
    if not rows:
        raise NotFound(f"Trace with ID '{trace_id}' not found.")
    return rows[0]


def get_spans(ctx: Context, trace_ids: Iterable[str]) -> dict[str, list[Span]]:
    """Return the spans of traces: roots first, then by their start."""
    found: dict[str, list[Span]] = defaultdict(list)
    for chunk in chunks(trace_ids):
        query = (
            select(SpanRow.trace_id, SpanRow.content)
            .where(SpanRow.project_id == ctx.project_id, SpanRow.trace_id.in_(chunk))
            .order_by(SpanRow.trace_id, SpanRow.parent_id.is_not(None), SpanRow.started_ns, SpanRow.span_id)
        )
        for trace_id, content in ctx.session.execute(query):
            found[trace_id].append(_spans.decode(content))
    return found


def get_traces(ctx: Context, rows: Sequence[TraceRow], *, partial: bool) -> list[dict[str, Any]]:
    """Return traces with their spans, as MLflow's `Trace` in JSON.

    Args:
        partial: False leaves out those of whose spans some are still to come.
    """
    spans = get_spans(ctx, [row.id for row in rows])
    infos = get_infos(ctx, rows)
    return [
        {"trace_info": info, "spans": [as_otlp(span, info["trace_id"]) for span in spans[info["trace_id"]]]}
        for info in infos
        if partial or _is_whole(info, len(spans[info["trace_id"]]))
    ]


def get_file(ctx: Context, trace_id: str) -> bytes:
    """Return a trace's spans as the file `traces.json` that MLflow's clients keep and read.

    Raises:
        NotFound: there is no such trace, or no span of it is kept here.
    """
    if not get_row(ctx, trace_id).has_spans:
        raise NotFound(
            f"No span of the trace '{trace_id}' is here.", hint="Its spans lie among its artifacts, if at all."
        )
    spans = get_spans(ctx, [trace_id])[trace_id]
    return msgspec.json.encode({"spans": [as_file(span, trace_id) for span in spans]})


def _of(ctx: Context, row: Any, trace_ids: list[str]) -> Iterable[Any]:
    for chunk in chunks(trace_ids):
        query = select(row).where(row.project_id == ctx.project_id, row.trace_id.in_(chunk))
        yield from ctx.session.scalars(query)


def _info(
    row: TraceRow,
    place: str,
    tags: dict[str, str],
    metadata: dict[str, str],
    assessments: list[AssessmentRow],
    prompts: list[dict[str, str]],
) -> dict[str, Any]:
    tags = {**tags, ARTIFACT_LOCATION: f"{place}/traces/{row.id}/artifacts"}
    if row.told:
        metadata = {**metadata, _TOLD: "true"}
    if row.has_spans:
        tags[SPANS_LOCATION] = "TRACKING_STORE"
    if prompts:
        tags[_PROMPTS] = json.dumps(prompts)
    known = {
        "client_request_id": row.client_request_id,
        "request_preview": row.request_preview,
        "response_preview": row.response_preview,
        "execution_duration": write_duration(row.duration_ms) if row.duration_ms is not None else None,
    }
    return {
        "trace_id": row.id,
        "trace_location": {
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": row.experiment_id},
        },
        **{name: value for name, value in known.items() if value is not None},
        "request_time": write_time(row.started_ms),
        "state": row.state,
        "trace_metadata": metadata,
        "assessments": [as_document(one) for one in sorted(assessments, key=_order)],
        "tags": tags,
    }


def _order(row: AssessmentRow) -> tuple[str, str]:
    return json.loads(row.content).get("create_time", ""), row.id


def _is_whole(info: dict[str, Any], kept: int) -> bool:
    """Tell whether as many spans are kept as the client that told the trace counted."""
    try:
        expected = int(json.loads(info["trace_metadata"].get(SIZES, "{}")).get("num_spans", 0))
    except (ValueError, TypeError, AttributeError):
        expected = 0
    return kept >= max(expected, 1)
