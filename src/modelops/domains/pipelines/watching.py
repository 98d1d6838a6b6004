"""What the reconcilers read and write: stories that are to begin or broke, jobs of steps, and attempts that fell silent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import or_, select

from modelops.contracts.errors import NotFound
from modelops.contracts.schemas import Json
from modelops.domains.data import service as data
from modelops.domains.pipelines.beginning import Ready, begin_steps, digests_to_read
from modelops.domains.pipelines.document import ValueType
from modelops.domains.pipelines.ending import fail, give_back, succeed
from modelops.domains.pipelines.planning import Beginning
from modelops.domains.pipelines.rows import document_of, hold
from modelops.domains.pipelines.runs import remove
from modelops.domains.pipelines.schemas import RunState, StepState, ValueRef
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow
from modelops.domains.pipelines.turns import finish, within
from modelops.domains.pipelines.values import JSON_TYPE
from modelops.domains.pipelines.waking import ends_of, wake, work_of
from modelops.domains.training import service as training
from modelops.domains.training.schemas import JobCancel, JobResult, JobState
from modelops.kernel.context import Context

_GRACE_S = 15.0
"""For so long after its time a step's worker may end it itself."""

_AT_ONCE = 500


@dataclass(frozen=True)
class JobSeen:
    """A step's job: how it is, and whether it is to be cancelled."""

    job_id: str
    state: JobState
    reason: str | None
    result: JobResult | None
    cpu_seconds: float | None
    peak_memory_bytes: int | None
    cancel: bool


def runs_to_begin(ctx: Context) -> list[str]:
    """Return the runs, of every project, whose story may not have begun."""
    query = select(PipelineRunRow.id).where(PipelineRunRow.ended_at.is_(None), PipelineRunRow.started_at.is_(None))
    return list(ctx.session.scalars(query.order_by(PipelineRunRow.id).limit(_AT_ONCE)))


def runs_under_way(ctx: Context) -> list[str]:
    """Return the runs, of every project, that began and have not ended."""
    query = select(PipelineRunRow.id).where(PipelineRunRow.ended_at.is_(None), PipelineRunRow.started_at.is_not(None))
    return list(ctx.session.scalars(query.order_by(PipelineRunRow.id)))


def end_broken(ctx: Context, run_id: str, why: str) -> None:
    """Fail a run that nobody conducts any more, because its story broke."""
    run = ctx.session.get(PipelineRunRow, run_id, with_for_update=True)
    if run is None or run.ended_at is not None:
        return
    if run.ending is None:
        run.ending, run.reason = RunState.FAILED, f"The platform could not conduct the run: {why}"
    finish(within(ctx, run), run, RunState.FAILED)


def job_steps(ctx: Context) -> list[str]:
    """Return the steps, of every project, whose jobs are under way."""
    query = select(PipelineStepRow.id).where(
        PipelineStepRow.job_id.is_not(None), PipelineStepRow.state == StepState.RUNNING
    )
    return list(ctx.session.scalars(query.order_by(PipelineStepRow.id)))


def read_job_step(ctx: Context, step_id: str) -> JobSeen | None:
    """Return how a step's job is; None where nothing follows from it."""
    row = ctx.session.get(PipelineStepRow, step_id)
    if row is None or row.job_id is None or row.state != StepState.RUNNING:
        return None
    run = ctx.session.get_one(PipelineRunRow, row.run_id)
    cancel = run.state == RunState.CANCELING
    try:
        job = training.get_job(within(ctx, run), row.job_id)
    except NotFound:
        return JobSeen(row.job_id, JobState.FAILED, "Its job is gone.", None, None, None, cancel)
    if not job.state.final and (not cancel or job.state is JobState.CANCELING):
        return None
    return JobSeen(job.id, job.state, job.reason, job.result, job.cpu_seconds, job.peak_memory_bytes, cancel)


def job_outputs(seen: JobSeen) -> dict[str, Json]:
    """Return the JSON outputs of a job that succeeded."""
    result = seen.result or JobResult()
    return {
        "run_id": result.run_id,
        "model_version_id": result.model_version_id,
        "metrics": dict(result.metrics),
        "summary": dict(result.summary),
    }


def job_model(seen: JobSeen) -> dict[str, ValueRef]:
    """Return the version that a job made as its output `model`; nothing of a job that made none."""
    version = None if seen.result is None else seen.result.model_version_id
    return {} if version is None else {"model": ValueRef(type=ValueType.MODEL, model_version_id=version)}


