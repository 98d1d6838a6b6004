"""Rows of experiments.

What is logged refers to a run and to a metric's key by number, not by name: points are small, and those of one metric lie
side by side in the order of their history, so that reading it is one scan and a point that is sent again is the same row.
"""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Dialect, Double, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from modelops.kernel.database import Base, BigId, InProject, JsonColumn, Moment, Revised, Tracked, sparse_index

_CLUSTERED = {"sqlite_with_rowid": False}
"""On SQLite the table is its primary key's tree, with no second copy of each row."""


class ExactJson(TypeDecorator[Any]):
    """A JSON value of any kind, kept as its own text, so that it comes back as it was sent.

    In a JSON column a number would not: SQLite makes a rounded float of an integer beyond 64 bits, JSONB an integer of 1e23.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Return the value's JSON."""
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Reverse `process_bind_param`."""
        return json.loads(value)


class ExperimentRow(Tracked, Revised, InProject, Base):
    """An experiment. `artifact_location` is set where its runs keep their files elsewhere than on the platform."""

    __tablename__ = "experiments"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(500))
    description: Mapped[str] = mapped_column(Text)
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    artifact_location: Mapped[str | None] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(Moment)
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)


class RunRow(Revised, InProject, Base):
    """A run. `heard_at` is null when nobody promised a heartbeat."""

    __tablename__ = "runs"
    __table_args__ = (
        sparse_index("runs", "status", "heard_at"),
        sparse_index("runs", "job_id"),
        Index("ix_runs_experiment_id_started_at", "experiment_id", "started_at"),
    )

    number: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id"))
    name: Mapped[str] = mapped_column(String(250))
    status: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    job_id: Mapped[str | None] = mapped_column(String(40))
    started_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    heard_at: Mapped[datetime | None] = mapped_column(Moment)
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)
    created_by: Mapped[str] = mapped_column(String(250))


class ParameterRow(Base):
    """A parameter: its value, how it reads as a text, and as a number if it is one."""

    __tablename__ = "run_parameters"
    __table_args__ = _CLUSTERED

    run_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[Any] = mapped_column(ExactJson, nullable=True)
    text: Mapped[str] = mapped_column(Text)
    number: Mapped[float | None] = mapped_column(Double)


class RunTagRow(Base):
    __tablename__ = "run_tags"
    __table_args__ = _CLUSTERED

    run_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class MetricKeyRow(Base):
    """The number that stands for a metric's key, in every project."""

    __tablename__ = "metric_keys"

    number: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(String(250), unique=True)


class MetricRow(Base):
    """A point of a metric. The whole point is the key, so one that is sent again is the same row."""

    __tablename__ = "metric_points"
    __table_args__ = _CLUSTERED

    run_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key_number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    time_us: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[float] = mapped_column(Double, primary_key=True)
    is_nan: Mapped[bool] = mapped_column(primary_key=True)


class LatestMetricRow(Base):
    """The latest point of each metric of a run, kept in the transaction that adds points."""

    __tablename__ = "latest_metrics"
    __table_args__ = (Index("ix_latest_metrics_value", "key_number", "value", "run_number"), _CLUSTERED)

    run_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key_number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    time_us: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float] = mapped_column(Double)
    is_nan: Mapped[bool]


class RunArtifactRow(Base):
    __tablename__ = "run_artifacts"

    run_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    path: Mapped[str] = mapped_column(String(500), primary_key=True)
    digest: Mapped[str] = mapped_column(String(80), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(200))


class ViewRow(Tracked, Revised, InProject, Base):
    """A saved view of runs. A name is its maker's own, or, of a shared view, the project's."""

    __tablename__ = "run_views"
    __table_args__ = (
        UniqueConstraint("project_id", "created_by", "name"),
        Index(
            "ix_run_views_shared",
            "project_id",
            "name",
            unique=True,
            sqlite_where=text("shared"),
            postgresql_where=text("shared"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    experiment_id: Mapped[str | None] = mapped_column(String(40))  # of an experiment that may be gone
    filter: Mapped[str | None] = mapped_column(Text)
    order_by: Mapped[str | None] = mapped_column(Text)
    columns: Mapped[list[str]] = mapped_column(JsonColumn)
    group_by: Mapped[str | None] = mapped_column(Text)
    metrics: Mapped[list[str]] = mapped_column(JsonColumn)
    shared: Mapped[bool]
