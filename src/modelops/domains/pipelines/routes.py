"""Routes of pipelines."""

from typing import Annotated

from fastapi import Query

from modelops.contracts.schemas import Page
from modelops.domains.pipelines import service
from modelops.domains.pipelines.schedules.routes import router as schedules
from modelops.domains.pipelines.schemas import (
    CacheCleared,
    Decision,
    Pipeline,
    PipelineCreate,
    PipelineRun,
    PipelineVersion,
    RunCancel,
    RunCreate,
    RunRerun,
    StepBeat,
    StepClaim,
    StepLog,
    StepOrders,
    StepReports,
    StepRun,
    StepWork,
)
from modelops.domains.pipelines.triggers.routes import router as triggers
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router
from modelops.kernel.scope import Scope

router = Router("pipelines")
router.include_router(schedules)
router.include_router(triggers)

_PIECE = 65_536


@router.post("/pipelines", status_code=201)
def register_pipeline(ctx: Context, body: PipelineCreate) -> PipelineVersion:
    """Keep a pipeline's document; a changed one is its next version."""
    return service.register_pipeline(ctx, body)


@router.get("/pipelines")
def list_pipelines(ctx: Context, page: Listing) -> Page[Pipeline]:
    """List the project's pipelines."""
    return service.list_pipelines(ctx, page)


@router.get("/pipelines/{pipeline}")
def get_pipeline(ctx: Context, pipeline: Ref) -> Pipeline:
    """Return a pipeline."""
    return service.get_pipeline(ctx, pipeline)


@router.delete("/pipelines/{pipeline}", status_code=204)
def delete_pipeline(ctx: Context, pipeline: Ref) -> None:
    """Remove a pipeline that has no runs."""
    return service.delete_pipeline(ctx, pipeline)


@router.get("/pipelines/{pipeline}/versions")
def list_pipeline_versions(ctx: Context, pipeline: Ref, page: Listing) -> Page[PipelineVersion]:
    """List a pipeline's versions, newest first."""
    return service.list_pipeline_versions(ctx, pipeline, page)


@router.get("/pipelines/{pipeline}/versions/{version}")
def get_pipeline_version(ctx: Context, pipeline: Ref, version: Ref) -> PipelineVersion:
    """Return a version of a pipeline, by number or `latest`."""
    return service.get_pipeline_version(ctx, pipeline, version)


@router.post("/pipelines/{pipeline}/runs", status_code=202)
def start_run(ctx: Context, pipeline: Ref, body: RunCreate) -> PipelineRun:
    """Begin a run; watch it at `/v1/pipeline-runs/{id}`."""
    return service.start_run(ctx, pipeline, body)


@router.get("/pipeline-runs")
def list_runs(ctx: Context, page: Listing) -> Page[PipelineRun]:
    """List the project's runs of pipelines, newest first."""
    return service.list_runs(ctx, page)


@router.get("/pipeline-runs/{pipeline_run}")
def get_run(ctx: Context, pipeline_run: Ref) -> PipelineRun:
    """Return a run of a pipeline."""
    return service.get_run(ctx, pipeline_run)


@router.delete("/pipeline-runs/{pipeline_run}", status_code=204)
def delete_run(ctx: Context, pipeline_run: Ref) -> None:
    """Remove a run that has ended, with what it made and nothing else needs."""
    return service.delete_run(ctx, pipeline_run)


@router.post("/pipeline-runs/{pipeline_run}/cancel", status_code=202)
def cancel_run(ctx: Context, pipeline_run: Ref, body: RunCancel) -> PipelineRun:
    """Cancel a run: nothing begins any more, and what is under way is ended."""
    return service.cancel_run(ctx, pipeline_run, body)


@router.post("/pipeline-runs/{pipeline_run}/pause", status_code=202)
def pause_run(ctx: Context, pipeline_run: Ref) -> PipelineRun:
    """Pause a run: what is under way goes on, and nothing new begins."""
    return service.pause_run(ctx, pipeline_run)


@router.post("/pipeline-runs/{pipeline_run}/resume", status_code=202)
def resume_run(ctx: Context, pipeline_run: Ref) -> PipelineRun:
    """Let a paused run go on."""
    return service.resume_run(ctx, pipeline_run)


@router.post("/pipeline-runs/{pipeline_run}/rerun", status_code=202)
def rerun_run(ctx: Context, pipeline_run: Ref, body: RunRerun) -> PipelineRun:
    """Begin a run again: whole, from a step on, or what did not succeed."""
    return service.rerun_run(ctx, pipeline_run, body)


@router.get("/pipeline-runs/{pipeline_run}/steps")
def list_steps(ctx: Context, pipeline_run: Ref, page: Listing) -> Page[StepRun]:
    """List a run's steps in the document's order."""
    return service.list_steps(ctx, pipeline_run, page)


@router.get("/pipeline-runs/{pipeline_run}/steps/{step}")
def get_step(ctx: Context, pipeline_run: Ref, step: Ref) -> StepRun:
    """Return a step of a run, by key (`fit`, `fit[3]`) or id."""
    return service.get_step(ctx, pipeline_run, step)


@router.get("/pipeline-runs/{pipeline_run}/steps/{step}/log")
def get_step_log(
    ctx: Context,
    pipeline_run: Ref,
    step: Ref,
    offset: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1024 * 1024)] = _PIECE,
    attempt: Annotated[int | None, Query(ge=1, lt=2**31, description="By default, the newest.")] = None,
) -> StepLog:
    """Return a piece of what a step wrote, from a character on."""
    return service.get_step_log(ctx, pipeline_run, step, offset, limit, attempt)


@router.post("/pipeline-runs/{pipeline_run}/steps/{step}/decide")
def decide_step(scope: Scope, pipeline_run: Ref, step: Ref, body: Decision) -> StepRun:
    """Approve or reject a step that waits for it."""
    return service.decide_step(scope, pipeline_run, step, body)


@router.delete("/pipeline-cache")
def clear_cache(ctx: Context, pipeline: Annotated[str | None, Query(max_length=200)] = None) -> CacheCleared:
    """Forget kept results of steps: of one pipeline, or all of the project's."""
    return service.clear_cache(ctx, pipeline)


@router.post("/pipeline-runs/{pipeline_run}/steps/claim")
async def claim_steps(scope: Scope, pipeline_run: Ref, body: StepClaim) -> StepWork:
    """Give a worker of the run steps to carry out, waiting for the first."""
    return await service.claim_steps(scope, pipeline_run, body)


@router.post("/pipeline-runs/{pipeline_run}/steps/beat")
def beat_steps(scope: Scope, pipeline_run: Ref, body: StepBeat) -> StepOrders:
    """Take a worker's sign of life, and tell it which of its attempts must stop."""
    return service.beat_steps(scope, pipeline_run, body)


@router.post("/pipeline-runs/{pipeline_run}/steps/report")
def report_steps(scope: Scope, pipeline_run: Ref, body: StepReports) -> StepOrders:
    """Take a worker's word on how attempts ended; only the run's own workers may give it."""
    return service.report_steps(scope, pipeline_run, body)