def settle_job_step(ctx: Context, step_id: str, seen: JobSeen, refs: Mapping[str, ValueRef]) -> None:
    """Write how a step's job ended, or have it cancelled."""
    row = ctx.session.get(PipelineStepRow, step_id, with_for_update=True)
    if row is None or row.job_id != seen.job_id or row.state != StepState.RUNNING:
        return
    run = ctx.session.get_one(PipelineRunRow, row.run_id)
    inside = within(ctx, run)
    if not seen.state.final:
        training.cancel_job(inside, seen.job_id, JobCancel(reason=run.reason or ""))
        return
    row.cpu_seconds, row.peak_memory_bytes = seen.cpu_seconds, seen.peak_memory_bytes
    if seen.state is JobState.SUCCEEDED:
        for ref in refs.values():
            if ref.digest is not None:
                data.add_artifact(inside, ref.digest, ref.size, JSON_TYPE)
        hold(inside, run.id, run.project_id, [ref.digest for ref in refs.values() if ref.digest is not None])
        succeed(inside, row, refs)
    else:
        spec = document_of(ctx, run.version_id).steps[row.step]
        fail(inside, run, spec, row, seen.reason or f"Its job has {seen.state}.")
        row.job_id = None if row.state == StepState.RETRYING else row.job_id
    wake(ctx, ends_of(run.id))


def overdue_steps(ctx: Context) -> list[str]:
    """Return the steps, of every project, that wait for their time: attempts whose worker fell silent or that took too long,
    approvals nobody gave, and jobs to be submitted again."""
    now = ctx.clock.now()
    silent = select(PipelineStepRow.id).where(
        PipelineStepRow.lease_expires_at.is_not(None), PipelineStepRow.lease_expires_at <= now
    )
    again = select(PipelineStepRow.id).where(
        PipelineStepRow.state == StepState.RETRYING,
        PipelineStepRow.kind != "function",
        PipelineStepRow.not_before <= now,
    )
    found = set(ctx.session.scalars(silent)) | set(ctx.session.scalars(again))
    timed = (
        select(PipelineStepRow.id, PipelineStepRow.step, PipelineStepRow.started_at, PipelineRunRow.version_id)
        .join(PipelineRunRow, PipelineRunRow.id == PipelineStepRow.run_id)
        .where(
            PipelineRunRow.ended_at.is_(None),
            or_(PipelineStepRow.lease_expires_at.is_not(None), PipelineStepRow.state == StepState.AWAITING),
        )
    )
    for step_id, step, started_at, version_id in ctx.session.execute(timed):
        spec = document_of(ctx, version_id).steps[step]
        limit = spec.approval.timeout_s if spec.approval is not None else spec.timeout_s
        grace = 0.0 if spec.approval is not None else _GRACE_S
        if limit is not None and started_at is not None and now > started_at + timedelta(seconds=limit + grace):
            found.add(step_id)
    return sorted(found)


def read_overdue_step(ctx: Context, step_id: str) -> set[str]:
    """Return the JSON values in the store that are needed where a step's job is to be submitted again."""
    row = ctx.session.get(PipelineStepRow, step_id)
    if row is None or row.kind != "job":
        return set()
    run = ctx.session.get_one(PipelineRunRow, row.run_id)
    step = Beginning(row.key, row.step, row.index)
    return digests_to_read(ctx, run, document_of(ctx, run.version_id), [step])


def end_overdue_step(ctx: Context, step_id: str, read: Mapping[str, Json]) -> None:
    """Write what became of a step whose time is over; `read` has what `read_overdue_step` named."""
    row = ctx.session.get(PipelineStepRow, step_id, with_for_update=True)
    if row is None:
        return
    run = ctx.session.get_one(PipelineRunRow, row.run_id)
    inside = within(ctx, run)
    spec = document_of(ctx, run.version_id).steps[row.step]
    now = ctx.clock.now()
    if row.state == StepState.RETRYING and row.kind == "job" and run.state != RunState.PAUSED:
        row.state = StepState.WAITING
        ctx.session.flush()
        begin_steps(
            inside, run, document_of(ctx, run.version_id), Ready([Beginning(row.key, row.step, row.index)], read)
        )
    elif row.state == StepState.AWAITING and spec.approval is not None and spec.approval.timeout_s is not None:
        if row.started_at is not None and now > row.started_at + timedelta(seconds=spec.approval.timeout_s):
            reason = f"Nobody answered within {spec.approval.timeout_s:g} s."
            fail(inside, run, spec, row, reason, hopeless=True)
    elif row.state == StepState.RUNNING and row.lease_expires_at is not None:
        limit = spec.timeout_s
        if (
            limit is not None
            and row.started_at is not None
            and now > row.started_at + timedelta(seconds=limit + _GRACE_S)
        ):
            fail(inside, run, spec, row, f"It took longer than {limit:g} s.")
        elif row.lease_expires_at <= now:
            give_back(inside, run, row, "Its worker fell silent.")
    wake(ctx, ends_of(run.id), work_of(run.id))


def forget_old_runs(ctx: Context, older_than_s: float) -> None:
    """Remove runs, of any project, that ended so long ago."""
    before = ctx.clock.now() - timedelta(seconds=older_than_s)
    for run in ctx.session.scalars(select(PipelineRunRow).where(PipelineRunRow.ended_at < before).limit(100)):
        remove(within(ctx, run), run)
