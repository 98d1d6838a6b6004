"""Routes of experiments."""

from typing import Annotated

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from modelops.contracts.schemas import Page
from modelops.domains.experiments import service
from modelops.domains.experiments.analysis_schemas import (
    BestQuery,
    BestRun,
    BucketsQuery,
    ComparisonQuery,
    GroupQuery,
    MetricBuckets,
    ReportQuery,
    RunComparison,
    RunGroups,
)
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
from modelops.domains.experiments.view_schemas import View, ViewCreate, ViewUpdate
from modelops.kernel.context import Context
from modelops.kernel.edge import Listing, Ref, Router, body_of
from modelops.kernel.listing import PageQuery
from modelops.kernel.scope import Scope

router = Router("experiments")

MetricKey = Annotated[str, Path(min_length=1, max_length=250, description="A metric's key; it may hold slashes.")]

_REPORT_HEADERS = {
    "Content-Disposition": 'attachment; filename="report.html"',
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


Deleted = Annotated[bool, Query(description="The deleted ones, which can be restored.")]


class ExperimentsQuery(PageQuery):
    """What the listing of experiments takes."""

    deleted: Deleted = False


class RunsQuery(PageQuery):
    """What the listing of runs takes."""

    deleted: Deleted = False
    experiment: Annotated[str | None, Query(max_length=250, description="Only of this experiment.")] = None


class HistoryQuery(BaseModel):
    """What a listing takes that has one order, and nothing to filter by."""

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


@router.get("/runs/{run}/metric-buckets/{key:path}")
def get_metric_buckets(
    ctx: Context, run: Ref, key: MetricKey, query: Annotated[BucketsQuery, Query()]
) -> MetricBuckets:
    """Return a metric's history in equal stretches, each with its least, greatest and last value."""
    return service.get_metric_buckets(ctx, run, key, query)


@router.get("/run-comparison")
def compare(ctx: Context, query: Annotated[ComparisonQuery, Query()]) -> RunComparison:
    """Compare runs: what differs alone; and for the objectives named, what mattered, the Pareto front and significance."""
    return service.compare(ctx, query)


@router.get("/run-report", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def report(ctx: Context, query: Annotated[ReportQuery, Query()]) -> Response:
    """Return a report on runs: one HTML file with plots that needs nothing else."""
    return Response(service.report(ctx, query), media_type="text/html", headers=_REPORT_HEADERS)


@router.get("/run-groups")
def group_runs(ctx: Context, query: Annotated[GroupQuery, Query()]) -> RunGroups:
    """Group runs by a parameter or tag, with a summary of metrics for each group."""
    return service.group_runs(ctx, query)


@router.get("/best-run")
def get_best_run(ctx: Context, query: Annotated[BestQuery, Query()]) -> BestRun:
    """Return the run with the best value of a metric among those that keep the constraints."""
    return service.get_best_run(ctx, query)


@router.post("/run-views", status_code=201)
def create_view(ctx: Context, body: ViewCreate) -> View:
    """Save a view of runs: a filter, an order, columns and a grouping, for oneself or shared."""
    return service.create_view(ctx, body)


@router.get("/run-views")
def list_views(ctx: Context, page: Listing) -> Page[View]:
    """List your own views of runs and those that are shared."""
    return service.list_views(ctx, page)


@router.get("/run-views/{view}")
def get_view(ctx: Context, view: Ref) -> View:
    """Return a view of runs."""
    return service.get_view(ctx, view)


@router.patch("/run-views/{view}")
def update_view(ctx: Context, view: Ref, body: ViewUpdate) -> View:
    """Change a view of runs, or share it."""
    return service.update_view(ctx, view, body)


@router.delete("/run-views/{view}", status_code=204)
def delete_view(ctx: Context, view: Ref) -> None:
    """Forget a view of runs. The runs stay."""
    return service.delete_view(ctx, view)


@router.get("/run-views/{view}/runs")
def list_view_runs(ctx: Context, view: Ref, page: Annotated[HistoryQuery, Query()]) -> Page[Run]:
    """List the runs that a view shows, in its order."""
    return service.list_view_runs(ctx, view, page.limit, page.cursor)
