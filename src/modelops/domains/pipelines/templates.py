"""Pipelines and their versions: what is registered, and read again."""

from sqlalchemy import delete, func, select

from modelops.contracts.errors import Conflict, InvalidInput
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page, jsonable
from modelops.contracts.signing import canonical
from modelops.contracts.signing import digest as digest_of
from modelops.domains.data import service as data
from modelops.domains.pipelines.checking import check_document
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.rows import as_pipeline, as_version, find_pipeline, find_version, held_by, hold
from modelops.domains.pipelines.schemas import Pipeline, PipelineCreate, PipelineVersion
from modelops.domains.pipelines.tables import (
    PipelineRow,
    PipelineRunRow,
    PipelineValueRow,
    PipelineVersionRow,
)
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

_PIPELINE_FIELDS = {
    "name": PipelineRow.name,
    "created_at": PipelineRow.created_at,
    "updated_at": PipelineRow.updated_at,
    "created_by": PipelineRow.created_by,
}
_VERSION_FIELDS = {"version": PipelineVersionRow.version, "created_at": PipelineVersionRow.created_at}


def register_pipeline(ctx: Context, body: PipelineCreate) -> PipelineVersion:
    """Keep a document: the same one again is the version it was, a changed one is the next version.

    Raises:
        InvalidInput: the document makes no sense; the error names each place.
        NotFound: the project does not hold the code that it names.
    """
    ctx.require("pipelines.write")
    document = body.document
    check_document(document)
    code = _check_code(ctx, document)
    now = ctx.clock.now()
    row = ctx.session.scalars(ctx.query(PipelineRow).where(PipelineRow.name == document.name).with_for_update()).first()
    if row is None:
        row = PipelineRow(
            id=new_id("ppl"),
            project_id=ctx.project_id,
            name=document.name,
            description=document.description,
            latest_version=0,
            created_at=now,
            updated_at=now,
            created_by=ctx.actor.id,
        )
        ctx.session.add(row)
        ctx.session.flush()
    written = jsonable(document)
    digest = digest_of(canonical(written))
    same = ctx.query(PipelineVersionRow).where(
        PipelineVersionRow.pipeline_id == row.id, PipelineVersionRow.digest == digest
    )
    known = ctx.session.scalars(same).first()
    if known is not None:
        return as_version(ctx, known, row.name)
    row.latest_version += 1
    row.description, row.updated_at = document.description, now
    version = PipelineVersionRow(
        id=new_id("ppv"),
        project_id=ctx.project_id,
        pipeline_id=row.id,
        version=row.latest_version,
        digest=digest,
        document=written,
        created_at=now,
        created_by=ctx.actor.id,
    )
    ctx.session.add(version)
    hold(ctx, version.id, ctx.project_id, code)
    ctx.emit("modelops.pipelines.version_registered", row.id, pipeline=row.name, version=version.version)
    return as_version(ctx, version, row.name)


def list_pipelines(ctx: Context, page: PageQuery) -> Page[Pipeline]:
    """List the project's pipelines."""
    ctx.require("pipelines.read")
    found = list_rows(ctx, ctx.query(PipelineRow), PipelineRow.id, _PIPELINE_FIELDS, page)
    return Page(items=[as_pipeline(row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def get_pipeline(ctx: Context, pipeline: str) -> Pipeline:
    """Return a pipeline, by name or id."""
    ctx.require("pipelines.read")
    return as_pipeline(find_pipeline(ctx, pipeline))


def list_pipeline_versions(ctx: Context, pipeline: str, page: PageQuery) -> Page[PipelineVersion]:
    """List a pipeline's versions, newest first."""
    ctx.require("pipelines.read")
    row = find_pipeline(ctx, pipeline)
    query = ctx.query(PipelineVersionRow).where(PipelineVersionRow.pipeline_id == row.id)
    found = list_rows(ctx, query, PipelineVersionRow.id, _VERSION_FIELDS, page, order="desc")
    items = [as_version(ctx, version, row.name) for version in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def get_pipeline_version(ctx: Context, pipeline: str, version: str) -> PipelineVersion:
    """Return a version of a pipeline, by number or `latest`."""
    ctx.require("pipelines.read")
    row = find_pipeline(ctx, pipeline)
    return as_version(ctx, find_version(ctx, row, _number(version)), row.name)


def delete_pipeline(ctx: Context, pipeline: str) -> None:
    """Remove a pipeline with its versions.

    Raises:
        Conflict: there are runs of it.
    """
    ctx.require("pipelines.write")
    row = find_pipeline(ctx, pipeline, lock=True)
    runs = ctx.session.scalar(select(func.count()).where(PipelineRunRow.pipeline_id == row.id))
    if runs:
        raise Conflict(
            f"The pipeline '{row.name}' has {runs} runs.", hint="Delete them first: mops pipelines delete-run RUN."
        )
    versions = list(ctx.session.scalars(select(PipelineVersionRow.id).where(PipelineVersionRow.pipeline_id == row.id)))
    digests = held_by(ctx, versions)
    ctx.session.execute(delete(PipelineValueRow).where(PipelineValueRow.owner.in_(versions)))
    ctx.session.execute(delete(PipelineVersionRow).where(PipelineVersionRow.pipeline_id == row.id))
    ctx.session.delete(row)
    ctx.session.flush()
    data.release_artifacts(ctx, ctx.project_id, digests)
    ctx.emit("modelops.pipelines.pipeline_deleted", row.id, pipeline=row.name)


def _check_code(ctx: Context, document: PipelineDocument) -> list[str]:
    """Return the blobs that a document names, held until its rows are committed."""
    if document.code is None:
        return []
    digests = [digest for digest in (document.code.digest, document.code.requirements) if digest is not None]
    data.hold_artifacts(ctx, digests)
    return digests


def _number(version: str) -> int | None:
    if version == "latest":
        return None
    if not version.isascii() or not version.isdigit() or not 0 < int(version) < 2**31:
        raise InvalidInput(f"'{version[:50]}' is no version: it is a number, or `latest`.")
    return int(version)
