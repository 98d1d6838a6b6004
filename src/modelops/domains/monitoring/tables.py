"""Rows of monitoring."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Tracked


class SketchBatchRow(InProject, Base):
    """A batch of sketches; (`source`, `sequence`) is its key, so that one sent twice is counted once."""

    __tablename__ = "sketch_batches"
    __table_args__ = (Index("ix_sketch_batches_window", "deployment_id", "ended_at"),)

    source: Mapped[str] = mapped_column(String(200), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    deployment_id: Mapped[str] = mapped_column(String(40))
    revision: Mapped[int]
    model_version_id: Mapped[str] = mapped_column(String(40))
    started_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime] = mapped_column(Moment)
    rows: Mapped[int] = mapped_column(BigInteger)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    dropped_rows: Mapped[int] = mapped_column(BigInteger)
    inputs: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)
    outputs: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)
    variant: Mapped[str] = mapped_column(String(63), server_default="champion")
    latencies: Mapped[list[int] | None] = mapped_column(JsonColumn)
    latency_sum_s: Mapped[float] = mapped_column(server_default="0")


class DriftReportRow(Tracked, InProject, Base):
    __tablename__ = "drift_reports"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(String(40), index=True)
    model_version_id: Mapped[str] = mapped_column(String(40))
    since: Mapped[datetime] = mapped_column(Moment)
    until: Mapped[datetime] = mapped_column(Moment)
    rows: Mapped[int] = mapped_column(BigInteger)
    reference_rows: Mapped[int] = mapped_column(BigInteger)
    false_alarm_rate: Mapped[float]
    minimum_effect: Mapped[float]
    drifted: Mapped[bool]
    drifted_columns: Mapped[list[str]] = mapped_column(JsonColumn)
    columns: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)
