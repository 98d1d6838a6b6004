"""`mops up` as its users meet it: first start, second start, taken port, crash, clean end."""

import json
import socket
import sqlite3

import pytest

from modelops.sdk.client import Client
from modelops.testing.process import PlatformProcess, platform_process


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with platform_process(tmp_path_factory.mktemp("up") / "home") as platform:
        yield platform


def test_the_first_start_prints_how_to_sign_in(running):
    text = running.log.read_text()
    assert f"ModelOps is ready at {running.url}" in text
    assert "mops_" in text
    assert (running.home / "credentials.json").stat().st_mode & 0o077 == 0
    assert (running.home / "secret.key").stat().st_mode & 0o077 == 0
    assert json.loads(running.mops("status", "--json").stdout)["signed_in_as"] == "admin"


def test_a_second_one_on_the_same_home_says_so_and_ends(running):
    second = running.mops("up", "--port", "0", check=False)
    assert second.returncode == 1
    assert f"already (process {running.process.pid}) at {running.url}" in second.stderr


def test_a_taken_port_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        platform = PlatformProcess(tmp_path / "home")
        answer = platform.mops("up", "--port", str(taken.getsockname()[1]), check=False)
    assert answer.returncode == 1
    assert "is taken by another program" in answer.stderr


def test_doctor_finds_all_in_order(running):
    answer = running.mops("doctor", "--json", check=False)
    report = json.loads(answer.stdout)
    assert answer.returncode == 0, report
    assert report["healthy"]


def test_doctor_tells_what_is_wrong(tmp_path):
    platform = PlatformProcess(tmp_path / "home", url="http://127.0.0.1:9")
    answer = platform.mops("doctor", "--json", check=False)
    assert answer.returncode == 1
    assert any("does not answer" in check["detail"] for check in json.loads(answer.stdout)["checks"])


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    with platform_process(tmp_path / "home") as platform:
        for number in range(5):
            with platform.client() as client:
                client.identity.create_project(f"p{number}")
            platform.kill()
            platform.start()
        with platform.client() as client:
            names = {project.name for project in client.identity.list_projects().items}
    assert {f"p{number}" for number in range(5)} <= names


def test_it_ends_cleanly_and_gives_everything_back(tmp_path):
    platform = PlatformProcess(tmp_path / "home")
    platform.start()
    assert platform.stop() == 0
    assert "Traceback" not in platform.log.read_text()
    with sqlite3.connect(tmp_path / "home" / "modelops.db") as database:
        assert database.execute(
            "SELECT count(*) FROM leases WHERE expires_at > datetime('now', '+1 second')"
        ).fetchone() == (0,)
    database.close()
    assert "No platform runs" in platform.mops("down").stdout


def test_down_ends_it(tmp_path):
    platform = PlatformProcess(tmp_path / "home")
    platform.start()
    assert platform.mops("down").returncode == 0
    assert platform.process.wait(timeout=10) == 0


def test_it_runs_on_postgresql(tmp_path, empty_postgres_database):
    with platform_process(tmp_path / "home", database=empty_postgres_database) as platform:
        with platform.client() as client:
            client.identity.create_project("p")
            health = client.platform.get_health()
        platform.kill()
        platform.start()
        with platform.client() as client:
            assert client.identity.get_project("p").name == "p"
    assert "postgresql answers." in {check.detail for check in health.checks}


def test_a_database_that_is_away_is_told(tmp_path):
    platform = PlatformProcess(tmp_path / "home", database="postgresql+psycopg://nobody@127.0.0.1:9/none")
    answer = platform.mops("up", "--port", "0", check=False)
    assert answer.returncode == 1
    assert "The database does not answer" in answer.stderr


def test_a_client_without_url_needs_no_server(tmp_path, monkeypatch):
    monkeypatch.delenv("MODELOPS_URL", raising=False)
    with Client(home=tmp_path / "home") as client:
        client.identity.create_project("p")
    with Client(home=tmp_path / "home") as client:
        assert client.identity.get_project("p").name == "p"


def test_a_wrong_setting_is_told(tmp_path):
    platform = PlatformProcess(tmp_path / "home", port="many")
    answer = platform.mops("config", check=False)
    assert answer.returncode == 1
    assert "port" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_config_tells_where_each_value_comes_from(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("port = 9001\n")
    platform = PlatformProcess(tmp_path / "home", max_running_jobs="7", secret_key="hush")
    answer = platform.mops("config", "--json")
    rows = {row["setting"]: row for row in json.loads(answer.stdout)}
    assert (rows["port"]["value"], rows["port"]["from"]) == (9001, "file")
    assert (rows["max_running_jobs"]["value"], rows["max_running_jobs"]["from"]) == (7, "environment")
    assert rows["home"]["from"] == "argument"
    assert "hush" not in answer.stdout


@pytest.mark.parametrize("arguments", [["nope"], ["identity", "nope"], ["identity", "get-user"], ["up", "--port", "x"]])
def test_a_wrong_command_is_told_without_a_traceback(tmp_path, arguments):
    answer = PlatformProcess(tmp_path / "home").mops(*arguments, check=False)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
