"""What serving does. Context first, one verb a function; the edge commits. What talks to replicas is in `traffic`."""

from modelops.contracts.errors import AlreadyExists, InvalidInput, NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page, jsonable
from modelops.domains.serving.business import record_business_metric as record_business_metric
from modelops.domains.serving.changes import Wish, add_revision, begin, refuse_deleting, same_wish, supersede, wish_for
from modelops.domains.serving.courses.strategies import AllAtOnce
from modelops.domains.serving.errors import NothingToRollBackTo
from modelops.domains.serving.live.looking import read_live_stats as read_live_stats
from modelops.domains.serving.logs.predictionlogs import download_prediction_logs as download_prediction_logs
from modelops.domains.serving.logs.predictionlogs import list_prediction_logs as list_prediction_logs
from modelops.domains.serving.logs.predictionlogs import receive_prediction_log as receive_prediction_log
from modelops.domains.serving.rows import (
    as_deployment,
    as_revision,
    current_revisions,
    default_strategy,
    deployment_row,
    locked_row,
    policy_of,
    read_deployment,
    revision_rows,
    variants_of,
)
from modelops.domains.serving.rules import served_before
from modelops.domains.serving.scaling.resizing import refuse_scaling, resize
from modelops.domains.serving.schemas import (
    Deployment,
    DeploymentCreate,
    DeploymentState,
    DeploymentUpdate,
    Revision,
    RevisionState,
    RollbackRequest,
    ServingLimits,
    Target,
)
from modelops.domains.serving.steering import abort_rollout as abort_rollout
from modelops.domains.serving.steering import get_rollout as get_rollout
from modelops.domains.serving.steering import list_rollouts as list_rollouts
from modelops.domains.serving.steering import pause_rollout as pause_rollout
from modelops.domains.serving.steering import promote_rollout as promote_rollout
from modelops.domains.serving.steering import resume_rollout as resume_rollout
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
from modelops.domains.serving.traffic import explain as explain
from modelops.domains.serving.traffic import get_replica_log as get_replica_log
from modelops.domains.serving.traffic import predict as predict
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows


