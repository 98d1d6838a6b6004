"""Migrations make exactly the schema that the code has, on both databases, and a newer database is left alone."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from modelops.contracts.errors import Conflict
from modelops.domains.experiments.reading import read_recorded
from modelops.kernel.database import Base, Database, sqlite_url
from modelops.kernel.manifest import discover
from modelops.server.migrate import _config, current, head, upgrade


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    url = (
        sqlite_url(tmp_path / "m.db")
        if request.param == "sqlite"
        else request.getfixturevalue("empty_postgres_database")
    )
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


def test_tables_and_indexes_are_kept_on_sqlite_as_the_code_says(tmp_path):
    """Alembic compares neither what an index is limited to nor how a table is kept."""
    discover()

    def kept(made):
        query = "SELECT name, sql FROM sqlite_master WHERE name IN ('audit_records', 'run_tags') OR type = 'index'"
        with made.raw() as raw:
            found = raw.execute(query).fetchall()
        return {
            name: (sql or "").replace('"', "").partition(" WHERE ")[2] or "ROWID" in (sql or "") for name, sql in found
        }

    migrated, made = Database(sqlite_url(tmp_path / "a.db")), Database(sqlite_url(tmp_path / "b.db"))
    upgrade(migrated)
    Base.metadata.create_all(made.engine)
    found = kept(migrated)
    assert {name: found.get(name) for name in kept(made)} == kept(made)
    migrated.close()
    made.close()


def test_a_second_upgrade_changes_nothing(database):
    upgrade(database)
    upgrade(database)


def test_a_database_of_a_newer_version_is_refused(database):
    upgrade(database)
    with database.work() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="does not know"):
        upgrade(database)


def test_what_was_logged_before_metrics_had_numbers_is_carried_over(database):
    with database._writer.begin() as connection:
        command.upgrade(_config(connection), "0001")
        now = "2026-01-02 03:04:05.000006"
        for statement in (
            f"INSERT INTO experiments VALUES ('exp_1', 'trials', '', '{{}}', '{now}', 'me', 3, 'prj_1')",
            "INSERT INTO runs (id, experiment_id, name, status, started_at, heard_at, created_by, revision, project_id)"
            f" VALUES ('run_1', 'exp_1', 'one', 'running', '{now}', '{now}', 'me', 2, 'prj_1')",
            "INSERT INTO metric_points VALUES ('run_1', 'loss', 1, 10, 0.5, false), ('run_1', 'acc', 2, 5, '-Infinity', true)"
            if not database.is_sqlite
            else "INSERT INTO metric_points VALUES ('run_1', 'loss', 1, 10, 0.5, 0), ('run_1', 'acc', 2, 5, -9e999, 1)",
            "INSERT INTO latest_metrics SELECT * FROM metric_points",
            """INSERT INTO run_parameters VALUES ('run_1', 'lr', '"0.1"', '0.1'), ('run_1', 'opt', '"\\"adam\\""', 'adam')""",
            "INSERT INTO run_tags VALUES ('run_1', 'team', 'red')",
            "INSERT INTO run_artifacts VALUES ('run_1', 'a.txt', 'sha256:x', 3, 'text/plain')",
        ):
            connection.exec_driver_sql(statement)
    upgrade(database)
    with database.raw() as raw:
        [(number, name)] = raw.execute("SELECT number, name FROM runs WHERE id = 'run_1'").fetchall()
        recorded = read_recorded(raw, [number])
        points = raw.execute("SELECT count(*) FROM metric_points WHERE run_number = ?", (number,)).fetchone()
        artifacts = raw.execute("SELECT path FROM run_artifacts WHERE run_id = 'run_1'").fetchall()
    assert (name, points[0], [path for (path,) in artifacts]) == ("one", 2, ["a.txt"])
    assert [(key, bool(nan), time, step) for key, _, nan, time, step in recorded.metrics[number]] == [
        ("acc", True, 5, 2),
        ("loss", False, 10, 1),
    ]
    assert [tuple(entry) for entry in recorded.parameters[number]] == [("lr", "0.1", "0.1"), ("opt", '"adam"', "adam")]
    assert recorded.tags[number] == [["team", "red"]]
