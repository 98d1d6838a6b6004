"""Rows of training."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked


class JobRow(Tracked, Revised, InProject, Base):
    """A job. `sealed_token` is the trainer's token, sealed; it is there while the job may run."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    recipe: Mapped[str] = mapped_column(String(100))
    dataset_version_id: Mapped[str] = mapped_column(String(40))
    dataset: Mapped[str] = mapped_column(String(250))
    parameters: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    resources: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    experiment: Mapped[str] = mapped_column(String(200))
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    state: Mapped[str] = mapped_column(String(20), index=True)
    reason: Mapped[str | None] = mapped_column(Text)
    cancel_reason: Mapped[str | None] = mapped_column(Text)
    failure: Mapped[str | None] = mapped_column(Text)
    exit_code: Mapped[int | None]
    attempt: Mapped[int]
    result: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    cpu_seconds: Mapped[float | None]
    sealed_token: Mapped[str | None] = mapped_column(Text)
    admitted_at: Mapped[datetime | None] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
