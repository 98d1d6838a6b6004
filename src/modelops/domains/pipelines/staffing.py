"""The workers of a run: how many it is to have, what each is told, and what becomes of the steps of one that vanished."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, func, select

from modelops.contracts.ids import new_id
from modelops.contracts.ports import JobSpec, Limits, Observation, Phase
from modelops.domains.identity import service as identity
from modelops.domains.pipelines.document import PipelineDocument, StepResources
from modelops.domains.pipelines.ending import give_back, wind_up
from modelops.domains.pipelines.rows import document_of
from modelops.domains.pipelines.rules import queue_of
from modelops.domains.pipelines.schemas import RunState, StepState, WorkerTask
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow, PipelineWorkerRow
from modelops.domains.pipelines.waking import ends_of, wake, work_of
from modelops.domains.training.rules import environments
from modelops.kernel.context import Context
from modelops.kernel.secrets import SecretBox

STARTING, RUNNING, ENDED = "starting", "running", "ended"
PREFIX = "wrk_"
"""What the names of workers begin with at the backend."""

_TOKEN_S = 30 * 86_400
_LINGER_S = 15.0
"""For so long after a run's end its workers may end by themselves."""

_OWN_MB = 512
"""What a worker needs beside its step."""

_HOPELESS_STARTS = 5
_PAUSE_S = 2.0


@dataclass(frozen=True)
class Place:
    """A worker that is to be there. `command` says how it is started; `sealed_token` is its token."""

    id: str
    state: str
    command: JobSpec | None
    sealed_token: str | None


@dataclass(frozen=True)
class Staff:
    """What a run has of workers, and what it lacks. `over`: nobody is needed any more."""

    run_id: str
    places: list[Place]
    missing: list[str]
    over: bool


@dataclass(frozen=True)
class Sight:
    """What one look at a worker found. `problem` is what kept it from starting."""

    id: str
    observation: Observation
    problem: str | None
    hopeless: bool


def add_workers(ctx: Context, run: PipelineRunRow, queue: str, count: int) -> None:
    """Make the rows of workers, each with a token of its own; their processes are started by the reconciler."""
    for _ in range(count):
        worker = new_id("wrk")
        token = identity.grant_token(ctx, run.id, run.permissions, ttl_s=_TOKEN_S)
        ctx.session.add(
            PipelineWorkerRow(
                id=worker,
                project_id=run.project_id,
                run_id=run.id,
                queue=queue,
                state=STARTING,
                sealed_token=ctx.port(SecretBox).seal(token.encode(), worker),
                created_at=ctx.clock.now(),
            )
        )


def has_room(ctx: Context, run_id: str) -> bool:
    """Tell whether a run may have workers: it has some, or fewer runs have than may at once."""
    staffed = set(ctx.session.scalars(select(PipelineWorkerRow.run_id).where(PipelineWorkerRow.ended_at.is_(None))))
    return run_id in staffed or len(staffed) < ctx.settings.max_staffed_runs


def staffed_runs(ctx: Context) -> list[str]:
    """Return the runs that need workers, or have some still, of every project."""
    workers = select(PipelineWorkerRow.run_id).where(PipelineWorkerRow.ended_at.is_(None))
    waiting = (
        select(PipelineStepRow.run_id)
        .join(PipelineRunRow, PipelineRunRow.id == PipelineStepRow.run_id)
        .where(
            PipelineRunRow.ended_at.is_(None),
            _wants_a_worker(ctx),
        )
    )
    return sorted(set(ctx.session.scalars(workers.distinct())) | set(ctx.session.scalars(waiting.distinct())))


def _wants_a_worker(ctx: Context) -> ColumnElement[bool]:
    """Tell of a step whether it may be taken up: one that waits to be tried again wants no worker before its time."""
    due = (PipelineStepRow.state == StepState.RETRYING) & (PipelineStepRow.not_before <= ctx.clock.now())
    return (PipelineStepRow.kind == "function") & ((PipelineStepRow.state == StepState.READY) | due)


def read_staff(ctx: Context, run_id: str) -> Staff | None:
    """Return what a run has of workers, and what it lacks."""
    run = ctx.session.get(PipelineRunRow, run_id)
    if run is None:
        return None
    query = select(PipelineWorkerRow).where(PipelineWorkerRow.run_id == run_id, PipelineWorkerRow.ended_at.is_(None))
    workers = list(ctx.session.scalars(query.order_by(PipelineWorkerRow.id)))
    document = document_of(ctx, run.version_id)
    over = run.ended_at is not None and ctx.clock.now() > run.ended_at + timedelta(seconds=_LINGER_S)
    places = [_place(ctx, run, document, worker) for worker in workers]
    return Staff(run_id, places, _missing(ctx, run, document, workers), over)


def settle_staff(ctx: Context, run_id: str, seen: Sequence[Sight], missing: Sequence[str]) -> None:
    """Write what was seen of a run's workers, and add those that it lacks."""
    run = ctx.session.get(PipelineRunRow, run_id, with_for_update=True)
    if run is None:
        return
    inside = ctx.within(run.project_id, identity.tenant_of(ctx, run.project_id))
    for sight in seen:
        worker = ctx.session.get(PipelineWorkerRow, sight.id)
        if worker is not None and worker.ended_at is None:
            _settle(inside, run, worker, sight)
    if run.ended_at is None:
        if missing and not has_room(inside, run.id):
            _tell(run, f"It waits for workers: {ctx.settings.max_staffed_runs} runs have some, as many as may at once.")
            return
        for queue in missing:
            add_workers(inside, run, queue, 1)
        return
    alive = select(PipelineWorkerRow.id).where(PipelineWorkerRow.run_id == run_id, PipelineWorkerRow.ended_at.is_(None))
    ctx.session.flush()
    if ctx.session.scalars(alive.limit(1)).first() is None:
        identity.revoke_grants(inside, run_id)


