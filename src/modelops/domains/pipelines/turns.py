"""A run's turns, each in units of work of its own: its steps are laid out, what can begin is made ready, what ended is read.

Everything here may be done twice: rows are unique by run and key, and change only from the state that they are expected in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select, update

from modelops.contracts.errors import MLOpsError
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Json
from modelops.domains.identity import service as identity
from modelops.domains.pipelines.beginning import Ready, begin_steps
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.ending import wind_up
from modelops.domains.pipelines.planning import Beginning, Settled, member_key
from modelops.domains.pipelines.rows import FAN_OUT, document_of
from modelops.domains.pipelines.rules import kind_of, place_of, queue_of
from modelops.domains.pipelines.schemas import RunState, StepState
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow
from modelops.domains.pipelines.waking import wake, work_of
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of

MOST_TOLD = 5_000
"""Of the steps that ended, so many are told in one turn."""

_INSERT = (
    'INSERT INTO pipeline_steps (id, project_id, run_id, key, step, "index", place, kind, queue, state, told, attempt,'
    " failures, lost, outputs, log_characters) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, 0, 0, 0, ?, 0)"
    " ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True)
class Told:
    """A step that ended, as the database has it."""

    key: str
    step: str
    state: StepState
    outputs: Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """What a look at a run found."""

    ended: list[Told]
    state: RunState
    overdue: bool


@dataclass(frozen=True)
class Orders:
    """What a turn is to write: what is known to whoever conducts the run, and what follows."""

    known: Sequence[str] = ()
    ready: Sequence[Beginning] = ()
    settled: Sequence[Settled] = ()
    members: Mapping[str, int] = field(default_factory=dict)
    closed: Sequence[tuple[str, StepState]] = ()


def lay_out(ctx: Context, run_id: str) -> PipelineRunRow | None:
    """Say that a run is under way, and lay out its steps; None where there is nothing to be conducted."""
    run = ctx.session.get(PipelineRunRow, run_id, with_for_update=True)
    if run is None or run.ended_at is not None:
        return None
    inside = within(ctx, run)
    if run.started_at is None:
        run.started_at = ctx.clock.now()
        if run.state == RunState.QUEUED:
            run.state = RunState.RUNNING
        run.touch()
        inside.emit(
            "modelops.pipelines.run_started",
            run.id,
            pipeline=run.pipeline,
            version=run.version,
            name=run.name,
            cause=run.cause,
        )
        document = document_of(ctx, run.version_id)
        _insert(ctx, run, document, ((name, None) for name in document.steps))
    return run


def write_orders(ctx: Context, run_id: str, orders: Orders, lists: Mapping[str, Json]) -> None:
    """Write what a turn decided.

    Args:
        lists: JSON values by digest that were read before: those that members of cached fan-outs take an item of.
    """
    run = ctx.session.get(PipelineRunRow, run_id, with_for_update=True)
    if run is None or run.ended_at is not None:
        return
    inside = within(ctx, run)
    document = document_of(ctx, run.version_id)
    raw = raw_of(ctx.session)
    known = [(True, run_id, key) for key in orders.known]
    if known:
        raw.executemany("UPDATE pipeline_steps SET told = ? WHERE run_id = ? AND key = ?", known)
    now = raw.moment(ctx.clock.now())
    settled: list[tuple[Any, ...]] = [(item.state, item.reason, now, True, run_id, item.key) for item in orders.settled]
    settled += [(state, None, now, True, run_id, key) for key, state in orders.closed]
    if settled:
        raw.executemany(
            "UPDATE pipeline_steps SET state = ?, reason = ?, ended_at = ?, told = ?"
            " WHERE run_id = ? AND key = ? AND ended_at IS NULL",
            settled,
        )
    for name in orders.members:
        fan_out = (PipelineStepRow.run_id == run_id, PipelineStepRow.key == name, PipelineStepRow.ended_at.is_(None))
        ctx.session.execute(
            update(PipelineStepRow)
            .where(*fan_out)
            .values(kind=FAN_OUT, state=StepState.RUNNING, started_at=ctx.clock.now())
        )
    _insert(ctx, run, document, ((item.step, item.index) for item in orders.ready if item.index is not None))
    if orders.ready:
        begin_steps(inside, run, document, Ready(orders.ready, lists))
    wake(ctx, work_of(run_id))


def look(ctx: Context, run_id: str) -> Look | None:
    """Return what ended and is not known to whoever conducts the run; None where the run is gone or has ended."""
    run = ctx.session.get(PipelineRunRow, run_id)
    if run is None or run.ended_at is not None:
        return None
    query = (
        select(PipelineStepRow.key, PipelineStepRow.step, PipelineStepRow.state, PipelineStepRow.outputs)
        .where(PipelineStepRow.run_id == run_id, PipelineStepRow.ended_at.is_not(None), ~PipelineStepRow.told)
        .order_by(PipelineStepRow.place)
        .limit(MOST_TOLD)
    )
    ended = [Told(key, step, StepState(state), outputs) for key, step, state, outputs in ctx.session.execute(query)]
    overdue = run.deadline is not None and ctx.clock.now() > run.deadline and run.state != RunState.CANCELING
    return Look(ended, RunState(run.state), overdue)


def end_overdue(ctx: Context, run_id: str) -> None:
    """Begin to end a run that took longer than it may."""
    run = ctx.session.get(PipelineRunRow, run_id, with_for_update=True)
    if run is not None and run.ended_at is None and run.state != RunState.CANCELING:
        limit_s = document_of(ctx, run.version_id).timeout_s or 0.0
        wind_up(within(ctx, run), run, RunState.FAILED, f"The run took longer than {limit_s:g} s.")


def spoil(ctx: Context, run_id: str, key: str, why: MLOpsError) -> None:
    """Fail a step whose output, on which the run's course depends, cannot be read."""
    query = select(PipelineStepRow).where(PipelineStepRow.run_id == run_id, PipelineStepRow.key == key)
    row = ctx.session.scalars(query.with_for_update()).one()
    row.state, row.reason = StepState.FAILED, f"Its output cannot be read: {why.detail}"


