"""Rows of training."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked


class JobRow(Tracked, Revised, InProject, Base):
    """A job. `sealed_token` is the trainer's token, sealed; it is there while the job may run. What `attempt` began with
    an end of its own is in its row; here is how the last one went. `retry_at` is when a queued job may be tried again,
    and `attempts_before` counts those that no longer count when it is decided whether it is. With a `queue`, compute
    says when it may begin, and when it must give way."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    recipe: Mapped[str] = mapped_column(String(100))
    dataset_version_id: Mapped[str | None] = mapped_column(String(40))
    dataset: Mapped[str | None] = mapped_column(String(250))
    data_rows: Mapped[int | None] = mapped_column(BigInteger)
    data_columns: Mapped[int | None]
    inputs: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    parameters: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    resources: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    retry: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    environment: Mapped[str | None] = mapped_column(String(80))
    keep_checkpoints: Mapped[int]
    experiment: Mapped[str] = mapped_column(String(200))
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    queue: Mapped[str | None] = mapped_column(String(200))
    pool: Mapped[str | None] = mapped_column(String(200))
    priority: Mapped[str | None] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(20), index=True)
    reason: Mapped[str | None] = mapped_column(Text)
    cancel_reason: Mapped[str | None] = mapped_column(Text)
    failure: Mapped[str | None] = mapped_column(Text)
    out_of_memory: Mapped[bool] = mapped_column(default=False)
    cause: Mapped[str | None] = mapped_column(String(20))
    exit_code: Mapped[int | None]
    progress: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    attempt: Mapped[int]
    attempts_before: Mapped[int] = mapped_column(default=0)
    result: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    cpu_seconds: Mapped[float | None]
    sealed_token: Mapped[str | None] = mapped_column(Text)
    retry_at: Mapped[datetime | None] = mapped_column(Moment)
    admitted_at: Mapped[datetime | None] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)


class JobAttemptRow(Base):
    """An attempt at a job. `samples` are what it used over time, packed by `usage`; there once it has ended."""

    __tablename__ = "job_attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    admitted_at: Mapped[datetime] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment, index=True)
    cause: Mapped[str | None] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    exit_code: Mapped[int | None]
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    cpu_seconds: Mapped[float | None]
    samples: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)


class JobArtifactRow(Base):
    """An artifact that a job was given, or made. Of a name, the one that was made last is kept; of checkpoints, several.
    `step` is -1 for what has none."""

    __tablename__ = "job_artifacts"
    __table_args__ = (UniqueConstraint("job_id", "role", "name", "step"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    project_id: Mapped[str] = mapped_column(String(40))
    role: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(200))
    step: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int]
    digest: Mapped[str] = mapped_column(String(80), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Moment)
