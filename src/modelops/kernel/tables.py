"""The spine's own rows: events and their receipts, leases, idempotency keys and the audit trail."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, BigId, JsonColumn, Moment, sparse_index


class EventRow(Base):
    """An event. `actor` is who caused it. `position` is given by the dispatcher when it first sees the event committed, so
    that positions grow in an order in which every reader sees them; the stream and its `Last-Event-ID` speak of it."""

    __tablename__ = "outbox_events"
    __table_args__ = (
        Index(
            "ix_outbox_events_waiting",
            "number",
            sqlite_where=text("done_at IS NULL"),
            postgresql_where=text("done_at IS NULL"),
        ),
        sparse_index("outbox_events", "position", unique=True),
        sparse_index("outbox_events", "project_id", "position"),
        sparse_index("outbox_events", "done_at"),
    )

    number: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40))
    type: Mapped[str] = mapped_column(String(120))
    source: Mapped[str] = mapped_column(String(120))
    subject: Mapped[str] = mapped_column(String(300))
    time: Mapped[datetime] = mapped_column(Moment)
    tenant_id: Mapped[str | None] = mapped_column(String(40))
    project_id: Mapped[str | None] = mapped_column(String(40))
    actor: Mapped[str | None] = mapped_column(String(100))
    data: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    position: Mapped[int | None] = mapped_column(BigInteger)
    done_at: Mapped[datetime | None] = mapped_column(Moment)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(Moment)
    failure: Mapped[str | None] = mapped_column(Text)


class ReceiptRow(Base):
    """That a handler has dealt with an event, written in the handler's own transaction."""

    __tablename__ = "outbox_receipts"

    event_number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    handler: Mapped[str] = mapped_column(String(200), primary_key=True)


class LeaseRow(Base):
    """Who may act on what until when. `token` grows with each change of holder: it fences the one before."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    holder: Mapped[str] = mapped_column(String(200))
    token: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(Moment)


class IdempotencyRow(Base):
    """The answer to a create, kept under the caller's key so that a repeat gets the same one."""

    __tablename__ = "idempotency_records"

    actor: Mapped[str] = mapped_column(String(100), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(80))
    status: Mapped[int] = mapped_column(Integer)
    body: Mapped[str | None] = mapped_column(Text)
    etag: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(Moment, index=True)


class AuditRow(Base):
    """One operation that changed something, or was denied."""

    __tablename__ = "audit_records"
    __table_args__ = (Index("ix_audit_records_project", "project_id", "id"), {"sqlite_with_rowid": False})

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    time: Mapped[datetime] = mapped_column(Moment)
    tenant_id: Mapped[str | None] = mapped_column(String(40))
    project_id: Mapped[str | None] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(String(100))
    operation: Mapped[str] = mapped_column(String(100))
    resource: Mapped[str] = mapped_column(String(500))
    outcome: Mapped[str] = mapped_column(String(60))
    request_id: Mapped[str | None] = mapped_column(String(100))