def end_run(ctx: Context, run_id: str, state: RunState) -> None:
    """Write how a run ended. Once is enough."""
    run = ctx.session.get(PipelineRunRow, run_id, with_for_update=True)
    if run is None or run.ended_at is not None:
        return
    finish(within(ctx, run), run, state)


def finish(ctx: Context, run: PipelineRunRow, state: RunState) -> None:
    """Write how a run ended; how it was wound up goes before `state`."""
    ending = RunState(run.ending) if run.ending is not None else state
    reason = run.reason if run.ending is not None else None
    if reason is None and ending is RunState.FAILED:
        reason = _why_it_failed(ctx, run.id)
    now = ctx.clock.now()
    run.state, run.reason, run.ended_at = ending, reason, now
    run.touch()
    ctx.session.execute(
        update(PipelineStepRow)
        .where(PipelineStepRow.run_id == run.id, PipelineStepRow.ended_at.is_(None))
        .values(state=StepState.CANCELED, reason="The run ended.", ended_at=now, told=True)
    )
    facts = {"pipeline": run.pipeline, "name": run.name, "state": ending, "reason": reason, "cause": run.cause}
    ctx.emit("modelops.pipelines.run_ended", run.id, **facts)
    if ending in document_of(ctx, run.version_id).notify:
        told = f": {reason}" if reason else "."
        ctx.emit("modelops.pipelines.notified", run.id, message=f"{run.name} has {_PAST[ending]}{told}", **facts)
    wake(ctx, work_of(run.id))


_PAST = {RunState.SUCCEEDED: "succeeded", RunState.FAILED: "failed", RunState.CANCELED: "been cancelled"}


def within(ctx: Context, run: PipelineRunRow) -> Context:
    """Return the system's context in the project of a run."""
    return ctx.within(run.project_id, identity.tenant_of(ctx, run.project_id))


def _insert(
    ctx: Context, run: PipelineRunRow, document: PipelineDocument, steps: Iterable[tuple[str, int | None]]
) -> None:
    order: dict[str, int] = {}
    rows = []
    for name, index in steps:
        order = order or {step: number for number, step in enumerate(document.steps)}
        spec = document.steps[name]
        key = name if index is None else member_key(name, index)
        place, kind = place_of(order[name], index), kind_of(spec)
        queue = queue_of(spec.resources) if kind == "function" else f"none: {kind}"  # which no worker asks
        rows.append((new_id("pst"), run.project_id, run.id, key, name, index, place, kind, queue, False, "{}"))
    if rows:
        raw_of(ctx.session).executemany(_INSERT, rows)


def _why_it_failed(ctx: Context, run_id: str) -> str:
    failed = (
        PipelineStepRow.run_id == run_id,
        PipelineStepRow.state == StepState.FAILED,
        PipelineStepRow.kind != FAN_OUT,
    )
    count = ctx.session.scalar(select(func.count()).where(*failed)) or 0
    first = ctx.session.scalars(
        select(PipelineStepRow).where(*failed).order_by(PipelineStepRow.ended_at).limit(1)
    ).first()
    if first is None:
        return "A step of it failed."
    more = f" So did {count - 1} more." if count > 1 else ""
    return f"The step '{first.key}' failed: {first.reason or 'without a reason'}{more}"[:5_000]
