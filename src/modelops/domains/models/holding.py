"""Which blobs versions refer to."""

from collections.abc import Iterable, Sequence

from sqlalchemy import select

from modelops.domains.models.tables import ModelVersionRow
from modelops.kernel.context import Context


def holds(ctx: Context, digests: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Tell which blobs are files of versions' packages."""
    asked = set(digests)
    query = select(ModelVersionRow.project_id, ModelVersionRow.files).execution_options(yield_per=500)
    return {
        (project, file["digest"])
        for project, files in ctx.session.execute(query)
        for file in files
        if file["digest"] in asked
    }
