"""Real programs and platforms, killed: what `log_*` returned for arrives once, in order, by itself or by `mops runs sync`."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from modelops.contracts.errors import MLOpsError
from modelops.domains.experiments.schemas import RunStatus
from modelops.sdk.client import Client
from modelops.sdk.spool import leftovers
from modelops.sdk.spool.folder import SpoolFolder
from modelops.server.listener import Listener
from modelops.testing.process import PlatformProcess, platform_process
from modelops.testing.waiting import wait_for

TRAINER = """
    import os, sys
    from modelops import start_experiment
    steps, name = int(sys.argv[1]), sys.argv[2]
    with start_experiment("crashes", run_name=name, parameters={"lr": 0.1}) as run:
        os.write(1, b"begun\\n")
        for step in range(steps):
            run.log_metrics({"m": step, "half": step / 2}, step=step)
            if step % 100 == 0:
                run.set_tags({"at": str(step)})
                run.log_param(f"p{step}", step)
            if step % 250 == 0:
                run.log_artifact(b"content %d" % step, f"files/{step}.txt")
            os.write(1, b"%d\\n" % step)
"""


class Bench:
    """Programs of one user, who signed in to a platform that listens."""

    def __init__(self, url, key, home):
        self.url, self.home = url, home
        self.environment = {
            "PATH": os.environ["PATH"],
            "MODELOPS_URL": url,
            "MODELOPS_TOKEN": key,
            "MODELOPS_HOME": str(home),
        }

    def start(self, steps=1_000_000, name="run", script=TRAINER, **environment):
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(steps), name]
        return subprocess.Popen(
            command, env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def mops(self, *arguments, code=0):
        command = [sys.executable, "-m", "modelops.cli", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr + done.stdout
        return done

    def sync(self, *arguments, code=0):
        return json.loads(self.mops("runs", "sync", "--json", *arguments, code=code).stdout)

    def pending(self):
        return json.loads(self.mops("runs", "pending", "--json").stdout)


@pytest.fixture
def listening(sqlite_platform, tmp_path):
    listener = Listener(sqlite_platform.platform, remembered=tmp_path / "port")
    yield listener.start()
    listener.stop()


@pytest.fixture
def bench(sqlite_platform, listening, tmp_path):
    return Bench(listening, sqlite_platform.admin_key, tmp_path / "mine")


@pytest.fixture
def seen(sqlite_platform):
    return sqlite_platform.client().experiments


def acknowledged(program, until):
    """Read what a program says until `until` lines, kill it, and return the last step for which its call had returned."""
    for _ in range(until):
        program.stdout.readline()
    program.send_signal(signal.SIGKILL)
    rest = program.stdout.read().split(b"\n")[:-1]
    program.wait()
    program.stdout.close()
    program.stderr.close()
    return int(rest[-1]) if rest and rest[-1] != b"begun" else until - 2


def points(seen, run, key):
    found, cursor = [], None
    while True:
        page = seen.get_metric_history(run, key, limit=1000, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def check_whole(seen, run, last):
    """Nothing up to `last` is missing, nothing is doubled, and the order and the latest values are right."""
    found = points(seen, run.id, "m")
    steps = [point.step for point in found]
    assert steps == list(range(len(steps)))
    assert len(steps) >= last + 1
    assert all(point.value == point.step for point in found)
    assert [point.timestamp for point in found] == sorted(point.timestamp for point in found)
    assert len(points(seen, run.id, "half")) == len(steps)
    if steps:
        assert run.metrics == {"m": steps[-1], "half": steps[-1] / 2}
    if last >= 0:
        assert int(run.tags["at"]) >= last - last % 100
        assert run.parameters["lr"] == 0.1
        assert {f"p{step}" for step in range(0, last + 1, 100)} <= run.parameters.keys()
        files = {file.path for file in seen.list_run_artifacts(run.id).items}
        assert {f"files/{step}.txt" for step in range(0, last + 1, 250)} <= files


@pytest.mark.parametrize("until", [1, 2, 3, 700])
def test_a_killed_program_loses_nothing_of_what_its_calls_returned_for(bench, seen, until):
    last = acknowledged(bench.start(), until)
    [sent] = bench.sync()
    assert sent["state"] == "sent"
    [run] = seen.list_runs("crashes").items
    check_whole(seen, run, last)
    assert (run.status, run.reason) == (RunStatus.FAILED, "The program that made the run ended without ending it.")
    assert bench.sync() == []
    assert list((bench.home / "runs").iterdir()) == []


def test_a_sender_that_dies_after_any_step_leaves_what_the_next_one_needs(bench, seen, monkeypatch):
    last = acknowledged(bench.start(MODELOPS_URL=f"http://127.0.0.1:{free_port()}"), 600)
    monkeypatch.setenv("MODELOPS_URL", bench.url)
    [folder] = (bench.home / "runs").iterdir()

    class Died(BaseException):
        pass

    def send(fatal):
        """Send until the state is saved for the `fatal`th time, which never reaches the disk."""
        saves = iter(range(fatal))

        def save(spool, progress, real=SpoolFolder.save):
            if next(saves, None) is None:
                raise Died
            real(spool, progress)

        spool = SpoolFolder(folder)
        with monkeypatch.context() as patch, Client(bench.url, token=bench.environment["MODELOPS_TOKEN"]) as client:
            patch.setattr(SpoolFolder, "save", save)
            return leftovers.send(spool, lambda header: client)

    died = 0
    while True:
        try:
            left = send(died % 3)
            break
        except Died:
            died += 1
    assert (left.state, left.refused) == ("sent", 0)
    assert died > 5
    [run] = seen.list_runs("crashes").items
    check_whole(seen, run, last)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_at_random_moments_lose_and_double_nothing(bench, seen):
    luck = random.Random(20261121)
    for _ in range(20):
        program = bench.start()
        program.stdout.readline()
        time.sleep(luck.uniform(0, 1.5))
        last = acknowledged(program, luck.randrange(1, 50))
        for _ in range(luck.randrange(3)):  # the sender is killed, too
            syncing = subprocess.Popen(
                [sys.executable, "-m", "modelops.cli", "runs", "sync"],
                env=bench.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(luck.uniform(0.3, 1.2))
            syncing.kill()
            syncing.wait()
        bench.sync()
        run = seen.list_runs("crashes").items[0]
        assert run.status is RunStatus.FAILED
        check_whole(seen, run, last)
    assert seen.list_runs("crashes").total == 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_platform_that_is_killed_again_and_again_costs_the_program_nothing(tmp_path):
    luck = random.Random(7)
    with platform_process(tmp_path / "home") as platform:
        with platform.client() as client:
            key = client.identity.create_api_key("trainer").secret
        bench = Bench(platform.url, key, tmp_path / "mine")
        program = bench.start(steps=40_000)
        program.stdout.readline()
        for _ in range(4):
            time.sleep(luck.uniform(0.1, 1.0))
            platform.kill()
            time.sleep(luck.uniform(0.0, 0.5))
            platform.start()
        program.stdout.read()
        assert program.wait(120) == 0, program.stderr.read()
        program.stdout.close()
        program.stderr.close()
        bench.sync()
        with platform.client() as client:
            [run] = client.experiments.list_runs("crashes").items
            assert run.status is RunStatus.FINISHED
            check_whole(client.experiments, run, 39_999)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_a_run_that_never_saw_the_platform_is_there_after_sync(tmp_path):
    platform = PlatformProcess(tmp_path / "home")
    platform.start()
    try:
        with platform.client() as client:
            key = client.identity.create_api_key("trainer").secret
        platform.stop()
        bench = Bench(platform.url, key, tmp_path / "mine")
        programs = [bench.start(steps=300, name=name) for name in ("one", "two")]
        for program in programs:
            out, err = program.communicate(timeout=120)
            assert program.returncode == 0
            assert b"until it can be sent" in err
            assert out.endswith(b"299\n")
        left = bench.pending()
        assert [(item["state"], item["run_id"], item["experiment"]) for item in left] == [
            ("waiting", None, "crashes")
        ] * 2
        away = bench.sync(code=1)
        assert [item["state"] for item in away] == ["waiting"] * 2
        assert "does not answer" in away[0]["detail"]
        platform.start()
        assert [item["state"] for item in bench.sync()] == ["sent", "sent"]
        assert bench.pending() == []
        with platform.client() as client:
            runs = client.experiments.list_runs("crashes").items
            assert sorted(run.name for run in runs) == ["one", "two"]
            for run in runs:
                assert run.status is RunStatus.FINISHED
                check_whole(client.experiments, run, 299)
    finally:
        platform.stop()


def test_what_a_live_program_still_sends_is_left_to_it(bench, seen):
    program = bench.start()
    try:
        program.stdout.readline()
        [left] = bench.sync()
        assert left["state"] == "open"
        assert bench.pending()[0]["state"] == "open"
    finally:
        last = acknowledged(program, 1)
    bench.sync()
    [run] = seen.list_runs("crashes").items
    check_whole(seen, run, last)


def test_two_syncs_at_once_send_everything_once(bench, seen):
    last = acknowledged(bench.start(), 3_000)
    command = [sys.executable, "-m", "modelops.cli", "runs", "sync", "--json"]
    both = [subprocess.Popen(command, env=bench.environment, stdout=subprocess.PIPE) for _ in range(2)]
    states = [item["state"] for one in both for item in json.loads(one.communicate(timeout=120)[0])]
    assert "sent" in states
    assert set(states) <= {"sent", "open"}
    [run] = seen.list_runs("crashes").items
    check_whole(seen, run, last)


def test_watching_sends_what_is_left_behind_meanwhile(bench, seen):
    command = [sys.executable, "-m", "modelops.cli", "runs", "sync", "--watch", "--json"]
    heeds_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which a suite in the background does not
    watching = subprocess.Popen(command, env=bench.environment, stdout=subprocess.PIPE, preexec_fn=heeds_ctrl_c)
    try:
        last = acknowledged(bench.start(), 200)
        wait_for(lambda: seen_run(seen) is not None and seen_run(seen).ended_at)
        check_whole(seen, seen_run(seen), last)
        assert json.loads(watching.stdout.readline())["state"] in ("open", "sent")
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 130
        watching.stdout.close()


def seen_run(seen):
    try:
        return next(iter(seen.list_runs("crashes").items), None)
    except MLOpsError:  # there is no such experiment yet
        return None


def test_damage_costs_what_it_hits_and_is_told(bench, seen):
    last = acknowledged(bench.start(MODELOPS_URL=f"http://127.0.0.1:{free_port()}"), 400)
    [spool] = (bench.home / "runs").iterdir()
    segment = spool / "000001.log"
    content = bytearray(segment.read_bytes())
    lines = content.split(b"\n")
    hit = next(place for place, line in enumerate(lines) if b',200,{"m"' in line)
    offset = sum(len(line) + 1 for line in lines[:hit])
    content[offset + 30] ^= 4
    segment.write_bytes(content)
    done = bench.mops("--url", bench.url, "runs", "sync")
    assert f"a damaged record is lost: 000001.log at byte {offset}" in done.stderr
    [run] = seen.list_runs("crashes").items
    steps = [point.step for point in points(seen, run.id, "m")]
    assert steps == [step for step in range(len(steps) + 1) if step != 200]
    assert len(steps) >= last


def test_forked_children_and_threads_do_no_harm(bench, seen):
    script = """
        import multiprocessing, os, sys, threading
        from modelops import ExperimentError, start_experiment
        def child(run):
            try:
                run.log_metric("m", -1)
            except ExperimentError:
                os._exit(3)
        with start_experiment("crashes") as run:
            def work(number):
                for step in range(2000):
                    run.log_metric(f"m{number}", step, step=step)
            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads: thread.start()
            children = [multiprocessing.get_context("fork").Process(target=child, args=(run,)) for _ in range(5)]
            for one in children: one.start()
            for one in children: one.join()
            assert [one.exitcode for one in children] == [3] * 5
            for thread in threads: thread.join()
    """
    program = bench.start(script=script)
    _, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    [run] = seen.list_runs("crashes").items
    assert run.status is RunStatus.FINISHED
    for number in range(4):
        assert [point.step for point in points(seen, run.id, f"m{number}")] == list(range(2000))


@pytest.mark.slow
def test_what_the_page_says_works(bench, seen):
    page = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text()
    scripts = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(scripts) == 2
    prepare = """
