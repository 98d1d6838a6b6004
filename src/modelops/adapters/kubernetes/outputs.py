"""Output that was read from a cluster, kept in the platform's database: whichever process is asked shows the same."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from modelops.adapters.kubernetes.tables import ClusterOutputPieceRow, ClusterOutputRow
from modelops.contracts.clock import Clock
from modelops.kernel.database import Database
from modelops.kernel.failures import DATABASE_ERRORS, translate

PIECE_BYTES = 64 * 1024
"""A last piece that is smaller is written anew with what follows: a job that says little has few pieces."""


@dataclass(frozen=True)
class Mark:
    """How far the output was read: the time of the last line, how many lines had that time, and the bytes kept."""

    pod: str = ""
    last: str = ""
    same: int = 0
    size: int = 0


class Outputs:
    """The output kept under names. Thread-safe; any number of processes may add to the same.

    Every method raises Unavailable where the database does not answer.

    Args:
        database: Where it is kept; it stays open.
        clock: The time.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def mark(self, name: str) -> Mark | None:
        """Return how far the output under a name was read; None where nothing is known of it."""
        with self._work(write=False) as session:
            row = session.get(ClusterOutputRow, name)
            return None if row is None else Mark(row.pod, row.last, row.same, row.size)

    def begin(self, name: str, attempt: str) -> None:
        """Note that the attempt is about to run, unless it was noted before."""
        try:
            with self._work() as session:
                session.add(self._row(name, Mark(), attempt))
        except IntegrityError:
            pass

    def attempts(self) -> list[str]:
        """Return the attempts that have begun and were not removed."""
        with self._work(write=False) as session:
            return list(session.scalars(select(ClusterOutputRow.attempt).where(ClusterOutputRow.attempt.is_not(None))))

    def add(self, name: str, before: Mark | None, after: Mark, data: bytes) -> bool:
        """Keep what follows, unless another has gone on from `before` meanwhile: then return False."""
        try:
            with self._work() as session:
                if not self._move(session, name, before, after):
                    return False
                if data:
                    _append(session, name, before.size if before else 0, data)
                return True
        except IntegrityError:
            return False

    def read(self, name: str, offset: int, limit: int) -> bytes:
        """Return a piece of what is kept."""
        row, start = ClusterOutputPieceRow, max(0, offset)
        stop = start + max(0, limit)
        within = select(row.start, row.data).where(row.name == name, row.start < stop, row.start + row.size > start)
        with self._work(write=False) as session:
            found = session.execute(within.order_by(row.start)).all()
        data = b"".join(zlib.decompress(piece) for _, piece in found)
        return data[start - found[0].start :][: stop - start] if found else b""

    def remove(self, name: str) -> None:
        """Delete what is kept."""
        with self._work() as session:
            for row in (ClusterOutputPieceRow, ClusterOutputRow):
                session.execute(delete(row).where(row.name == name))

    def _move(self, session: Session, name: str, before: Mark | None, after: Mark) -> bool:
        """Write how far was read, if nobody did meanwhile."""
        if before is None:
            session.add(self._row(name, after))
            session.flush()
            return True
        row = ClusterOutputRow
        still = (row.pod == before.pod, row.last == before.last, row.same == before.same, row.size == before.size)
        change = update(row).where(row.name == name, *still).values(**asdict(after), kept_at=self._clock.now())
        return bool(session.execute(change).rowcount)  # type: ignore[attr-defined]

    def _row(self, name: str, mark: Mark, attempt: str | None = None) -> ClusterOutputRow:
        return ClusterOutputRow(name=name, attempt=attempt, kept_at=self._clock.now(), **asdict(mark))

    @contextmanager
    def _work(self, *, write: bool = True) -> Iterator[Session]:
        try:
            with self._database.work(write=write) as session:
                yield session
        except IntegrityError:
            raise
        except DATABASE_ERRORS as wrong:
            raise translate(wrong) from wrong


def _append(session: Session, name: str, at: int, data: bytes) -> None:
    """Add a piece, or lengthen the last one while that is small."""
    row = ClusterOutputPieceRow
    small = select(row).where(row.name == name, row.start + row.size == at, row.size < PIECE_BYTES)
    last = session.scalars(small).first()
    if last is None:
        session.add(row(name=name, start=at, size=len(data), data=zlib.compress(data)))
        return
    whole = zlib.decompress(last.data) + data
    last.size, last.data = len(whole), zlib.compress(whole)
