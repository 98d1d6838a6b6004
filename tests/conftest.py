"""Fixtures of the whole suite: a platform on SQLite and on PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from modelops.testing.platform import PlatformUnderTest, running_platform


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of this session's own, without durability. In CI it must be there."""
    binaries = _postgres_binaries()
    if binaries is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed; CI installs it (package postgresql).")
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="modelops-postgres-"))
    user = _server_user(folder)
    data = folder / "data"
    _run(user, binaries / "initdb", "-D", data, "-U", "modelops", "-A", "trust", "--no-sync", "-E", "UTF8")
    options = f"-c fsync=off -c listen_addresses='' -c unix_socket_directories={folder} -c max_connections=200"
    _run(user, binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://modelops@/{{name}}?host={folder}"
    finally:
        _run(user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def postgres_database(postgres: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    name = f"test_{uuid.uuid4().hex}"
    server = postgres.format(name="postgres").replace("+psycopg", "")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield postgres.format(name=name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgres"])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlatformUnderTest]:
    """A platform on each database."""
    settings = {}
    if request.param == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    with running_platform(tmp_path / "home", **settings) as under_test:
        yield under_test


@pytest.fixture
def sqlite_platform(tmp_path: Path) -> Iterator[PlatformUnderTest]:
    """A platform on SQLite, for tests to which the database does not matter."""
    with running_platform(tmp_path / "home") as under_test:
        yield under_test


def _postgres_binaries() -> Path | None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def _server_user(folder: Path) -> list[str]:
    """Return the prefix that runs a command as a user PostgreSQL accepts: it refuses root."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _run(user: list[str], *command: object) -> None:
    done = subprocess.run([*user, *map(str, command)], capture_output=True, text=True, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")
