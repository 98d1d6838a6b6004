"""What experiments does. Context first, one verb a function; the edge commits."""

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import select

from modelops.contracts.errors import AlreadyExists, Conflict, InvalidInput
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.experiments import history, ingest, retention
from modelops.domains.experiments.analysis import compare, get_best_run, get_metric_buckets, group_runs, report
from modelops.domains.experiments.finding import find_experiment, find_run_row, locked, own_run, page_of_runs
from modelops.domains.experiments.ports import ArtifactCatalog
from modelops.domains.experiments.reading import as_experiment, as_run
from modelops.domains.experiments.retention import expired, remove
from modelops.domains.experiments.rules import LIVE, check_reason, check_transition, silence
from modelops.domains.experiments.schemas import (
    Experiment,
    ExperimentCreate,
    ExperimentUpdate,
    Logged,
    MetricPoint,
    Run,
    RunArtifact,
    RunArtifactCreate,
    RunCreate,
    RunStatus,
    RunUpdate,
)
from modelops.domains.experiments.searching import Condition, Order, search_experiments
from modelops.domains.experiments.tables import ExperimentRow, RunArtifactRow, RunRow
from modelops.domains.experiments.views import (
    create_view,
    delete_view,
    get_view,
    list_view_runs,
    list_views,
    update_view,
)
from modelops.domains.experiments.wire import read_batch
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of
from modelops.kernel.listing import PageQuery, list_rows
from modelops.kernel.scope import Scope
from modelops.kernel.work import Watching

__all__ = [
    "compare",
    "create_view",
    "delete_view",
    "expired",
    "get_best_run",
    "get_metric_buckets",
    "get_view",
    "group_runs",
    "list_view_runs",
    "list_views",
    "remove",
    "report",
    "update_view",
]


def create_experiment(ctx: Context, body: ExperimentCreate) -> Experiment:
    """Make an experiment."""
    return make_experiment(ctx, body.name, description=body.description, tags=body.tags)


