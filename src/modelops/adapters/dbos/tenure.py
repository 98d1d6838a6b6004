"""An executor's lease: while it surely holds, its stories are its own; when it ran out, they are whoever's took them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from modelops.adapters.dbos.store import LIMITS, translated
from modelops.contracts.clock import Clock
from modelops.kernel import leases
from modelops.kernel.database import Database
from modelops.kernel.leases import Lease
from modelops.kernel.tables import LeaseRow

_PREFIX = "executor:"
_SURE = 0.9
"""Of its time a lease counts as held: the rest is for what was begun just before."""
_KEEP = timedelta(days=1)


class Tenure:
    """Holds one executor's lease, and takes those of others that ran out. Used by one thread, but for `sure`."""

    def __init__(self, database: Database, clock: Clock, executor: str, holder: str, ttl_s: float) -> None:
        self._database = database
        self._clock = clock
        self._name = _PREFIX + executor
        self._holder = holder
        self.ttl_s = ttl_s
        self._lease: Lease | None = None
        self._until = (0.0, clock.now())

    def sure(self) -> bool:
        """Tell whether nobody else can hold it. A process that was stopped for long, or a clock that jumped, is not sure."""
        monotonic, wall = self._until
        return self._lease is not None and self._clock.monotonic() < monotonic and self._clock.now() < wall

    @contextmanager
    def _work(self) -> Iterator[Session]:
        with translated(), self._database.work() as session:
            if not self._database.is_sqlite:
                for limit, value in LIMITS.items():
                    session.execute(text(f"SET LOCAL {limit} = '{value}'"))
            yield session

    @property
    def due(self) -> bool:
        """Tell whether a third of its time has passed."""
        return not self.sure() or self._clock.monotonic() > self._until[0] - self.ttl_s * (_SURE - 1 / 3)

    def renew(self) -> bool:
        """Take or renew it. Returns False where it was not held all the time since it was taken first.

        Whoever took it meanwhile has it until he gives it back: then nothing is held, and `sure` stays false.
        """
        before, unbroken = self._lease, self._lease is None or self.sure()
        monotonic, wall = self._clock.monotonic(), self._clock.now()
        with self._work() as session:
            if before is not None:
                kept = session.execute(
                    select(LeaseRow.token).where(LeaseRow.name == self._name, LeaseRow.holder == self._holder)
                ).scalar_one_or_none()
                unbroken = unbroken and kept == before.token
            lease = leases.acquire(session, self._clock, self._name, self._holder, self.ttl_s)
        held = timedelta(seconds=self.ttl_s * _SURE)
        self._until = (monotonic + held.total_seconds(), wall + held)
        self._lease = lease
        return unbroken and lease is not None

    def take(self, executor: str) -> Lease | None:
        """Take the lease of another executor, if it ran out, so that no third does and he himself notices."""
        name = _PREFIX + executor
        with translated(), self._database.work(write=False) as session:
            until = session.execute(select(LeaseRow.expires_at).where(LeaseRow.name == name)).scalar_one_or_none()
        if until is not None and until > self._clock.now():
            return None
        with self._work() as session:
            return leases.acquire(session, self._clock, name, self._holder, self.ttl_s)

    def give_back(self, lease: Lease | None = None) -> None:
        """Remove a lease, by default the own one, and those that ran out long ago with nothing left to take over.

        Removed, not ended: its end by a clock that is ahead would bar its owner until his clock is there.
        """
        mine = lease or self._lease
        if lease is None:
            self._lease = None
        with self._work() as session:
            if mine is not None:
                session.execute(delete(LeaseRow).where(LeaseRow.name == mine.name, LeaseRow.token == mine.token))
            old = self._clock.now() - _KEEP
            session.execute(delete(LeaseRow).where(LeaseRow.name.startswith(_PREFIX), LeaseRow.expires_at < old))
