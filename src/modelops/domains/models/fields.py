"""What listings of the registry are filtered and ordered by."""

from typing import Any

from sqlalchemy import Float, case, cast, null

from modelops.domains.models.tables import ApprovalRow, ModelRow, ModelVersionRow, StageRecordRow, ValidationRow
from modelops.kernel.comparing import json_member

_NO_NUMBERS = ("nan", "inf", "-inf")


def tag_of(row: type[ModelRow] | type[ModelVersionRow]) -> Any:
    """Return what gives the column of a tag by its key."""
    return lambda key: json_member(row.tags, key)


def _metric(key: str) -> Any:
    text = json_member(ModelVersionRow.metrics, key)
    return case((text.in_(_NO_NUMBERS), null()), else_=cast(text, Float()))


MODEL_FIELDS: dict[str, Any] = {
    "name": ModelRow.name,
    "latest_version": ModelRow.latest_version,
    "created_at": ModelRow.created_at,
    "updated_at": ModelRow.updated_at,
    "created_by": ModelRow.created_by,
    "tags": tag_of(ModelRow),
}

VERSION_FIELDS: dict[str, Any] = {
    "name": ModelVersionRow.name,
    "version": ModelVersionRow.version,
    "stage": ModelVersionRow.stage,
    "flavour": ModelVersionRow.flavour,
    "digest": ModelVersionRow.digest,
    "run_id": ModelVersionRow.run_id,
    "job_id": ModelVersionRow.job_id,
    "dataset_version_id": ModelVersionRow.dataset_version_id,
    "source": ModelVersionRow.source,
    "logged_model_id": ModelVersionRow.logged_model_id,
    "parent_version_id": ModelVersionRow.parent_version_id,
    "created_at": ModelVersionRow.created_at,
    "updated_at": ModelVersionRow.updated_at,
    "created_by": ModelVersionRow.created_by,
    "metrics": _metric,
    "tags": tag_of(ModelVersionRow),
}
"""A metric that is NaN or infinite counts as none."""

STAGE_FIELDS: dict[str, Any] = {
    "version": StageRecordRow.version,
    "from_stage": StageRecordRow.from_stage,
    "to_stage": StageRecordRow.to_stage,
    "changed_at": StageRecordRow.changed_at,
    "changed_by": StageRecordRow.changed_by,
}

VALIDATION_FIELDS: dict[str, Any] = {
    "passed": ValidationRow.passed,
    "champion": ValidationRow.champion,
    "dataset_version_id": ValidationRow.dataset_version_id,
    "created_at": ValidationRow.created_at,
    "created_by": ValidationRow.created_by,
}

APPROVAL_FIELDS: dict[str, Any] = {
    "model": ApprovalRow.model,
    "version": ApprovalRow.version,
    "state": ApprovalRow.state,
    "stage": ApprovalRow.stage,
    "requested_at": ApprovalRow.requested_at,
    "requested_by": ApprovalRow.requested_by,
    "decided_by": ApprovalRow.decided_by,
}
