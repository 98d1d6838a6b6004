"""Files that arrive in parts, so that what was sent before a break need not be sent again.

A part is kept as a blob of its own from the moment it is acknowledged. The blob begins with random bytes, its salt: so no
other content can share it, and it can be removed as soon as it is not needed.
"""

from sqlalchemy import delete, select

from modelops.contracts.errors import Conflict, InvalidInput, TooLarge
from modelops.contracts.ids import new_id
from modelops.contracts.ports import BlobInfo
from modelops.contracts.schemas import Page
from modelops.domains.data.rules import part_sizes
from modelops.domains.data.schemas import Artifact, Upload, UploadCreate, UploadPart, UploadState
from modelops.domains.data.tables import ArtifactRow, UploadPartRow, UploadRow
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows

MOST_PARTS = 10_000


def create_upload(ctx: Context, body: UploadCreate) -> Upload:
    """Begin to send a file in parts, or go on: the caller's open upload of the same content is returned, if there is one.

    Where the project holds the content already, the upload is completed from the start.

    Raises:
        TooLarge: the file is.
    """
    ctx.require("artifacts.write")
    if body.size > ctx.settings.max_upload_bytes:
        raise TooLarge(f"An upload may have up to {ctx.settings.max_upload_bytes} bytes, not {body.size}.")
    query = ctx.query(UploadRow).where(
        UploadRow.digest == body.digest,
        UploadRow.created_by == ctx.actor.id,
        UploadRow.size == body.size,
        UploadRow.state == UploadState.OPEN,
    )
    row = ctx.session.scalars(query.order_by(UploadRow.id)).first()
    if row is not None:
        row.heard_at = ctx.clock.now()
        return _upload(ctx, row)
    held = ctx.session.get(ArtifactRow, (ctx.project_id, body.digest))
    row = UploadRow(
        id=new_id("upl"),
        project_id=ctx.project_id,
        digest=body.digest,
        size=body.size,
        media_type=body.media_type,
        part_size=max(ctx.settings.upload_part_bytes, -(-body.size // MOST_PARTS)),
        state=UploadState.OPEN if held is None or held.size != body.size else UploadState.COMPLETED,
        heard_at=ctx.clock.now(),
        created_at=ctx.clock.now(),
        created_by=ctx.actor.id,
    )
    ctx.session.add(row)
    ctx.session.flush()
    return _upload(ctx, row)


def get_upload(ctx: Context, upload: str) -> Upload:
    """Return an upload, with the parts that are there."""
    ctx.require("artifacts.read")
    return _upload(ctx, _find(ctx, upload))


def list_uploads(ctx: Context, page: PageQuery) -> Page[Upload]:
    """List the uploads that are under way, and those just completed."""
    ctx.require("artifacts.read")
    fields = {"state": UploadRow.state, "size": UploadRow.size, "created_at": UploadRow.created_at}
    found = list_rows(ctx, ctx.query(UploadRow), UploadRow.id, fields, page)
    return Page(items=[_upload(ctx, row) for row in found.rows], next_cursor=found.next_cursor, total=found.total)


def check_part(ctx: Context, upload: str, number: int) -> int:
    """Return how many bytes a part must have.

    Raises:
        Conflict: the upload is completed.
        InvalidInput: it has no such part.
    """
    ctx.require("artifacts.write")
    row = _find(ctx, upload)
    _check_open(row)
    sizes = part_sizes(row.size, row.part_size)
    if not 1 <= number <= len(sizes):
        raise InvalidInput(f"The upload has no part {number}.", hint=f"Its parts are 1 to {len(sizes)}.")
    return sizes[number - 1]


def put_upload_part(ctx: Context, upload: str, part: UploadPart, blob: BlobInfo) -> str | None:
    """Record a part that was stored before. Returns the blob that it replaces, to be removed after the commit."""
    ctx.require("artifacts.write")
    row = _find(ctx, upload, lock=True)
    _check_open(row)
    row.heard_at = ctx.clock.now()
    former = ctx.session.get(UploadPartRow, (row.id, part.number))
    replaced = former.blob if former else None
    ctx.session.merge(
        UploadPartRow(upload_id=row.id, number=part.number, blob=blob.digest, digest=part.digest, size=part.size)
    )
    return replaced


def parts_of(ctx: Context, upload: str) -> tuple[Upload, list[str]]:
    """Return an upload and its parts' blobs in their order, all of them there; of a completed one, none.

    Raises:
        Conflict: parts are missing; the error tells which.
    """
    ctx.require("artifacts.write")
    row = _find(ctx, upload)
    found = _upload(ctx, row)
    if found.state is UploadState.COMPLETED:
        return found, []
    missing = sorted(set(range(1, found.parts + 1)) - set(found.received))
    if missing:
        raise Conflict(
            f"{len(missing)} of {found.parts} parts have not arrived, the first of them is {missing[0]}.",
            hint="Send them, then complete the upload again.",
            extra={"missing": missing[:1000]},
        )
    query = select(UploadPartRow.blob).where(UploadPartRow.upload_id == row.id).order_by(UploadPartRow.number)
    return found, list(ctx.session.scalars(query))


def complete_upload(ctx: Context, upload: str, artifact: Artifact) -> list[str]:
    """Record that an upload has become an artifact. Returns its parts' blobs, to be removed after the commit."""
    ctx.require("artifacts.write")
    row = _find(ctx, upload, lock=True)
    row.state = UploadState.COMPLETED
    row.heard_at = ctx.clock.now()
    ctx.emit("modelops.data.upload_completed", row.id, digest=artifact.digest, size=artifact.size)
    return _take_parts(ctx, row)


def delete_upload(ctx: Context, upload: str) -> list[str]:
    """Give an upload up. Returns its parts' blobs, to be removed after the commit."""
    ctx.require("artifacts.write")
    row = _find(ctx, upload, lock=True)
    blobs = _take_parts(ctx, row)
    ctx.session.delete(row)
    return blobs


def _take_parts(ctx: Context, row: UploadRow) -> list[str]:
    blobs = list(ctx.session.scalars(select(UploadPartRow.blob).where(UploadPartRow.upload_id == row.id)))
    ctx.session.execute(delete(UploadPartRow).where(UploadPartRow.upload_id == row.id))
    return blobs


def _find(ctx: Context, upload: str, *, lock: bool = False) -> UploadRow:
    if lock:
        query = ctx.query(UploadRow).where(UploadRow.id == upload).with_for_update()
        ctx.session.scalars(query.execution_options(populate_existing=True)).first()
    return ctx.one(UploadRow, f"upload '{upload[:100]}'", UploadRow.id == upload)


def _check_open(row: UploadRow) -> None:
    if row.state != UploadState.OPEN:
        raise Conflict("The upload is completed; it takes no more parts.", hint="The artifact is there: use it.")


def _upload(ctx: Context, row: UploadRow) -> Upload:
    query = select(UploadPartRow.number).where(UploadPartRow.upload_id == row.id).order_by(UploadPartRow.number)
    return Upload(
        id=row.id,
        project_id=row.project_id,
        digest=row.digest,
        size=row.size,
        media_type=row.media_type,
        part_size=row.part_size,
        parts=len(part_sizes(row.size, row.part_size)),
        received=list(ctx.session.scalars(query)),
        state=UploadState(row.state),
        created_at=row.created_at,
        created_by=row.created_by,
    )
