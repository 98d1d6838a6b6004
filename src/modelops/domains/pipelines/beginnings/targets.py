"""What can begin: runs of pipelines, and training jobs."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.schemas import Json
from modelops.domains.experiments import service as experiments
from modelops.domains.pipelines import runs
from modelops.domains.pipelines.beginnings.schemas import JobTarget, PipelineTarget, Target
from modelops.domains.pipelines.rows import document_of, find_pipeline, find_version
from modelops.domains.pipelines.rules import RunEnded
from modelops.domains.pipelines.schemas import RunCancel, RunCreate
from modelops.domains.pipelines.tables import PipelineRunRow, PipelineStepRow
from modelops.domains.training import service as training
from modelops.domains.training.rules import JobEnded
from modelops.domains.training.schemas import JobCancel
from modelops.kernel.context import Context

_TARGET: TypeAdapter[Target] = TypeAdapter(Target)


@dataclass(frozen=True)
class Begun:
    """What began."""

    run_id: str | None = None
    job_id: str | None = None


class _Tried(Exception):
    """Takes back what was begun to see whether it could be."""


def read_target(stored: object) -> Target:
    """Return a target as it was stored."""
    return _TARGET.validate_python(stored)


def with_parameters(target: Target, given: dict[str, Json]) -> Target:
    """Return a target whose parameters are those, over its own.

    Raises:
        InvalidInput: a job takes no such values.
    """
    if isinstance(target, JobTarget):
        job = target.job.model_copy(update={"parameters": {**target.job.parameters, **given}})
        try:
            return JobTarget.model_validate({"job": job.model_dump()})
        except ValidationError as wrong:
            problem = wrong.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise InvalidInput(f"The job does not take these parameters: {where}: {problem['msg']}.") from wrong
    return target.model_copy(update={"parameters": {**target.parameters, **given}})


def check_target(ctx: Context, target: Target, unknown: Collection[str] = ()) -> None:
    """Refuse what the caller could not begin, or what would fail each time: it is begun, and taken back.

    Args:
        target: What is to begin.
        unknown: The parameters whose values only the cause will tell. With such, their names alone are looked at.

    Raises:
        PermissionDenied: the caller may not.
        NotFound: there is no such pipeline, version, recipe or dataset.
        InvalidInput: it takes no such parameters.
    """
    if unknown and isinstance(target, PipelineTarget):
        ctx.require("pipelines.write")
        pipeline = find_pipeline(ctx, target.pipeline)
        known = document_of(ctx, find_version(ctx, pipeline, target.version).id).parameters
        strange = sorted({*unknown, *target.parameters} - known.keys())
        if strange:
            names = ", ".join(known) or "none"
            raise InvalidInput(f"The pipeline has no parameter '{strange[0]}'.", hint=f"Its parameters: {names}.")
    elif unknown:
        ctx.require("jobs.write")
    else:
        told = len(ctx.emitted)
        with suppress(_Tried), ctx.session.begin_nested():
            begin_target(ctx, target, "trial")
            raise _Tried
        del ctx.emitted[told:]


def begin_target(ctx: Context, target: Target, cause: str) -> Begun:
    """Begin it, as the caller of the context."""
    if isinstance(target, JobTarget):
        return Begun(job_id=training.submit_job(ctx, target.job).id)
    body = RunCreate(version=target.version, parameters=target.parameters, tags=target.tags)
    return Begun(run_id=runs.start_run(ctx, target.pipeline, body, cause=cause).id)


def is_under_way(ctx: Context, begun: Begun) -> bool:
    """Tell whether what began has not ended; what is gone has."""
    if begun.run_id is not None:
        run = ctx.session.get(PipelineRunRow, begun.run_id, populate_existing=True)
        return run is not None and run.ended_at is None
    try:
        return begun.job_id is not None and not training.get_job(ctx, begun.job_id).state.final
    except NotFound:
        return False


def cancel_begun(ctx: Context, begun: Begun, reason: str) -> None:
    """Cancel what began; that it ended meanwhile is no error."""
    try:
        if begun.run_id is not None:
            runs.cancel_run(ctx, begun.run_id, RunCancel(reason=reason))
        elif begun.job_id is not None:
            training.cancel_job(ctx, begun.job_id, JobCancel(reason=reason))
    except (NotFound, RunEnded, JobEnded):
        return


def begun_by(ctx: Context, actor: str) -> str | None:
    """Return who or what began a run, a job of a run's step, or a run of an experiment; None for what is none of these."""
    run = ctx.session.get(PipelineRunRow, actor)
    if run is not None:
        return run.created_by
    if actor.startswith("run_"):
        try:
            tracked = experiments.get_run(ctx, actor)
        except NotFound:
            return None
        return tracked.job_id or tracked.created_by
    return ctx.session.scalar(select(PipelineStepRow.run_id).where(PipelineStepRow.job_id == actor).limit(1))
