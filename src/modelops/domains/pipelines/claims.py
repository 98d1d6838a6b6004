"""Workers take steps up, and say that they are at them still."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import func, select, update

from modelops.contracts.errors import MLOpsError, NotFound, PermissionDenied
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.document import PipelineDocument, ValueType
from modelops.domains.pipelines.ending import fail, give_back
from modelops.domains.pipelines.inputs import Inputs, each_ref, resolve
from modelops.domains.pipelines.logs import write_logs
from modelops.domains.pipelines.rows import document_of, find_run
from modelops.domains.pipelines.schemas import (
    MOST_CONTENT_BYTES,
    RunState,
    StepBeat,
    StepClaim,
    StepOrders,
    StepState,
    StepTask,
    StepWork,
)
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow, PipelineWorkerRow
from modelops.domains.pipelines.values import read_json, read_small
from modelops.domains.pipelines.waking import Wakes, ends_of, wake, work_of
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_LOOK_EVERY_S = 1.0
_MOST_CONTENTS_BYTES = 1024**2
"""Of small values in one answer."""

_FINAL = tuple(state for state in StepState if state.final)


@dataclass
class _Taken:
    """A step that was claimed, and the items of its inputs that are still to be read."""

    task: StepTask
    items: dict[str, tuple[str, int]]


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
        taken = _take(ctx, row, worker, body.most)
    found = [_with_items(scope, run, each) for each in taken]
    tasks = [task for task in found if task is not None]
    return StepWork(tasks=tasks, over=False, contents=_contents(scope, tasks)) if tasks else None


def _contents(scope: Scope, tasks: list[StepTask]) -> dict[str, str]:
    """Return the small values that tasks refer to, as many as an answer holds; the workers fetch the others themselves."""
    store: BlobStore = scope.place.ports[BlobStore]
    found: dict[str, str] = {}
    left = _MOST_CONTENTS_BYTES
    for ref in (ref for task in tasks for refs in task.references.values() for ref in each_ref(refs)):
        if ref.digest is None or ref.digest in found or ref.type is not ValueType.JSON:
            continue
        if ref.size <= min(MOST_CONTENT_BYTES, left) and (text := read_small(store, ref.digest)) is not None:
            found[ref.digest] = text
            left -= ref.size
    return found


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


def _take(ctx: Context, run: PipelineRunRow, worker: PipelineWorkerRow, most: int) -> list[_Taken]:
    """Claim steps in one statement, and say what each takes."""
    document = document_of(ctx, run.version_id)
    now = ctx.clock.now()
    _revive(ctx, run, worker.queue, now)
    lease_s = ctx.settings.step_lease_s
    free = (
        select(PipelineStepRow.id)
        .where(
            PipelineStepRow.run_id == run.id,
            PipelineStepRow.state == StepState.READY,
            PipelineStepRow.queue == worker.queue,
        )
        .order_by(PipelineStepRow.place)
        .limit(_share(ctx, run, document, worker.queue, most))
        .with_for_update(skip_locked=True)
        .cte("free")  # read once: a subquery might be read again for each row, and claim more than it may
    )
    open_run = select(PipelineRunRow.id).where(PipelineRunRow.id == run.id, PipelineRunRow.state == RunState.RUNNING)
    claim = (
        update(PipelineStepRow)
        .where(PipelineStepRow.id.in_(select(free.c.id)), open_run.exists())
        .values(
            state=StepState.RUNNING,
            attempt=PipelineStepRow.attempt + 1,
            worker=worker.id,
            started_at=now,
            reason=None,
            not_before=None,
            lease_expires_at=now + timedelta(seconds=lease_s),
        )
        .returning(
            PipelineStepRow.id,
            PipelineStepRow.key,
            PipelineStepRow.step,
            PipelineStepRow.index,
            PipelineStepRow.attempt,
            PipelineStepRow.place,
        )
        .execution_options(synchronize_session=False)
    )
    rows = sorted(ctx.session.execute(claim).all(), key=lambda row: row[-1])
    found = resolve(ctx, run, document, [(step, index) for _, _, step, index, _, _ in rows])
    return [
        _Taken(_task(document, run, inputs, step_id, key, step, attempt, lease_s), inputs.items)
        for (step_id, key, step, _, attempt, _), inputs in zip(rows, found, strict=True)
    ]


def _task(
    document: PipelineDocument,
    run: PipelineRunRow,
    inputs: Inputs,
    step_id: str,
    key: str,
    step: str,
    attempt: int,
    lease_s: float,
) -> StepTask:
    spec = document.steps[step]
    return StepTask(
        id=step_id,
        key=key,
        attempt=attempt,
        function=spec.run.function if spec.run is not None else "",
        inputs=inputs.values,
        references=inputs.references,
        outputs=spec.outputs,
        timeout_s=spec.timeout_s,
        resources=spec.resources,
        idempotency_key=f"{run.id}:{key}",
        lease_s=lease_s,
    )


def _revive(ctx: Context, run: PipelineRunRow, queue: str, now: datetime) -> None:
    """Make steps ready again whose time to wait after a failure is over."""
    ctx.session.execute(
        update(PipelineStepRow)
        .where(
            PipelineStepRow.run_id == run.id,
            PipelineStepRow.state == StepState.RETRYING,
            PipelineStepRow.queue == queue,
            PipelineStepRow.not_before <= now,
        )
        .values(state=StepState.READY)
        .execution_options(synchronize_session=False)
    )


def _share(ctx: Context, run: PipelineRunRow, document: PipelineDocument, queue: str, most: int) -> int:
    """Return how many steps one worker may take at once: few ready ones are left for the others."""
    if most == 1:
        return 1
    ready = select(PipelineStepRow.id).where(
        PipelineStepRow.run_id == run.id, PipelineStepRow.state == StepState.READY, PipelineStepRow.queue == queue
    )
    counted = ctx.session.scalar(select(func.count()).select_from(ready.limit(most * document.workers).subquery())) or 0
    return max(1, min(most, -(-counted // document.workers)))


def _with_items(scope: Scope, run: str, taken: _Taken) -> StepTask | None:
    """Return a task with the items read that its inputs are; where they cannot be, the attempt has failed."""
    if not taken.items:
        return taken.task
    store: BlobStore = scope.place.ports[BlobStore]
    try:
        items: dict[str, Json] = {}
        for name, (digest, index) in taken.items.items():
            whole = read_json(store, digest)
            items[name] = whole[index] if isinstance(whole, list) else None
    except MLOpsError as wrong:
        with scope.place.work(scope.actor) as ctx:
            row = ctx.session.get(PipelineStepRow, taken.task.id, with_for_update=True)
            owner = find_run(ctx, run)
            if row is not None and (row.state, row.attempt) == (StepState.RUNNING, taken.task.attempt):
                spec = document_of(ctx, owner.version_id).steps[row.step]
                fail(ctx, owner, spec, row, f"Its item cannot be read: {wrong.detail}")
                wake(ctx, ends_of(run))
        return None
    return taken.task.model_copy(update={"inputs": {**taken.task.inputs, **items}})
