"""Workflows on DBOS: the contract on both databases, and what is this adapter's own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from dbos import DBOSClient
from tests.contracts.engines import Opened

from modelops.contracts.errors import Unavailable
from modelops.kernel.database import sqlite_url
from modelops.kernel.leases import expire_leases
from modelops.kernel.workflows import StoryState
from modelops.testing.stories import WORKFLOWS
from modelops.testing.waiting import wait_for
from modelops.testing.workflows import Journal, Teller, WorkflowsContract

ENGINES = Path(__file__).with_name("engines.py")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    if request.param == "postgres":
        return request.getfixturevalue("empty_postgres_database")
    return sqlite_url(tmp_path / "modelops.db").render_as_string(hide_password=False)


class TestDbosWorkflows(WorkflowsContract):
    @pytest.fixture
    def engine(self, database, tmp_path):
        return f"{ENGINES}:open_engine", database, str(tmp_path)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal")


@pytest.fixture
def opens(tmp_path):
    opened = []

    def opens(url=None, **options):
        url = url or sqlite_url(tmp_path / "modelops.db").render_as_string(hide_password=False)
        opened.append(Opened(url, tmp_path, **options))
        return opened[-1]

    yield opens
    for one in opened:
        one.close()


def ended(workflows, story):
    def look():
        try:
            told = workflows.tell(story)
        except Unavailable:
            return None
        return told if told and told.state is not StoryState.RUNNING else None

    return wait_for(look)


def test_nothing_of_dbos_is_loaded_before_there_is_a_story(tmp_path):
    program = """
import contextlib, json, sys, time
sys.path.insert(0, sys.argv[1])
from engines import open_engine
from modelops.testing.stories import WORKFLOWS
with contextlib.closing(open_engine(*sys.argv[2:])) as engine:
    engine.launch(WORKFLOWS)
    time.sleep(0.5)
    told = engine.tell("one")
