"""Deployments and revisions in the database: found, and turned into what callers read."""

from collections.abc import Mapping, Sequence

from sqlalchemy import or_, select

from modelops.domains.serving.courses.courses import Course, Hold, RolloutState, Strategy, strategy_of
from modelops.domains.serving.courses.strategies import AllAtOnce
from modelops.domains.serving.policies.autoscaling import Autoscaling
from modelops.domains.serving.policies.clusterscaling import POLICIES, HpaScaling, KedaScaling
from modelops.domains.serving.rules import ready_count
from modelops.domains.serving.schemas import (
    Deployment,
    DeploymentState,
    Replica,
    Revision,
    RevisionState,
    RevisionVariant,
    ServingLimits,
    Target,
    TrafficPolicy,
    VariantRole,
)
from modelops.domains.serving.tables import DeploymentRow, RevisionRow, RolloutRow
from modelops.kernel.context import Context


def deployment_row(ctx: Context, name_or_id: str) -> DeploymentRow:
    """Return the row of a deployment. Raises NotFound."""
    named = or_(DeploymentRow.id == name_or_id, DeploymentRow.name == name_or_id)
    return ctx.one(DeploymentRow, f"deployment '{name_or_id}'", named)


def locked_row(ctx: Context, name_or_id: str) -> DeploymentRow:
    """Return the row of a deployment and keep everybody else from changing it until the unit of work ends."""
    row = deployment_row(ctx, name_or_id)
    ctx.session.refresh(row, with_for_update=True)
    return row


def revision_rows(ctx: Context, row: DeploymentRow) -> dict[int, RevisionRow]:
    """Return a deployment's revisions by number."""
    found = ctx.session.scalars(select(RevisionRow).where(RevisionRow.deployment_id == row.id))
    return {one.number: one for one in found}


def observed(row: DeploymentRow) -> list[Replica]:
    """Return the replicas as they were last seen."""
    return [Replica.model_validate(replica) for replica in row.observed]


def endpoints_of(row: DeploymentRow, revisions: Mapping[int, RevisionRow]) -> tuple[list[str], list[str]]:
    """Return where the replicas are that serve: those that were ready when last seen, and all that listen."""
    home = None if row.active_revision is None else home_of(revisions[row.active_revision])
    serving = [one for one in observed(row) if one.revision == home and one.index < row.replicas]
    ready = [one.endpoint for one in serving if one.ready and one.endpoint]
    return ready, [one.endpoint for one in serving if one.endpoint]


def scaling_of(row: DeploymentRow) -> Autoscaling | None:
    """Return the policy by which the platform scales a deployment; None where the number is fixed, or the cluster scales."""
    found = followed(row)
    return found if isinstance(found, Autoscaling) else None


def cluster_scaling_of(row: DeploymentRow) -> HpaScaling | KedaScaling | None:
    """Return the policy by which the cluster scales a deployment; None where it does not."""
    found = followed(row)
    return None if isinstance(found, Autoscaling) else found


def followed(row: DeploymentRow) -> Autoscaling | HpaScaling | KedaScaling | None:
    """Return what a deployment's number of replicas follows; None where it is fixed."""
    if row.autoscaling is None:
        return None
    return POLICIES[row.autoscaling.get("by", "requests")].model_validate(row.autoscaling)


def policy_of(revision: RevisionRow) -> TrafficPolicy:
    """Return a revision's traffic policy; those from before there were any have none."""
    return TrafficPolicy.model_validate(revision.traffic or {"override_header": None})


def variants_of(revision: RevisionRow) -> list[RevisionVariant]:
    """Return a revision's variants, champion first."""
    others = [RevisionVariant.model_validate(one) for one in revision.variants or ()]
    taken = sum(one.share for one in others if one.role is VariantRole.CHALLENGER)
    champion = RevisionVariant(
        name="champion",
        role=VariantRole.CHAMPION,
        share=max(0.0, 100.0 - taken),
        model=revision.model,
        model_version=revision.model_version,
        model_version_id=revision.model_version_id,
    )
    return [champion, *others]


