"""Rows of what was read from a cluster: it is kept here so that every process of the platform shows the same."""

from datetime import datetime

from sqlalchemy import BigInteger, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from modelops.kernel.database import Base, Moment, sparse_index


class ClusterOutputRow(Base):
    """How far the output under a name was read: of which pod, the time of the last line, how many lines had that time, and the
    bytes kept. `attempt` is the job's attempt whose output it is, written before its pod is told to begin."""

    __tablename__ = "cluster_outputs"
    __table_args__ = (sparse_index("cluster_outputs", "attempt"),)

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    attempt: Mapped[str | None] = mapped_column(String(200))
    pod: Mapped[str] = mapped_column(String(255))
    last: Mapped[str] = mapped_column(String(40))
    same: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    kept_at: Mapped[datetime] = mapped_column(Moment)


class ClusterOutputPieceRow(Base):
    """A piece of output, compressed by zlib: `size` bytes from `start` on."""

    __tablename__ = "cluster_output_pieces"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)
