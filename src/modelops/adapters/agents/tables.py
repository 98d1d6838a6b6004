"""Rows by which controllers and agents talk."""

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, JsonColumn, Moment, sparse_index


class AgentRow(Base):
    """An agent: one a home folder, whose processes it looks after. `slots` is how many jobs it runs at once; `url` is where
    the platform asks it for output."""

    __tablename__ = "agents"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    url: Mapped[str] = mapped_column(String(300))
    slots: Mapped[int]
    draining: Mapped[bool]
    started_at: Mapped[datetime] = mapped_column(Moment)
    heard_at: Mapped[datetime] = mapped_column(Moment)


class AgentProcessRow(Base):
    """A job's attempt or a workload that controllers want run, and what its agent last saw of it.

    `spec` is sealed: it holds tokens. Whoever takes it writes `agent_id` once. `asked` counts how often a workload was to be
    moved a step. `seen` is what was observed; None until something was.
    """

    __tablename__ = "agent_processes"
    __table_args__ = (sparse_index("agent_processes", "agent_id"),)

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    agent_id: Mapped[str | None] = mapped_column(String(40))
    spec: Mapped[str] = mapped_column(Text)
    spec_digest: Mapped[str] = mapped_column(String(80))
    fixed_digest: Mapped[str | None] = mapped_column(String(80))
    asked: Mapped[int] = mapped_column(default=0)
    wanted: Mapped[str] = mapped_column(String(20))
    grace_s: Mapped[float | None]
    stop_reason: Mapped[str | None] = mapped_column(Text)
    seen: Mapped[Any | None] = mapped_column(JsonColumn)
    ended: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(Moment)
