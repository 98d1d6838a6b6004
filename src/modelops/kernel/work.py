"""The workplace: what is needed to open a unit of work, wherever the edge is."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from modelops.contracts.clock import Clock
from modelops.contracts.errors import InvalidInput, MLOpsError, StorageFull, Unavailable
from modelops.contracts.settings import Settings
from modelops.kernel.context import SYSTEM, Actor, Context
from modelops.kernel.database import Database


@dataclass
class Workplace:
    """Database, ports, clock and settings of one process. Thread-safe."""

    database: Database
    ports: Mapping[type, Any]
    clock: Clock
    settings: Settings
    changed: threading.Event = field(default_factory=threading.Event)
    """Set when a unit of work that emitted events has committed: reconcilers and the dispatcher look at once."""

    @contextmanager
    def work(
        self,
        actor: Actor = SYSTEM,
        *,
        write: bool = True,
        request_id: str | None = None,
        if_match: str | None = None,
    ) -> Iterator[Context]:
        """Open a unit of work, committed when the block ends and rolled back when it raises.

        Raises:
            Unavailable: the database does not answer or is locked.
            StorageFull: its disk is full.
        """
        try:
            with self.database.work(write=write) as session:
                ctx = Context(session, actor, self.ports, self.clock, self.settings, request_id, if_match)
                yield ctx
        except (DBAPIError, PoolTimeout) as wrong:
            raise translate(wrong) from wrong
        if ctx.emitted:
            self.changed.set()


def translate(wrong: DBAPIError | PoolTimeout) -> MLOpsError | DBAPIError:
    """Return a database's failure as the error that tells the user what to do; others as they are."""
    text = str(getattr(wrong, "orig", wrong)).lower()
    if "disk is full" in text or "no space left" in text or "disk full" in text:
        return StorageFull("The disk of the database is full; nothing was changed.")
    if isinstance(wrong, PoolTimeout) or "locked" in text or "busy" in text:
        return Unavailable("The database is busy.")
    if isinstance(wrong, OperationalError):
        return Unavailable(f"The database does not answer ({text.strip().splitlines()[0][:200]}).")
    if ("nul" in text and ("0x00" in text or "characters" in text)) or "out of range" in text or "too large" in text:
        return InvalidInput("A value cannot be stored: a text with a NUL character, or a number out of range.")
    return wrong


@dataclass
class Watching:
    """Since when this process's controller has watched; None while it does not run.

    Silence before that says nothing: nobody could have been heard.
    """

    since: datetime | None = None


class PlatformUrl:
    """The address under which jobs and runtimes reach the platform, known once it listens.

    A process that does not listen yet may give `listen`, which is called at the first need.
    """

    def __init__(self, fixed: str | None = None) -> None:
        self._url = fixed
        self.listen: Callable[[], str] | None = None

    def get(self) -> str:
        """Return the address.

        Raises:
            Unavailable: this process does not listen.
        """
        if self._url is None and self.listen is not None:
            self._url = self.listen()
        if self._url is None:
            raise Unavailable("The platform does not listen on an address that jobs and runtimes could reach.")
        return self._url

    def set(self, url: str) -> None:
        """Name the address, unless a fixed one was configured."""
        self._url = self._url or url
