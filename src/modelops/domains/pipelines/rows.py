"""Rows of pipelines: how they are found, and what is shown of them."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import func, select

from modelops.contracts.errors import NotFound
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.schemas import Pipeline, PipelineRun, PipelineVersion, StepRun
from modelops.domains.pipelines.tables import (
    PipelineRow,
    PipelineRunRow,
    PipelineStepRow,
    PipelineValueRow,
    PipelineVersionRow,
)
from modelops.kernel.context import Context
from modelops.kernel.database import raw_of

FAN_OUT = "fan_out"


def find_pipeline(ctx: Context, pipeline: str, *, lock: bool = False) -> PipelineRow:
    """Return a pipeline of the project, by name or id."""
    query = ctx.query(PipelineRow).where((PipelineRow.name == pipeline) | (PipelineRow.id == pipeline))
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = ctx.session.scalars(query).first()
    if row is None:
        raise NotFound(
            f"There is no pipeline '{pipeline[:250]}' in this project.",
            hint="`mops pipelines list-pipelines` shows those there are; `mops pipelines register FILE` makes one.",
        )
    return row


def find_version(ctx: Context, row: PipelineRow, version: int | None) -> PipelineVersionRow:
    """Return a version of a pipeline; None means the newest."""
    number = version or row.latest_version
    query = ctx.query(PipelineVersionRow).where(
        PipelineVersionRow.pipeline_id == row.id, PipelineVersionRow.version == number
    )
    found = ctx.session.scalars(query).one_or_none()
    if found is None:
        raise NotFound(f"The pipeline '{row.name}' has no version {number}; its latest is {row.latest_version}.")
    return found


def find_run(ctx: Context, run: str, *, lock: bool = False) -> PipelineRunRow:
    """Return a run of the project; `lock` holds it until the unit of work ends."""
    row = ctx.one(PipelineRunRow, f"pipeline run '{run[:250]}'", PipelineRunRow.id == run)
    if lock:
        ctx.session.refresh(row, with_for_update=True)
    return row


def find_step(ctx: Context, run: PipelineRunRow, step: str, *, lock: bool = False) -> PipelineStepRow:
    """Return a step of a run, by key or id."""
    query = ctx.query(PipelineStepRow).where(
        PipelineStepRow.run_id == run.id, (PipelineStepRow.key == step) | (PipelineStepRow.id == step)
    )
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = ctx.session.scalars(query).first()
    if row is None:
        raise NotFound(
            f"The run '{run.id}' has no step '{step[:250]}'.", hint=f"`mops pipelines list-steps {run.id}` shows them."
        )
    return row


def document_of(ctx: Context, version_id: str) -> PipelineDocument:
    """Return a version's document. Versions never change, so the last ones used are remembered."""
    known = _KNOWN.get(version_id)
    if known is None:
        row = ctx.session.get_one(PipelineVersionRow, version_id)
        known = PipelineDocument.model_validate(row.document)
        _KNOWN[version_id] = known
    return known


class _Latest(dict[str, PipelineDocument]):
    """The documents used last. A race between threads costs a document read again, no more."""

    def __setitem__(self, version_id: str, document: PipelineDocument) -> None:
        if len(self) >= 64:
            for old in list(self)[:16]:
                self.pop(old, None)
        super().__setitem__(version_id, document)


_KNOWN = _Latest()


def hold(ctx: Context, owner: str, project_id: str, digests: Iterable[str]) -> None:
    """Keep blobs from being collected while their owner's rows are there."""
    rows = [(owner, digest, project_id) for digest in dict.fromkeys(digests)]
    if rows:
        raw_of(ctx.session).executemany(
            "INSERT INTO pipeline_values (owner, digest, project_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows
        )


def held_by(ctx: Context, owners: Sequence[str]) -> list[str]:
    """Return the digests that owners hold."""
    query = select(PipelineValueRow.digest).where(PipelineValueRow.owner.in_(owners)).distinct()
    return list(ctx.session.scalars(query))


def as_pipeline(row: PipelineRow) -> Pipeline:
    """Return a pipeline as it is shown."""
    return Pipeline.model_validate(row, from_attributes=True)


def as_version(ctx: Context, row: PipelineVersionRow, name: str) -> PipelineVersion:
    """Return a version as it is shown."""
    own = {
        field: getattr(row, field) for field in PipelineVersion.model_fields if field not in ("pipeline", "document")
    }
    return PipelineVersion(pipeline=name, document=document_of(ctx, row.id), **own)


def as_run(ctx: Context, row: PipelineRunRow) -> PipelineRun:
    """Return a run as it is shown."""
    return as_runs(ctx, [row])[0]


def as_runs(ctx: Context, rows: Sequence[PipelineRunRow]) -> list[PipelineRun]:
    """Return runs as they are shown, their steps counted in one query however many they are."""
    ctx.session.flush()
    counted: dict[str, dict[str, int]] = {row.id: {} for row in rows}
    query = (
        select(PipelineStepRow.run_id, PipelineStepRow.state, func.count())
        .where(PipelineStepRow.run_id.in_(counted), PipelineStepRow.kind != FAN_OUT)
        .group_by(PipelineStepRow.run_id, PipelineStepRow.state)
    )
    for run, state, count in ctx.session.execute(query) if rows else ():
        counted[run][state] = count
    return [_run(row, counted[row.id]) for row in rows]


def as_step(row: PipelineStepRow) -> StepRun:
    """Return a step as it is shown."""
    return StepRun.model_validate(row, from_attributes=True)


def _run(row: PipelineRunRow, steps: dict[str, int]) -> PipelineRun:
    own: dict[str, Any] = {name: getattr(row, name) for name in PipelineRun.model_fields if name != "steps"}
    return PipelineRun.model_validate({**own, "steps": steps})
