"""Rows of the registry."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked, sparse_index

_ORIGINS = ("run_id", "job_id", "dataset_version_id", "parent_version_id", "logged_model_id", "claimed_run")


class ModelRow(Tracked, Revised, InProject, Base):
    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    latest_version: Mapped[int | None]
    updated_at: Mapped[datetime | None] = mapped_column(Moment)
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)


class ModelVersionRow(Tracked, Revised, InProject, Base):
    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("model_id", "version"),
        *(sparse_index("model_versions", column) for column in _ORIGINS),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]
    flavour: Mapped[str] = mapped_column(String(50))
    stage: Mapped[str] = mapped_column(String(20))
    digest: Mapped[str] = mapped_column(String(80))
    files: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)
    size: Mapped[int] = mapped_column(BigInteger)
    signature: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    platform_signature: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    run_id: Mapped[str | None] = mapped_column(String(40))
    job_id: Mapped[str | None] = mapped_column(String(40))
    dataset_version_id: Mapped[str | None] = mapped_column(String(40))
    parent_version_id: Mapped[str | None] = mapped_column(String(40))
    code_digest: Mapped[str | None] = mapped_column(String(80))
    requirements: Mapped[list[str]] = mapped_column(JsonColumn)
    metrics: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    parameters: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    description: Mapped[str] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    run_link: Mapped[str | None] = mapped_column(Text)
    logged_model_id: Mapped[str | None] = mapped_column(String(40))
    claimed_run: Mapped[str | None] = mapped_column(String(250))
    undeployable: Mapped[str | None] = mapped_column(Text)
    updated_at: Mapped[datetime | None] = mapped_column(Moment)
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)
    runs_code: Mapped[bool] = mapped_column(server_default=false())
    scan: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    serving: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)


class VersionMemberRow(InProject, Base):
    """A registered version that an ensemble or a chain was made of; `label` is `name:version`, as it was then."""

    __tablename__ = "model_version_members"

    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    member_id: Mapped[str] = mapped_column(String(40), index=True)
    label: Mapped[str] = mapped_column(String(220))


class FileScanRow(Base):
    """What a scan found in a content, whoever holds it; read one way, by one version of the scanner."""

    __tablename__ = "file_scans"

    digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    reading: Mapped[str] = mapped_column(String(20), primary_key=True)
    scanner: Mapped[int] = mapped_column(primary_key=True)
    found: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    scanned_at: Mapped[datetime] = mapped_column(Moment)


class AliasRow(Base):
    __tablename__ = "model_aliases"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(String(63), primary_key=True)
    version: Mapped[int]


class StageRecordRow(InProject, Base):
    __tablename__ = "stage_records"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    version: Mapped[int]
    from_stage: Mapped[str] = mapped_column(String(20))
    to_stage: Mapped[str] = mapped_column(String(20))
    comment: Mapped[str] = mapped_column(Text)
    approval_id: Mapped[str | None] = mapped_column(String(40))
    changed_at: Mapped[datetime] = mapped_column(Moment)
    changed_by: Mapped[str] = mapped_column(String(100))


class ValidationRow(Tracked, InProject, Base):
    """`checks` is the JSON of the results, as a text: the platform's signature covers it to the letter."""

    __tablename__ = "model_validations"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    model_version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), index=True)
    model: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(80))
    champion: Mapped[str | None] = mapped_column(String(250))
    champion_version_id: Mapped[str | None] = mapped_column(String(40))
    champion_digest: Mapped[str | None] = mapped_column(String(80))
    dataset_version_id: Mapped[str | None] = mapped_column(String(40))
    data_digest: Mapped[str] = mapped_column(String(80))
    rows: Mapped[int] = mapped_column(BigInteger)
    target: Mapped[str] = mapped_column(String(250))
    passed: Mapped[bool]
    checks: Mapped[str] = mapped_column(Text)
    comment: Mapped[str] = mapped_column(Text)
    platform_signature: Mapped[dict[str, Any]] = mapped_column(JsonColumn)


class CardRow(Revised, InProject, Base):
    """`said` is what people wrote, as `CardSet` has it."""

    __tablename__ = "model_cards"
    __table_args__ = (UniqueConstraint("model_id", "version"),)

    model_version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int]
    said: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    updated_by: Mapped[str] = mapped_column(String(100))


class PolicyRow(Revised, InProject, Base):
    __tablename__ = "model_policies"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    rules: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    updated_by: Mapped[str] = mapped_column(String(100))


class ApprovalRow(InProject, Base):
    __tablename__ = "approvals"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    model_version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), index=True)
    model: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(80))
    stage: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20))
    requested_by: Mapped[str] = mapped_column(String(100))
    requested_at: Mapped[datetime] = mapped_column(Moment)
    request_comment: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str | None] = mapped_column(String(100))
    decided_at: Mapped[datetime | None] = mapped_column(Moment)
    decision_comment: Mapped[str] = mapped_column(Text)
    platform_signature: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
