"""Migrations: Alembic scripts bring a database of any earlier version to the newest schema."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from modelops.contracts.errors import Conflict
from modelops.kernel.database import Database
from modelops.kernel.work import translate

_POSTGRES_LOCK = 0x6D6F7073  # "mops": one migrating process at a time


def upgrade(database: Database) -> None:
    """Bring a database to the newest schema; one that has it is left alone.

    Raises:
        Unavailable: the database does not answer.
        Conflict: it was made by a newer version of the platform.
    """
    from sqlalchemy.exc import OperationalError

    try:
        with database.engine.connect() as connection:
            if current(connection) == head():
                return
        with database._writer.begin() as connection:
            if not database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
            _check_known(connection)
            command.upgrade(_config(connection), "head")
    except OperationalError as wrong:
        raise translate(wrong) from wrong


def head() -> str | None:
    """Return the newest schema's version."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


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
