"""What training does. Context first, one verb a function; the edge commits."""

import codecs
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select

from modelops.contracts import plugins
from modelops.contracts.errors import InvalidInput, PermissionDenied
from modelops.contracts.ids import new_id
from modelops.contracts.ports import JobBackend, Observation
from modelops.contracts.schemas import Page
from modelops.domains.data import service as data
from modelops.domains.experiments import service as experiments
from modelops.domains.experiments.schemas import RunStatus
from modelops.domains.identity import service as identity
from modelops.domains.training.recipe import Recipe
from modelops.domains.training.rules import JobEnded, judge, state_after_cancel
from modelops.domains.training.schemas import (
    Job,
    JobCancel,
    JobCreate,
    JobLog,
    JobReport,
    JobState,
    RecipeInfo,
    Resources,
)
from modelops.domains.training.tables import JobRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows
from modelops.kernel.secrets import SecretBox

RECIPES = "modelops.recipes"
TRAINER_PERMISSIONS = (
    "artifacts.read",
    "artifacts.write",
    "datasets.read",
    "experiments.read",
    "experiments.write",
    "runs.write",
    "models.read",
    "models.write",
)
LIVE = (JobState.STARTING, JobState.RUNNING, JobState.CANCELING)
KEPT_ATTEMPTS = 200
_NO_TIMEOUT_S = 7 * 86_400
_TOKEN_MARGIN_S = 600


def list_recipes(ctx: Context) -> Page[RecipeInfo]:
    """List the installed recipes with the parameters that they take."""
    ctx.require("jobs.read")
    items = [_recipe_info(recipe) for recipe in plugins.load_all(RECIPES).values()]
    return Page(items=items, next_cursor=None, total=len(items))


