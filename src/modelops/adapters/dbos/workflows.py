"""The port `Workflows` on DBOS."""

import logging
import os
import secrets
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from modelops.adapters.dbos import values
from modelops.adapters.dbos.executor import Executor
from modelops.adapters.dbos.store import Claimed, Memory, Place, Store
from modelops.adapters.dbos.tenure import Tenure
from modelops.contracts.clock import Clock
from modelops.contracts.errors import NotFound, Unavailable
from modelops.contracts.schemas import Json
from modelops.kernel.database import Database
from modelops.kernel.workflows import Told, Workflow

log = logging.getLogger(__name__)

_SOON_S = 2.0
"""How often a process that has not opened the stories yet looks whether there are any."""
_POSTGRES_THREADS = 4


class DbosWorkflows:
    """Stories in DBOS's tables, beside the platform's own.

    Nothing of DBOS is loaded before there is a story. `holder` names this process among the leases' holders.
    """

    def __init__(
        self, database: Database, home: Path, clock: Clock, *, holder: str, lease_ttl_s: float, keep_s: float
    ) -> None:
        self._place = Place(database, home)
        self._database = database
        self._clock = clock
        self._holder = holder
        self._ttl = lease_ttl_s
        self._keep = keep_s
        self._lock = threading.RLock()
        self._workflows: Mapping[str, Workflow] | None = None
        self._store: Store | None = None
        self._executor: Executor | None = None
        self._closed = threading.Event()
        self._waiting: threading.Thread | None = None

    def launch(self, workflows: Mapping[str, Workflow]) -> None:
        """Begin to execute: this process's stories, and those of executors whose lease has run out."""
        with self._lock:
            if self._workflows is not None:
                return
            self._workflows = dict(workflows)
            self._closed.clear()
            self._waiting = threading.Thread(target=self._await_stories, name="workflows-await", daemon=True)
            self._waiting.start()

    def start(self, workflow: str, story: str, argument: Json = None) -> None:
        """Begin the story with this id; one that was begun before is left as it is."""
        known = self._workflows
        if known is not None and workflow not in known:
            raise NotFound(f"No workflow is named '{workflow}'.", hint=f"There are: {', '.join(known)}.")
        text = values.encode_argument(argument, f"The argument of story '{story}'")
        executor = self._executing()
        if not executor.sure():
            raise Unavailable("This process lost the lease of its workflows, and waits to get it back.")
        owner = executor.store.begin(story, workflow, text)
        if owner is not None:
            executor.begin(Claimed(story, workflow, owner), Memory(values.decode_argument(text), {}))

    def tell(self, story: str) -> Told | None:
        """Return what is known of a story, or None where there is none."""
        store = self._open()
        return None if store is None else store.tell(story)

    def cancel(self, story: str) -> None:
        """End a story before its next step; one that has ended, or is not there, is left as it is."""
        store = self._open()
        if store is not None:
            store.cancel(story)
        if self._executor is not None:
            self._executor.leave(story)

    def close(self) -> None:
        """Stop executing and release the engine; stories under way go on at the next launch, or elsewhere."""
        self._closed.set()
        if self._waiting is not None:
            self._waiting.join()
        with self._lock:
            executor, store = self._executor, self._store
            self._executor = self._store = self._workflows = self._waiting = None
        if executor is not None:  # without the lock: a step that ends may want to ask for something
            executor.close()
        if store is not None:
            store.close()

    def _await_stories(self) -> None:
        """Execute as soon as there are stories, which another process may have left or begun."""
        while not self._closed.is_set():
            try:
                if self._executor is None and self._place.exists():
                    self._executing()
            except Exception as wrong:
                log.warning("workflows wait for the database: %s", wrong)
            if self._executor is not None:
                return
            self._closed.wait(_SOON_S)

    def _executing(self) -> Executor:
        with self._lock:
            if self._workflows is None:
                raise Unavailable(
                    "This process executes no workflows.",
                    hint="Whoever runs the platform's controller executes them.",
                )
            if self._executor is None:
                store = self._store = self._store or self._place.open(_executor_id())
                tenure = Tenure(self._database, self._clock, store.executor, self._holder, self._ttl)
                tenure.renew()
                threads = 1 if self._database.is_sqlite else _POSTGRES_THREADS
                executor = Executor(store, tenure, self._clock, self._workflows, self._keep, threads)
                executor.open()
                self._executor = executor
            return self._executor

    def _open(self) -> Store | None:
        with self._lock:
            if self._store is None and self._place.exists():
                self._store = self._place.open(_executor_id())
            return self._store


def _executor_id() -> str:
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{secrets.token_hex(4)}"