def home_of(revision: RevisionRow) -> int:
    """Return the number of the revision in whose workload a revision lives."""
    return revision.home or revision.number


def default_strategy(row: DeploymentRow) -> Strategy:
    """Return how changes of a deployment come about unless they say otherwise."""
    return AllAtOnce() if row.strategy is None else strategy_of(row.strategy)


def pending_rollout(ctx: Context, row: DeploymentRow, revisions: Mapping[int, RevisionRow]) -> RolloutRow | None:
    """Return the rollout of the revision that is brought up, if there is one."""
    if revisions[row.wanted_revision].state != RevisionState.PENDING:
        return None
    query = select(RolloutRow).where(RolloutRow.deployment_id == row.id, RolloutRow.revision == row.wanted_revision)
    return ctx.session.scalars(query).one_or_none()


def course_of(row: RolloutRow) -> Course:
    """Return where a rollout stands, as the rules take it."""
    return Course(
        strategy=strategy_of(row.strategy),
        state=RolloutState(row.state),
        step=row.step,
        began_at=row.began_at,
        extensions=row.extensions,
        looks=row.looks,
        looked_at=row.looked_at,
        hold=None if row.hold is None else Hold(row.hold),
        reason=row.reason,
    )


def as_revision(row: RevisionRow) -> Revision:
    """Return a revision as it reads."""
    return Revision(
        id=row.id,
        number=row.number,
        home=home_of(row),
        model_version_id=row.model_version_id,
        model=row.model,
        model_version=row.model_version,
        limits=ServingLimits.model_validate(row.limits),
        traffic=policy_of(row),
        variants=variants_of(row),
        state=RevisionState(row.state),
        reason=row.reason,
        created_at=row.created_at,
        created_by=row.created_by,
    )


def read_deployment(ctx: Context, row: DeploymentRow) -> Deployment:
    """Return a deployment as it reads."""
    return as_deployment(row, current_revisions(ctx, [row])[row.id])


def current_revisions(ctx: Context, rows: Sequence[DeploymentRow]) -> dict[str, list[RevisionRow]]:
    """Return of each deployment the revisions that serve or are wanted."""
    query = (
        select(RevisionRow)
        .join(DeploymentRow, DeploymentRow.id == RevisionRow.deployment_id)
        .where(
            DeploymentRow.id.in_([row.id for row in rows]),
            or_(
                RevisionRow.number == DeploymentRow.active_revision,
                RevisionRow.number == DeploymentRow.wanted_revision,
            ),
        )
    )
    found: dict[str, list[RevisionRow]] = {}
    for revision in ctx.session.scalars(query):
        found.setdefault(revision.deployment_id, []).append(revision)
    return found


def as_deployment(row: DeploymentRow, revisions: Sequence[RevisionRow]) -> Deployment:
    """Return a deployment as it reads: its model and limits are those that answer now, else those wanted."""
    shown = next(one for one in revisions if one.number == (row.active_revision or row.wanted_revision))
    replicas = observed(row)
    home = home_of(shown) if row.active_revision is not None else None
    of_active = [replica for replica in replicas if replica.revision == home]
    return Deployment(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        description=row.description,
        tags=row.tags,
        state=DeploymentState(row.state),
        reason=row.reason,
        replicas=row.replicas,
        ready_replicas=ready_count(of_active, row.replicas),
        autoscaling=followed(row),
        scaled_at=row.scaled_at,
        active_revision=row.active_revision,
        wanted_revision=row.wanted_revision,
        model=shown.model,
        model_version=shown.model_version,
        model_version_id=shown.model_version_id,
        limits=ServingLimits.model_validate(shown.limits),
        traffic=policy_of(shown),
        target=Target(row.target),
        variants=variants_of(shown),
        strategy=default_strategy(row),
        replica_status=replicas,
        created_at=row.created_at,
        created_by=row.created_by,
        revision=row.revision,
    )
