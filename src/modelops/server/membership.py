"""Who may run on a database: either one platform in one process tree, or processes of several kinds in any number."""

import time
from typing import Any

import psycopg

from modelops.contracts.errors import Conflict, Unavailable
from modelops.kernel.database import Database
from modelops.server.bell import connect

_KEY = 0x6D6F7074
_PATIENCE_S = 5.0
"""How long whoever was killed just now may seem to be there still."""
_KEEP_ALIVE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
"""Settings of the connection, in seconds: a machine that vanished holds nothing for long."""


class Membership:
    """A lock on a PostgreSQL database that ends with this process: shared by those of a cluster, or held alone.

    It guards the start; a server that was restarted has forgotten it. On SQLite there is nothing to hold: the home folder's lock
    does that.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: psycopg.Connection[Any] | None = None

    def try_join(self, *, alone: bool) -> bool:
        """Take the lock if it can be had.

        Raises:
            Unavailable: the database does not answer.
        """
        if self._database.is_sqlite:
            return True
        how = "pg_try_advisory_lock" if alone else "pg_try_advisory_lock_shared"
        try:
            connection = connect(self._database)
            for name, value in _KEEP_ALIVE.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, str(value)))
            row = connection.execute(f"SELECT {how}(%s)", (_KEY,)).fetchone()
        except psycopg.Error as wrong:
            raise Unavailable(f"The database does not answer ({str(wrong).strip().splitlines()[0][:200]}).") from wrong
        if row is None or not row[0]:
            connection.close()
            return False
        self._connection = connection
        return True

    def join(self, *, alone: bool) -> None:
        """Take the lock.

        Raises:
            Conflict: processes of the other way run on this database.
            Unavailable: the database does not answer.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while not (joined := self.try_join(alone=alone)) and time.monotonic() < deadline:
            time.sleep(0.2)
        if joined:
            return
        if alone:
            raise Conflict(
                "Other processes of a platform run on this database.",
                hint="Run one more of them: `mops server api`, `controller` or `agent`; or end them all before `mops up`.",
            )
        raise Conflict(
            "A `mops up` runs on this database, with everything in it.",
            hint="End it with `mops down` before you start single processes.",
        )

    def leave(self) -> None:
        """Give the lock back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
