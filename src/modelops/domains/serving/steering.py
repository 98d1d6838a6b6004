"""What people do with a rollout: look, pause, resume, promote, abort."""

from collections.abc import Callable

from modelops.contracts.errors import NotFound
from modelops.contracts.schemas import Page
from modelops.domains.serving.changes import begin, refuse_deleting
from modelops.domains.serving.courses.courses import Course, RolloutState, abort, pause, promote, resume
from modelops.domains.serving.errors import NoRollout
from modelops.domains.serving.history import as_rollout, write_course
from modelops.domains.serving.rollouts import AbortRequest, Rollout
from modelops.domains.serving.rows import course_of, deployment_row, locked_row, pending_rollout, revision_rows
from modelops.domains.serving.schemas import RevisionState
from modelops.domains.serving.tables import RolloutRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows


def list_rollouts(ctx: Context, deployment: str, page: PageQuery) -> Page[Rollout]:
    """List a deployment's rollouts, newest first."""
    ctx.require("deployments.read")
    row = deployment_row(ctx, deployment)
    fields = {
        "revision": RolloutRow.revision,
        "state": RolloutRow.state,
        "created_at": RolloutRow.created_at,
    }
    query = ctx.query(RolloutRow).where(RolloutRow.deployment_id == row.id)
    found = list_rows(ctx, query, RolloutRow.id, fields, page, order="desc")
    return Page(items=[as_rollout(one) for one in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_rollout(ctx: Context, deployment: str, revision: int | None) -> Rollout:
    """Return the rollout of a revision; by default, the last one."""
    ctx.require("deployments.read")
    row = deployment_row(ctx, deployment)
    query = ctx.query(RolloutRow).where(RolloutRow.deployment_id == row.id)
    if revision is not None:
        query = query.where(RolloutRow.revision == revision)
    found = ctx.session.scalars(query.order_by(RolloutRow.revision.desc()).limit(1)).one_or_none()
    if found is None:
        which = "no rollout yet" if revision is None else f"no rollout of revision {revision}"
        raise NotFound(
            f"The deployment '{row.name}' has {which}.",
            hint="Each change of what serves makes one; the first has none.",
        )
    return as_rollout(found)


def pause_rollout(ctx: Context, deployment: str) -> Rollout:
    """Keep a rollout where it is; a failing analysis still aborts it."""
    return _steer(ctx, deployment, pause)


def resume_rollout(ctx: Context, deployment: str) -> Rollout:
    """Let a paused rollout go on."""
    return _steer(ctx, deployment, resume)


def promote_rollout(ctx: Context, deployment: str) -> Rollout:
    """Skip what is left of a rollout's steps: the candidate takes over now."""
    return _steer(ctx, deployment, promote)


def abort_rollout(ctx: Context, deployment: str, body: AbortRequest) -> Rollout:
    """Give a rollout up: what served before answers all again, as soon as its replicas are told."""
    why = body.reason or f"'{ctx.actor.name}' aborted it."
    return _steer(ctx, deployment, lambda course: abort(course, why))


def _steer(ctx: Context, deployment: str, move: Callable[[Course], Course]) -> Rollout:
    ctx.require("deployments.write")
    row = locked_row(ctx, deployment)
    refuse_deleting(row)
    ctx.check_revision(row)
    revisions = revision_rows(ctx, row)
    rollout = pending_rollout(ctx, row, revisions)
    if rollout is None or row.active_revision is None:
        raise NoRollout(f"Nothing is being rolled out on '{row.name}'.")
    course = move(course_of(rollout))
    write_course(ctx, row, rollout, course)
    begin(row)
    if course.state is RolloutState.ABORTED:
        given_up = revisions[rollout.revision]
        given_up.state, given_up.reason = RevisionState.ABORTED, course.reason
        row.wanted_revision = row.active_revision
        row.failure = f"The rollout of revision {rollout.revision} was aborted. {course.reason}"
    return as_rollout(rollout)
