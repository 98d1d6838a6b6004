"""Routes of training."""

from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse

from modelops.contracts.schemas import Page
from modelops.domains.data.schemas import DatasetRef
from modelops.domains.training import service
from modelops.domains.training.output import PIECE
from modelops.domains.training.rules import read_object
from modelops.domains.training.schemas import (
    ArtifactRole,
    Confidence,
    CostEstimate,
    CostRequest,
    Job,
    JobArtifact,
    JobArtifactCreate,
    JobAttempt,
    JobCancel,
    JobCreate,
    JobLog,
    JobReport,
    JobUsage,
    JobWhy,
    ProgressReport,
    RecipeInfo,
    TrainingRequirements,
)
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router
from modelops.kernel.problems import documented
from modelops.kernel.scope import Scope

router = Router("training")

AttemptNumber = Annotated[int | None, Query(ge=1, le=100_000, description="By default, the last.")]


@router.get("/recipes")
def list_recipes(ctx: Context) -> Page[RecipeInfo]:
    """List the installed recipes with the parameters that they take."""
    return service.list_recipes(ctx)


@router.get("/models/training-requirements", responses=documented(501))
def get_training_requirements(
    ctx: Context,
    recipe: Annotated[str, Query(min_length=1, max_length=100)],
    dataset: Annotated[DatasetRef | None, Query()] = None,
    rows: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    columns: Annotated[int | None, Query(ge=1, le=2**31)] = None,
    parameters: Annotated[str, Query(max_length=20_000, description="A JSON object.")] = "{}",
    cpus: Annotated[int, Query(ge=1, le=4096)] = 1,
    confidence: Confidence = 0.9,
) -> TrainingRequirements:
    """Tell what time, CPU and memory a training will take, each with an interval, from the recipe's finished jobs."""
    return service.get_training_requirements(
        ctx,
        recipe,
        dataset=dataset,
        rows=rows,
        columns=columns,
        parameters=read_object(parameters, "parameters"),
        cpus=cpus,
        confidence=confidence,
    )


@router.post("/models/estimate-cost", responses=documented(501))
def estimate_cost(ctx: Context, body: CostRequest) -> CostEstimate:
    """Tell what a training will cost, with an interval, at the prices of the settings."""
    return service.estimate_cost(ctx, body)


@router.post("/jobs", status_code=202, responses=documented(501))
def submit_job(ctx: Context, body: JobCreate) -> Job:
    """Queue a job; watch it at `/v1/jobs/{id}`."""
    return service.submit_job(ctx, body)


@router.get("/jobs")
def list_jobs(ctx: Context, page: Listing) -> Page[Job]:
    """List the project's jobs, newest first."""
    return service.list_jobs(ctx, page)


@router.get("/jobs/{job}")
def get_job(ctx: Context, job: Ref) -> Job:
    """Return a job."""
    return service.get_job(ctx, job)


@router.get("/jobs/{job}/why")
def explain_job(ctx: Context, job: Ref) -> JobWhy:
    """Tell why a job waits, and what would let it run."""
    return service.explain_job(ctx, job)


@router.post("/jobs/{job}/cancel", status_code=202)
def cancel_job(ctx: Context, job: Ref, body: JobCancel) -> Job:
    """Cancel a job."""
    return service.cancel_job(ctx, job, body)


@router.post("/jobs/{job}/retry", status_code=202)
def retry_job(ctx: Context, job: Ref) -> Job:
    """Try a job again that failed or was cancelled, as a further attempt."""
    return service.retry_job(ctx, job)


@router.get("/jobs/{job}/attempts")
def list_job_attempts(ctx: Context, job: Ref) -> Page[JobAttempt]:
    """List the attempts at a job: when, how each ended, and what it used."""
    return service.list_job_attempts(ctx, job)


@router.get("/jobs/{job}/usage")
def get_job_usage(scope: Scope, job: Ref, attempt: AttemptNumber = None) -> JobUsage:
    """Return what an attempt used over time: CPU, memory, reading and writing, and GPUs; also while it runs."""
    return service.get_job_usage(scope, job, attempt)


@router.get("/jobs/{job}/artifacts")
def list_job_artifacts(ctx: Context, job: Ref, role: ArtifactRole | None = None) -> Page[JobArtifact]:
    """List what files a job was given, and which it made."""
    return service.list_job_artifacts(ctx, job, role)


@router.post("/jobs/{job}/artifacts", status_code=201)
def save_job_artifact(ctx: Context, job: Ref, body: JobArtifactCreate) -> JobArtifact:
    """Record an output or a checkpoint; only the job itself may."""
    return service.save_job_artifact(ctx, job, body)


@router.post("/jobs/{job}/progress")
def report_job_progress(ctx: Context, job: Ref, body: ProgressReport) -> Job:
    """Tell how far a job is; only the job itself may."""
    return service.report_job_progress(ctx, job, body)


@router.get("/jobs/{job}/log")
def get_job_log(
    scope: Scope,
    job: Ref,
    offset: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1024 * 1024)] = PIECE,
    attempt: AttemptNumber = None,
) -> JobLog:
    """Return a piece of the output of a job's attempt from a byte offset on."""
    return service.get_job_log(scope, job, offset, limit, attempt)


@router.get(
    "/jobs/{job}/log/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The output"}},
)
async def stream_job_log(scope: Scope, job: Ref) -> StreamingResponse:
    """Stream a job's output until the job has ended."""
    return StreamingResponse(await service.stream_job_log(scope, job), media_type="text/plain; charset=utf-8")


@router.post("/jobs/{job}/result")
def finish_job(ctx: Context, job: Ref, body: JobReport) -> Job:
    """Take the trainer's own report; only the job itself may give it."""
    return service.finish_job(ctx, job, body)
