"""Fixtures of the whole suite: a platform on SQLite and on PostgreSQL."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest

from modelops.testing.kubernetes import ClusterUnderTest, cluster_under_test
from modelops.testing.platform import PlatformUnderTest, create_tables, running_platform


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """Ends a test for what this machine lacks: skips it, but fails it in CI, where nothing may be lacking."""

    def end(what: str) -> NoReturn:
        if os.environ.get("CI"):
            pytest.fail(f"{what}; in CI it must be there.")
        pytest.skip(what)

    return end


@pytest.fixture
def small_disk(tmp_path: Path, missing: Callable[[str], NoReturn]) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of a size, such as `48m`, and returns its folder."""
    folder = tmp_path / "disk"

    def mount(size: str) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            missing("This process may not mount a file system (root may)")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def postgres(missing: Callable[[str], NoReturn]) -> Iterator[str]:
    """The URL of a PostgreSQL server of this session's own, without durability."""
    binaries = _postgres_binaries()
    if binaries is None:
        missing("PostgreSQL is not installed (Debian package postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="modelops-postgres-"))
    user = _server_user(folder)
    data = folder / "data"
    _run(user, binaries / "initdb", "-D", data, "-U", "modelops", "-A", "trust", "--no-sync", "-E", "UTF8")
    _run(user, binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", _options(folder), "start")
    try:
        yield f"postgresql+psycopg://modelops@/{{name}}?host={folder}"
    finally:
        _run(user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def postgres_away(postgres: str) -> Callable[[], AbstractContextManager[None]]:
    """Lets the server crash, and starts it again when the block ends. For a test that runs alone on it."""

    @contextmanager
    def away() -> Iterator[None]:
        folder, control = Path(postgres.partition("host=")[2]), _postgres_binaries()
        assert control is not None
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        command = [control / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
        _run(user, *command, "-m", "immediate", "stop")
        try:
            yield
        finally:
            _run(user, *command, "-o", _options(folder), "start")

    return away


@pytest.fixture
def empty_postgres_database(postgres: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with _database(postgres) as url:
        yield url


@pytest.fixture
def postgres_database(postgres: str, postgres_template: str) -> Iterator[str]:
    """The URL of a PostgreSQL database that holds the platform's tables."""
    with _database(postgres, postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres: str) -> Iterator[str]:
    """The name of a database to copy: to copy it takes less than to make its tables."""
    with _database(postgres) as url:
        create_tables(url)
        yield url.partition("?")[0].rpartition("/")[2]


@contextmanager
def _database(server: str, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    maintenance = server.format(name="postgres").replace("+psycopg", "")
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield server.format(name=name)
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests in a cluster to one worker: they take turns there, and another one's would only wait."""
    for item in items:
        if "shared_kubernetes" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("kubernetes"))


@pytest.fixture(scope="session")
def shared_kubernetes(missing: Callable[[str], NoReturn]) -> Iterator[ClusterUnderTest]:
    """A real cluster: that of `MODELOPS_TEST_KUBECONFIG`, else the lab."""
    lab = Path(__file__).parents[1] / "tools" / "kube-lab" / "kube-lab"
    with cluster_under_test(lab) as cluster:
        if cluster is None:
            missing("There is no cluster (build one as root: tools/kube-lab/kube-lab build)")
        yield cluster


@pytest.fixture
def kubernetes(shared_kubernetes: ClusterUnderTest) -> Iterator[ClusterUnderTest]:
    """The cluster, for one test at a time: some stop parts of it."""
    with (Path(tempfile.gettempdir()) / "modelops-test-cluster.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield shared_kubernetes


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


def _options(folder: Path) -> str:
    return f"-c fsync=off -c listen_addresses='' -c unix_socket_directories={folder} -c max_connections=200"


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