print(json.dumps([told, any(name == "dbos" for name in sys.modules)]))
"""
    url = sqlite_url(tmp_path / "modelops.db").render_as_string(hide_password=False)
    command = [sys.executable, "-c", program, str(ENGINES.parent), url, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [None, False]
    assert done.stderr == ""
    assert not (tmp_path / "workflows.db").exists()


def test_dbos_is_quiet(opens, capfd):
    workflows = opens()
    workflows.launch(WORKFLOWS)
    workflows.start("echo", "one", 1)
    ended(workflows, "one")
    workflows.close()
    assert capfd.readouterr() == ("", "")


def test_dbos_reads_what_is_kept(opens, database, tmp_path):
    workflows = opens(database)
    workflows.launch(WORKFLOWS)
    workflows.start("echo", "one", {"a": "\u00fc"})
    ended(workflows, "one")
    workflows.start("broken", "two", 1)
    ended(workflows, "two")
    kept = database if database.startswith("postgres") else f"sqlite:///{tmp_path / 'workflows.db'}"
    client = DBOSClient(system_database_url=kept)
    try:
        one, two = (client.retrieve_workflow(story).get_status() for story in ("one", "two"))
        assert (one.name, one.status, one.output["kept"]) == ("echo", "SUCCESS", {"a": "\u00fc"})
        assert one.input["args"] == ({"a": "\u00fc"},)
        assert (two.status, str(two.error)) == ("ERROR", "broken by 1")
        [step] = client.list_workflow_steps("one")
        assert (step["function_name"], step["output"]) == ("echo", {"a": "\u00fc"})
    finally:
        client.destroy()


def test_what_ended_long_ago_is_forgotten(opens, database, journal):
    first = opens(database)
    first.launch(WORKFLOWS)
    first.start("count", "old", {"journal": str(journal.path), "steps": 3})
    first.start("count", "going on", {"journal": str(journal.path), "steps": 1, "pause_s": 600})
    ended(first, "old")
    time.sleep(1.1)  # SQLite's clock, as DBOS asks it, shows seconds
    first.close()
    second = opens(database, keep_s=0)
    second.launch(WORKFLOWS)
    wait_for(lambda: second.tell("old") is None)
    assert second.tell("going on").state is StoryState.RUNNING


def test_a_story_whose_start_was_not_answered_is_told(opens, database, monkeypatch):
    workflows = opens(database)
    workflows.launch(WORKFLOWS)
    workflows.start("echo", "one", 1)
    with monkeypatch.context() as patch:
        patch.setattr(workflows._executor, "begin", lambda claimed, memory: None)
        workflows.start("echo", "two", 2)
    assert ended(workflows, "two").result["kept"] == 2


def test_whoever_knows_that_a_process_is_gone_need_not_wait(opens, tmp_path, journal):
    workflows = opens()
    first = Teller((f"{ENGINES}:open_patient", workflows.database.url.render_as_string(False), str(tmp_path)))
    first.ask("start", "count", "one", {"journal": str(journal.path), "steps": 3, "slow_s": 0.2})
    wait_for(lambda: journal.lines("begin"))
    first.kill()
    with workflows.database.work() as session:
        expire_leases(session, workflows.clock, "test:")
    workflows.launch(WORKFLOWS)
    assert ended(workflows, "one").result == [0, 1, 2]


def test_a_frozen_process_holds_up_nobody_else(opens, empty_postgres_database, tmp_path, journal):
    first = Teller((f"{ENGINES}:open_engine", empty_postgres_database, str(tmp_path)))
    for story in ("locked", "free"):
        first.ask("start", "count", story, {"journal": str(journal.path), "steps": 4, "slow_s": 0.5})
    wait_for(lambda: len(journal.lines("begin")) == 4)
    os.kill(first.pid, signal.SIGSTOP)
    with psycopg.connect(
        empty_postgres_database.replace("+psycopg", "")
    ) as connection:  # as if it was frozen while it wrote
        executor = "SELECT executor_id FROM dbos.workflow_status WHERE workflow_uuid = 'locked' FOR UPDATE"
        [(name,)] = connection.execute(executor).fetchall()
        connection.execute("SELECT 1 FROM leases WHERE name = %s FOR UPDATE", (f"executor:{name}",))
        workflows = opens(empty_postgres_database)
        workflows.launch(WORKFLOWS)
        workflows.start("count", "own", {"journal": str(journal.path), "steps": 6, "slow_s": 0.5})
        assert ended(workflows, "own").result == list(range(6))
        assert set(journal.begun("own").values()) == {1}
        connection.commit()
        [(name,)] = connection.execute(executor).fetchall()
        assert ended(workflows, "free").result == list(range(4))
    assert ended(workflows, "locked").result == list(range(4))
    first.process.send_signal(signal.SIGCONT)
    first.kill()


@pytest.mark.slow
def test_a_crash_while_it_is_set_up(opens, database, tmp_path):
    for number in range(8):
        first = Teller((f"{ENGINES}:open_engine", database, str(tmp_path)))
        first.process.stdin.write(json.dumps(["start", "echo", f"story-{number}", number]) + "\n")
        first.process.stdin.flush()
        time.sleep(0.06 * number)
        first.kill()
    workflows = opens(database)
    workflows.launch(WORKFLOWS)
    for number in range(8):
        workflows.start("echo", f"story-{number}", number)
        assert ended(workflows, f"story-{number}").result["kept"] == number


def test_the_database_crashes_in_the_middle(opens, empty_postgres_database, postgres_away, journal):
    workflows = opens(empty_postgres_database)
    workflows.launch(WORKFLOWS)
    for story in ("one", "two", "three"):
        workflows.start("count", story, {"journal": str(journal.path), "steps": 15, "slow_s": 0.1})
    for _ in range(2):
        goal = len(journal.lines("end")) + 9
        wait_for(lambda goal=goal: len(journal.lines("end")) >= goal)
        with postgres_away():
            with pytest.raises(Unavailable):
                workflows.start("echo", "four", 1)
            time.sleep(2.5)  # longer than a lease
    for story in ("one", "two", "three"):
        assert ended(workflows, story).result == list(range(15))
        assert sum(journal.begun(story).values()) <= 17


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_jumps(database, tmp_path, opens, journal, jump):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for file in (right, wrong):
        file.write_text("0")

    def jumps(seconds):
        (tmp_path / "next").write_text(str(seconds))
        (tmp_path / "next").replace(wrong)

    first = Teller((f"{ENGINES}:open_jumping", database, str(tmp_path), str(right)))
    second = Teller((f"{ENGINES}:open_jumping", database, str(tmp_path), str(wrong)))
    try:
        for number, teller in enumerate((first, second, first, second)):
            argument = {"journal": str(journal.path), "steps": 20, "slow_s": 0.2}
            assert teller.ask("start", "count", f"story-{number}", argument) == "done"
        wait_for(lambda: len(journal.lines("end")) > 8)
        jumps(jump)
        looking = opens(database)
        for number in range(4):
            assert ended(looking, f"story-{number}").result == list(range(20))
        jumps(0)
        argument = {"journal": str(journal.path), "steps": 2}
        wait_for(lambda: first.ask("start", "count", "later", argument) == "done")
        assert ended(looking, "later").result == [0, 1]
        wait_for(lambda: second.ask("start", "count", "last", argument) == "done")
        assert ended(looking, "last").result == [0, 1]
    finally:
        first.kill()
        second.kill()
