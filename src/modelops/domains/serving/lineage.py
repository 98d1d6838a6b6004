"""What the registry asks of serving: which deployments a version went into."""

from modelops.domains.models.views import LineageKind, LineageNode
from modelops.domains.serving.tables import DeploymentRow, RevisionRow
from modelops.kernel.context import Context

_MOST = 100


def deployments_of(ctx: Context, version_id: str) -> list[LineageNode]:
    """Return the deployments that serve a version, or did, newest first."""
    if not ctx.can("deployments.read"):
        return []
    revisions = ctx.query(RevisionRow).where(RevisionRow.model_version_id == version_id)
    numbers: dict[str, list[int]] = {}
    for revision in ctx.session.scalars(revisions.order_by(RevisionRow.number)):
        numbers.setdefault(revision.deployment_id, []).append(revision.number)
    found = ctx.query(DeploymentRow).where(DeploymentRow.id.in_(list(numbers)[:_MOST]))
    return [_node(row, numbers[row.id]) for row in ctx.session.scalars(found.order_by(DeploymentRow.id.desc()))]


def _node(row: DeploymentRow, numbers: list[int]) -> LineageNode:
    serves = row.active_revision in numbers
    listed = ", ".join(map(str, numbers[-5:]))
    return LineageNode(
        kind=LineageKind.DEPLOYMENT,
        id=row.id,
        name=row.name,
        relation="served by" if serves else "was served by",
        detail=f"revision {listed}, {row.state}",
        children=[],
    )
