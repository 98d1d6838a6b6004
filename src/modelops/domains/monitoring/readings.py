"""What serving asks of monitoring: what each variant of a revision answered since a moment."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select

from modelops.contracts.errors import MLOpsError
from modelops.domains.models import service as models
from modelops.domains.monitoring.rules import fits
from modelops.domains.monitoring.schemas import LATENCY_BOUNDS_S, ColumnReference, ColumnSketch
from modelops.domains.monitoring.service import read_reference
from modelops.domains.monitoring.sketches import merge
from modelops.domains.monitoring.tables import SketchBatchRow
from modelops.domains.serving.analysis.readings import OutputCounts, Reading
from modelops.domains.serving.schemas import RevisionVariant
from modelops.kernel.context import Context

_BINS = len(LATENCY_BOUNDS_S) + 1


def traffic_readings(
    ctx: Context, deployment_id: str, revision: int, since: datetime, variants: Sequence[RevisionVariant]
) -> Mapping[str, Reading]:
    """Return a reading by the name of each variant that reported anything in batches that began since then."""
    found = {}
    for variant in variants:
        query = select(SketchBatchRow).where(
            SketchBatchRow.project_id == ctx.project_id,
            SketchBatchRow.deployment_id == deployment_id,
            SketchBatchRow.ended_at > since,
            SketchBatchRow.started_at >= since,
            SketchBatchRow.revision == revision,
            SketchBatchRow.variant == variant.name,
            SketchBatchRow.model_version_id == variant.model_version_id,
        )
        batches = list(ctx.session.scalars(query))
        if batches:
            found[variant.name] = _reading(ctx, variant, batches)
    return found


def _reading(ctx: Context, variant: RevisionVariant, batches: Sequence[SketchBatchRow]) -> Reading:
    timed = [batch for batch in batches if batch.latencies and len(batch.latencies) == _BINS]
    return Reading(
        requests=sum(batch.requests for batch in batches),
        errors=sum(batch.errors for batch in batches),
        rows=sum(batch.rows for batch in batches),
        bounds_s=LATENCY_BOUNDS_S,
        latencies=[sum(counts) for counts in zip(*(batch.latencies or () for batch in timed), strict=True)],
        latency_sum_s=sum(batch.latency_sum_s for batch in timed),
        outputs=_outputs(ctx, variant, batches),
    )


def _outputs(ctx: Context, variant: RevisionVariant, batches: Sequence[SketchBatchRow]) -> Sequence[OutputCounts]:
    """Return the counts of a variant's outputs; none where its version has no reference to count them over."""
    try:
        reference = read_reference(ctx, models.get_version_by_id(ctx, variant.model_version_id)).outputs
    except MLOpsError:
        return []
    parts = [[ColumnSketch.model_validate(one) for one in batch.outputs] for batch in batches if batch.outputs]
    fitting = [part for part in parts if fits(reference, part)]
    if not fitting:
        return []
    return [_counts(column, sketch) for column, sketch in zip(reference, merge(fitting), strict=True)]


def _counts(column: ColumnReference, sketch: ColumnSketch) -> OutputCounts:
    return OutputCounts(column.name, sketch.counts, column.edges, column.categories)
