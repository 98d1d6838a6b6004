"""Logged predictions: taken from replicas, listed, and handed out as one table."""

import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import BinaryIO, cast

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select

from modelops.contracts.errors import InvalidInput, NotFound, PermissionDenied
from modelops.contracts.ids import new_id
from modelops.contracts.ports import BlobInfo, BlobStore
from modelops.contracts.schemas import Page
from modelops.domains.data.answers import FileAnswer
from modelops.domains.data.uploads import file_chunks, in_lane, store_body
from modelops.domains.serving.logs.logtables import Contents, read_contents, write_together
from modelops.domains.serving.rows import deployment_row, revision_rows
from modelops.domains.serving.schemas import LogFormat, PredictionLogFile, ServingLimits
from modelops.domains.serving.tables import DeploymentRow, PredictionLogRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows
from modelops.kernel.scope import Scope, outlast_races

READ = "prediction_logs.read"
WRITE = "monitoring.write"
"""Whoever may tell what a deployment saw, as replicas do, may send files, too."""

_MEDIA_TYPES = {
    LogFormat.PARQUET: "application/vnd.apache.parquet",
    LogFormat.ARROW: "application/vnd.apache.arrow.file",
}
_IN_MEMORY = 16 * 1024 * 1024


async def receive_prediction_log(scope: Scope, deployment: str, source: str, sequence: int) -> Response:
    """Take a file of a replica; one that comes again is kept once. A replica speaks for its deployment alone."""
    await run_in_threadpool(_check_sender, scope, deployment)
    blob = await store_body(scope)
    contents = await in_lane(lambda: _contents(scope, blob))
    found = await run_in_threadpool(outlast_races, lambda: _keep(scope, deployment, source, sequence, blob, contents))
    return Response(found.model_dump_json(), 201, media_type="application/json")


def list_prediction_logs(ctx: Context, deployment: str, page: PageQuery) -> Page[PredictionLogFile]:
    """List a deployment's files of logged predictions, newest first."""
    ctx.require(READ)
    row = deployment_row(ctx, deployment)
    fields = {
        "variant": PredictionLogRow.variant,
        "revision": PredictionLogRow.revision,
        "model": PredictionLogRow.model,
        "version": PredictionLogRow.version,
        "rows": PredictionLogRow.rows,
        "began_at": PredictionLogRow.began_at,
        "ended_at": PredictionLogRow.ended_at,
        "created_at": PredictionLogRow.created_at,
    }
    query = ctx.query(PredictionLogRow).where(PredictionLogRow.deployment_id == row.id)
    found = list_rows(ctx, query, PredictionLogRow.id, fields, page, order="desc")
    return Page(items=[_file(one) for one in found.rows], next_cursor=found.next_cursor, total=found.total)


def download_prediction_logs(
    scope: Scope, deployment: str, since: datetime | None, until: datetime | None, variant: str | None, kind: LogFormat
) -> Response:
    """Return the logged predictions of a window as one table, the earliest files first. It leaves an audit record."""
    if since is not None and until is not None and since >= until:
        raise InvalidInput("The window ends before it begins.", hint="`since` must be before `until`.")
    with scope.work() as ctx:
        ctx.require(READ)
        row = deployment_row(ctx, deployment)
        query = select(PredictionLogRow.digest).where(
            PredictionLogRow.project_id == row.project_id, PredictionLogRow.deployment_id == row.id
        )
        if since is not None:
            query = query.where(PredictionLogRow.ended_at >= since)
        if until is not None:
            query = query.where(PredictionLogRow.began_at < until)
        if variant is not None:
            query = query.where(PredictionLogRow.variant == variant)
        digests = list(ctx.session.scalars(query.order_by(PredictionLogRow.began_at, PredictionLogRow.id)))
        name = row.name
    file = cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=_folder(scope)))  # noqa: SIM115 - the answer closes it
    try:
        store: BlobStore = scope.place.ports[BlobStore]
        rows = write_together([partial(store.open, digest) for digest in digests], file, kind, since, until)
        if not rows:
            raise NotFound(
                f"No predictions of '{name}' are logged in that window.",
                hint="The limit `log_sample` says which share of requests is logged; files arrive within a minute.",
            )
        size = file.tell()
        file.seek(0)
        filename = f"{name}-predictions.{kind}"
        return FileAnswer(file, _chunks(file), media_type=_MEDIA_TYPES[kind], filename=filename, size=size)
    except BaseException:
        file.close()
        raise


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return file_chunks(file)


def _folder(scope: Scope) -> str:
    folder = scope.place.settings.home / "tmp"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder)


def _check_sender(scope: Scope, deployment: str) -> None:
    with scope.work(write=False) as ctx:
        _sent_for(ctx, deployment)


def _sent_for(ctx: Context, deployment: str) -> DeploymentRow:
    ctx.require(WRITE)
    if ctx.actor.kind == "grant" and ctx.actor.id != deployment:
        raise PermissionDenied(f"This runtime does not speak for the deployment '{deployment}'.")
    return deployment_row(ctx, deployment)


def _contents(scope: Scope, blob: BlobInfo) -> Contents:
    store: BlobStore = scope.place.ports[BlobStore]
    with store.open(blob.digest) as file:
        return read_contents(file)


def _keep(
    scope: Scope, deployment: str, source: str, sequence: int, blob: BlobInfo, contents: Contents
) -> PredictionLogFile:
    with scope.work() as ctx:
        row = _sent_for(ctx, deployment)
        if contents.facts.deployment_id != row.id:
            raise InvalidInput(f"The file holds predictions of another deployment than '{row.name}'.")
        known = ctx.session.scalar(
            ctx.query(PredictionLogRow).where(
                PredictionLogRow.deployment_id == row.id,
                PredictionLogRow.source == source,
                PredictionLogRow.sequence == sequence,
            )
        )
        return _file(known or _add(ctx, row, source, sequence, blob, contents))


def _add(
    ctx: Context, row: DeploymentRow, source: str, sequence: int, blob: BlobInfo, contents: Contents
) -> PredictionLogRow:
    facts = contents.facts
    revision = revision_rows(ctx, row).get(facts.revision)
    limits = ServingLimits() if revision is None else ServingLimits.model_validate(revision.limits)
    added = PredictionLogRow(
        id=new_id("plog"),
        project_id=row.project_id,
        deployment_id=row.id,
        source=source,
        sequence=sequence,
        revision=facts.revision,
        variant=facts.variant,
        model=facts.model,
        version=facts.version,
        model_version_id=facts.model_version_id,
        digest=blob.digest,
        size=blob.size,
        rows=contents.rows,
        began_at=contents.began_at,
        ended_at=contents.ended_at,
        expires_at=ctx.clock.now() + timedelta(days=limits.log_retention_days),
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(added)
    ctx.session.flush()
    return added


def _file(row: PredictionLogRow) -> PredictionLogFile:
    return PredictionLogFile.model_validate(row, from_attributes=True)
