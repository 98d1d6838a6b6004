"""Routes of experiments."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from modelops.contracts.schemas import Page
from modelops.domains.experiments import service
from modelops.domains.experiments.schemas import (
    Experiment,
    ExperimentCreate,
    ExperimentUpdate,
    LogBatch,
    Logged,
    MetricPoint,
    Run,
    RunArtifact,
    RunArtifactCreate,
    RunCreate,
    RunUpdate,
)
from modelops.kernel.context import Context
from modelops.kernel.edge import Ref, Router, body_of
from modelops.kernel.listing import PageQuery
from modelops.kernel.scope import Scope

router = Router("experiments")

MetricKey = Annotated[str, Path(min_length=1, max_length=250, description="A metric's key; it may hold slashes.")]


Deleted = Annotated[bool, Query(description="The deleted ones, which can be restored.")]


class ExperimentsQuery(PageQuery):
    """What the listing of experiments takes."""

    deleted: Deleted = False


class RunsQuery(PageQuery):
    """What the listing of runs takes."""

    deleted: Deleted = False
    experiment: Annotated[str | None, Query(max_length=250, description="Only of this experiment.")] = None


class HistoryQuery(BaseModel):
    """What the history of a metric takes: it has one order, and nothing to filter by."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=1_000, description="How many at most.")] = 100
    cursor: Annotated[str | None, Field(max_length=2_000, description="`next_cursor` of the page before.")] = None


@router.post("/experiments", status_code=201)
def create_experiment(ctx: Context, body: ExperimentCreate) -> Experiment:
    """Make an experiment."""
    return service.create_experiment(ctx, body)


@router.get("/experiments")
def list_experiments(ctx: Context, page: Annotated[ExperimentsQuery, Query()]) -> Page[Experiment]:
    """List the project's experiments, or the deleted ones."""
    return service.list_experiments(ctx, page, deleted=page.deleted)


@router.get("/experiments/{experiment}")
def get_experiment(ctx: Context, experiment: Ref) -> Experiment:
    """Return an experiment."""
    return service.get_experiment(ctx, experiment)


@router.patch("/experiments/{experiment}")
def update_experiment(ctx: Context, experiment: Ref, body: ExperimentUpdate) -> Experiment:
    """Change an experiment's description or tags."""
    return service.update_experiment(ctx, experiment, body)


@router.delete("/experiments/{experiment}", status_code=204)
def delete_experiment(ctx: Context, experiment: Ref) -> None:
    """Delete an experiment and its runs; they can be restored for a while."""
    return service.delete_experiment(ctx, experiment)


@router.post("/experiments/{experiment}/restore")
def restore_experiment(ctx: Context, experiment: Ref) -> Experiment:
    """Restore a deleted experiment, and the runs that were deleted with it."""
    return service.restore_experiment(ctx, experiment)


@router.post("/runs", status_code=201)
def create_run(ctx: Context, body: RunCreate) -> Run:
    """Begin a run."""
    return service.create_run(ctx, body)


@router.get("/runs")
def list_runs(ctx: Context, page: Annotated[RunsQuery, Query()]) -> Page[Run]:
    """List runs, newest first; filter and order also by `metrics.<key>`, `parameters.<key>` and `tags.<key>`."""
    return service.list_runs(ctx, page.experiment, page, deleted=page.deleted)


@router.get("/runs/{run}")
def get_run(ctx: Context, run: Ref) -> Run:
    """Return a run."""
    return service.get_run(ctx, run)


@router.patch("/runs/{run}")
def update_run(ctx: Context, run: Ref, body: RunUpdate) -> Run:
    """Rename a run, or end it."""
    return service.update_run(ctx, run, body)


@router.delete("/runs/{run}", status_code=204)
def delete_run(ctx: Context, run: Ref) -> None:
    """Delete a run; it can be restored for a while."""
    return service.delete_run(ctx, run)


@router.post("/runs/{run}/restore")
def restore_run(ctx: Context, run: Ref) -> Run:
    """Restore a deleted run."""
    return service.restore_run(ctx, run)


@router.post("/runs/{run}/log", openapi_extra=body_of(LogBatch))
async def log_batch(scope: Scope, run: Ref) -> Logged:
    """Record metrics, parameters and tags on a run."""
    return await service.log_batch(scope, run, await scope.request.body())


@router.post("/runs/{run}/heartbeat", status_code=204)
def heartbeat(ctx: Context, run: Ref) -> None:
    """Note that whoever makes the run is alive."""
    return service.heartbeat(ctx, run)


@router.get("/runs/{run}/metrics/{key:path}")
def get_metric_history(
    ctx: Context, run: Ref, key: MetricKey, page: Annotated[HistoryQuery, Query()]
) -> Page[MetricPoint]:
    """Return the points of a metric by time, then step."""
    return service.get_metric_history(ctx, run, key, page.limit, page.cursor)


@router.post("/runs/{run}/artifacts", status_code=201)
def link_run_artifact(ctx: Context, run: Ref, body: RunArtifactCreate) -> RunArtifact:
    """Give an artifact a path in a run."""
    return service.link_run_artifact(ctx, run, body)


@router.get("/runs/{run}/artifacts")
def list_run_artifacts(ctx: Context, run: Ref) -> Page[RunArtifact]:
    """List a run's files."""
    return service.list_run_artifacts(ctx, run)
