"""Business metrics: values that callers post for a variant, summed up as they come."""

from collections.abc import Sequence
from datetime import datetime
from statistics import fmean

from sqlalchemy import select

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ids import new_id
from modelops.domains.serving.analysis.readings import Sample
from modelops.domains.serving.rollouts import BusinessValues, RecordedValues
from modelops.domains.serving.rows import deployment_row, pending_rollout, revision_rows, variants_of
from modelops.domains.serving.tables import BusinessValuesRow, DeploymentRow
from modelops.domains.serving.variants import CANDIDATE
from modelops.kernel.context import Context


def record_business_metric(ctx: Context, deployment: str, body: BusinessValues) -> RecordedValues:
    """Take values that a variant's answers led to; they count for the revision that is rolled out, or serves."""
    ctx.require("deployments.predict")
    row = deployment_row(ctx, deployment)
    revisions = revision_rows(ctx, row)
    rollout = pending_rollout(ctx, row, revisions)
    number = rollout.revision if rollout is not None else row.active_revision or row.wanted_revision
    known = [one.name for one in variants_of(revisions[rollout.from_revision if rollout is not None else number])]
    if rollout is not None:
        known.append(CANDIDATE)
    if body.variant not in known:
        raise InvalidInput(
            f"'{row.name}' has no variant '{body.variant}' now.", hint=f"It has {', '.join(map(repr, known))}."
        )
    mean = fmean(body.values)
    recorded = BusinessValuesRow(
        id=new_id("biz"),
        project_id=row.project_id,
        deployment_id=row.id,
        revision=number,
        metric=body.metric,
        variant=body.variant,
        count=len(body.values),
        mean=mean,
        squares=sum((value - mean) ** 2 for value in body.values),
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(recorded)
    return RecordedValues(
        deployment_id=row.id,
        revision=number,
        metric=body.metric,
        variant=body.variant,
        count=recorded.count,
        mean=mean,
        recorded_at=recorded.created_at,
    )


def samples(
    ctx: Context,
    row: DeploymentRow,
    revision: int,
    metrics: Sequence[str],
    since: datetime,
    champion: str,
    candidate: str,
) -> dict[str, tuple[Sample, Sample]]:
    """Return the values of each metric that came since a moment, of the champion and of the candidate."""
    found = {metric: {champion: Sample(), candidate: Sample()} for metric in metrics}
    query = select(BusinessValuesRow).where(
        BusinessValuesRow.deployment_id == row.id,
        BusinessValuesRow.revision == revision,
        BusinessValuesRow.metric.in_(metrics),
        BusinessValuesRow.variant.in_([champion, candidate]),
        BusinessValuesRow.created_at >= since,
    )
    for one in ctx.session.scalars(query) if metrics else ():
        so_far = found[one.metric]
        so_far[one.variant] = so_far[one.variant].plus(Sample(one.count, one.mean, one.squares))
    return {metric: (both[champion], both[candidate]) for metric, both in found.items()}