def submit_job(ctx: Context, body: JobCreate) -> Job:
    """Queue a job: what is wrong with it is told now, not when it runs."""
    ctx.require("jobs.write")
    recipe: Recipe = plugins.load(RECIPES, body.recipe)
    version = data.resolve_dataset_version(ctx, body.dataset)
    job_id = new_id("job")
    name = body.name or f"{body.recipe} {job_id[-6:]}"
    row = JobRow(
        id=job_id,
        project_id=ctx.project_id,
        name=name,
        recipe=body.recipe,
        dataset_version_id=version.id,
        dataset=f"{version.dataset}:{version.version}",
        parameters=_checked(recipe, body.parameters),
        resources=body.resources.model_dump(),
        experiment=body.experiment or name,
        tags=body.tags,
        state=JobState.QUEUED,
        attempt=0,
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    ctx.emit("modelops.training.job_submitted", row.id, name=row.name, recipe=row.recipe, dataset=row.dataset)
    return _job(ctx, row)


def list_jobs(ctx: Context, page: PageQuery) -> Page[Job]:
    """List the project's jobs, newest first."""
    ctx.require("jobs.read")
    fields = {
        "name": JobRow.name,
        "recipe": JobRow.recipe,
        "state": JobRow.state,
        "created_at": JobRow.created_at,
        "ended_at": JobRow.ended_at,
        "created_by": JobRow.created_by,
    }
    found = list_rows(ctx, ctx.query(JobRow), JobRow.id, fields, page, order="desc")
    return Page(items=[_job(ctx, row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_job(ctx: Context, job: str) -> Job:
    """Return a job."""
    ctx.require("jobs.read")
    return _job(ctx, _find(ctx, job))


def cancel_job(ctx: Context, job: str, body: JobCancel) -> Job:
    """Cancel a job: at once while it waits, else as soon as its process has ended. Twice is no error."""
    ctx.require("jobs.write")
    row = _find(ctx, job, lock=True)
    if row.state in (JobState.CANCELING, JobState.CANCELED):
        return _job(ctx, row)
    after = state_after_cancel(JobState(row.state))
    row.cancel_reason = body.reason or f"Cancelled by {ctx.actor.name}."
    row.touch()
    if after is JobState.CANCELED:
        _end(ctx, row, after, row.cancel_reason, None)
    else:
        row.state = after
        ctx.emit("modelops.training.job_canceling", row.id, reason=row.cancel_reason)
    return _job(ctx, row)


def get_job_log(ctx: Context, job: str, offset: int, limit: int) -> JobLog:
    """Return a piece of a job's output from a byte offset on."""
    ctx.require("jobs.read")
    row = _find(ctx, job)
    raw = ctx.port(JobBackend).log(attempt_name(row), offset=offset, limit=limit) if row.attempt else b""
    text, used = _decode(raw, last=len(raw) < limit and JobState(row.state).final)
    return JobLog(text=text, next_offset=offset + used, complete=JobState(row.state).final and len(raw) < limit)


def finish_job(ctx: Context, job: str, body: JobReport) -> Job:
    """Take the trainer's own report. The job ends when its process is seen to have ended."""
    row = _find(ctx, job, lock=True)
    if ctx.actor.kind != "grant" or ctx.actor.id != row.id:
        raise PermissionDenied("Only the job itself reports its result.")
    if JobState(row.state).final:
        raise JobEnded(f"The job has {row.state} already.")
    row.result = body.result.model_dump(mode="json") if body.result else None
    row.failure = body.failure
    return _job(ctx, row)


def attempt_name(row: JobRow) -> str:
    """Return what the job's present attempt is called at the backend."""
    return f"{row.id}-{row.attempt}"


def active_jobs(ctx: Context) -> list[str]:
    """Return the jobs that run or may begin to, of every project, oldest first (for the reconciler)."""
    live = list(ctx.session.scalars(select(JobRow.id).where(JobRow.state.in_(LIVE)).order_by(JobRow.id)))
    free = ctx.settings.max_running_jobs - len(live)
    if free > 0:
        queued = select(JobRow.id).where(JobRow.state == JobState.QUEUED).order_by(JobRow.id).limit(free)
        live += ctx.session.scalars(queued)
    return live


def read_job_row(ctx: Context, job: str) -> JobRow | None:
    """Return a job's row, whatever its project (for the reconciler)."""
    return ctx.session.get(JobRow, job)


def admit(ctx: Context, job: str) -> None:
    """Let a queued job start: with a token of its own, which lives as long as the job may (for the reconciler)."""
    row = ctx.session.get(JobRow, job, with_for_update=True)
    if row is None or row.state != JobState.QUEUED:
        return
    inside = ctx.within(row.project_id, identity.tenant_of(ctx, row.project_id))
    timeout = Resources.model_validate(row.resources).timeout_s or _NO_TIMEOUT_S
    token = identity.grant_token(inside, row.id, TRAINER_PERMISSIONS, ttl_s=int(timeout) + _TOKEN_MARGIN_S)
    row.attempt += 1
    row.sealed_token = ctx.port(SecretBox).seal(token.encode(), row.id)
    row.state, row.admitted_at = JobState.STARTING, ctx.clock.now()
    row.touch()
    inside.emit("modelops.training.job_admitted", row.id, attempt=row.attempt)


def settle(ctx: Context, job: str, attempt: int, seen: Observation) -> None:
    """Write back what was seen of a job's process (for the reconciler)."""
    row = ctx.session.get(JobRow, job, with_for_update=True)
    if row is None or row.attempt != attempt or row.state not in LIVE:
        return
    state, reason = judge(
        JobState(row.state),
        seen,
        reported=row.result is not None,
        failure=row.failure,
        cancel_reason=row.cancel_reason,
        waited_since=row.admitted_at or row.created_at,
        now=ctx.clock.now(),
        start_timeout_s=ctx.settings.job_start_timeout_s,
    )
    inside = ctx.within(row.project_id, identity.tenant_of(ctx, row.project_id))
    row.started_at = row.started_at or seen.started_at
    if state.final:
        row.touch()
        _end(inside, row, state, reason, seen)
    elif state != row.state:
        row.state, row.reason = state, reason
        row.touch()
        inside.emit("modelops.training.job_started", row.id, name=row.name)


def kept_attempts(ctx: Context) -> set[str]:
    """Return the attempts whose files are still wanted: of jobs under way, and of the last to have ended."""
    live = select(JobRow).where(JobRow.state.in_((*LIVE, JobState.QUEUED)))
    ended = select(JobRow).where(JobRow.ended_at.is_not(None)).order_by(JobRow.ended_at.desc()).limit(KEPT_ATTEMPTS)
    return {attempt_name(row) for query in (live, ended) for row in ctx.session.scalars(query)}


def _end(ctx: Context, row: JobRow, state: JobState, reason: str | None, seen: Observation | None) -> None:
    row.state, row.reason, row.ended_at, row.sealed_token = state, reason, ctx.clock.now(), None
    if seen is not None:
        row.exit_code = seen.exit_code
        row.peak_memory_bytes, row.cpu_seconds = seen.peak_memory_bytes, seen.cpu_seconds
    status = {JobState.SUCCEEDED: RunStatus.FINISHED, JobState.CANCELED: RunStatus.CANCELED}.get(
        state, RunStatus.FAILED
    )
    experiments.end_runs_of_job(ctx, row.id, status, reason)
    identity.revoke_grants(ctx, row.id)
    ctx.emit("modelops.training.job_ended", row.id, name=row.name, state=state, reason=reason)


def _find(ctx: Context, job: str, *, lock: bool = False) -> JobRow:
    row = ctx.one(JobRow, f"job '{job}'", JobRow.id == job)
    if lock:
        ctx.session.refresh(row, with_for_update=True)
    return row


def _checked(recipe: Recipe, parameters: dict[str, Any]) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = recipe.Parameters.model_validate(parameters).model_dump(mode="json")
    except ValidationError as wrong:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'parameters'}: {e['msg']}" for e in wrong.errors()[:5])
        raise InvalidInput(
            f"The recipe '{recipe.name}' does not take these parameters: {problems}.",
            hint=f"It takes: {', '.join(recipe.Parameters.model_fields) or 'none'}. See `mops jobs list-recipes`.",
        ) from wrong
    return checked


def _recipe_info(recipe: Recipe) -> RecipeInfo:
    return RecipeInfo(
        name=recipe.name, description=recipe.description, parameters=recipe.Parameters.model_json_schema()
    )


def _decode(raw: bytes, *, last: bool) -> tuple[str, int]:
    """Return the whole characters at the start of a piece of output, and how many bytes they took."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(raw, final=last)
    return text.replace("\x00", "\ufffd"), len(raw) - len(decoder.getstate()[0])


def _job(ctx: Context, row: JobRow) -> Job:
    own = {name: getattr(row, name) for name in Job.model_fields}
    if row.state == JobState.QUEUED:
        own["reason"] = _why_it_waits(ctx, row)
    return Job.model_validate(own)


def _why_it_waits(ctx: Context, row: JobRow) -> str:
    ahead = ctx.session.scalar(select(func.count()).where(JobRow.state == JobState.QUEUED, JobRow.id < row.id)) or 0
    running = ctx.session.scalar(select(func.count()).where(JobRow.state.in_(LIVE))) or 0
    most = ctx.settings.max_running_jobs
    if ahead + running < most:
        return "It starts in a moment."
    return f"{running} of {most} jobs run, and {ahead} wait before it."
