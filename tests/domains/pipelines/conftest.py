"""Platforms for tests of pipelines."""

import pytest
from tests.domains.pipelines.theatre import Theatre

from modelops.testing.platform import running_platform


@pytest.fixture
def theatre(platform):
    """A theatre on each database."""
    return Theatre(platform)


@pytest.fixture
def sqlite_theatre(sqlite_platform):
    """A theatre on SQLite, for tests to which the database does not matter."""
    return Theatre(sqlite_platform)


@pytest.fixture
def hasty(tmp_path):
    """A theatre where a worker that is silent for a second has lost its steps."""
    with running_platform(tmp_path / "home", step_lease_s=1.0) as platform:
        yield Theatre(platform)