import numpy as np
from sklearn.linear_model import LogisticRegression
rows = np.arange(60.0).reshape(30, 2)
labels = (rows[:, 0] > 30).astype(int)
"""
    for script in scripts:
        _, err = (program := bench.start(script="import modelops\n" + prepare + script)).communicate(timeout=120)
        assert program.returncode == 0, err
    assert sorted(run.experiment for run in seen.list_runs().items) == ["autolog", "churn"]
    acknowledged(bench.start(), 100)
    commands = [line.partition("#")[0].split() for line in page.splitlines() if line.startswith("mops ")]
    assert len(commands) >= 6
    for _, *words in commands:
        if "--watch" not in words:  # another test has it
            places = {"/mnt/spool": str(bench.home / "runs"), "URL": bench.url}
            bench.mops(*(places.get(word, word) for word in words))
    assert bench.pending() == []
    check_whole(seen, seen_run(seen), 99)


def test_what_was_refused_is_listed_with_the_reason_and_sent_again_where_that_is_asked(bench, seen):
    last = acknowledged(bench.start(), 300)
    [left] = bench.pending()
    seen.update_run(left["run_id"], status="canceled", reason="on purpose")
    [refused] = bench.sync(code=1)
    assert (refused["state"], refused["refused"] > 0) == ("refused", True)
    assert "has ended as canceled" in refused["detail"]
    assert bench.sync(code=1)[0]["state"] == "refused"
    assert bench.sync("--refused", code=1)[0]["refused"] >= refused["refused"] - 1
    assert "has ended as canceled" in bench.mops("runs", "sync", str(bench.home / "runs"), code=1).stderr
    assert last > 0


def test_the_setting_says_where_the_spool_lies(bench, tmp_path):
    away = f"http://127.0.0.1:{free_port()}"
    program = bench.start(steps=5, MODELOPS_URL=away, MODELOPS_TRACKING_SPOOL=str(tmp_path / "elsewhere"))
    _, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    assert bench.pending() == []
    [spool] = (tmp_path / "elsewhere").iterdir()
    assert [item["state"] for item in bench.sync(str(spool), code=1)] == ["waiting"]
    assert json.loads(bench.mops("--url", bench.url, "runs", "sync", "--json", str(spool)).stdout)[0]["state"] == "sent"
