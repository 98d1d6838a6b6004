"""Migrations make exactly the schema that the code has, on both databases, and a newer database is left alone."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from modelops.contracts.errors import Conflict
from modelops.kernel.database import Base, Database, sqlite_url
from modelops.kernel.manifest import discover
from modelops.server.migrate import current, head, upgrade


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    url = sqlite_url(tmp_path / "m.db") if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    opened = Database(url)
    yield opened
    opened.close()


def test_the_migrations_make_the_schema_of_the_code(database):
    discover()
    upgrade(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [
            found for found in compare_metadata(context, Base.metadata) if "alembic_version" not in str(found)
        ]
        assert not differences, 'Run `make migration MESSAGE="…"`.'
        assert current(connection) == head()


def test_a_second_upgrade_changes_nothing(database):
    upgrade(database)
    upgrade(database)


def test_a_database_of_a_newer_version_is_refused(database):
    upgrade(database)
    with database.work() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="does not know"):
        upgrade(database)
