"""Deployments and revisions in the database: found, and turned into what callers read."""

from collections.abc import Sequence

from sqlalchemy import or_, select

from modelops.domains.serving.autoscaling import Autoscaling
from modelops.domains.serving.rules import ready_count
from modelops.domains.serving.schemas import Deployment, DeploymentState, Replica, ServingLimits
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
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


def endpoints_of(row: DeploymentRow) -> tuple[list[str], list[str]]:
    """Return where the replicas are that serve: those that were ready when last seen, and all that listen."""
    serving = [one for one in observed(row) if one.revision == row.active_revision and one.index < row.replicas]
    ready = [one.endpoint for one in serving if one.ready and one.endpoint]
    return ready, [one.endpoint for one in serving if one.endpoint]


def scaling_of(row: DeploymentRow) -> Autoscaling | None:
    """Return what a deployment's number of replicas follows; None where it is fixed."""
    return None if row.autoscaling is None else Autoscaling.model_validate(row.autoscaling)


def begin(row: DeploymentRow) -> None:
    """Note that a change is under way: nobody has watched it yet."""
    row.state, row.reason = DeploymentState.PROGRESSING, None
    row.waited_s, row.seen_at = 0.0, None


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
    of_active = [replica for replica in replicas if replica.revision == row.active_revision]
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
        autoscaling=scaling_of(row),
        scaled_at=row.scaled_at,
        active_revision=row.active_revision,
        wanted_revision=row.wanted_revision,
        model=shown.model,
        model_version=shown.model_version,
        model_version_id=shown.model_version_id,
        limits=ServingLimits.model_validate(shown.limits),
        replica_status=replicas,
        created_at=row.created_at,
        created_by=row.created_by,
        revision=row.revision,
    )
