"""Rows of serving."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
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
    strategy: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    target: Mapped[str] = mapped_column(String(20), default="local", server_default="local")


class RevisionRow(Tracked, InProject, Base):
    """`spec` is the workload's spec as it was first applied, without its token: a name keeps its spec for good. `placed`
    tells that something of the workload may exist; `log_tail` is what its replicas last said before it was given up.

    With `home`, the revision lives in the workload of that revision, and its `spec` is its document alone. A workload that
    serves no longer is kept until `keep_until`. `variants` are those beside the champion."""

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
    home: Mapped[int | None]
    keep_until: Mapped[datetime | None] = mapped_column(Moment)
    traffic: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    variants: Mapped[list[dict[str, Any]] | None] = mapped_column(JsonColumn)


class RolloutRow(Tracked, InProject, Base):
    """How a revision takes over from the one before. What the columns from `state` to `reason` mean is in
    `courses.Course`; `analysis` is the last one, `history` what came about, oldest first."""

    __tablename__ = "rollouts"
    __table_args__ = (UniqueConstraint("deployment_id", "revision"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"))
    revision: Mapped[int]
    from_revision: Mapped[int]
    strategy: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    state: Mapped[str] = mapped_column(String(20))
    step: Mapped[int]
    began_at: Mapped[datetime | None] = mapped_column(Moment)
    extensions: Mapped[int]
    looks: Mapped[int]
    looked_at: Mapped[datetime | None] = mapped_column(Moment)
    hold: Mapped[str | None] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    analysis: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    history: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)


class BusinessValuesRow(Tracked, InProject, Base):
    """Values that were posted together: `count` of them, their mean, and the sum of their squared distances from it."""

    __tablename__ = "business_values"
    __table_args__ = (Index("ix_business_values_window", "deployment_id", "revision", "metric", "created_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"))
    revision: Mapped[int]
    metric: Mapped[str] = mapped_column(String(63))
    variant: Mapped[str] = mapped_column(String(63))
    count: Mapped[int]
    mean: Mapped[float]
    squares: Mapped[float]


class PredictionLogRow(Tracked, InProject, Base):
    """A file of logged predictions. A replica's process sends one `sequence` of its `source` perhaps twice; it is kept once."""

    __tablename__ = "prediction_logs"
    __table_args__ = (UniqueConstraint("deployment_id", "source", "sequence"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(String(40))
    source: Mapped[str] = mapped_column(String(200))
    sequence: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int]
    variant: Mapped[str] = mapped_column(String(63))
    model: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]
    model_version_id: Mapped[str] = mapped_column(String(40))
    digest: Mapped[str] = mapped_column(String(71), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int] = mapped_column(BigInteger)
    began_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)