def make_experiment(
    ctx: Context,
    name: str,
    *,
    description: str = "",
    tags: dict[str, str] | None = None,
    artifact_location: str | None = None,
) -> Experiment:
    """Make an experiment of any name (for the domains above)."""
    ctx.require("experiments.write")
    if ctx.session.scalars(ctx.query(ExperimentRow).where(ExperimentRow.name == name)).first():
        raise AlreadyExists(f"There is an experiment '{name}' already.")
    now = ctx.clock.now()
    row = ExperimentRow(
        id=new_id("exp"),
        project_id=ctx.project_id,
        name=name,
        description=description,
        tags=tags or {},
        artifact_location=artifact_location,
        revision=1,
        created_at=now,
        changed_at=now,
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.experiments.experiment_created", row.id, name=row.name)
    return as_experiment(row)


def list_experiments(ctx: Context, page: PageQuery, *, deleted: bool = False) -> Page[Experiment]:
    """List the project's experiments, or the deleted ones."""
    ctx.require("experiments.read")
    fields = {
        "name": ExperimentRow.name,
        "created_at": ExperimentRow.created_at,
        "created_by": ExperimentRow.created_by,
    }
    query = ctx.query(ExperimentRow).where(ExperimentRow.deleted_at.is_not(None) == deleted)
    found = list_rows(ctx, query, ExperimentRow.id, fields, page)
    return Page(items=[as_experiment(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_experiment(ctx: Context, experiment: str) -> Experiment:
    """Return an experiment, by name or id."""
    ctx.require("experiments.read")
    return as_experiment(find_experiment(ctx, experiment))


def update_experiment(ctx: Context, experiment: str, body: ExperimentUpdate) -> Experiment:
    """Change an experiment's description or tags."""
    ctx.require("experiments.write")
    row = find_experiment(ctx, experiment, lock=True)
    ctx.check_revision(row)
    row.changed_at = ctx.clock.now()
    if body.description is not None:
        row.description = body.description
    if body.tags is not None:
        row.tags = body.tags
    return as_experiment(row)


def relabel_experiment(
    ctx: Context, experiment: str, *, name: str | None = None, tags: dict[str, str | None] | None = None
) -> Experiment:
    """Rename an experiment, and set tags or, where they are None, drop them (for the domains above)."""
    ctx.require("experiments.write")
    row = find_experiment(ctx, experiment, lock=True)
    if name is not None and name != row.name:
        if ctx.session.scalars(ctx.query(ExperimentRow).where(ExperimentRow.name == name)).first():
            raise AlreadyExists(f"There is an experiment '{name}' already.")
        row.name = name
    if tags:
        row.tags = {key: value for key, value in {**row.tags, **tags}.items() if value is not None}
    row.changed_at = ctx.clock.now()
    row.touch()
    return as_experiment(row)


def find_experiments(
    ctx: Context,
    *,
    conditions: Sequence[Condition] = (),
    orders: Sequence[Order] = (),
    deleted: bool | None = False,
    limit: int = 100,
    cursor: str | None = None,
) -> tuple[list[Experiment], str | None]:
    """Find experiments of the project, newest first unless ordered otherwise (for the domains above).

    Returns:
        The experiments, and the cursor behind them if there are more.
    """
    ctx.require("experiments.read")
    rows, further = search_experiments(ctx, conditions, orders, deleted, limit, cursor)
    return [as_experiment(row) for row in rows], further


def name_experiments(ctx: Context, ids: Collection[str]) -> dict[str, str]:
    """Return the names of the project's experiments by id (for the domains above)."""
    query = ctx.query(ExperimentRow).where(ExperimentRow.id.in_(ids))
    return {row.id: row.name for row in ctx.session.scalars(query)}


def delete_experiment(ctx: Context, experiment: str) -> None:
    """Delete an experiment and its runs; they can be restored for a while."""
    ctx.require("experiments.write")
    row = find_experiment(ctx, experiment, lock=True)
    retention.delete_experiment(ctx, row)


def restore_experiment(ctx: Context, experiment: str) -> Experiment:
    """Restore a deleted experiment, and the runs that were deleted with it."""
    ctx.require("experiments.write")
    row = find_experiment(ctx, experiment, lock=True)
    retention.restore_experiment(ctx, row)
    return as_experiment(row)


def create_run(ctx: Context, body: RunCreate) -> Run:
    """Begin a run. One that a job begins belongs to the job."""
    ctx.require("runs.write")
    experiment = find_experiment(ctx, body.experiment)
    if experiment.deleted_at is not None:
        raise Conflict(f"The experiment '{experiment.name}' is deleted.", hint="Restore it first, or name another.")
    now, run_id = ctx.clock.now(), new_id("run")
    row = RunRow(
        id=run_id,
        project_id=ctx.project_id,
        experiment_id=experiment.id,
        name=body.name or f"run {run_id[-6:]}",
        status=RunStatus.RUNNING,
        job_id=_job_of(ctx),
        started_at=now,
        heard_at=now,
        revision=1,
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    parameters = [ingest.parameter_entry(key, value) for key, value in body.parameters.items()]
    batch = ingest.Batch(parameters=parameters, tags=list(body.tags.items()))
    ingest.write_batch(raw_of(ctx.session), row.number, batch)
    ctx.emit("modelops.experiments.run_started", row.id, experiment=experiment.name, name=row.name)
    return as_run(ctx, row)


def list_runs(ctx: Context, experiment: str | None, page: PageQuery, *, deleted: bool = False) -> Page[Run]:
    """List the project's runs, or one experiment's, newest first; or the deleted ones."""
    ctx.require("experiments.read")
    return page_of_runs(ctx, experiment, page, deleted=deleted)


def get_run(ctx: Context, run: str) -> Run:
    """Return a run with its parameters, tags and the latest value of each metric."""
    ctx.require("experiments.read")
    return find_run(ctx, run)


def update_run(ctx: Context, run: str, body: RunUpdate) -> Run:
    """Rename a run, or end it. Of two that end it at once, the first decides how."""
    ctx.require("runs.write")
    check_reason(body.status, body.reason)
    row = own_run(ctx, run, lock=True)
    if body.status is not None and check_transition(run, RunStatus(row.status), body.status, row.reason):
        ctx.check_revision(row)
        if body.status in LIVE:
            row.status, row.reason, row.ended_at, row.heard_at = body.status, None, None, ctx.clock.now()
        else:
            _end(ctx, row, body.status, body.reason)
    elif body.name is not None:
        ctx.check_revision(row)
    if body.name is not None:
        row.name = body.name
    return as_run(ctx, row)


def delete_run(ctx: Context, run: str) -> None:
    """Delete a run; it can be restored for a while."""
    ctx.require("runs.write")
    row = own_run(ctx, run, lock=True)
    retention.delete_run(ctx, row)


def restore_run(ctx: Context, run: str) -> Run:
    """Restore a deleted run."""
    ctx.require("runs.write")
    row = own_run(ctx, run, lock=True)
    retention.restore_run(ctx, row)
    return as_run(ctx, row)


async def log_batch(scope: Scope, run: str, body: bytes) -> Logged:
    """Record metrics, parameters and tags on a run: all of it, or nothing. `body` is the JSON of a `LogBatch`."""
    batch = await read_batch(scope, body)
    await ingest.log(scope, run, batch)
    return Logged(metrics=len(batch.points), parameters=len(batch.parameters), tags=len(batch.tags))


def heartbeat(ctx: Context, run: str) -> None:
    """Note that whoever makes the run is alive."""
    ctx.require("runs.write")
    row = own_run(ctx, run)
    if row.status == RunStatus.RUNNING:
        row.heard_at = ctx.clock.now()


def get_metric_history(ctx: Context, run: str, key: str, limit: int, cursor: str | None) -> Page[MetricPoint]:
    """Return the points of a metric by time, then step."""
    ctx.require("experiments.read")
    row = find_run_row(ctx, run)
    raw = raw_of(ctx.session)
    total = history.count_points(raw, row.number, key)
    found = history.read_points(raw, row.number, key, limit, cursor)
    points = [history.as_point(key, place) for place in found.places]
    return Page(items=points, next_cursor=found.further, total=total)


def link_run_artifact(ctx: Context, run: str, body: RunArtifactCreate) -> RunArtifact:
    """Give an artifact of the project a path in a run; the path can be given anew."""
    ctx.require("runs.write")
    row = own_run(ctx, run)
    if ".." in body.path.split("/"):
        raise InvalidInput("A path in a run does not go upwards.")
    size, media_type = ctx.port(ArtifactCatalog)(ctx, body.digest)
    artifact = ctx.session.merge(
        RunArtifactRow(run_id=row.id, path=body.path, digest=body.digest, size=size, media_type=media_type)
    )
    row.heard_at = ctx.clock.now()
    return RunArtifact.model_validate(artifact, from_attributes=True)


def list_run_artifacts(ctx: Context, run: str) -> Page[RunArtifact]:
    """List a run's files by path."""
    ctx.require("experiments.read")
    row = find_run_row(ctx, run)
    query = select(RunArtifactRow).where(RunArtifactRow.run_id == row.id).order_by(RunArtifactRow.path)
    items = [RunArtifact.model_validate(found, from_attributes=True) for found in ctx.session.scalars(query)]
    return Page(items=items, next_cursor=None, total=len(items))


def find_run(ctx: Context, run: str) -> Run:
    """Return a run of the project (for the domains above)."""
    return as_run(ctx, find_run_row(ctx, run))


def end_runs_of_job(ctx: Context, job_id: str, status: RunStatus, reason: str | None) -> int:
    """End the runs that a job left running, and return how many (for the domains above)."""
    query = ctx.query(RunRow).where(RunRow.job_id == job_id, RunRow.status.in_(LIVE))
    rows = ctx.session.scalars(locked(query.order_by(RunRow.id))).all()
    for row in rows:
        row.touch()
        _end(ctx, row, status, reason)
    return len(rows)


def silent_runs(ctx: Context) -> list[str]:
    """Return the runs of every project that were not heard of for too long (for the reconciler).

    While the platform was away nobody could be heard, so silence counts from when it began to watch.
    """
    limit = ctx.clock.now() - timedelta(seconds=ctx.settings.run_heartbeat_timeout_s)
    watching = ctx.port(Watching).since
    if watching is not None and watching > limit:
        return []
    query = select(RunRow.id).where(RunRow.status == RunStatus.RUNNING, RunRow.heard_at < limit).limit(500)
    return list(ctx.session.scalars(query))


def fail_silent_run(ctx: Context, run_id: str) -> None:
    """End a run as failed if it is still running and still silent (for the reconciler)."""
    row = ctx.session.scalars(locked(select(RunRow).where(RunRow.id == run_id))).one_or_none()
    timeout = ctx.settings.run_heartbeat_timeout_s
    if row is None or row.status != RunStatus.RUNNING:
        return
    if row.heard_at is not None and row.heard_at < ctx.clock.now() - timedelta(seconds=timeout):
        row.touch()
        _end(ctx.within(row.project_id), row, RunStatus.FAILED, silence(timeout))


def _end(ctx: Context, row: RunRow, status: RunStatus, reason: str | None) -> None:
    row.status, row.reason, row.ended_at = status, reason, ctx.clock.now()
    ctx.emit("modelops.experiments.run_ended", row.id, status=status, reason=reason, name=row.name)


def _job_of(ctx: Context) -> str | None:
    return ctx.actor.id if ctx.actor.kind == "grant" and ctx.actor.id.startswith("job_") else None
