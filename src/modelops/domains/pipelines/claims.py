"""Workers take steps up, and say that they are at them still."""

import time
from datetime import timedelta

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select, update

from modelops.contracts.errors import NotFound, PermissionDenied
from modelops.domains.pipelines.ending import give_back
from modelops.domains.pipelines.logs import write_logs
from modelops.domains.pipelines.rows import find_run
from modelops.domains.pipelines.schemas import (
    RunState,
    StepBeat,
    StepClaim,
    StepOrders,
    StepState,
    StepWork,
)
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow, PipelineWorkerRow
from modelops.domains.pipelines.taking import handed, take
from modelops.domains.pipelines.waking import Wakes, ends_of, wake, work_of
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_LOOK_EVERY_S = 1.0
_FINAL = tuple(state for state in StepState if state.final)


async def claim_steps(scope: Scope, run: str, body: StepClaim) -> StepWork:
    """Give a worker of the run steps to carry out; it waits for the first on the event loop, holding nothing.

    Raises:
        NotFound: there is no such run, or it has no such worker.
        PermissionDenied: the caller is no worker of the run.
    """
    deadline = time.monotonic() + body.wait_s
    with scope.place.ports[Wakes].bell(work_of(run)) as bell:
        while True:
            work = await run_in_threadpool(_claim, scope, run, body)
            left = deadline - time.monotonic()
            if work is not None or left <= 0 or getattr(scope.request.app.state, "draining", False):
                return work or StepWork(tasks=[], over=False)
            await bell.wait(min(left, _LOOK_EVERY_S))


def beat_steps(scope: Scope, run: str, body: StepBeat) -> StepOrders:
    """Keep the attempts that a worker is at, and tell it which of them must stop."""
    place = scope.place
    with place.work(scope.actor) as ctx:
        row = worked_run(ctx, run)
        until = ctx.clock.now() + timedelta(seconds=ctx.settings.step_lease_s)
        mine = (
            update(PipelineStepRow)
            .where(
                PipelineStepRow.run_id == row.id,
                PipelineStepRow.id.in_([step for step, _ in body.attempts]),
                PipelineStepRow.state == StepState.RUNNING,
                PipelineStepRow.worker == body.worker,
            )
            .values(lease_expires_at=until)
            .returning(PipelineStepRow.id, PipelineStepRow.attempt)
            .execution_options(synchronize_session=False)
        )
        kept = {(step, attempt) for step, attempt in ctx.session.execute(mine)} if body.attempts else set()
        write_logs(ctx, row, body.wrote)
        _take_back(ctx, row, body)
        canceling = row.state == RunState.CANCELING
        return StepOrders(stop=[step for step, attempt in body.attempts if canceling or (step, attempt) not in kept])


def _take_back(ctx: Context, run: PipelineRunRow, body: StepBeat) -> None:
    """Let other workers have what this one claimed and will not carry out."""
    if not body.returned:
        return
    given = dict(body.returned)
    theirs = ctx.query(PipelineStepRow).where(
        PipelineStepRow.run_id == run.id,
        PipelineStepRow.id.in_(list(given)),
        PipelineStepRow.state == StepState.RUNNING,
        PipelineStepRow.worker == body.worker,
    )
    for step in ctx.session.scalars(theirs.order_by(PipelineStepRow.id).with_for_update()):
        if step.attempt == given[step.id]:
            give_back(ctx, run, step, None, lost=False)
    wake(ctx, ends_of(run.id), work_of(run.id))


def worked_run(ctx: Context, run: str) -> PipelineRunRow:
    """Return a run to one of its workers.

    Raises:
        NotFound: there is no such run here.
        PermissionDenied: the caller is none of them.
    """
    row = find_run(ctx, run)
    if ctx.actor.kind != "grant" or ctx.actor.id != row.id:
        raise PermissionDenied("Only the workers of the run itself take its steps up.")
    return row


def _claim(scope: Scope, run: str, body: StepClaim) -> StepWork | None:
    """Try once; None where there is nothing yet."""
    place = scope.place
    with place.work(scope.actor, write=False) as ctx:
        row = worked_run(ctx, run)
        worker = _worker(ctx, row, body.worker)
        if row.state in (RunState.CANCELING, *(state for state in RunState if state.final)):
            return StepWork(tasks=[], over=True)
        if worker.heard_at is not None and not _is_there_work(ctx, row, worker.queue):
            return StepWork(tasks=[], over=True) if _is_over(ctx, row, worker.queue) else None
    with place.work(scope.actor) as ctx:
        row = worked_run(ctx, run)
        worker = _worker(ctx, row, body.worker)
        worker.heard_at = worker.heard_at or ctx.clock.now()
        taken = take(ctx, row, worker, body.most)
    work = handed(scope, run, taken)
    return work if work.tasks else None


def _worker(ctx: Context, run: PipelineRunRow, name: str) -> PipelineWorkerRow:
    worker = ctx.session.get(PipelineWorkerRow, name)
    if worker is None or worker.run_id != run.id or worker.ended_at is not None:
        raise NotFound(f"The run has no worker '{name[:100]}' at work.", hint="It was given up; it may end.")
    return worker


def _is_there_work(ctx: Context, run: PipelineRunRow, queue: str) -> bool:
    mine = (PipelineStepRow.run_id == run.id, PipelineStepRow.queue == queue)
    if run.state != RunState.RUNNING:
        return False
    due = select(PipelineStepRow.id).where(
        *mine, PipelineStepRow.state == StepState.RETRYING, PipelineStepRow.not_before <= ctx.clock.now()
    )
    ready = select(PipelineStepRow.id).where(*mine, PipelineStepRow.state == StepState.READY)
    return any(ctx.session.scalars(query.limit(1)).first() is not None for query in (ready, due))


def _is_over(ctx: Context, run: PipelineRunRow, queue: str) -> bool:
    """Tell whether no step is left for workers of a kind. Those of the plain kind stay until the run has ended."""
    if queue == "":
        return False
    left = select(PipelineStepRow.id).where(
        PipelineStepRow.run_id == run.id, PipelineStepRow.queue == queue, PipelineStepRow.state.not_in(_FINAL)
    )
    return ctx.session.scalars(left.limit(1)).first() is None
