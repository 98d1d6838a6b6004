"""Assessments of traces: feedback, expectations and references to issues, kept as they were sent."""

import hashlib
import json
import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import delete, select, update

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.domains.mlflow.traces.filters import SESSION
from modelops.domains.mlflow.traces.forms import Assessment, to_ms, write_time
from modelops.domains.mlflow.traces.spans import clean
from modelops.domains.mlflow.traces.tables import AssessmentRow, TraceRow
from modelops.domains.mlflow.traces.writing import insert, upsert
from modelops.kernel.context import Context

_assessments = msgspec.json.Decoder(Assessment)
_KINDS = ("feedback", "expectation", "issue")
_SOURCES = ("SOURCE_TYPE_UNSPECIFIED", "HUMAN", "LLM_JUDGE", "AI_JUDGE", "CODE")
_KEYS = ["project_id", "trace_id", "id"]
_LONGEST_NAME = 250


def create_assessment(ctx: Context, trace_id: str, body: Assessment) -> dict[str, Any]:
    """Add an assessment to a trace. One that it overrides is no longer valid.

    Raises:
        NotFound: there is no such trace, or none to override.
    """
    ctx.require("traces.write")
    check_trace(ctx, trace_id)
    if body.overrides:
        _set_valid(ctx, _find(ctx, trace_id, body.overrides), valid=False)
    (made,) = add_assessments(ctx, trace_id, [msgspec.structs.replace(body, assessment_id="", valid=True)])
    return as_document(_find(ctx, trace_id, made))


def get_assessment(ctx: Context, trace_id: str, assessment_id: str) -> dict[str, Any]:
    """Return an assessment."""
    ctx.require("traces.read")
    check_trace(ctx, trace_id)
    return as_document(_find(ctx, trace_id, assessment_id))


def update_assessment(
    ctx: Context, trace_id: str, assessment_id: str, body: Assessment, fields: Iterable[str]
) -> dict[str, Any]:
    """Change the named fields of an assessment; metadata is added to what is there.

    Raises:
        InvalidInput: a field cannot be changed, or the value is of another kind.
    """
    ctx.require("traces.write")
    check_trace(ctx, trace_id)
    row = _find(ctx, trace_id, assessment_id)
    known = _assessments.decode(row.content)
    changes: dict[str, Any] = {"last_update_time": ctx.clock.now()}
    for field in fields:
        if field not in ("assessment_name", "expectation", "feedback", "rationale", "metadata", "valid"):
            raise InvalidInput(f"The field '{field}' of an assessment cannot be changed.")
        if field in _KINDS and field != row.kind:
            raise InvalidInput(f"Cannot update {field} value on an assessment that is {row.kind}.")
        changes[field] = getattr(body, field)
    if "metadata" in changes:
        changes["metadata"] = known.metadata | body.metadata
    changed = msgspec.structs.replace(known, **changes)
    valid = row.valid if changed.valid is None or "valid" not in changes else changed.valid
    _write(ctx, trace_id, assessment_id, msgspec.structs.replace(changed, valid=valid))
    ctx.session.expire(row)
    return as_document(_find(ctx, trace_id, assessment_id))


def delete_assessment(ctx: Context, trace_id: str, assessment_id: str) -> None:
    """Delete an assessment if it is there; one that it overrode is valid again."""
    ctx.require("traces.write")
    check_trace(ctx, trace_id)
    row = ctx.session.get(AssessmentRow, (ctx.project_id, trace_id, assessment_id))
    if row is None:
        return
    overridden = _assessments.decode(row.content).overrides
    if overridden and (other := ctx.session.get(AssessmentRow, (ctx.project_id, trace_id, overridden))):
        _set_valid(ctx, other, valid=True)
    ctx.session.execute(
        delete(AssessmentRow).where(
            AssessmentRow.project_id == ctx.project_id,
            AssessmentRow.trace_id == trace_id,
            AssessmentRow.id == assessment_id,
        )
    )


