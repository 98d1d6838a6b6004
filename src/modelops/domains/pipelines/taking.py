"""Steps that are claimed: which, and what their worker is told of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, func, select, update

from modelops.contracts.errors import MLOpsError
from modelops.contracts.ports import BlobStore
from modelops.contracts.schemas import Json
from modelops.domains.pipelines.document import PipelineDocument, ValueType
from modelops.domains.pipelines.ending import fail
from modelops.domains.pipelines.inputs import Inputs, each_ref, resolve
from modelops.domains.pipelines.rows import document_of, find_run
from modelops.domains.pipelines.schemas import (
    MOST_CONTENT_BYTES,
    RunState,
    StepState,
    StepTask,
    StepWork,
)
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow, PipelineWorkerRow
from modelops.domains.pipelines.values import read_json, read_small
from modelops.domains.pipelines.waking import ends_of, wake
from modelops.kernel.context import Context
from modelops.kernel.scope import Scope

_MOST_CONTENTS_BYTES = 1024**2
"""Of small values in one answer."""


@dataclass
class Taken:
    """A step that was claimed, and the items of its inputs that are still to be read."""

    task: StepTask
    items: dict[str, tuple[str, int]]


def take(ctx: Context, run: PipelineRunRow, worker: PipelineWorkerRow, most: int) -> list[Taken]:
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
        .limit(_share(ctx, run, worker.queue, most))
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
        Taken(_task(document, run, inputs, step_id, key, step, attempt, lease_s), inputs.items)
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


def _share(ctx: Context, run: PipelineRunRow, queue: str, most: int) -> int:
    """Return how many steps one worker may take at once: few ready ones are left for the others that are at work."""
    if most == 1:
        return 1
    at_work = select(PipelineWorkerRow.id).where(
        PipelineWorkerRow.run_id == run.id,
        PipelineWorkerRow.queue == queue,
        PipelineWorkerRow.heard_at.is_not(None),
        PipelineWorkerRow.ended_at.is_(None),
    )
    workers = max(1, _count(ctx, at_work))
    if workers == 1:
        return most
    ready = select(PipelineStepRow.id).where(
        PipelineStepRow.run_id == run.id, PipelineStepRow.state == StepState.READY, PipelineStepRow.queue == queue
    )
    return max(1, min(most, -(-_count(ctx, ready.limit(most * workers)) // workers)))


def _count(ctx: Context, query: Select[str]) -> int:
    return ctx.session.scalar(select(func.count()).select_from(query.subquery())) or 0


def _with_items(scope: Scope, run: str, taken: Taken) -> StepTask | None:
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


def take_more(ctx: Context, run: PipelineRunRow, name: str, most: int) -> list[Taken]:
    """Claim steps that are ready now for a worker, if it has not been given up."""
    worker = ctx.session.get(PipelineWorkerRow, name)
    if most == 0 or worker is None or worker.run_id != run.id or worker.ended_at is not None:
        return []
    return take(ctx, run, worker, most)


def handed(scope: Scope, run: str, taken: Sequence[Taken]) -> StepWork:
    """Return steps that were claimed as their worker is given them, once the claim has committed."""
    found = [_with_items(scope, run, each) for each in taken]
    tasks = [task for task in found if task is not None]
    return StepWork(tasks=tasks, over=False, contents=_contents(scope, tasks))


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