def create_deployment(ctx: Context, body: DeploymentCreate) -> Deployment:
    """Make a deployment; its first revision is brought up after this."""
    ctx.require("deployments.write")
    if ctx.session.scalars(ctx.query(DeploymentRow).where(DeploymentRow.name == body.name)).first() is not None:
        raise AlreadyExists(
            f"There is a deployment '{body.name}' already.",
            hint="Choose another name, or give the existing one another model: `mops deployments update-deployment`.",
        )
    target = Target(body.target or ctx.settings.deployments)
    if target is Target.KUBERNETES and ctx.settings.kubernetes_image is None:
        raise InvalidInput(
            "This platform deploys to no cluster.",
            hint="Leave `target` out, or set MODELOPS_KUBERNETES_IMAGE and a kubeconfig for the platform.",
        )
    refuse_scaling(target, body.autoscaling)
    wish = wish_for(ctx, body.model, body.limits, body.traffic)
    row = DeploymentRow(
        id=new_id("dep"),
        project_id=ctx.project_id,
        name=body.name,
        description=body.description,
        tags=body.tags,
        replicas=body.autoscaling.bound(body.replicas) if body.autoscaling else body.replicas,
        autoscaling=None if body.autoscaling is None else body.autoscaling.model_dump(mode="json"),
        deleting=False,
        state=DeploymentState.PROGRESSING,
        reason=None,
        wanted_revision=1,
        waited_s=0.0,
        observed=[],
        strategy=jsonable(body.strategy),
        target=target,
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    first = add_revision(ctx, row, 1, wish, None)
    ctx.emit(
        "modelops.serving.deployment_created",
        row.id,
        name=row.name,
        model=first.model,
        version=first.model_version,
        replicas=row.replicas,
    )
    return as_deployment(row, [first])


def list_deployments(ctx: Context, page: PageQuery) -> Page[Deployment]:
    """List the project's deployments."""
    ctx.require("deployments.read")
    fields = {
        "name": DeploymentRow.name,
        "state": DeploymentRow.state,
        "replicas": DeploymentRow.replicas,
        "created_at": DeploymentRow.created_at,
        "tags": lambda key: DeploymentRow.tags[key].as_string(),
    }
    found = list_rows(ctx, ctx.query(DeploymentRow), DeploymentRow.id, fields, page)
    revisions = current_revisions(ctx, found.rows)
    items = [as_deployment(row, revisions[row.id]) for row in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def get_deployment(ctx: Context, deployment: str) -> Deployment:
    """Return a deployment, by name or id, with its replicas as they were last seen."""
    ctx.require("deployments.read")
    return find_deployment(ctx, deployment)


def update_deployment(ctx: Context, deployment: str, body: DeploymentUpdate) -> Deployment:
    """Change a deployment. Another model, other limits or another traffic policy make a new revision, which is rolled out by
    the strategy; other replicas or texts do not."""
    ctx.require("deployments.write")
    row = locked_row(ctx, deployment)
    refuse_deleting(row)
    ctx.check_revision(row)
    if body.description is not None:
        row.description = body.description
    if body.tags is not None:
        row.tags = body.tags
    resize(row, body)
    if body.strategy is not None:
        row.strategy = jsonable(body.strategy)
    _reconfigure(ctx, row, body)
    ctx.emit(
        "modelops.serving.deployment_updated",
        row.id,
        name=row.name,
        wanted_revision=row.wanted_revision,
        replicas=row.replicas,
    )
    return read_deployment(ctx, row)


def delete_deployment(ctx: Context, deployment: str) -> Deployment:
    """Ask for a deployment to end. It answers as `deleting` until nothing of it runs, and then is gone."""
    ctx.require("deployments.write")
    row = locked_row(ctx, deployment)
    if not row.deleting:
        ctx.check_revision(row)
        row.deleting = True
        row.state, row.reason = DeploymentState.DELETING, None
        ctx.emit("modelops.serving.deployment_deleting", row.id, name=row.name)
    return read_deployment(ctx, row)


def list_revisions(ctx: Context, deployment: str, page: PageQuery) -> Page[Revision]:
    """List a deployment's revisions, newest first."""
    ctx.require("deployments.read")
    row = deployment_row(ctx, deployment)
    fields = {
        "number": RevisionRow.number,
        "state": RevisionRow.state,
        "model": RevisionRow.model,
        "model_version": RevisionRow.model_version,
        "created_at": RevisionRow.created_at,
    }
    query = ctx.query(RevisionRow).where(RevisionRow.deployment_id == row.id)
    found = list_rows(ctx, query, RevisionRow.id, fields, page, order="desc")
    items = [as_revision(one) for one in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def rollback_deployment(ctx: Context, deployment: str, body: RollbackRequest) -> Deployment:
    """Go back to an earlier revision: a new one equal to it takes over at once, in the processes that run."""
    ctx.require("deployments.write")
    row = locked_row(ctx, deployment)
    refuse_deleting(row)
    ctx.check_revision(row)
    revisions = revision_rows(ctx, row)
    target = _rollback_target(row, revisions, body.revision)
    wish = _wish_of(ctx, target)
    new = supersede(ctx, row, revisions, wish, AllAtOnce(), towards=target)
    ctx.emit(
        "modelops.serving.rollback_requested", row.id, name=row.name, to_revision=target.number, revision=new.number
    )
    return read_deployment(ctx, row)


def find_deployment(ctx: Context, name_or_id: str) -> Deployment:
    """Return a deployment of the current project, whoever asks (for the domains above)."""
    return read_deployment(ctx, deployment_row(ctx, name_or_id))


def _reconfigure(ctx: Context, row: DeploymentRow, body: DeploymentUpdate) -> None:
    """Make a new revision where what is wished is not what is wanted, or what was wanted failed."""
    if body.model is None and body.limits is None and body.traffic is None:
        return
    revisions = revision_rows(ctx, row)
    wanted = revisions[row.wanted_revision]
    kept = variants_of(wanted) if body.traffic is None else None
    wish = wish_for(
        ctx,
        body.model or wanted.model_version_id,
        body.limits or ServingLimits.model_validate(wanted.limits),
        body.traffic or policy_of(wanted),
        kept,
    )
    if not same_wish(wish, wanted) or wanted.state in (RevisionState.FAILED, RevisionState.ABORTED):
        supersede(ctx, row, revisions, wish, body.strategy or default_strategy(row))
    elif row.failure is not None:  # what serves is what is wanted: the failed attempt is over and done with
        row.failure = None
        begin(row)


def _wish_of(ctx: Context, revision: RevisionRow) -> Wish:
    """Return the wish for a revision once more; its versions may have been retired since."""
    limits = ServingLimits.model_validate(revision.limits)
    return wish_for(ctx, revision.model_version_id, limits, policy_of(revision), variants_of(revision))


def _rollback_target(row: DeploymentRow, revisions: dict[int, RevisionRow], number: int | None) -> RevisionRow:
    if number is None:
        activations = {one.number: one.activated_at for one in revisions.values() if one.activated_at is not None}
        pending = row.wanted_revision if revisions[row.wanted_revision].state == RevisionState.PENDING else None
        number = served_before(activations, row.active_revision, pending)
        if number is None:
            raise NothingToRollBackTo(f"No other revision of '{row.name}' has ever served.")
    if number not in revisions:
        raise NotFound(f"The deployment '{row.name}' has no revision {number}.", hint=NothingToRollBackTo.default_hint)
    return revisions[number]
