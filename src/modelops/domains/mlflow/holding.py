"""Which blobs the artifact proxy's own files refer to."""

from collections.abc import Iterable, Sequence

from sqlalchemy import select

from modelops.domains.mlflow.tables import FileRow
from modelops.kernel.context import Context


def holds(ctx: Context, digests: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Tell which blobs are files of logged models, traces or projects, as (project, digest)."""
    query = select(FileRow.project_id, FileRow.digest).where(FileRow.digest.in_(digests)).distinct()
    return {(project, digest) for project, digest in ctx.session.execute(query)}
