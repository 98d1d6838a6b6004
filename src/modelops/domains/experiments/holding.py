"""Which blobs runs refer to."""

from collections.abc import Iterable, Sequence

from sqlalchemy import select

from modelops.domains.experiments.tables import RunArtifactRow, RunRow
from modelops.kernel.context import Context


def holds(ctx: Context, digests: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Tell which blobs are files of runs."""
    query = (
        select(RunRow.project_id, RunArtifactRow.digest)
        .join(RunRow, RunRow.id == RunArtifactRow.run_id)
        .where(RunArtifactRow.digest.in_(digests))
        .distinct()
    )
    return {(project, digest) for project, digest in ctx.session.execute(query)}
