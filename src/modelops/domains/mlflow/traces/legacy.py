"""Traces as MLflow's clients before 3.0 tell them: begun and ended in two requests, metadata and tags as lists."""

from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import update

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.protocol import api, pairs
from modelops.domains.mlflow.traces import reading, searching
from modelops.domains.mlflow.traces.forms import Milliseconds
from modelops.domains.mlflow.traces.places import find_active
from modelops.domains.mlflow.traces.recording import OURS, STATES, hold, write_labels
from modelops.domains.mlflow.traces.tables import TraceRow
from modelops.kernel.context import Context
from modelops.kernel.door import Answer

_TRACES = "2.0/mlflow/traces"
_UNSPECIFIED = ("TRACE_STATUS_UNSPECIFIED", "STATE_UNSPECIFIED")


class Pair(msgspec.Struct):
    """A tag or a piece of metadata."""

    key: str
    value: str = ""


class Begin(msgspec.Struct):
    """Body of `begin_trace`."""

    experiment_id: str
    timestamp_ms: Milliseconds
    request_metadata: list[Pair] = []
    tags: list[Pair] = []


class End(msgspec.Struct):
    """Body of `end_trace`."""

    timestamp_ms: Milliseconds
    status: str
    request_metadata: list[Pair] = []
    tags: list[Pair] = []


class Search(msgspec.Struct):
    """Query of `search_old_traces`."""

    experiment_ids: list[str] = []
    filter: str | None = None
    max_results: int = 100
    order_by: list[str] = []
    page_token: str | None = None


@api("POST", _TRACES)
def begin_trace(ctx: Context, body: Begin) -> Answer:
    """Begin a trace; the platform names it."""
    ctx.require("traces.write")
    trace_id = f"tr-{uuid4().hex}"
    hold(ctx, find_active(ctx, body.experiment_id), trace_id, body.timestamp_ms)
    _write(ctx, trace_id, body.request_metadata, body.tags)
    return {"trace_info": _info(ctx, trace_id)}


@api("PATCH", f"{_TRACES}/{{trace_id}}")
def end_trace(ctx: Context, body: End, trace_id: str) -> Answer:
    """End a trace."""
    ctx.require("traces.write")
    row = reading.get_row(ctx, trace_id)
    state = _UNSPECIFIED[1] if body.status == _UNSPECIFIED[0] else body.status
    if state not in STATES:
        raise InvalidInput(f"The status '{body.status}' is none of {', '.join(STATES)}.")
    ctx.session.execute(
        update(TraceRow)
        .where(TraceRow.project_id == ctx.project_id, TraceRow.id == trace_id)
        .values(duration_ms=body.timestamp_ms - row.started_ms, state=state)
    )
    _write(ctx, trace_id, body.request_metadata, body.tags)
    return {"trace_info": _info(ctx, trace_id)}


@api("GET", f"{_TRACES}/{{trace_id}}/info")
def get_old_trace_info(ctx: Context, trace_id: str) -> Answer:
    """Return what is told of a trace."""
    return {"trace_info": _info(ctx, trace_id)}


@api("GET", _TRACES)
def search_old_traces(ctx: Context, query: Search) -> Answer:
    """Search the traces of experiments."""
    ctx.require("traces.read")
    found = searching.search(
        ctx, query.experiment_ids, query.filter, query.order_by, query.max_results, query.page_token
    )
    answer: dict[str, Any] = {"traces": _documents(ctx, found[0])}
    return answer | ({"next_page_token": found[1]} if found[1] else {})


def _write(ctx: Context, trace_id: str, metadata: list[Pair], tags: list[Pair]) -> None:
    write_labels(ctx, trace_id, "metadata", {pair.key: pair.value for pair in metadata})
    write_labels(ctx, trace_id, "tag", {pair.key: pair.value for pair in tags if pair.key not in OURS})


def _info(ctx: Context, trace_id: str) -> dict[str, Any]:
    return _documents(ctx, [reading.get_row(ctx, trace_id)])[0]


def _documents(ctx: Context, rows: list[TraceRow]) -> list[dict[str, Any]]:
    return [
        {
            "request_id": row.id,
            "experiment_id": info["trace_location"]["mlflow_experiment"]["experiment_id"],
            "timestamp_ms": row.started_ms,
            "execution_time_ms": row.duration_ms or 0,
            "status": _UNSPECIFIED[0] if row.state == _UNSPECIFIED[1] else row.state,
            "request_metadata": pairs(info["trace_metadata"]),
            "tags": pairs(info["tags"]),
        }
        for row, info in zip(rows, reading.get_infos(ctx, rows), strict=True)
    ]
