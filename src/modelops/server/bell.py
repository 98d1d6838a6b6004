"""Waking other processes: what one of them changed is called out through PostgreSQL, so that none has to look often.

It is only a hint that makes things quick. A call that is lost costs the time until the next look.
"""

import logging
import os
import secrets
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from modelops.kernel.database import Database

log = logging.getLogger(__name__)

_CHANNEL = "modelops_changed"
_REST_S = 0.03
"""Between two calls: in a rush of changes one call stands for all that gather meanwhile."""
_AGAIN_S = 2.0
_LOOK_S = 1.0


class Bell:
    """Calls out, and hears others. Close it.

    Args:
        heard: Called when another process called out; none where nobody waits here.
    """

    def __init__(self, database: Database, heard: Callable[[], None] | None = None) -> None:
        self._database = database
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._rung = threading.Event()
        self._closed = threading.Event()
        loops: list[Callable[[], None]] = [self._call_out]
        if heard is not None:
            loops.append(partial(self._listen, heard))
        self._threads = [threading.Thread(target=loop, name="bell", daemon=True) for loop in loops]
        for thread in self._threads:
            thread.start()

    def ring(self) -> None:
        """Tell other processes that something changed; returns at once."""
        self._rung.set()

    def close(self) -> None:
        """Stop calling and hearing."""
        self._closed.set()
        self._rung.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def _call_out(self) -> None:
        connection = None
        while not self._closed.is_set():
            self._rung.wait()
            self._rung.clear()
            try:
                connection = connection or connect(self._database)
                connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, self._name))
            except psycopg.Error as wrong:
                log.debug("nobody was woken: %s", wrong)
                _close(connection)
                connection = None
            self._closed.wait(_REST_S)
        _close(connection)

    def _listen(self, heard: Callable[[], None]) -> None:
        while not self._closed.is_set():
            connection = None
            try:
                connection = connect(self._database)
                connection.execute(f"LISTEN {_CHANNEL}")
                self._hear(connection, heard)
            except psycopg.Error as wrong:
                log.debug("others are not heard: %s", wrong)
                self._closed.wait(_AGAIN_S)
            finally:
                _close(connection)

    def _hear(self, connection: psycopg.Connection[Any], heard: Callable[[], None]) -> None:
        while not self._closed.is_set():
            for note in connection.notifies(timeout=_LOOK_S):
                if note.payload != self._name:
                    heard()
                if self._closed.is_set():
                    return


def connect(database: Database) -> psycopg.Connection[Any]:
    """Return a connection of its own to a PostgreSQL database, without transactions."""
    given, named = database.engine.dialect.create_connect_args(database.url)
    return psycopg.connect(*given, **{**named, "autocommit": True, "connect_timeout": 5})


def _close(connection: psycopg.Connection[Any] | None) -> None:
    if connection is not None:
        connection.close()
