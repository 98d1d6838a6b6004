"""Rows of data."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, InProject, JsonColumn, Moment, Revised, Tracked


class ArtifactRow(Base):
    """That a project holds a blob: the right to read it. The blob itself lies in the blob store once."""

    __tablename__ = "artifacts"
    __table_args__ = (Index("ix_artifacts_digest", "digest"),)

    project_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(Moment)
    created_by: Mapped[str] = mapped_column(String(100))


class UnheldBlobRow(Base):
    """A blob that nothing refers to, and since when that was seen."""

    __tablename__ = "unheld_blobs"

    digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    stored_size: Mapped[int] = mapped_column(BigInteger)
    since: Mapped[datetime] = mapped_column(Moment, index=True)


class GarbageWalkRow(Base):
    """The last walk over the store, the only row of its kind: behind which digest it is, and whether it has ended."""

    __tablename__ = "garbage_walks"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    after: Mapped[str | None] = mapped_column(String(80))
    begun_at: Mapped[datetime] = mapped_column(Moment)
    ended: Mapped[bool]


class UploadRow(Tracked, InProject, Base):
    """A file that is sent in parts. `artifact` is set once they were put together."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_sought", "project_id", "digest", "created_by"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    digest: Mapped[str] = mapped_column(String(80))
    size: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(200))
    part_size: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(20))
    heard_at: Mapped[datetime] = mapped_column(Moment, index=True)


class UploadPartRow(Base):
    """A part that has arrived: a blob of `salt`, which makes it the only one of its digest, and the part's bytes."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    blob: Mapped[str] = mapped_column(String(80), index=True)
    digest: Mapped[str] = mapped_column(String(80))
    size: Mapped[int] = mapped_column(BigInteger)


class DatasetRow(Tracked, Revised, InProject, Base):
    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    tags: Mapped[dict[str, str]] = mapped_column(JsonColumn)
    latest_version: Mapped[int | None]


class DatasetVersionRow(Tracked, InProject, Base):
    __tablename__ = "dataset_versions"
    __table_args__ = (UniqueConstraint("dataset_id", "version"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    version: Mapped[int]
    format: Mapped[str] = mapped_column(String(20))
    digest: Mapped[str] = mapped_column(String(80))
    table_digest: Mapped[str] = mapped_column(String(80))
    rows: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)
    columns: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)
    profile: Mapped[list[dict[str, Any]]] = mapped_column(JsonColumn)
    parents: Mapped[list[str]] = mapped_column(JsonColumn)
