"""Rows of schedules."""

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked, sparse_index


class ScheduleRow(Tracked, Revised, InProject, Base):
    """A schedule. `kind` is what its target is: `pipeline` or `job`.

    `cursor` is the moment up to which it was considered, `next_at` the next due one behind it, `anchor` what an interval is
    counted from. `owner` and `permissions` tell in whose name it begins: of whoever changed it last.
    """

    __tablename__ = "pipeline_schedules"
    __table_args__ = (UniqueConstraint("project_id", "name"), sparse_index("pipeline_schedules", "next_at"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    when: Mapped[str] = mapped_column(String(250))
    zone: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(20))
    target: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    starts_at: Mapped[datetime | None] = mapped_column(Moment)
    ends_at: Mapped[datetime | None] = mapped_column(Moment)
    paused: Mapped[bool]
    catch_up: Mapped[str] = mapped_column(String(20))
    catch_up_most: Mapped[int]
    grace_s: Mapped[float]
    overlap: Mapped[str] = mapped_column(String(20))
    jitter_s: Mapped[float]
    moment_parameter: Mapped[str | None] = mapped_column(String(100))
    owner: Mapped[str] = mapped_column(String(100))
    permissions: Mapped[list[str]] = mapped_column(JsonColumn)
    anchor: Mapped[datetime] = mapped_column(Moment)
    cursor: Mapped[datetime] = mapped_column(Moment)
    next_at: Mapped[datetime | None] = mapped_column(Moment)
