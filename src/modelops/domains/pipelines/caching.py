"""Results of steps, kept by what they depend on: the function's code, its inputs, and its environment."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update

from modelops.contracts.errors import NotFound
from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Json, jsonable
from modelops.contracts.signing import canonical, digest
from modelops.domains.data import service as data
from modelops.domains.models import service as models
from modelops.domains.pipelines.document import Code, StepSpec
from modelops.domains.pipelines.inputs import Inputs
from modelops.domains.pipelines.rows import held_by, hold
from modelops.domains.pipelines.schemas import CacheCleared, ValueRef
from modelops.domains.pipelines.tables import PipelineCacheRow, PipelineRunRow, PipelineStepRow, PipelineValueRow
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of

_AT_ONCE = 500


def cache_key(code: Code, spec: StepSpec, inputs: Inputs, items: Mapping[str, Json]) -> str | None:
    """Return what a step's outputs depend on, as one digest; None where the code's digest is not known.

    Args:
        code: The pipeline's.
        spec: The step's.
        inputs: What it takes.
        items: By input, the item that it takes from a list in the store.
    """
    function = spec.run.function if spec.run is not None else ""
    own = code.digests.get(function)
    if own is None:
        return None
    told = {
        "function": function,
        "code": own,
        "values": {**inputs.values, **items},
        "references": {name: _told(refs) for name, refs in inputs.references.items()},
        "outputs": dict(spec.outputs),
        "environment": code.requirements or "platform",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    return digest(canonical(jsonable(told)))


def find_cached(ctx: Context, keys: Sequence[str]) -> dict[str, PipelineCacheRow]:
    """Return kept results of the project by key, those alone whose models and blobs are there still."""
    found: dict[str, PipelineCacheRow] = {}
    for start in range(0, len(keys), _AT_ONCE):
        query = ctx.query(PipelineCacheRow).where(PipelineCacheRow.key.in_(keys[start : start + _AT_ONCE]))
        found |= {row.key: row for row in ctx.session.scalars(query)}
    if not are_there(ctx, [row.outputs for row in found.values()]):
        found = {key: row for key, row in found.items() if are_there(ctx, [row.outputs])}
    ids = [row.id for row in found.values()]
    for start in range(0, len(ids), _AT_ONCE):
        used = PipelineCacheRow.id.in_(ids[start : start + _AT_ONCE])
        ctx.session.execute(update(PipelineCacheRow).where(used).values(used_at=ctx.clock.now()))
    return found


def keep(ctx: Context, run: PipelineRunRow, row: PipelineStepRow) -> None:
    """Keep a step's outputs for equal steps to come; what was kept under the key before is replaced."""
    raw = raw_of(ctx.session)
    now = raw.moment(ctx.clock.now())
    kept = raw.execute(
        "INSERT INTO pipeline_cache (id, project_id, key, pipeline, step, run_id, outputs, created_at, used_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (project_id, key) DO UPDATE SET run_id = excluded.run_id,"
        " outputs = excluded.outputs, created_at = excluded.created_at, used_at = excluded.used_at RETURNING id",
        (
            new_id("ppc"),
            run.project_id,
            row.cache_key,
            run.pipeline,
            row.step,
            run.id,
            json.dumps(row.outputs),
            now,
            now,
        ),
    ).fetchone()[0]
    hold(ctx, kept, run.project_id, [ref["digest"] for ref in row.outputs.values() if ref["digest"]])


def clear_cache(ctx: Context, pipeline: str | None) -> CacheCleared:
    """Forget kept results: of one pipeline, by its name, or all of the project's."""
    ctx.require("pipelines.write")
    query = select(PipelineCacheRow.id).where(PipelineCacheRow.project_id == ctx.project_id)
    if pipeline is not None:
        query = query.where(PipelineCacheRow.pipeline == pipeline)
    removed = _forget(ctx, ctx.project_id, list(ctx.session.scalars(query)))
    ctx.emit("modelops.pipelines.cache_cleared", ctx.project_id, pipeline=pipeline, removed=removed)
    return CacheCleared(removed=removed)


def forget_unused(ctx: Context, older_than_s: float) -> None:
    """Forget results, of any project, that no run has used for so long."""
    before = ctx.clock.now() - timedelta(seconds=older_than_s)
    query = select(PipelineCacheRow.project_id, PipelineCacheRow.id).where(PipelineCacheRow.used_at < before)
    by_project: dict[str, list[str]] = {}
    for project, cached in ctx.session.execute(query.limit(10 * _AT_ONCE)):
        by_project.setdefault(project, []).append(cached)
    for project, ids in by_project.items():
        _forget(ctx, project, ids)


def _forget(ctx: Context, project_id: str, ids: Sequence[str]) -> int:
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        digests = held_by(ctx, part)
        ctx.session.execute(delete(PipelineValueRow).where(PipelineValueRow.owner.in_(part)))
        ctx.session.execute(delete(PipelineCacheRow).where(PipelineCacheRow.id.in_(part)))
        ctx.session.flush()
        data.release_artifacts(ctx, project_id, digests)
    return len(ids)


def are_there(ctx: Context, results: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether all that results refer to is there; it stays until this unit of work is committed."""
    refs = [ValueRef.model_validate(ref) for outputs in results for ref in outputs.values()]
    try:
        data.hold_artifacts(ctx, [ref.digest for ref in refs if ref.digest is not None])
        for version in {ref.model_version_id for ref in refs if ref.model_version_id is not None}:
            models.get_version_by_id(ctx, version)
    except NotFound:
        return False
    return True


def _told(refs: ValueRef | list[ValueRef]) -> Json:
    if isinstance(refs, list):
        return [_told(ref) for ref in refs]
    return [refs.type, refs.digest or refs.model_version_id, refs.filename]
