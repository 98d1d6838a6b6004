"""Rows of serving."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked


class DeploymentRow(Tracked, Revised, InProject, Base):
    """`replicas` is how many there shall be; with `autoscaling`, a policy, it follows the load, and changed so at `scaled_at`.
    `observed` is what was last seen of the replicas. `failure`, `waited_s` and `seen_at` are as in `rules.Desired`."""

    __tablename__ = "deployments"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    description: Mapped[str] = mapped_column(Text)
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    replicas: Mapped[int]
    autoscaling: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    scaled_at: Mapped[datetime | None] = mapped_column(Moment)
    deleting: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    active_revision: Mapped[int | None]
    wanted_revision: Mapped[int]
    failure: Mapped[str | None] = mapped_column(Text)
    waited_s: Mapped[float | None]
    seen_at: Mapped[datetime | None] = mapped_column(Moment)
    observed: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)


class RevisionRow(Tracked, InProject, Base):
    """`spec` is the workload's spec as it was first applied, without its token: a name keeps its spec for good. `placed`
    tells that something of the workload may exist; `log_tail` is what its replicas last said before it was given up."""

    __tablename__ = "deployment_revisions"
    __table_args__ = (UniqueConstraint("deployment_id", "number"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"))
    number: Mapped[int]
    model_version_id: Mapped[str] = mapped_column(String(40), index=True)
    model: Mapped[str] = mapped_column(String(200))
    model_version: Mapped[int]
    limits: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    activated_at: Mapped[datetime | None] = mapped_column(Moment)
    spec: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    sealed_token: Mapped[str | None] = mapped_column(Text)
    placed: Mapped[bool] = mapped_column(default=False)
    log_tail: Mapped[dict[str, str] | None] = mapped_column(JsonColumn)
