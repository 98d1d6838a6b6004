"""A whole platform for tests: real database, real artifact store, real application, on a temporary home."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal
from sqlalchemy import text

from modelops.contracts.clock import Clock
from modelops.contracts.rest import Rest
from modelops.contracts.settings import load_settings
from modelops.kernel.database import Base, Database, sqlite_url
from modelops.kernel.manifest import discover
from modelops.sdk.client import Client
from modelops.sdk.connection import headers
from modelops.server.embedded import EmbeddedTransport
from modelops.server.migrate import head, is_newest
from modelops.server.platform import Platform, open_platform


class PlatformUnderTest:
    """An open platform, and clients of it as anybody.

    `controller.turn()` does one round of every reconciler in the calling thread; no background thread runs.
    """

    def __init__(self, platform: Platform, portal: Any, admin_key: str) -> None:
        self.platform = platform
        self.place = platform.place
        self.app = platform.app
        self.controller = platform.controller
        self.admin_key = admin_key
        self._portal = portal
        self._clients: list[Client] = []

    def http(self, **sent: str) -> httpx.Client:
        """Return a raw HTTP client into the application, which sends these headers (`x_actor` -> `X-Actor`)."""
        import contextlib

        transport = EmbeddedTransport(self.app, self._portal, contextlib.ExitStack())
        names = {name.replace("_", "-"): value for name, value in sent.items()}
        return httpx.Client(transport=transport, base_url="http://test", headers=names, timeout=60)

    def client(self, token: str | None = None, *, project: str | None = None, **sent: str) -> Client:
        """Return an SDK client as the owner of a token; by default, the administrator."""
        http = self.http(**sent)
        http.headers.update(headers(token or (None if sent else self.admin_key), project))
        client = Client.over(Rest(http, retry_for_s=0), self.platform.settings)
        self._clients.append(client)
        return client

    def member(self, role: str, *, name: str | None = None, project: str = "default") -> Client:
        """Return a client as a new service account with a role in a project."""
        from uuid import uuid4

        admin = self.client(project=project)
        account = admin.identity.create_service_account(name or f"{role}-{uuid4().hex[:8]}", role=role)
        return self.client(admin.identity.create_api_key("test", principal=account.id).secret, project=project)

    def stranger(self, role: str = "project_admin") -> Client:
        """Return a client as a member of another tenant, in a project of its own."""
        from uuid import uuid4

        name = f"tenant-{uuid4().hex[:8]}"
        self.client().identity.create_tenant(name)
        inside = self.client(project=f"{name}/default")
        account = inside.identity.create_service_account(f"stranger-{uuid4().hex[:8]}", role=role)
        return self.client(inside.identity.create_api_key("test", principal=account.id).secret)

    def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            client.close()


@contextmanager
def running_platform(home: Path, *, clock: Clock | None = None, **settings: Any) -> Iterator[PlatformUnderTest]:
    """Open a platform for a test, its tables made from the rows as they are in the code."""
    chosen = load_settings(home=home, revocation_delay_s=0, **settings)
    home.mkdir(parents=True, exist_ok=True)
    if chosen.database is not None:
        create_tables(chosen.database.get_secret_value())
    elif not (file := home / "modelops.db").exists():
        file.write_bytes(_sqlite_with_tables())
    platform = open_platform(chosen, clock=clock)
    with start_blocking_portal() as portal:
        under_test = PlatformUnderTest(platform, portal, platform.first_key or "")
        try:
            yield under_test
        finally:
            under_test.close()
            platform.close()


def create_tables(url: str) -> None:
    """Make the tables in an empty database; one that has them is left alone."""
    discover()
    database = Database(url)
    try:
        with database._writer.begin() as connection:
            if is_newest(connection):
                return
            Base.metadata.create_all(connection)
            connection.execute(text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL)"))
            connection.execute(text("DELETE FROM alembic_version"))
            if (newest := head()) is not None:
                connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": newest})
    finally:
        database.close()


@cache
def _sqlite_with_tables() -> bytes:
    """Return the file of a database that holds the tables and nothing else: to copy it takes less than to make it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "modelops.db"
        create_tables(str(sqlite_url(file).render_as_string(hide_password=False)))
        return file.read_bytes()