def live_workers(ctx: Context) -> frozenset[str]:
    """Return the workers that may run, of every project."""
    return frozenset(ctx.session.scalars(select(PipelineWorkerRow.id).where(PipelineWorkerRow.ended_at.is_(None))))


def _settle(ctx: Context, run: PipelineRunRow, worker: PipelineWorkerRow, sight: Sight) -> None:
    seen = sight.observation
    if sight.problem is not None:
        _tell(run, f"A worker cannot start: {sight.problem}")
        if sight.hopeless:
            _end(ctx, run, worker, sight.problem)
            _give_up(ctx, run)
    elif seen.ended:
        told = seen.reason
        _end(ctx, run, worker, told)
        if worker.heard_at is None and run.ended_at is None:
            _tell(run, f"A worker ended before it took anything up: {told or 'without a word'}.")
            _give_up(ctx, run)
    elif worker.state == STARTING and seen.phase is Phase.RUNNING:
        worker.state = RUNNING
        _tell(run, None)


def _end(ctx: Context, run: PipelineRunRow, worker: PipelineWorkerRow, reason: str | None) -> None:
    worker.state, worker.reason, worker.ended_at, worker.sealed_token = ENDED, reason, ctx.clock.now(), None
    mine = select(PipelineStepRow).where(
        PipelineStepRow.run_id == run.id,
        PipelineStepRow.state == StepState.RUNNING,
        PipelineStepRow.worker == worker.id,
    )
    for row in ctx.session.scalars(mine.with_for_update()):
        give_back(ctx, run, row, f"Its worker ended: {reason or 'without a word'}.")
    wake(ctx, ends_of(run.id), work_of(run.id))


def _tell(run: PipelineRunRow, problem: str | None) -> None:
    """Say at the run what keeps its workers from coming up; a run that somebody paused or cancelled says that."""
    if run.state in (RunState.QUEUED, RunState.RUNNING) and run.reason != problem:
        run.reason = problem
        run.touch()


def _give_up(ctx: Context, run: PipelineRunRow) -> None:
    """Fail a run whose workers never come up."""
    query = select(PipelineWorkerRow.heard_at).where(PipelineWorkerRow.run_id == run.id)
    last = list(ctx.session.scalars(query.order_by(PipelineWorkerRow.id.desc()).limit(_HOPELESS_STARTS)))
    if len(last) == _HOPELESS_STARTS and not any(last) and run.state != RunState.CANCELING:
        wind_up(ctx, run, RunState.FAILED, run.reason or "Its workers do not come up.")


def _missing(
    ctx: Context, run: PipelineRunRow, document: PipelineDocument, workers: Sequence[PipelineWorkerRow]
) -> list[str]:
    """Return the queues that a worker is to be added to, each as often as one is lacking."""
    if run.ended_at is not None or run.state in (RunState.PAUSED, RunState.CANCELING):
        return []
    query = (
        select(PipelineStepRow.queue, func.count())
        .where(
            PipelineStepRow.run_id == run.id,
            ((PipelineStepRow.kind == "function") & (PipelineStepRow.state == StepState.RUNNING))
            | _wants_a_worker(ctx),
        )
        .group_by(PipelineStepRow.queue)
    )
    missing = []
    for queue, count in ctx.session.execute(query):
        have = sum(worker.queue == queue for worker in workers)
        missing += [queue] * max(0, min(count, document.workers) - have)
    return [] if _resting(ctx, run) else missing


def _resting(ctx: Context, run: PipelineRunRow) -> bool:
    """Tell whether a worker ended just now before it took anything up: the next is not started in the same breath."""
    query = select(PipelineWorkerRow.ended_at).where(
        PipelineWorkerRow.run_id == run.id,
        PipelineWorkerRow.ended_at.is_not(None),
        PipelineWorkerRow.heard_at.is_(None),
    )
    last = ctx.session.scalars(query.order_by(PipelineWorkerRow.ended_at.desc()).limit(1)).first()
    return last is not None and ctx.clock.now() < last + timedelta(seconds=_PAUSE_S)


def _place(ctx: Context, run: PipelineRunRow, document: PipelineDocument, worker: PipelineWorkerRow) -> Place:
    starting = worker.state == STARTING and run.ended_at is None
    command = _command(ctx, document, run.id, worker) if starting else None
    return Place(worker.id, worker.state, command, worker.sealed_token)


def _command(ctx: Context, document: PipelineDocument, run_id: str, worker: PipelineWorkerRow) -> JobSpec:
    resources = _resources(document, worker.queue)
    task = WorkerTask(run_id=run_id, worker=worker.id, code=document.code)
    return JobSpec(
        name=worker.id,
        argv=(sys.executable, "-m", "modelops.runtime", "steps"),
        env={"MODELOPS_CACHE": str(ctx.settings.home / "cache"), **environments(ctx.settings)},
        files={"steps.json": task.model_dump_json()},
        limits=Limits(
            cpus=resources.cpus,
            memory_bytes=(resources.memory_mb + _OWN_MB) * 1024 * 1024 if resources.memory_mb else None,
        ),
        tenant=identity.tenant_of(ctx, worker.project_id),
    )


def _resources(document: PipelineDocument, queue: str) -> StepResources:
    for spec in document.steps.values():
        if queue_of(spec.resources) == queue:
            return spec.resources
    return StepResources()
