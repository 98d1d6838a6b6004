"""Databases to measure on: a file of SQLite's, and a server of PostgreSQL's that keeps what it acknowledged."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environments import PeerMissing


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server of this block's own; yields the URL of its databases, with `{name}` for the name of one that exists.

    Raises:
        PeerMissing: PostgreSQL is not installed here.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    if not installed:
        raise PeerMissing("PostgreSQL is not installed (Debian package postgresql)")
    binaries = installed[-1]
    folder = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
    user: list[str] = []
    if os.geteuid() == 0:  # which PostgreSQL refuses
        shutil.chown(folder, "postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = str(folder / "data")

    def run(*command: str) -> None:
        subprocess.run([*user, *command], check=True, capture_output=True, cwd="/")

    run(str(binaries / "initdb"), "-D", data, "-U", "modelops", "-A", "trust", "-E", "UTF8")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c max_connections=100"
    run(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://modelops@/{{name}}?host={folder}"
    finally:
        run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def make(server: str, name: str) -> str:
    """Make a database of a server, and return its URL."""
    import psycopg

    with psycopg.connect(server.format(name="postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.format(name=name)
