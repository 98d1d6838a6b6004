"""Which blobs data refers to."""

from collections.abc import Sequence

from sqlalchemy import select

from modelops.domains.data.tables import ArtifactRow, DatasetVersionRow, UploadPartRow, UploadRow
from modelops.kernel.context import Context


def holds(ctx: Context, digests: Sequence[str]) -> set[tuple[str, str]]:
    """Tell which blobs are artifacts of a project, or of its datasets, or parts of an upload under way."""
    query = select(ArtifactRow.project_id, ArtifactRow.digest).where(ArtifactRow.digest.in_(digests))
    parts = (
        select(UploadRow.project_id, UploadPartRow.blob)
        .join(UploadRow, UploadRow.id == UploadPartRow.upload_id)
        .where(UploadPartRow.blob.in_(digests))
    )
    found = {(project, digest) for each in (query, parts) for project, digest in ctx.session.execute(each)}
    return found | uses_of(ctx, digests)


def uses_of(ctx: Context, digests: Sequence[str]) -> set[tuple[str, str]]:
    """Return which of the digests datasets are made of: pairs of project and digest."""
    columns = (DatasetVersionRow.digest, DatasetVersionRow.table_digest)
    queries = [select(DatasetVersionRow.project_id, column).where(column.in_(digests)) for column in columns]
    return {(project, digest) for query in queries for project, digest in ctx.session.execute(query)}
