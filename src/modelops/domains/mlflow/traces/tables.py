"""Rows of traces. A trace's id comes from its client, so that a project is part of every key."""

from typing import Any

from sqlalchemy import BigInteger, Double, ForeignKeyConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject


def _of_trace(table: str) -> Any:
    return ForeignKeyConstraint(
        ["project_id", "trace_id"],
        ["mlflow_traces.project_id", "mlflow_traces.id"],
        name=f"fk_{table}_trace",
        ondelete="CASCADE",
    )


class TraceRow(InProject, Base):
    __tablename__ = "mlflow_traces"
    __table_args__ = (Index("ix_mlflow_traces_time", "project_id", "experiment_id", "started_ms"),)

    project_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    id: Mapped[str] = mapped_column(String(250), primary_key=True)
    experiment_id: Mapped[str] = mapped_column(String(40))
    started_ms: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(20))
    client_request_id: Mapped[str | None] = mapped_column(Text)
    request_preview: Mapped[str | None] = mapped_column(Text)
    response_preview: Mapped[str | None] = mapped_column(Text)
    told: Mapped[bool]
    """Whether a client has told the trace as a whole: what it said then outweighs what its spans add up to."""
    has_spans: Mapped[bool]
    """Whether spans of it are kept here, as against in a file of its artifacts."""


class LabelRow(Base):
    """A tag or a piece of metadata; `derived` if it was worked out from spans, which what a client says replaces."""

    __tablename__ = "mlflow_trace_labels"
    __table_args__ = (
        _of_trace(__tablename__),
        Index("ix_mlflow_trace_labels_key", "project_id", "kind", "key"),
    )

    project_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    trace_id: Mapped[str] = mapped_column(String(250), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    derived: Mapped[bool]


class SpanRow(Base):
    """A span: what is filtered by in columns, all of it in `content`, as the JSON of `Span`."""

    __tablename__ = "mlflow_spans"
    __table_args__ = (_of_trace(__tablename__),)

    project_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    trace_id: Mapped[str] = mapped_column(String(250), primary_key=True)
    span_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(Text)
    type: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(10))
    started_ns: Mapped[int] = mapped_column(BigInteger)
    ended_ns: Mapped[int | None] = mapped_column(BigInteger)
    usage: Mapped[str | None] = mapped_column(Text)
    cost: Mapped[str | None] = mapped_column(Text)
    content: Mapped[str] = mapped_column(Text)


class AssessmentRow(Base):
    """What somebody or something thinks of a trace: what is filtered by in columns, all of it in `content`."""

    __tablename__ = "mlflow_assessments"
    __table_args__ = (
        _of_trace(__tablename__),
        Index("ix_mlflow_assessments_name", "project_id", "kind", "name"),
    )

    project_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    trace_id: Mapped[str] = mapped_column(String(250), primary_key=True)
    id: Mapped[str] = mapped_column(String(50), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(250))
    valid: Mapped[bool]
    session: Mapped[str | None] = mapped_column(Text)
    """The session that it is about, if it is about more than its trace."""
    text: Mapped[str] = mapped_column(Text)
    number: Mapped[float | None] = mapped_column(Double)
    content: Mapped[str] = mapped_column(Text)


class LinkRow(Base):
    """A trace belongs to a run, or used a version of a prompt."""

    __tablename__ = "mlflow_trace_links"
    __table_args__ = (
        _of_trace(__tablename__),
        Index("ix_mlflow_trace_links_target", "project_id", "kind", "target"),
    )

    project_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    trace_id: Mapped[str] = mapped_column(String(250), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    target: Mapped[str] = mapped_column(String(300), primary_key=True)
