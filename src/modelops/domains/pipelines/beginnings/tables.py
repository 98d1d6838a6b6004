"""Rows of what begins by itself."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment

_OPEN = text("unfinished")


class BeginningRow(InProject, Base):
    """What a due moment or an event led to. It holds all that is needed to begin it, whatever becomes of its cause.

    `owner` and `permissions` tell whose rights it begins with; `unfinished` says that it waits, or was under way when one
    last looked.
    """

    __tablename__ = "pipeline_beginnings"
    __table_args__ = (
        UniqueConstraint("cause_id", "key"),
        Index("ix_pipeline_beginnings_open", "cause_id", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_pipeline_beginnings_due", "state", "begins_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    cause_id: Mapped[str] = mapped_column(String(40))
    cause: Mapped[str] = mapped_column(String(300))
    key: Mapped[str] = mapped_column(String(250))
    owner: Mapped[str] = mapped_column(String(100))
    permissions: Mapped[list[str]] = mapped_column(JsonColumn)
    target: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    overlap: Mapped[str] = mapped_column(String(20))
    moment: Mapped[datetime] = mapped_column(Moment)
    begins_at: Mapped[datetime] = mapped_column(Moment)
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    unfinished: Mapped[bool]
    run_id: Mapped[str | None] = mapped_column(String(40), index=True)
    job_id: Mapped[str | None] = mapped_column(String(40), index=True)
    missed: Mapped[int]
    depth: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(Moment)
    settled_at: Mapped[datetime | None] = mapped_column(Moment, index=True)
