"""What training does. Context first, one verb a function; the edge commits. Output is read in `output`, and what becomes
of jobs is written in `lifecycle`."""

import logging
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select

from modelops.contracts import plugins
from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page, jsonable
from modelops.domains.training.artifacts import find_inputs, hold_inputs
from modelops.domains.training.artifacts import list_job_artifacts as list_job_artifacts
from modelops.domains.training.artifacts import save_job_artifact as save_job_artifact
from modelops.domains.training.estimates import estimate_cost as estimate_cost
from modelops.domains.training.estimates import get_training_requirements as get_training_requirements
from modelops.domains.training.lifecycle import end_job, queue_again
from modelops.domains.training.output import get_job_log as get_job_log
from modelops.domains.training.output import stream_job_log as stream_job_log
from modelops.domains.training.queueing import explain_job as explain_job
from modelops.domains.training.queueing import join, wants_queue
from modelops.domains.training.recipe import (
    RECIPES,
    Recipe,
    engine_of,
    inputs_of,
    load_recipe,
    outputs_of,
    takes_any_input,
)
from modelops.domains.training.rows import as_job, as_jobs, find_job, own_job
from modelops.domains.training.rules import check_processes, check_retry, state_after_cancel
from modelops.domains.training.schemas import (
    EndCause,
    Job,
    JobAttempt,
    JobCancel,
    JobCreate,
    JobReport,
    JobState,
    ProgressReport,
    RecipeInfo,
)
from modelops.domains.training.tables import JobAttemptRow, JobRow
from modelops.domains.training.usage import get_job_usage as get_job_usage
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

log = logging.getLogger(__name__)

_JOB_FIELDS = {
    "name": JobRow.name,
    "recipe": JobRow.recipe,
    "state": JobRow.state,
    "created_at": JobRow.created_at,
    "ended_at": JobRow.ended_at,
    "created_by": JobRow.created_by,
}


def list_recipes(ctx: Context) -> Page[RecipeInfo]:
    """List the installed recipes that can be loaded, with the parameters that they take."""
    ctx.require("jobs.read")
    items = []
    for name in plugins.discover(RECIPES):
        try:
            items.append(_recipe_info(name, load_recipe(name)))
        except MLOpsError as broken:  # one that cannot be loaded must not hide the others
            log.warning("the recipe '%s' is left out: %s", name, broken)
    return Page(items=items, next_cursor=None, total=len(items))


