"""Rows of pipelines."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked, sparse_index

_UNTOLD = text("ended_at IS NOT NULL AND NOT told")


class PipelineRow(Tracked, InProject, Base):
    __tablename__ = "pipelines"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    latest_version: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(Moment)


class PipelineVersionRow(Tracked, InProject, Base):
    """A document. It never changes, so processes may remember it by its id."""

    __tablename__ = "pipeline_versions"
    __table_args__ = (UniqueConstraint("pipeline_id", "version"), UniqueConstraint("pipeline_id", "digest"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    pipeline_id: Mapped[str] = mapped_column(String(40))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(80))
    document: Mapped[dict[str, Any]] = mapped_column(JsonColumn)


class PipelineRunRow(Tracked, Revised, InProject, Base):
    """A run. `permissions` are what its steps may do; `ending` is how it is to end once nothing of it is under way."""

    __tablename__ = "pipeline_runs"
    __table_args__ = (
        Index(
            "ix_pipeline_runs_open",
            "id",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    pipeline_id: Mapped[str] = mapped_column(String(40), index=True)
    pipeline: Mapped[str] = mapped_column(String(200))
    version_id: Mapped[str] = mapped_column(String(40))
    version: Mapped[int]
    name: Mapped[str] = mapped_column(String(200))
    parameters: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    cause: Mapped[str] = mapped_column(String(300))
    use_cache: Mapped[bool]
    permissions: Mapped[list[str]] = mapped_column(JsonColumn)
    state: Mapped[str] = mapped_column(String(20), index=True)
    ending: Mapped[str | None] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    deadline: Mapped[datetime | None] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)


class PipelineStepRow(InProject, Base):
    """A step of a run, or a member of a fan-out.

    `kind` is `function`, `job`, `approval` or `notify`, and `fan_out` once the members of a fan-out have rows of their own.
    `queue` names the workers that may take it; `place` orders a run's steps. `failures` counts attempts that failed, `lost`
    those whose worker vanished. `told` says that whoever conducts the run knows how it ended.
    """

    __tablename__ = "pipeline_steps"
    __table_args__ = (
        UniqueConstraint("run_id", "key"),
        Index("ix_pipeline_steps_queue", "run_id", "state", "queue", "place"),
        Index("ix_pipeline_steps_untold", "run_id", "place", sqlite_where=_UNTOLD, postgresql_where=_UNTOLD),
        Index("ix_pipeline_steps_member", "run_id", "step", "place"),
        sparse_index("pipeline_steps", "lease_expires_at"),
        sparse_index("pipeline_steps", "job_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(40))
    key: Mapped[str] = mapped_column(String(120))
    step: Mapped[str] = mapped_column(String(100))
    index: Mapped[int | None]
    place: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(20))
    queue: Mapped[str] = mapped_column(String(120))
    state: Mapped[str] = mapped_column(String(20))
    told: Mapped[bool]
    attempt: Mapped[int]
    failures: Mapped[int]
    lost: Mapped[int]
    reason: Mapped[str | None] = mapped_column(Text)
    outputs: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    cache_key: Mapped[str | None] = mapped_column(String(80))
    cached_from: Mapped[str | None] = mapped_column(String(40))
    worker: Mapped[str | None] = mapped_column(String(60))
    job_id: Mapped[str | None] = mapped_column(String(40))
    lease_expires_at: Mapped[datetime | None] = mapped_column(Moment)
    not_before: Mapped[datetime | None] = mapped_column(Moment)
    log_characters: Mapped[int]
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    cpu_seconds: Mapped[float | None]
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)


class PipelineWorkerRow(InProject, Base):
    """A process for function steps of a run. `sealed_token` is there while it may run; `heard_at` is its first claim."""

    __tablename__ = "pipeline_workers"
    __table_args__ = (
        Index(
            "ix_pipeline_workers_open",
            "run_id",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_pipeline_workers_run", "run_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(40))
    queue: Mapped[str] = mapped_column(String(120))
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    sealed_token: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    heard_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment, index=True)


class PipelineCacheRow(InProject, Base):
    """The outputs of a step that succeeded, by what they depend on."""

    __tablename__ = "pipeline_cache"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(80))
    pipeline: Mapped[str] = mapped_column(String(200))
    step: Mapped[str] = mapped_column(String(100))
    run_id: Mapped[str] = mapped_column(String(40))
    outputs: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    created_at: Mapped[datetime] = mapped_column(Moment)
    used_at: Mapped[datetime] = mapped_column(Moment, index=True)

    __table_args__ = (UniqueConstraint("project_id", "key"),)


class PipelineValueRow(InProject, Base):
    """That a run, a cached result or a version (`owner`) needs a blob."""

    __tablename__ = "pipeline_values"

    owner: Mapped[str] = mapped_column(String(40), primary_key=True)
    digest: Mapped[str] = mapped_column(String(80), primary_key=True, index=True)


class PipelineStepLogRow(Base):
    """A piece of what an attempt wrote; `position` counts the characters of the attempt before it."""

    __tablename__ = "pipeline_step_logs"

    step_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int]
    run_id: Mapped[str] = mapped_column(String(40), index=True)
    text: Mapped[str] = mapped_column(Text)
