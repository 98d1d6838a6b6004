"""Stages: where a version stands, how it moves, and what was moved when by whom."""

from typing import Any

from modelops.contracts.ids import new_id
from modelops.contracts.schemas import Page
from modelops.domains.models.aliases import follow_move
from modelops.domains.models.approvals import approval_for
from modelops.domains.models.fields import STAGE_FIELDS
from modelops.domains.models.finding import find_model, find_version, to_version
from modelops.domains.models.rules import check_transition
from modelops.domains.models.schemas import ModelVersion, Stage, StageChange, StageRecord
from modelops.domains.models.tables import ModelRow, ModelVersionRow, StageRecordRow
from modelops.domains.models.validations import require_validations
from modelops.kernel.context import Context
from modelops.kernel.listing import PageQuery, list_rows


def set_stage(ctx: Context, model: str, body: StageChange) -> ModelVersion:
    """Move a version to a stage, the latest where none is named. Production needs an approval, and makes it champion.

    A version that is in the stage already stays, and nothing is recorded.
    """
    ctx.require("models.promote")
    row = find_model(ctx, model, lock=True)
    version = find_version(ctx, row, body.version)
    present = Stage(version.stage)
    if present is body.stage:
        return to_version(ctx, version)
    check_transition(row.name, version.version, present, body.stage)
    require_validations(ctx, version, body.stage)
    approval = approval_for(ctx, version, body.stage)
    ctx.check_revision(version)
    version.stage = body.stage
    version.updated_at = row.updated_at = ctx.clock.now()
    ctx.session.add(_record(ctx, row, version, present, approval, body.comment))
    ctx.session.flush()
    follow_move(ctx, row, version.version, body.stage)
    facts: dict[str, Any] = {
        "model": row.name,
        "version": version.version,
        "from_stage": present,
        "to_stage": body.stage,
    }
    facts |= {"id": version.id, "by": ctx.actor.id, "comment": body.comment, "approval_id": approval}
    ctx.emit("modelops.models.stage_changed", row.id, **facts)
    return to_version(ctx, version)


def list_stage_history(ctx: Context, model: str, page: PageQuery) -> Page[StageRecord]:
    """List the moves of a model's versions, newest first."""
    ctx.require("models.read")
    row = find_model(ctx, model)
    query = ctx.query(StageRecordRow).where(StageRecordRow.model_id == row.id)
    found = list_rows(ctx, query, StageRecordRow.id, STAGE_FIELDS, page, order="desc")
    items = [StageRecord.model_validate(record, from_attributes=True) for record in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


def _record(
    ctx: Context, model: ModelRow, version: ModelVersionRow, present: Stage, approval: str | None, comment: str
) -> StageRecordRow:
    return StageRecordRow(
        id=new_id("stg"),
        project_id=ctx.project_id,
        model_id=model.id,
        version=version.version,
        from_stage=present,
        to_stage=version.stage,
        comment=comment,
        approval_id=approval,
        changed_at=ctx.clock.now(),
        changed_by=ctx.actor.id,
    )
