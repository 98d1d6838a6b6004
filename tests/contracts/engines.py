"""Engines of workflows for tests, each with a platform's database of its own, as a process has."""

import uuid
from datetime import timedelta
from pathlib import Path

from modelops.adapters.dbos.workflows import DbosWorkflows
from modelops.contracts.clock import SystemClock
from modelops.kernel.database import Database
from modelops.kernel.tables import LeaseRow

LEASE_S = 2.0


class Opened(DbosWorkflows):
    """An engine with a platform's database of its own, as a process has."""

    def __init__(self, url, home, clock=None, keep_s=86_400, lease_s=LEASE_S):
        self.clock = clock or SystemClock()
        self.database = Database(url)
        LeaseRow.metadata.create_all(self.database._writer, [LeaseRow.__table__])
        super().__init__(
            self.database,
            Path(home),
            self.clock,
            holder=f"test:{uuid.uuid4()}",
            lease_ttl_s=lease_s,
            keep_s=keep_s,
        )

    def close(self):
        super().close()
        self.database.close()


class JumpingClock(SystemClock):
    """A machine's clock that is wrong by as many seconds as a file says."""

    def __init__(self, file):
        self.file = Path(file)

    def now(self):
        return super().now() + timedelta(seconds=float(self.file.read_text()))


def open_engine(url, home):
    return Opened(url, home)


def open_jumping(url, home, file):
    return Opened(url, home, JumpingClock(file))


def open_patient(url, home):
    return Opened(url, home, lease_s=600)
