"""Engines of workflows for tests, each with a platform's database of its own, as a process has."""

import uuid
from pathlib import Path

from modelops.adapters.dbos.workflows import DbosWorkflows
from modelops.contracts.clock import SystemClock
from modelops.kernel.database import Database
from modelops.kernel.tables import LeaseRow

LEASE_S = 2.0


class Opened(DbosWorkflows):
    """An engine with a platform's database of its own, as a process has."""

    def __init__(self, url, home, clock=None, keep_s=86_400):
        self.database = Database(url)
        LeaseRow.metadata.create_all(self.database._writer, [LeaseRow.__table__])
        super().__init__(
            self.database,
            Path(home),
            clock or SystemClock(),
            holder=f"test:{uuid.uuid4()}",
            lease_ttl_s=LEASE_S,
            keep_s=keep_s,
        )

    def close(self):
        super().close()
        self.database.close()


def open_engine(url, home):
    return Opened(url, home)
