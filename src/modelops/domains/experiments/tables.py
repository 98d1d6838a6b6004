"""Rows of experiments."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Dialect, Double, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked


class ExactJson(TypeDecorator[Any]):
    """A JSON value of any kind, kept as its own text, so that it comes back as it was sent.

    A bare number would not: SQLite makes a rounded float of an integer beyond 64 bits, and JSONB makes an integer of 1e23.
    """

    impl = JsonColumn
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Return the value's JSON."""
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Reverse `process_bind_param`."""
        return json.loads(value)


class ExperimentRow(Tracked, Revised, InProject, Base):
    __tablename__ = "experiments"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)


class RunRow(Revised, InProject, Base):
    __tablename__ = "runs"
    __table_args__ = (Index("ix_runs_heard", "status", "heard_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    job_id: Mapped[str | None] = mapped_column(String(40), index=True)
    started_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    heard_at: Mapped[datetime] = mapped_column(Moment)
    created_by: Mapped[str] = mapped_column(String(100))


class ParameterRow(Base):
    __tablename__ = "run_parameters"
    __table_args__ = (Index("ix_run_parameters_text", "key", "text"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[Any] = mapped_column(ExactJson, nullable=True)
    text: Mapped[str] = mapped_column(String(250))


class RunTagRow(Base):
    __tablename__ = "run_tags"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class MetricRow(Base):
    """A point of a metric. The whole point is the key, so one that is sent again is the same row."""

    __tablename__ = "metric_points"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    time_us: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[float] = mapped_column(Double, primary_key=True)
    is_nan: Mapped[bool] = mapped_column(primary_key=True)


class LatestMetricRow(Base):
    """The latest point of each metric of a run, kept in the transaction that adds points."""

    __tablename__ = "latest_metrics"
    __table_args__ = (Index("ix_latest_metrics_value", "key", "value"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger)
    time_us: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float] = mapped_column(Double)
    is_nan: Mapped[bool]


class RunArtifactRow(Base):
    __tablename__ = "run_artifacts"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    path: Mapped[str] = mapped_column(String(500), primary_key=True)
    digest: Mapped[str] = mapped_column(String(80))
    size: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(200))
