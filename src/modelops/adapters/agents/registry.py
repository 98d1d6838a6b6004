"""Which agents there are, and whether they are heard of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from modelops.adapters.agents.tables import AgentRow
from modelops.contracts.clock import Clock
from modelops.kernel.context import Context
from modelops.kernel.database import Database
from modelops.kernel.failures import DATABASE_ERRORS, translate


class Registry:
    """Looks at agents' rows, and tells silence from not having listened. Thread-safe.

    Args:
        timeout_s: An agent not heard of for so long is gone, and its jobs with it.
    """

    def __init__(self, database: Database, clock: Clock, timeout_s: float) -> None:
        self._database = database
        self._clock = clock
        self.timeout_s = timeout_s
        self._listening_since: float | None = None
        self._looked_at = 0.0

    @contextmanager
    def work(self, *, write: bool = True) -> Iterator[Session]:
        """Open a unit of work.

        Raises:
            Unavailable: the database does not answer.
        """
        try:
            with self._database.work(write=write) as session:
                yield session
        except DATABASE_ERRORS as wrong:
            self._listening_since = None
            raise translate(wrong) from wrong
        now = self._clock.monotonic()
        if self._listening_since is None or now - self._looked_at > self.timeout_s / 2:
            self._listening_since = now
        self._looked_at = now

    def is_gone(self, agent: AgentRow | None) -> bool:
        """Tell whether an agent was silent for too long, while it could have been heard all the time: an agent that cannot
        reach the database is not taken for gone by one that could not either."""
        since = self._listening_since
        if since is None or self._clock.monotonic() - since < self.timeout_s:
            return False
        return agent is None or agent.heard_at < self._clock.now() - timedelta(seconds=self.timeout_s)


def free_room(timeout_s: float) -> Callable[[Context], int]:
    """Return what tells how many jobs may run at once: as many as the agents that are heard of have slots."""

    def room(ctx: Context) -> int:
        heard = AgentRow.heard_at > ctx.clock.now() - timedelta(seconds=timeout_s)
        query = select(func.sum(AgentRow.slots)).where(heard, AgentRow.draining.is_(False))
        return ctx.session.scalar(query) or 0

    return room
