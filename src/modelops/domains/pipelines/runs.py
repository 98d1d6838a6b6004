"""Runs: begun, looked at, paused, cancelled and deleted."""

from datetime import timedelta

from sqlalchemy import delete

from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.data import service as data
from modelops.domains.identity import service as identity
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.ending import wind_up
from modelops.domains.pipelines.parameters import check_parameters
from modelops.domains.pipelines.permissions import step_permissions
from modelops.domains.pipelines.rows import (
    as_run,
    as_runs,
    document_of,
    find_pipeline,
    find_run,
    find_version,
    held_by,
    hold,
)
from modelops.domains.pipelines.rules import PipelineError, RunOpen, check_open
from modelops.domains.pipelines.schemas import (
    PipelineRun,
    RunCancel,
    RunCreate,
    RunState,
)
from modelops.domains.pipelines.staffing import add_workers, has_room
from modelops.domains.pipelines.tables import (
    PipelineRunRow,
    PipelineStepLogRow,
    PipelineStepRow,
    PipelineValueRow,
    PipelineVersionRow,
    PipelineWorkerRow,
)
from modelops.domains.pipelines.waking import ends_of, wake, work_of
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_RUN_FIELDS = {
    "pipeline": PipelineRunRow.pipeline,
    "version": PipelineRunRow.version,
    "name": PipelineRunRow.name,
    "state": PipelineRunRow.state,
    "cause": PipelineRunRow.cause,
    "created_at": PipelineRunRow.created_at,
    "ended_at": PipelineRunRow.ended_at,
    "created_by": PipelineRunRow.created_by,
}


def start_run(ctx: Context, pipeline: str, body: RunCreate, *, cause: str = "api") -> PipelineRun:
    """Begin a run of a pipeline, as of a version; what is wrong with its parameters is told now.

    Args:
        pipeline: Its name or id.
        body: What is to be run.
        cause: Who or what begins it (for schedules and triggers).
    """
    ctx.require("pipelines.write")
    row = find_pipeline(ctx, pipeline)
    version = find_version(ctx, row, body.version)
    document = document_of(ctx, version.id)
    return as_run(ctx, begin(ctx, row.name, version, document, body, cause))


def begin(
    ctx: Context,
    pipeline: str,
    version: PipelineVersionRow,
    document: PipelineDocument,
    body: RunCreate,
    cause: str,
) -> PipelineRunRow:
    """Make the row of a run, and the first of its workers: their processes take the longest to come up."""
    if any(spec.job is not None for spec in document.steps.values()):
        ctx.require("jobs.write")
    run_id = new_id("prn")
    now = ctx.clock.now()
    run = PipelineRunRow(
        id=run_id,
        project_id=ctx.project_id,
        pipeline_id=version.pipeline_id,
        pipeline=pipeline,
        version_id=version.id,
        version=version.version,
        name=body.name or f"{pipeline} {run_id[-6:]}",
        parameters=check_parameters(document.parameters, body.parameters),
        tags=body.tags,
        cause=cause,
        use_cache=body.use_cache,
        permissions=step_permissions(ctx),
        state=RunState.QUEUED,
        deadline=None if document.timeout_s is None else now + timedelta(seconds=document.timeout_s),
        revision=1,
        created_at=now,
        created_by=ctx.actor.id,
    )
    ctx.session.add(run)
    ctx.session.flush()
    if document.code is not None:
        hold(ctx, run_id, ctx.project_id, [document.code.digest])
    if any(spec.run is not None for spec in document.steps.values()) and has_room(ctx, run_id):
        add_workers(ctx, run, "", 1)
    ctx.emit("modelops.pipelines.run_queued", run_id, pipeline=pipeline, version=version.version, cause=cause)
    return run


def list_runs(ctx: Context, page: PageQuery) -> Page[PipelineRun]:
    """List the project's runs of pipelines, newest first."""
    ctx.require("pipelines.read")
    found = list_rows(ctx, ctx.query(PipelineRunRow), PipelineRunRow.id, _RUN_FIELDS, page, order="desc")
    return Page(items=as_runs(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_run(ctx: Context, run: str) -> PipelineRun:
    """Return a run."""
    ctx.require("pipelines.read")
    return as_run(ctx, find_run(ctx, run))


def cancel_run(ctx: Context, run: str, body: RunCancel) -> PipelineRun:
    """Cancel a run: nothing begins any more, and what is under way is ended. Twice is no error."""
    ctx.require("pipelines.write")
    row = find_run(ctx, run, lock=True)
    if row.state not in (RunState.CANCELING, RunState.CANCELED):
        check_open(RunState(row.state))
        wind_up(ctx, row, RunState.CANCELED, body.reason or f"Cancelled by {ctx.actor.name}.")
    return as_run(ctx, row)


def pause_run(ctx: Context, run: str) -> PipelineRun:
    """Pause a run: what is under way goes on, and nothing new begins. Twice is no error."""
    ctx.require("pipelines.write")
    row = find_run(ctx, run, lock=True)
    if row.state != RunState.PAUSED:
        if row.state not in (RunState.QUEUED, RunState.RUNNING):
            check_open(RunState(row.state))
            raise PipelineError(f"The run is {row.state}, and cannot be paused.")
        row.state, row.reason = RunState.PAUSED, f"Paused by {ctx.actor.name}."
        row.touch()
        ctx.emit("modelops.pipelines.run_paused", row.id)
    return as_run(ctx, row)


def resume_run(ctx: Context, run: str) -> PipelineRun:
    """Let a paused run go on. One that is not paused is left as it is."""
    ctx.require("pipelines.write")
    row = find_run(ctx, run, lock=True)
    check_open(RunState(row.state))
    if row.state == RunState.PAUSED:
        row.state, row.reason = RunState.RUNNING if row.started_at else RunState.QUEUED, None
        row.touch()
        ctx.emit("modelops.pipelines.run_resumed", row.id)
        wake(ctx, ends_of(row.id), work_of(row.id))
    return as_run(ctx, row)


def delete_run(ctx: Context, run: str) -> None:
    """Remove a run that has ended, with its steps, what they wrote, and their outputs unless something else needs them.

    Raises:
        RunOpen: it has not ended.
    """
    ctx.require("pipelines.write")
    row = find_run(ctx, run, lock=True)
    if not RunState(row.state).final:
        raise RunOpen("A run is deleted after its end.", hint=f"Cancel it first: mops pipelines cancel {row.id}")
    remove(ctx, row)
    ctx.emit("modelops.pipelines.run_deleted", row.id, pipeline=row.pipeline)


def remove(ctx: Context, row: PipelineRunRow) -> None:
    """Remove a run's rows, and let go of what they held."""
    digests = held_by(ctx, [row.id])
    for kind in (PipelineStepLogRow, PipelineStepRow, PipelineWorkerRow):
        ctx.session.execute(delete(kind).where(kind.run_id == row.id))
    ctx.session.execute(delete(PipelineValueRow).where(PipelineValueRow.owner == row.id))
    identity.revoke_grants(ctx, row.id)
    ctx.session.delete(row)
    ctx.session.flush()
    data.release_artifacts(ctx, row.project_id, digests)
