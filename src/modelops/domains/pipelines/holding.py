"""Which blobs pipelines refer to."""

from collections.abc import Sequence

from sqlalchemy import select

from modelops.domains.pipelines.tables import PipelineValueRow
from modelops.kernel.context import Context


def holds(ctx: Context, digests: Sequence[str]) -> set[tuple[str, str]]:
    """Tell which blobs are outputs or code of runs, code of versions, or kept results."""
    query = select(PipelineValueRow.project_id, PipelineValueRow.digest).where(PipelineValueRow.digest.in_(digests))
    return {(project, digest) for project, digest in ctx.session.execute(query)}
