"""What a job is given and what it makes: inputs found at the submission, outputs and checkpoints recorded as they come."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Select, select

from modelops.contracts.errors import InvalidInput, NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.data import service as data
from modelops.domains.data.schemas import Artifact, DatasetVersion
from modelops.domains.models import service as models
from modelops.domains.training.recipe import Recipe, inputs_of, takes_any_input
from modelops.domains.training.rows import find_job, own_job
from modelops.domains.training.rules import split_input
from modelops.domains.training.schemas import (
    ArtifactRole,
    InputKind,
    JobArtifact,
    JobArtifactCreate,
    JobCreate,
    JobInput,
)
from modelops.domains.training.tables import JobArtifactRow, JobRow
from modelops.kernel.context import Context

DATASET = "dataset"
"""The name of the input that `JobCreate.dataset` is short for."""

_NO_STEP = -1


@dataclass
class Given:
    """What a job is given. `files` are the artifacts among it, by name."""

    found: dict[str, JobInput] = field(default_factory=dict)
    files: dict[str, Artifact] = field(default_factory=dict)
    dataset: DatasetVersion | None = None
    environment: Artifact | None = None


def find_inputs(ctx: Context, body: JobCreate, recipe: Recipe) -> Given:
    """Find what a new job is to be given, and hold it against the recipe's declaration.

    Raises:
        InvalidInput: an input is missing, or one is not the recipe's.
        NotFound: there is no such dataset, model or artifact.
    """
    declared, given = inputs_of(recipe), Given()
    asked = dict(body.inputs)
    if body.dataset is not None and asked.setdefault(DATASET, body.dataset) != body.dataset:
        raise InvalidInput("The dataset is given twice, and not the same.", hint="Leave out `dataset` or the input.")
    for name, declaration in declared.items():
        if declaration.required and name not in asked:
            raise InvalidInput(
                f"The recipe '{body.recipe}' needs the input '{name}', a {declaration.kind}.",
                hint=f"Give it: `mops jobs submit {body.recipe} --input {name}=REF`."
                if name != DATASET
                else f"Name the data: `mops jobs submit {body.recipe} DATASET`.",
            )
    for name, ref in asked.items():
        if name in declared:
            kind = declared[name].kind
        elif takes_any_input(recipe):
            kind, ref = split_input(name, ref)
        else:
            known = ", ".join(declared) or "none"
            raise InvalidInput(f"The recipe '{body.recipe}' takes no input '{name}'.", hint=f"It takes: {known}.")
        _find(ctx, given, name, kind, ref)
    if body.environment is not None:
        given.environment = data.hold_artifacts(ctx, [body.environment])[body.environment]
    return given


def hold_inputs(ctx: Context, row: JobRow, given: Given) -> None:
    """Write down which artifacts a job was given, so that they stay."""
    for name, artifact in given.files.items():
        _add(ctx, row, ArtifactRole.INPUT, name, artifact)
    if given.environment is not None:
        _add(ctx, row, ArtifactRole.ENVIRONMENT, "requirements", given.environment)


def save_job_artifact(ctx: Context, job: str, body: JobArtifactCreate) -> JobArtifact:
    """Record a file that the job made; only the job itself may. Of checkpoints, the last few are kept.

    Raises:
        NotFound: the project holds no such artifact.
        InvalidInput: a checkpoint has no step.
    """
    row = own_job(ctx, job)
    if body.role is ArtifactRole.CHECKPOINT and body.step is None:
        raise InvalidInput("A checkpoint has a step.", hint="Give the step that training goes on from.")
    artifact = data.hold_artifacts(ctx, [body.digest])[body.digest]
    step = _NO_STEP if body.step is None else body.step
    before = ctx.session.scalars(
        _of(row, body.role).where(JobArtifactRow.name == body.name, JobArtifactRow.step == step)
    )
    dropped = list(before)
    if body.role is ArtifactRole.CHECKPOINT:
        # By when they were made, not by step: a job that began anew counts from the beginning.
        older = ctx.session.scalars(_of(row, body.role).order_by(JobArtifactRow.id.desc()))
        dropped += [each for each in older if each not in dropped][row.keep_checkpoints - 1 :]
    for each in dropped:
        ctx.session.delete(each)
    ctx.session.flush()
    made = _add(ctx, row, body.role, body.name, artifact, step)
    ctx.session.flush()
    data.release_artifacts(ctx, row.project_id, [each.digest for each in dropped])
    ctx.emit("modelops.training.artifact_saved", row.id, role=body.role, name=body.name, digest=body.digest)
    return _shown(made)


def list_job_artifacts(ctx: Context, job: str, role: ArtifactRole | None = None) -> Page[JobArtifact]:
    """List the artifacts of a job, those that were made last first; the job itself may too."""
    if (ctx.actor.kind, ctx.actor.id) != ("grant", job):
        ctx.require("jobs.read")
    query = _of(find_job(ctx, job), role).order_by(JobArtifactRow.id.desc())
    items = [_shown(row) for row in ctx.session.scalars(query)]
    return Page(items=items, next_cursor=None, total=len(items))


def holds(ctx: Context, digests: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Tell which blobs are files of jobs."""
    query = select(JobArtifactRow.project_id, JobArtifactRow.digest).where(JobArtifactRow.digest.in_(digests))
    return {(project, digest) for project, digest in ctx.session.execute(query)}


def _find(ctx: Context, given: Given, name: str, kind: InputKind, ref: str) -> None:
    try:
        if kind is InputKind.DATASET:
            version = data.resolve_dataset_version(ctx, ref)
            given.dataset = version if name == DATASET else given.dataset
            found = version.id
        elif kind is InputKind.MODEL:
            found = models.resolve_version(ctx, ref).id
        else:
            given.files[name] = data.hold_artifacts(ctx, [ref])[ref]
            found = ref
    except NotFound as missing:
        raise NotFound(f"The input '{name}': {missing.detail}", hint=missing.hint) from missing
    given.found[name] = JobInput(kind=kind, ref=ref, id=found)


def _of(row: JobRow, role: ArtifactRole | None) -> Select[JobArtifactRow]:
    query = select(JobArtifactRow).where(JobArtifactRow.job_id == row.id)
    return query if role is None else query.where(JobArtifactRow.role == role)


def _add(
    ctx: Context, row: JobRow, role: ArtifactRole, name: str, artifact: Artifact, step: int = _NO_STEP
) -> JobArtifactRow:
    made = JobArtifactRow(
        id=new_id("jar"),
        job_id=row.id,
        project_id=row.project_id,
        role=role,
        name=name,
        step=step,
        attempt=row.attempt,
        digest=artifact.digest,
        size=artifact.size,
        created_at=ctx.clock.now(),
    )
    ctx.session.add(made)
    return made


def _shown(row: JobArtifactRow) -> JobArtifact:
    own = {name: getattr(row, name) for name in JobArtifact.model_fields}
    return JobArtifact.model_validate({**own, "step": None if row.step == _NO_STEP else row.step})
