"""What follows from a look at the world, written down."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete

from modelops.contracts.schemas import jsonable
from modelops.domains.identity import service as identity
from modelops.domains.serving.rows import observed, scaling_of
from modelops.domains.serving.rules import Desired, RevisionFacts, Verdict, restarted
from modelops.domains.serving.schemas import DeploymentState, Replica, RevisionState
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
from modelops.kernel.context import Context

Tails = Mapping[tuple[int, int], str]


def desired_of(row: DeploymentRow, revisions: Mapping[int, RevisionRow]) -> Desired:
    """Return a deployment's rows as the rules take them."""
    policy = scaling_of(row)
    return Desired(
        replicas=row.replicas,
        deleting=row.deleting,
        active=row.active_revision,
        wanted=row.wanted_revision,
        revisions={
            one.number: RevisionFacts(
                one.number, RevisionState(one.state), one.spec is not None, one.placed, one.reason
            )
            for one in revisions.values()
        },
        failure=row.failure,
        waited_s=row.waited_s,
        seen_at=row.seen_at,
        sleeps=policy is not None and policy.sleeps,
    )


def write_replicas(ctx: Context, row: DeploymentRow, seen: Sequence[Replica]) -> None:
    """Write the replicas as they were seen, and tell of those that were started again."""
    active = [replica for replica in seen if replica.revision == row.active_revision]
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
    ctx: Context, row: DeploymentRow, revisions: Mapping[int, RevisionRow], verdict: Verdict, tails: Tails
) -> None:
    """Write what follows from a look, and tell of it.

    Args:
        tails: The last output of replicas that are not ready, by revision and index.
    """
    wanted = revisions[row.wanted_revision]
    if wanted.state == RevisionState.PENDING:
        wanted.reason = verdict.trouble
        said = {str(index): tail for (number, index), tail in tails.items() if number == wanted.number}
        wanted.log_tail = {**(wanted.log_tail or {}), **said} or None
    if verdict.activated is not None:
        _activate(ctx, row, revisions, verdict.activated)
    if verdict.failed is not None:
        _fail(ctx, row, revisions[verdict.failed], verdict)
    if verdict.state != row.state and verdict.state in (DeploymentState.DEGRADED, DeploymentState.READY):
        ctx.emit(f"modelops.serving.deployment_{verdict.state}", row.id, name=row.name, reason=verdict.reason)
    row.state, row.reason = verdict.state, verdict.reason
    row.active_revision, row.wanted_revision = verdict.active, verdict.wanted
    row.failure, row.waited_s = verdict.failure, verdict.waited_s
    row.seen_at = None if verdict.waited_s is None else ctx.clock.now()


def _activate(ctx: Context, row: DeploymentRow, revisions: Mapping[int, RevisionRow], number: int) -> None:
    if row.active_revision is not None:
        revisions[row.active_revision].state = RevisionState.SUPERSEDED
    revision = revisions[number]
    revision.state, revision.reason, revision.log_tail = RevisionState.ACTIVE, None, None
    revision.activated_at = ctx.clock.now()
    ctx.emit("modelops.serving.revision_active", row.id, name=row.name, before=row.active_revision, **_about(revision))


def _fail(ctx: Context, row: DeploymentRow, revision: RevisionRow, verdict: Verdict) -> None:
    revision.state, revision.reason = RevisionState.FAILED, verdict.trouble
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
    ctx.session.execute(delete(RevisionRow).where(RevisionRow.deployment_id == row.id))
    ctx.session.delete(row)
    ctx.emit("modelops.serving.deployment_deleted", row.id, name=row.name)
