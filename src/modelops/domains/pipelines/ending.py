"""How steps end: what is written of an attempt that succeeded, failed, or was lost with its worker."""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import update

from modelops.contracts.schemas import jsonable
from modelops.domains.pipelines.document import StepSpec
from modelops.domains.pipelines.rows import FAN_OUT
from modelops.domains.pipelines.rules import MOST_LOST, after_failure, wait_before
from modelops.domains.pipelines.schemas import RunState, StepState, ValueRef
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow
from modelops.domains.pipelines.waking import ends_of, wake, work_of
from modelops.kernel.context import Context

_IDLE = (StepState.WAITING, StepState.READY, StepState.RETRYING, StepState.AWAITING)


def wind_up(ctx: Context, row: PipelineRunRow, ending: RunState, reason: str) -> None:
    """Let nothing begin any more, have what is under way ended, and say how the run is to end then."""
    row.state, row.ending, row.reason = RunState.CANCELING, ending, reason
    row.touch()
    idle = (PipelineStepRow.run_id == row.id, PipelineStepRow.state.in_(_IDLE), PipelineStepRow.kind != FAN_OUT)
    ctx.session.execute(
        update(PipelineStepRow)
        .where(*idle)
        .values(state=StepState.CANCELED, reason="The run was cancelled.", ended_at=ctx.clock.now())
    )
    ctx.emit("modelops.pipelines.run_canceling", row.id, reason=reason)
    wake(ctx, ends_of(row.id), work_of(row.id))


def succeed(ctx: Context, row: PipelineStepRow, outputs: Mapping[str, ValueRef]) -> None:
    """Write that a step succeeded."""
    row.outputs = jsonable(dict(outputs))
    _end(ctx, row, StepState.SUCCEEDED, None)


def fail(
    ctx: Context, run: PipelineRunRow, spec: StepSpec, row: PipelineStepRow, reason: str, *, hopeless: bool = False
) -> None:
    """Write that an attempt failed: the step is tried again after a while, or has failed."""
    row.failures += 1
    canceling = run.state == RunState.CANCELING
    after = after_failure(hopeless=hopeless, failures=row.failures, retries=spec.retries, canceling=canceling)
    if after.final:
        _end(ctx, row, after, reason)
        return
    wait_s = wait_before(spec.retries, row.failures)
    row.state, row.reason, row.worker, row.lease_expires_at = after, reason, None, None
    row.not_before = ctx.clock.now() + timedelta(seconds=wait_s)


def give_back(
    ctx: Context, run: PipelineRunRow, row: PipelineStepRow, reason: str | None, *, lost: bool = True
) -> None:
    """Write that an attempt was lost with its worker, or returned by it: another may take the step at once. That is no
    failure of the step, unless it is lost again and again."""
    row.lost += lost
    if run.state == RunState.CANCELING:
        _end(ctx, row, StepState.CANCELED, reason)
    elif row.lost >= MOST_LOST:
        _end(ctx, row, StepState.FAILED, f"{reason} That happened to {row.lost} workers that had the step.")
    else:
        row.state, row.reason, row.worker, row.lease_expires_at = StepState.READY, reason, None, None


def _end(ctx: Context, row: PipelineStepRow, state: StepState, reason: str | None) -> None:
    row.state, row.reason, row.ended_at = state, reason, ctx.clock.now()
    row.lease_expires_at = row.not_before = None
    if row.index is None:
        ctx.emit(
            "modelops.pipelines.step_ended", row.run_id, step=row.key, state=state, reason=reason, attempt=row.attempt
        )
