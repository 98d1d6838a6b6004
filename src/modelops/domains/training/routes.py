"""Routes of training."""

import time
from collections.abc import Iterator
from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse

from modelops.contracts.schemas import Page
from modelops.domains.training import service
from modelops.domains.training.schemas import Job, JobCancel, JobCreate, JobLog, JobReport, RecipeInfo
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router, Scope
from modelops.kernel.problems import documented

router = Router("training")

_PAUSE_S = 0.3
_PIECE = 65_536


@router.get("/recipes", responses=documented(501))
def list_recipes(ctx: Context) -> Page[RecipeInfo]:
    """List the installed recipes with the parameters that they take."""
    return service.list_recipes(ctx)


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


@router.post("/jobs/{job}/cancel", status_code=202)
def cancel_job(ctx: Context, job: Ref, body: JobCancel) -> Job:
    """Cancel a job."""
    return service.cancel_job(ctx, job, body)


@router.get("/jobs/{job}/log")
def get_job_log(
    ctx: Context,
    job: Ref,
    offset: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1024 * 1024)] = _PIECE,
) -> JobLog:
    """Return a piece of a job's output from a byte offset on."""
    return service.get_job_log(ctx, job, offset, limit)


@router.get(
    "/jobs/{job}/log/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The output"}},
)
def stream_job_log(scope: Scope, job: Ref) -> StreamingResponse:
    """Stream a job's output until the job has ended."""
    with scope.work(write=False) as ctx:
        first = service.get_job_log(ctx, job, 0, _PIECE)
    return StreamingResponse(_follow(scope, job, first), media_type="text/plain; charset=utf-8")


@router.post("/jobs/{job}/result")
def finish_job(ctx: Context, job: Ref, body: JobReport) -> Job:
    """Take the trainer's own report; only the job itself may give it."""
    return service.finish_job(ctx, job, body)


def _follow(scope: Scope, job: str, piece: JobLog) -> Iterator[str]:
    while True:
        yield piece.text
        if piece.complete or getattr(scope.request.app.state, "draining", False):
            return
        if not piece.text:
            time.sleep(_PAUSE_S)
        with scope.work(write=False) as ctx:
            piece = service.get_job_log(ctx, job, piece.next_offset, _PIECE)
