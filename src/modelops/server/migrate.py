"""Migrations: Alembic scripts bring a database of any earlier version to the newest schema."""

import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from modelops.contracts.errors import Conflict
from modelops.kernel.database import Database, sqlite_url
from modelops.kernel.failures import translate

_POSTGRES_LOCK = 0x6D6F7073
"""One process at a time brings a database in order; the others wait, and find it so."""


def upgrade(database: Database) -> None:
    """Bring a database to the newest schema; one that has it is left alone.

    Raises:
        Unavailable: the database does not answer.
        Conflict: it was made by a newer version of the platform.
    """
    try:
        with database.engine.connect() as connection:
            if is_newest(connection):
                return
        with database._writer.begin() as connection:
            take_turn(connection)
            _check_known(connection)
            command.upgrade(_config(connection), "heads")
    except OperationalError as wrong:
        raise translate(wrong) from wrong


def take_turn(connection: Connection | Session) -> None:
    """Wait until no other process makes or changes what all of them need; until the end of the transaction it is ours."""
    if _dialect(connection) == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})


def _dialect(connection: Connection | Session) -> str:
    return (connection if isinstance(connection, Connection) else connection.get_bind()).dialect.name


@cache
def head() -> str | None:
    """Return the newest schema's version."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def is_newest(connection: Connection) -> bool:
    """Tell whether a database has the newest schema."""
    return head() is not None and current(connection) == head()


def current(connection: Connection) -> str | None:
    """Return the version of a database's schema; None where it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def _check_known(connection: Connection) -> None:
    version = current(connection)
    known = {script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()}
    if version is not None and version not in known:
        raise Conflict(
            f"The database has the schema '{version}', which this version of ModelOps does not know.",
            hint="It was made by a newer version: upgrade ModelOps, or open another database.",
        )


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("modelops.server") / "migrations"))
    config.attributes["connection"] = connection
    return config


def revise(message: str) -> str:
    """Write the migration from the newest script's schema to that of the rows in the code, and return its file."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(sqlite_url(Path(folder) / "schema.db"))
        try:
            upgrade(database)
            with database._writer.begin() as connection:
                number = len(list(ScriptDirectory.from_config(_config(None)).walk_revisions())) + 1
                made = command.revision(_config(connection), message, autogenerate=True, rev_id=f"{number:04d}")
        finally:
            database.close()
    return str(made.path) if isinstance(made, Script) else ""
