"""What listings of the registry are filtered and ordered by."""

from typing import Any

from sqlalchemy import Float, String, case, cast, literal, null
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from modelops.domains.models.tables import ApprovalRow, ModelRow, ModelVersionRow, StageRecordRow, ValidationRow

_NO_NUMBERS = ("nan", "inf", "-inf")


class _Member(FunctionElement[str]):
    """A member of a JSON object as text, whatever characters its key has."""

    type = String()
    inherit_cache = True
    name = "json_member"


@compiles(_Member, "sqlite")
def _in_sqlite(element: _Member, compiler: SQLCompiler, **options: Any) -> str:
    # A path, as `json_extract` takes it, cannot say every key; this compares the key itself.
    column, key = (compiler.process(part, **options) for part in element.clauses)
    return f"(SELECT json_each.value FROM json_each({column}) WHERE json_each.key = {key})"  # noqa: S608 - both compiled


@compiles(_Member, "postgresql")
def _in_postgres(element: _Member, compiler: SQLCompiler, **options: Any) -> str:
    column, key = (compiler.process(part, **options) for part in element.clauses)
    return f"({column} ->> {key})"


def _tag(row: type[ModelRow] | type[ModelVersionRow]) -> Any:
    return lambda key: _Member(row.tags, literal(key, String()))


def _metric(key: str) -> Any:
    text = _Member(ModelVersionRow.metrics, literal(key, String()))
    return case((text.in_(_NO_NUMBERS), null()), else_=cast(text, Float()))


MODEL_FIELDS: dict[str, Any] = {
    "name": ModelRow.name,
    "latest_version": ModelRow.latest_version,
    "created_at": ModelRow.created_at,
    "created_by": ModelRow.created_by,
    "tags": _tag(ModelRow),
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
    "parent_version_id": ModelVersionRow.parent_version_id,
    "created_at": ModelVersionRow.created_at,
    "created_by": ModelVersionRow.created_by,
    "metrics": _metric,
    "tags": _tag(ModelVersionRow),
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
