"""Lineage: what a version was made from, as far back as is known, and what came of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select

from modelops.contracts.errors import NotFound
from modelops.domains.data import service as data
from modelops.domains.experiments import service as experiments
from modelops.domains.models.finding import version_in_path
from modelops.domains.models.ports import Downstream
from modelops.domains.models.tables import ModelVersionRow, VersionMemberRow
from modelops.domains.models.views import Lineage, LineageKind, LineageNode
from modelops.kernel.context import Context

_DEPTH, _BREADTH, _MOST = 20, 100, 500


def get_lineage(ctx: Context, model: str, version: str) -> Lineage:
    """Return where a version comes from and what came of it."""
    ctx.require("models.read")
    row = version_in_path(ctx, model, version)
    children = ctx.query(ModelVersionRow).where(ModelVersionRow.parent_version_id == row.id)
    newer = ctx.session.scalars(children.order_by(ModelVersionRow.id).limit(_BREADTH))
    downstream = [_version_node(child, "parent of", []) for child in newer]
    made = ctx.query(ModelVersionRow).where(
        ModelVersionRow.id.in_(select(VersionMemberRow.version_id).where(VersionMemberRow.member_id == row.id))
    )
    composed = ctx.session.scalars(made.order_by(ModelVersionRow.id).limit(_BREADTH))
    downstream += [_version_node(whole, "member of", []) for whole in composed]
    if Downstream in ctx.ports:
        downstream += ctx.port(Downstream)(ctx, row.id)
    upstream = _Walk(ctx).upstream(row, _DEPTH)
    return Lineage(id=row.id, model=row.name, version=row.version, upstream=upstream, downstream=downstream)


@dataclass
class _Walk:
    """A way back through what things were made from. What was seen before is named and not walked again."""

    ctx: Context
    seen: set[str] = field(default_factory=set)

    def upstream(self, row: ModelVersionRow, depth: int) -> list[LineageNode]:
        """Return what a version was made from."""
        found = []
        if row.run_id is not None:
            found.append(self._run(row.run_id))
        elif row.job_id is not None:
            found.append(_node(LineageKind.JOB, row.job_id, row.job_id, "made by"))
        if row.dataset_version_id is not None:
            found.append(self._dataset(row.dataset_version_id, "trained on", depth))
        if row.code_digest is not None:
            found.append(_node(LineageKind.CODE, row.code_digest, row.code_digest, "trained by"))
        parent = self.ctx.session.get(ModelVersionRow, row.parent_version_id) if row.parent_version_id else None
        if parent is not None:
            above = self.upstream(parent, depth - 1) if self._is_new(parent.id, depth) else []
            found.append(_version_node(parent, "derived from", above))
        return found + self._members(row, depth)

    def _members(self, row: ModelVersionRow, depth: int) -> list[LineageNode]:
        """Return the versions that an ensemble or a chain was made of."""
        query = select(VersionMemberRow).where(VersionMemberRow.version_id == row.id).order_by(VersionMemberRow.place)
        found = []
        for place in self.ctx.session.scalars(query).all():
            member = self.ctx.session.get(ModelVersionRow, place.member_id)
            if member is None:
                found.append(_node(LineageKind.VERSION, place.member_id, place.label, "made of", "gone"))
                continue
            above = self.upstream(member, depth - 1) if self._is_new(member.id, depth) else []
            found.append(_version_node(member, "made of", above))
        return found

    def _run(self, run_id: str) -> LineageNode:
        try:
            run = experiments.find_run(self.ctx, run_id)
        except NotFound:
            return _node(LineageKind.RUN, run_id, run_id, "made by", "gone")
        above = [_node(LineageKind.EXPERIMENT, run.experiment_id, run.experiment, "run of")]
        if run.job_id is not None:
            above.append(_node(LineageKind.JOB, run.job_id, run.job_id, "started by"))
        return _node(LineageKind.RUN, run.id, run.name, "made by", run.status, above)

    def _dataset(self, version_id: str, relation: str, depth: int) -> LineageNode:
        try:
            found = data.resolve_dataset_version(self.ctx, version_id)
        except NotFound:
            return _node(LineageKind.DATASET, version_id, version_id, relation, "gone")
        parents = found.parents[:_BREADTH] if self._is_new(found.id, depth) else []
        above = [self._dataset(parent, "made from", depth - 1) for parent in parents]
        name = f"{found.dataset}:{found.version}"
        return _node(LineageKind.DATASET, found.id, name, relation, f"{found.rows} rows", above)

    def _is_new(self, node_id: str, depth: int) -> bool:
        if node_id in self.seen or depth <= 0 or len(self.seen) >= _MOST:
            return False
        self.seen.add(node_id)
        return True


def _version_node(row: ModelVersionRow, relation: str, children: Iterable[LineageNode]) -> LineageNode:
    return _node(LineageKind.VERSION, row.id, f"{row.name}:{row.version}", relation, row.stage, children)


def _node(
    kind: LineageKind, node_id: str, name: str, relation: str, detail: str = "", children: Iterable[LineageNode] = ()
) -> LineageNode:
    return LineageNode(kind=kind, id=node_id, name=name, relation=relation, detail=detail, children=list(children))