def submit_job(ctx: Context, body: JobCreate) -> Job:
    """Queue a job: what is wrong with it is told now, not when it runs."""
    ctx.require("jobs.write")
    recipe = load_recipe(body.recipe)
    check_processes(body.recipe, engine_of(recipe), body.resources.processes)
    parameters = _checked(body.recipe, recipe, body.parameters)
    given = find_inputs(ctx, body, recipe)
    data = given.dataset
    job_id = new_id("job")
    name = body.name or f"{body.recipe} {job_id[-6:]}"
    row = JobRow(
        id=job_id,
        project_id=ctx.project_id,
        name=name,
        recipe=body.recipe,
        dataset_version_id=data.id if data else None,
        dataset=f"{data.dataset}:{data.version}" if data else None,
        data_rows=data.rows if data else None,
        data_columns=len(data.columns) if data else None,
        inputs=jsonable(given.found),
        parameters=parameters,
        resources=body.resources.model_dump(),
        retry=jsonable(body.retry),
        environment=body.environment,
        keep_checkpoints=body.keep_checkpoints,
        experiment=body.experiment or name,
        tags=body.tags,
        queue=body.queue,
        pool=body.pool,
        priority=body.priority,
        state=JobState.QUEUED,
        attempt=0,
        revision=1,
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    hold_inputs(ctx, row, given)
    if wants_queue(ctx, body):
        join(ctx, row)
    ctx.emit("modelops.training.job_submitted", row.id, name=row.name, recipe=row.recipe, dataset=row.dataset)
    return as_job(ctx, row)


def list_jobs(ctx: Context, page: PageQuery) -> Page[Job]:
    """List the project's jobs, newest first."""
    ctx.require("jobs.read")
    found = list_rows(ctx, ctx.query(JobRow), JobRow.id, _JOB_FIELDS, page, order="desc")
    return Page(items=as_jobs(ctx, found.rows), next_cursor=found.next_cursor, total=found.total)


def get_job(ctx: Context, job: str) -> Job:
    """Return a job."""
    ctx.require("jobs.read")
    return as_job(ctx, find_job(ctx, job))


def cancel_job(ctx: Context, job: str, body: JobCancel) -> Job:
    """Cancel a job: at once while it waits, else as soon as its process has ended. Twice is no error."""
    ctx.require("jobs.write")
    row = find_job(ctx, job, lock=True)
    if row.state in (JobState.CANCELING, JobState.CANCELED):
        return as_job(ctx, row)
    after = state_after_cancel(JobState(row.state))
    row.cancel_reason = body.reason or f"Cancelled by {ctx.actor.name}."
    if after is JobState.CANCELED:
        end_job(ctx, row, after, row.cancel_reason)
        row.cause = EndCause.CANCELED
    else:
        row.state, row.reason = after, row.cancel_reason
        row.touch()
        ctx.emit("modelops.training.job_canceling", row.id, reason=row.cancel_reason)
    return as_job(ctx, row)


def retry_job(ctx: Context, job: str) -> Job:
    """Try a job again that failed or was cancelled: a further attempt of the same job, which goes on from its last
    checkpoint, if it made one."""
    ctx.require("jobs.write")
    row = find_job(ctx, job, lock=True)
    check_retry(JobState(row.state))
    row.attempts_before, row.cancel_reason = row.attempt, None
    queue_again(ctx, row, after_s=0, why=f"{ctx.actor.name} has it tried again.")
    if row.queue is not None:
        join(ctx, row)
    return as_job(ctx, row)


def list_job_attempts(ctx: Context, job: str) -> Page[JobAttempt]:
    """List the attempts at a job, oldest first."""
    ctx.require("jobs.read")
    row = find_job(ctx, job)
    query = select(JobAttemptRow).where(JobAttemptRow.job_id == row.id).order_by(JobAttemptRow.number)
    fields = JobAttempt.model_fields
    items = [JobAttempt(**{name: getattr(each, name) for name in fields}) for each in ctx.session.scalars(query)]
    return Page(items=items, next_cursor=None, total=len(items))


def report_job_progress(ctx: Context, job: str, body: ProgressReport) -> Job:
    """Take the trainer's word of how far the job is."""
    row = own_job(ctx, job)
    now = ctx.clock.now().isoformat()
    before = row.progress or {}
    # A report that lies behind the first one begins anew: what was done before is no measure of the pace.
    same = before.get("of") == body.of and before.get("first_done", body.done) <= body.done
    first = {"first_done": before["first_done"], "first_at": before["first_at"]} if before and same else None
    row.progress = {**jsonable(body), "at": now, **(first or {"first_done": body.done, "first_at": now})}
    row.touch()
    return as_job(ctx, row)


def finish_job(ctx: Context, job: str, body: JobReport) -> Job:
    """Take the trainer's own report. The job ends when its process is seen to have ended."""
    row = own_job(ctx, job)
    row.result = jsonable(body.result) if body.result else None
    row.failure, row.out_of_memory = body.failure, body.out_of_memory
    row.touch()
    return as_job(ctx, row)


def _checked(name: str, recipe: Recipe, parameters: dict[str, Any]) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = jsonable(recipe.Parameters.model_validate(parameters))
    except ValidationError as wrong:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'parameters'}: {e['msg']}" for e in wrong.errors()[:5])
        raise InvalidInput(
            f"The recipe '{name}' does not take these parameters: {problems}.",
            hint=f"It takes: {', '.join(recipe.Parameters.model_fields) or 'none'}. See `mops jobs list-recipes`.",
        ) from wrong
    return checked


def _recipe_info(name: str, recipe: Recipe) -> RecipeInfo:
    return RecipeInfo(
        name=name,
        description=recipe.description,
        engine=engine_of(recipe),
        parameters=recipe.Parameters.model_json_schema(),
        inputs=dict(inputs_of(recipe)),
        outputs=dict(outputs_of(recipe)),
        any_input=takes_any_input(recipe),
    )
