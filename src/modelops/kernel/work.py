"""The workplace: what is needed to open a unit of work, wherever the edge is."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelops.contracts.clock import Clock
from modelops.contracts.errors import Unavailable
from modelops.contracts.settings import Settings
from modelops.kernel.context import SYSTEM, Actor, Context
from modelops.kernel.database import Database
from modelops.kernel.failures import DATABASE_ERRORS, translate
from modelops.kernel.writer import Writer


@dataclass
class Workplace:
    """Database, ports, clock and settings of one process. Thread-safe."""

    database: Database
    ports: Mapping[type, Any]
    clock: Clock
    settings: Settings
    changed: threading.Event = field(default_factory=threading.Event)
    """Set when a unit of work that emitted events has committed: reconcilers and the dispatcher look at once."""
    writer: Writer = field(init=False)
    """Writes what is logged. Its thread begins with the first write; whoever opens the workplace closes it."""
    heralds: list[Callable[[], None]] = field(default_factory=list)
    """Called when this process changed something that other processes may wait for."""

    def __post_init__(self) -> None:
        self.writer = Writer(self.database)

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
        except DATABASE_ERRORS as wrong:
            raise translate(wrong) from wrong
        if ctx.emitted:
            self.wake()

    def wake(self) -> None:
        """Have reconcilers look at once, here and in other processes."""
        self.changed.set()
        for herald in self.heralds:
            herald()


@dataclass(frozen=True)
class JobRoom:
    """How many training jobs may run at once, where that is more than a setting: it depends on the machines at hand."""

    of: Callable[[Context], int]


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
