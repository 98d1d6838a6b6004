"""Steps of runs, as people see them, and their answers to those that wait for one."""

from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Page
from modelops.domains.data import service as data
from modelops.domains.pipelines.ending import fail, succeed
from modelops.domains.pipelines.rows import as_step, document_of, find_run, find_step, hold
from modelops.domains.pipelines.rules import NothingAwaited, OwnApproval
from modelops.domains.pipelines.schemas import Decision, RunState, StepRun, StepState
from modelops.domains.pipelines.tables import PipelineStepRow
from modelops.domains.pipelines.values import JSON_TYPE, put_json
from modelops.domains.pipelines.waking import ends_of, wake
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows
from modelops.kernel.scope import Scope

_FIELDS = {
    "place": PipelineStepRow.place,
    "key": PipelineStepRow.key,
    "step": PipelineStepRow.step,
    "state": PipelineStepRow.state,
    "kind": PipelineStepRow.kind,
    "started_at": PipelineStepRow.started_at,
    "ended_at": PipelineStepRow.ended_at,
}


def list_steps(ctx: Context, run: str, page: PageQuery) -> Page[StepRun]:
    """List a run's steps in the document's order, the members of a fan-out behind it."""
    ctx.require("pipelines.read")
    row = find_run(ctx, run)
    query = ctx.query(PipelineStepRow).where(PipelineStepRow.run_id == row.id)
    if page.order_by is None:
        page = page.model_copy(update={"order_by": "place"})
    found = list_rows(ctx, query, PipelineStepRow.id, _FIELDS, page)
    return Page(items=[as_step(step) for step in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_step(ctx: Context, run: str, step: str) -> StepRun:
    """Return a step of a run, by key (`fit`, `fit[3]`) or id."""
    ctx.require("pipelines.read")
    return as_step(find_step(ctx, find_run(ctx, run), step))


def decide_step(scope: Scope, run: str, step: str, body: Decision) -> StepRun:
    """Answer an approval step, once. Whoever started the run may reject, and does not approve.

    Raises:
        OwnApproval: the caller started the run.
        NothingAwaited: the step waits for no answer, or has one.
    """
    with scope.work(write=False) as ctx:
        ctx.require("pipelines.approve")
        find_step(ctx, find_run(ctx, run), step)
    said = {"approved_by": scope.actor.id, "comment": body.comment}
    store = scope.place.ports[BlobStore]
    refs = {name: put_json(store, value) for name, value in said.items()}
    with scope.work() as ctx:
        ctx.require("pipelines.approve")
        owner = find_run(ctx, run)
        row = find_step(ctx, owner, step, lock=True)
        if row.state != StepState.AWAITING or owner.state == RunState.CANCELING:
            raise NothingAwaited(f"The step '{row.key}' is {row.state}, and waits for no answer.")
        if body.approved and ctx.actor.id == owner.created_by:
            raise OwnApproval(f"'{ctx.actor.name}' started the run, and does not approve it too.")
        if body.approved:
            for ref in refs.values():
                data.add_artifact(ctx, ref.digest or "", ref.size, JSON_TYPE)
            hold(ctx, owner.id, owner.project_id, [ref.digest for ref in refs.values() if ref.digest])
            succeed(ctx, row, refs)
        else:
            why = f": {body.comment}" if body.comment else ""
            spec = document_of(ctx, owner.version_id).steps[row.step]
            fail(ctx, owner, spec, row, f"Rejected by {ctx.actor.name}{why}", hopeless=True)
        ctx.emit(
            "modelops.pipelines.approval_decided",
            owner.id,
            step=row.key,
            approved=body.approved,
            decided_by=ctx.actor.id,
            comment=body.comment,
        )
        wake(ctx, ends_of(owner.id))
        ctx.session.flush()
        return as_step(row)
