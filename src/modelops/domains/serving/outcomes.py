"""What follows from a look at the world, written down."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete

from modelops.contracts.schemas import jsonable
from modelops.domains.identity import service as identity
from modelops.domains.serving.courses.courses import Course, RolloutState
from modelops.domains.serving.courses.strategies import BlueGreen
from modelops.domains.serving.history import write_course
from modelops.domains.serving.rollouts import AnalysisResult
from modelops.domains.serving.rows import course_of, home_of, observed, scaling_of
from modelops.domains.serving.rules import Desired, RevisionFacts, Verdict, restarted
from modelops.domains.serving.schemas import DeploymentState, Replica, RevisionState
from modelops.domains.serving.tables import BusinessValuesRow, DeploymentRow, RevisionRow, RolloutRow
from modelops.domains.serving.variants import blended
from modelops.kernel.context import Context

Tails = Mapping[tuple[int, int], str]


def stage_document(row: DeploymentRow, revisions: Mapping[int, RevisionRow], course: Course) -> tuple[str, str]:
    """Return what the replicas serve at a rollout's present stage, as JSON, and its digest. Both revisions are prepared."""
    wanted, active = revisions[row.wanted_revision].spec or {}, revisions[row.active_revision or 0].spec or {}
    if course.last or course.stage is None:
        return wanted["document"], wanted["digest"]
    return blended(active["document"], wanted["document"], course.stage.share)


def desired_of(
    row: DeploymentRow, revisions: Mapping[int, RevisionRow], rollout: RolloutRow | None, now: datetime
) -> Desired:
    """Return a deployment's rows as the rules take them."""
    policy = scaling_of(row)
    course = None if rollout is None else course_of(rollout)
    pending = revisions[row.wanted_revision]
    in_place = course is not None and pending.home is not None and pending.spec is not None
    active = None if row.active_revision is None else revisions[row.active_revision]
    return Desired(
        replicas=row.replicas,
        deleting=row.deleting,
        active=row.active_revision,
        wanted=row.wanted_revision,
        revisions={
            one.number: RevisionFacts(
                one.number, RevisionState(one.state), one.spec is not None, one.placed, one.reason, one.home
            )
            for one in revisions.values()
        },
        failure=row.failure,
        waited_s=row.waited_s,
        seen_at=row.seen_at,
        sleeps=policy is not None and policy.sleeps,
        kept=frozenset(one.number for one in revisions.values() if one.keep_until is not None and one.keep_until > now),
        course=course,
        aim=stage_document(row, revisions, course)[1] if course is not None and in_place else None,
        rest=None if active is None else (active.spec or {}).get("digest"),
    )


def write_replicas(
    ctx: Context, row: DeploymentRow, revisions: Mapping[int, RevisionRow], seen: Sequence[Replica]
) -> None:
    """Write the replicas as they were seen, and tell of those that were started again."""
    home = None if row.active_revision is None else home_of(revisions[row.active_revision])
    active = [replica for replica in seen if replica.revision == home]
    for replica in restarted(observed(row), active):
        ctx.emit(
            "modelops.serving.replica_restarted",
            row.id,
            name=row.name,
            replica=replica.index,
            restarts=replica.restarts,
        )
    row.observed = [jsonable(replica) for replica in seen]


def write_verdict(
    ctx: Context,
    row: DeploymentRow,
    revisions: Mapping[int, RevisionRow],
    rollout: RolloutRow | None,
    verdict: Verdict,
    tails: Tails,
    analysis: AnalysisResult | None,
) -> None:
    """Write what follows from a look, and tell of it.

    Args:
        tails: The last output of replicas that are not ready, by revision and index.
        analysis: The analysis that the verdict counted in.
    """
    wanted = revisions[row.wanted_revision]
    if rollout is not None and verdict.course is not None:
        write_course(ctx, row, rollout, verdict.course, analysis=analysis)
    if wanted.state == RevisionState.PENDING:
        wanted.reason = verdict.trouble
        said = {str(index): tail for (number, index), tail in tails.items() if number == wanted.number}
        wanted.log_tail = {**(wanted.log_tail or {}), **said} or None
    if verdict.activated is not None:
        _activate(ctx, row, revisions, verdict.activated, verdict.course)
    if verdict.failed is not None:
        _fail(ctx, row, revisions[verdict.failed], verdict)
    if verdict.state != row.state and verdict.state in (DeploymentState.DEGRADED, DeploymentState.READY):
        ctx.emit(f"modelops.serving.deployment_{verdict.state}", row.id, name=row.name, reason=verdict.reason)
    row.state, row.reason = verdict.state, verdict.reason
    row.active_revision, row.wanted_revision = verdict.active, verdict.wanted
    row.failure, row.waited_s = verdict.failure, verdict.waited_s
    row.seen_at = None if verdict.waited_s is None else ctx.clock.now()


def _activate(
    ctx: Context, row: DeploymentRow, revisions: Mapping[int, RevisionRow], number: int, course: Course | None
) -> None:
    revision = revisions[number]
    if row.active_revision is not None:
        before = revisions[row.active_revision]
        before.state = RevisionState.SUPERSEDED
        if course is not None and isinstance(course.strategy, BlueGreen) and home_of(before) != home_of(revision):
            revisions[home_of(before)].keep_until = ctx.clock.now() + timedelta(seconds=course.strategy.keep_s)
    revisions[home_of(revision)].keep_until = None
    revision.state, revision.reason, revision.log_tail = RevisionState.ACTIVE, None, None
    revision.activated_at = ctx.clock.now()
    ctx.emit("modelops.serving.revision_active", row.id, name=row.name, before=row.active_revision, **_about(revision))


def _fail(ctx: Context, row: DeploymentRow, revision: RevisionRow, verdict: Verdict) -> None:
    aborted = verdict.course is not None and verdict.course.state is RolloutState.ABORTED
    revision.state, revision.reason = RevisionState.ABORTED if aborted else RevisionState.FAILED, verdict.trouble
    ctx.emit("modelops.serving.revision_failed", row.id, name=row.name, reason=verdict.trouble, **_about(revision))
    if verdict.active is not None:
        ctx.emit(
            "modelops.serving.rolled_back",
            row.id,
            name=row.name,
            from_revision=revision.number,
            to_revision=verdict.active,
            reason=verdict.failure,
        )


def _about(revision: RevisionRow) -> dict[str, Any]:
    return {
        "revision": revision.number,
        "model": revision.model,
        "version": revision.model_version,
        "model_version_id": revision.model_version_id,
    }


def forget_deployment(ctx: Context, row: DeploymentRow) -> None:
    """Take a deployment out of the books after nothing of it was seen any more."""
    identity.revoke_grants(ctx, row.id)
    for table in (BusinessValuesRow, RolloutRow, RevisionRow):
        ctx.session.execute(delete(table).where(table.deployment_id == row.id))
    ctx.session.delete(row)
    ctx.emit("modelops.serving.deployment_deleted", row.id, name=row.name)