def add_assessments(ctx: Context, trace_id: str, assessments: Iterable[Assessment]) -> list[str]:
    """Write assessments of a trace that is there, and return their ids.

    One with an id replaces the one of that id. The id of another is made of what it says, and of when its client made it: so one
    that is sent again, because its answer was lost, is not there twice.
    """
    now, names = ctx.clock.now(), []
    for one in assessments:
        body = _with_times(one, now)
        if one.assessment_id:
            _write(ctx, trace_id, one.assessment_id, body)
            names.append(one.assessment_id)
        else:
            names.append(f"a-{hashlib.sha256(trace_id.encode() + msgspec.json.encode(body)).hexdigest()[:32]}")
            row = _row(ctx, trace_id, names[-1], body)
            ctx.session.execute(insert(ctx.session, AssessmentRow).on_conflict_do_nothing(), row)
    return names


def as_document(row: AssessmentRow) -> dict[str, Any]:
    """Return an assessment as MLflow's message in JSON."""
    body = _assessments.decode(row.content)
    document: dict[str, Any] = msgspec.to_builtins(body)
    for field in ("create_time", "last_update_time"):
        moment: datetime | None = getattr(body, field)
        if moment is not None:
            document[field] = write_time(to_ms(moment))
    ours = {"assessment_id": row.id, "trace_id": row.trace_id, "assessment_name": row.name, "valid": row.valid}
    return document | ours


def check_trace(ctx: Context, trace_id: str) -> None:
    """Refuse unless the trace is in this project.

    Raises:
        NotFound: it is not.
    """
    found = ctx.session.scalar(
        select(TraceRow.id).where(TraceRow.project_id == ctx.project_id, TraceRow.id == trace_id)
    )
    if found is None:
        raise NotFound(f"Trace with ID '{trace_id}' not found.")


def _find(ctx: Context, trace_id: str, assessment_id: str) -> AssessmentRow:
    row = ctx.session.get(AssessmentRow, (ctx.project_id, trace_id, assessment_id))
    if row is None:
        raise NotFound(f"Assessment with ID '{assessment_id}' not found for trace '{trace_id}'.")
    return row


def _set_valid(ctx: Context, row: AssessmentRow, *, valid: bool) -> None:
    ctx.session.execute(
        update(AssessmentRow)
        .where(
            AssessmentRow.project_id == ctx.project_id,
            AssessmentRow.trace_id == row.trace_id,
            AssessmentRow.id == row.id,
        )
        .values(valid=valid)
    )


def _with_times(body: Assessment, now: datetime) -> Assessment:
    return msgspec.structs.replace(
        body, create_time=body.create_time or now, last_update_time=body.last_update_time or now
    )


def _write(ctx: Context, trace_id: str, name: str, body: Assessment) -> None:
    upsert(ctx.session, AssessmentRow, [_row(ctx, trace_id, name, body)], _KEYS)


def _row(ctx: Context, trace_id: str, name: str, body: Assessment) -> dict[str, Any]:
    kinds = [kind for kind in _KINDS if getattr(body, kind) is not None]
    if len(kinds) != 1:
        raise InvalidInput("Exactly one of `expectation`, `feedback`, or `issue` should be specified.")
    if not 0 < len(body.assessment_name) <= _LONGEST_NAME or len(name) > 50:
        raise InvalidInput(f"An assessment has a name of 1 to {_LONGEST_NAME} characters.")
    if body.source is not None and body.source.source_type not in _SOURCES:
        raise InvalidInput(f"The source type '{body.source.source_type}' is none of {', '.join(_SOURCES)}.")
    value = _value_of(body, kinds[0])
    return {
        "project_id": ctx.project_id,
        "trace_id": trace_id,
        "id": name,
        "kind": kinds[0],
        "name": clean(body.assessment_name),
        "valid": body.valid is not False,
        "session": clean(body.metadata[SESSION]) if SESSION in body.metadata else None,
        "text": clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)),
        "number": _number_of(value),
        "content": msgspec.json.encode(body).decode(),
    }


def _number_of(value: Any) -> float | None:
    """Return a value as a number to compare with, or None if it is none that can be."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _value_of(body: Assessment, kind: str) -> Any:
    """Return what was given as feedback or expected, as a search compares it."""
    document = getattr(body, kind)
    serialized = document.get("serialized_value")
    if isinstance(serialized, dict):
        if serialized.get("serialization_format") != "JSON_FORMAT":
            raise InvalidInput("An expectation is serialized as JSON_FORMAT.")
        try:
            return json.loads(serialized.get("value", ""))
        except (ValueError, TypeError, RecursionError) as wrong:
            raise InvalidInput(f"The expectation's value is not JSON: {wrong}.") from wrong
    return document.get("value")
