"""Workflows on DBOS: the contract on both databases, and what is this adapter's own."""

from pathlib import Path

import pytest

from modelops.kernel.database import sqlite_url
from modelops.testing.workflows import WorkflowsContract

ENGINES = Path(__file__).with_name("engines.py")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    if request.param == "postgres":
        return request.getfixturevalue("postgres_database")
    return sqlite_url(tmp_path / "modelops.db").render_as_string(hide_password=False)


class TestDbosWorkflows(WorkflowsContract):
    @pytest.fixture
    def engine(self, database, tmp_path):
        return f"{ENGINES}:open_engine", database, str(tmp_path)
