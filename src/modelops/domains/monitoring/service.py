"""What monitoring does. Context first, one verb a function; the edge commits."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from modelops.contracts.errors import InvalidInput, MonitoringError, NotFound, PermissionDenied
from modelops.contracts.ids import new_id
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Page
from modelops.domains.models import service as models
from modelops.domains.models.schemas import ModelVersion
from modelops.domains.monitoring.drift import compare
from modelops.domains.monitoring.rules import check_batch, fits, stored_source
from modelops.domains.monitoring.schemas import (
    Accepted,
    ColumnReference,
    ColumnSketch,
    DriftReport,
    DriftRequest,
    Reference,
    SketchBatch,
    SketchBatches,
    Traffic,
)
from modelops.domains.monitoring.sketches import merge
from modelops.domains.monitoring.tables import DriftReportRow, SketchBatchRow
from modelops.domains.serving import service as serving
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

REFERENCE = "reference.json"
DEFAULT_WINDOW = timedelta(hours=24)


def ingest_sketches(ctx: Context, body: SketchBatches) -> Accepted:
    """Take in what runtimes saw; a batch that comes again is counted once. A runtime speaks for its deployment alone."""
    ctx.require("monitoring.write")
    known = {named: _spoken_for(ctx, named) for named in dict.fromkeys(batch.deployment_id for batch in body.batches)}
    fresh: dict[tuple[str, int], dict[str, Any]] = {}
    for batch in body.batches:
        check_batch(batch)
        row = _batch_row(ctx, known[batch.deployment_id], batch)
        fresh.setdefault((row["source"], row["sequence"]), row)
    # In one order, so that two requests with the same batches wait for each other and never in a circle.
    rows = [fresh[key] for key in sorted(fresh)]
    added = _insert(ctx).on_conflict_do_nothing().returning(SketchBatchRow.sequence)
    accepted = len(ctx.session.scalars(added, rows).all())
    return Accepted(accepted=accepted, duplicates=len(body.batches) - accepted)


def get_traffic(ctx: Context, deployment: str, since: datetime | None, until: datetime | None) -> Traffic:
    """Count what a deployment answered in a window, the last 24 hours by default."""
    ctx.require("monitoring.read")
    found = serving.find_deployment(ctx, deployment)
    start, end = _window(ctx, since, until)
    columns = (SketchBatchRow.rows, SketchBatchRow.requests, SketchBatchRow.errors, SketchBatchRow.dropped_rows)
    query = select(*(func.coalesce(func.sum(column), 0) for column in columns), func.count())
    counts = ctx.session.execute(_within(query, ctx, found.id, start, end)).one()
    rows, requests, errors, dropped, batches = (int(count) for count in counts)
    return Traffic(
        deployment_id=found.id,
        since=start,
        until=end,
        rows=rows,
        requests=requests,
        errors=errors,
        dropped_rows=dropped,
        batches=batches,
    )


def detect_drift(ctx: Context, body: DriftRequest) -> DriftReport:
    """Compare a deployment's traffic in a window (the last 24 hours by default) with its model's training data."""
    ctx.require("monitoring.write")
    deployment = serving.find_deployment(ctx, body.deployment_id)
    start, end = _window(ctx, body.since, body.until)
    version = models.get_version_by_id(ctx, deployment.model_version_id)
    reference = read_reference(ctx, version)
    query = _within(select(SketchBatchRow), ctx, deployment.id, start, end).where(
        SketchBatchRow.model_version_id == version.id, SketchBatchRow.rows > 0
    )
    batches = list(ctx.session.scalars(query))
    if not batches:
        raise MonitoringError(
            f"'{deployment.name}' answered nothing between {start:%Y-%m-%d %H:%M:%S} and {end:%Y-%m-%d %H:%M:%S} UTC.",
            hint="Runtimes report every few seconds: send predictions and wait a moment, or name an earlier `since`.",
        )
    columns = compare(
        list(_pairs(reference, batches)), false_alarm_rate=body.false_alarm_rate, minimum_effect=body.minimum_effect
    )
    named = [column.name for column in columns if column.drifted]
    row = DriftReportRow(
        id=new_id("drf"),
        project_id=ctx.project_id,
        deployment_id=deployment.id,
        model_version_id=version.id,
        since=start,
        until=end,
        rows=sum(batch.rows for batch in batches),
        reference_rows=reference.rows,
        false_alarm_rate=body.false_alarm_rate,
        minimum_effect=body.minimum_effect,
        drifted=bool(named),
        drifted_columns=named,
        columns=[column.model_dump(mode="json") for column in columns],
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    if named:
        ctx.emit("modelops.monitoring.drift_detected", deployment.id, report=row.id, columns=named)
    return _report(row)


def list_drift_reports(ctx: Context, page: PageQuery) -> Page[DriftReport]:
    """List drift reports, newest first."""
    ctx.require("monitoring.read")
    fields = {
        "deployment_id": DriftReportRow.deployment_id,
        "drifted": DriftReportRow.drifted,
        "created_at": DriftReportRow.created_at,
    }
    found = list_rows(ctx, ctx.query(DriftReportRow), DriftReportRow.id, fields, page, order="desc")
    return Page(items=[_report(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_drift_report(ctx: Context, report: str) -> DriftReport:
    """Return a drift report."""
    ctx.require("monitoring.read")
    return _report(ctx.one(DriftReportRow, f"drift report '{report}'", DriftReportRow.id == report))


def read_reference(ctx: Context, version: ModelVersion) -> Reference:
    """Return the profile of a version's training data, from its package.

    Raises:
        MonitoringError: the package has none, or none that can be read.
    """
    file = next((file for file in version.files if file.path == REFERENCE), None)
    if file is None:
        raise MonitoringError(
            f"The package of {version.name}:{version.version} has no reference to compare with.",
            hint="Register the model with a `sample` of its training data: the reference is made from it.",
        )
    try:
        return Reference.model_validate_json(b"".join(ctx.port(BlobStore).read(file.digest)))
    except (ValidationError, NotFound) as wrong:
        raise MonitoringError(f"The reference of {version.name}:{version.version} cannot be read.") from wrong


def _pairs(reference: Reference, batches: list[SketchBatchRow]) -> Iterator[tuple[str, ColumnReference, ColumnSketch]]:
    for role, columns, stored in (
        ("input", reference.inputs, [(batch, batch.inputs) for batch in batches if batch.inputs]),
        ("output", reference.outputs, [(batch, batch.outputs) for batch in batches if batch.outputs]),
    ):
        parts = [_fitting(columns, batch, part) for batch, part in stored]
        yield from ((role, column, sketch) for column, sketch in zip(columns, merge(parts), strict=bool(parts)))


def _fitting(columns: list[ColumnReference], batch: SketchBatchRow, part: list[dict[str, Any]]) -> list[ColumnSketch]:
    sketches = [ColumnSketch.model_validate(sketch) for sketch in part]
    if not fits(columns, sketches):
        raise MonitoringError(
            f"The batch of {batch.ended_at:%Y-%m-%d %H:%M:%S} UTC from '{batch.source}' was not counted over the bins of "
            "this model's reference.",
            hint="Name a window without it: `until` before, or `since` after.",
        )
    return sketches


def _window(ctx: Context, since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    end = until or ctx.clock.now()
    start = since or end - DEFAULT_WINDOW
    if start >= end:
        raise InvalidInput("The window ends before it begins.", hint="`since` must be before `until`.")
    return start, end


def _within(query: Any, ctx: Context, deployment_id: str, start: datetime, end: datetime) -> Any:
    return query.where(
        SketchBatchRow.project_id == ctx.project_id,
        SketchBatchRow.deployment_id == deployment_id,
        SketchBatchRow.ended_at > start,
        SketchBatchRow.started_at < end,
    )


def _spoken_for(ctx: Context, deployment: str) -> str:
    """Return the id of a deployment that the caller may speak for."""
    if ctx.actor.kind == "grant" and ctx.actor.id != deployment:
        raise PermissionDenied(f"This runtime does not speak for the deployment '{deployment}'.")
    return serving.find_deployment(ctx, deployment).id


def _batch_row(ctx: Context, deployment_id: str, batch: SketchBatch) -> dict[str, Any]:
    return batch.model_dump(exclude={"inputs", "outputs"}) | {
        "project_id": ctx.project_id,
        "deployment_id": deployment_id,
        "source": stored_source(deployment_id, batch.source),
        "inputs": [sketch.model_dump(mode="json") for sketch in batch.inputs],
        "outputs": [sketch.model_dump(mode="json") for sketch in batch.outputs],
    }


def _insert(ctx: Context) -> Any:
    dialect = ctx.session.get_bind().dialect.name
    return postgresql.insert(SketchBatchRow) if dialect == "postgresql" else sqlite.insert(SketchBatchRow)


def _report(row: DriftReportRow) -> DriftReport:
    return DriftReport.model_validate(row, from_attributes=True)
