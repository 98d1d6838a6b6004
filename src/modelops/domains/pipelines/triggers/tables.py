"""Rows of triggers."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked


class TriggerRow(Tracked, Revised, InProject, Base):
    """A trigger. `position` is the place in the project's stream up to which its events were considered. `token_hash` is of
    the token in its hook's path. `owner` and `permissions` tell in whose name it begins: of whoever changed it last."""

    __tablename__ = "pipeline_triggers"
    __table_args__ = (UniqueConstraint("project_id", "name"), UniqueConstraint("token_hash"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    target: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    events: Mapped[list[str] | None] = mapped_column(JsonColumn)
    hook: Mapped[bool]
    condition: Mapped[str | None] = mapped_column(Text)
    mapping: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    paused: Mapped[bool]
    debounce_s: Mapped[float]
    limit: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    overlap: Mapped[str] = mapped_column(String(20))
    owner: Mapped[str] = mapped_column(String(100))
    permissions: Mapped[list[str]] = mapped_column(JsonColumn)
    position: Mapped[int] = mapped_column(BigInteger)
    token_hash: Mapped[str | None] = mapped_column(String(80))
    sealed_secret: Mapped[str | None] = mapped_column(Text)
    refused_at: Mapped[datetime | None] = mapped_column(Moment)
    refused_reason: Mapped[str | None] = mapped_column(Text)
