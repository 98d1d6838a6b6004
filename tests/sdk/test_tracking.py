"""The tracker: what a program logs arrives, however the program and the platform behave, or the end says what did not."""

import enum
import math
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from modelops.contracts.errors import ExperimentError, InvalidInput, MLOpsError, Unavailable
from modelops.contracts.rest import Rest
from modelops.domains.experiments.client import Experiments
from modelops.domains.experiments.rules import ParameterChanged
from modelops.domains.experiments.schemas import RunStatus
from modelops.sdk import active_run
from modelops.sdk.client import Client
from modelops.sdk.spool.folder import spools
from modelops.sdk.spool.leftovers import pending, send
from modelops.sdk.tracking import ExperimentTracker
from modelops.server.listener import Listener
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform
from modelops.testing.waiting import wait_for


class Line(httpx.BaseTransport):
    """A line to the platform that can be cut (`up` is False), or lose `lost` answers to posts whose path ends so.

    `answers` are given instead of the platform's, as status and headers, to logged batches.
    """

    def __init__(self, inner):
        self.inner = inner
        self.up = True
        self.lost, self.losing = 0, "/log"
        self.answers = []

    def handle_request(self, request):
        if not self.up:
            raise httpx.ConnectError("the line is cut", request=request)
        if self.answers and request.url.path.endswith("/log"):
            status, headers = self.answers.pop(0)
            return httpx.Response(status, headers=headers, json={"detail": "not now"})
        answer = self.inner.handle_request(request)
        if self.lost and request.method == "POST" and request.url.path.endswith(self.losing):
            self.lost -= 1
            answer.read()
            raise httpx.ReadError("the answer is lost", request=request)
        return answer


@pytest.fixture
def line(sqlite_platform):
    return Line(sqlite_platform.client().rest.http._transport)


@pytest.fixture
def client(sqlite_platform, line):
    """A client on the line, which asks once and does not wait."""
    headers = {"Authorization": f"Bearer {sqlite_platform.admin_key}"}
    http = httpx.Client(transport=line, base_url="http://test", headers=headers)
    return Client.over(Rest(http, retry_for_s=0), sqlite_platform.platform.settings)


@pytest.fixture
def tracker(client):
    return ExperimentTracker(client, experiment="trials")


@pytest.fixture
def hurried(monkeypatch):
    """Ends do not wait for a platform that is away."""
    monkeypatch.setattr(active_run, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(active_run, "_HURRY_S", 0.05)


@pytest.fixture
def seen(sqlite_platform):
    """The administrator's view of experiments, on a line of its own."""
    return sqlite_platform.client().experiments


def test_a_run_holds_what_was_logged_and_finishes(platform, tmp_path):
    client = platform.client()
    (tmp_path / "notes.txt").write_text("hello")
    tracker = ExperimentTracker(client)
    with tracker.start_experiment("churn", run_name="first", parameters={"lr": 0.1}, tags={"a": "1"}) as run:
        run.log_params({"layers": [1, 2]})
        run.log_param("name", "x")
        run.set_tags({"a": "2", "b": "3"})
        for step in range(3):
            run.log_metrics({"loss": 1 / (step + 1), "acc": step}, step=step)
        run.log_metric("odd", math.nan)
        run.log_metric("odd", -math.inf, step=1)
        digest = run.log_artifact(b"bytes", "deep/b.bin")
        run.log_artifact(tmp_path / "notes.txt")
        run.log_artifact(str(tmp_path / "notes.txt"), "again.txt")
    kept = client.experiments.get_run(run.id)
    assert (kept.status, kept.reason, kept.experiment, kept.name) == (RunStatus.FINISHED, None, "churn", "first")
    assert kept.parameters == {"lr": 0.1, "layers": [1, 2], "name": "x"}
    assert kept.tags == {"a": "2", "b": "3"}
    assert kept.metrics == {"loss": 1 / 3, "acc": 2.0, "odd": -math.inf}
    assert [point.value for point in client.experiments.get_metric_history(run.id, "loss").items] == [1.0, 0.5, 1 / 3]
    assert math.isnan(client.experiments.get_metric_history(run.id, "odd").items[0].value)
    files = client.experiments.list_run_artifacts(run.id).items
    assert [file.path for file in files] == ["again.txt", "deep/b.bin", "notes.txt"]
    assert client.data.download_artifact(digest) == b"bytes"


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("boom"), "failed", "ValueError: boom"),
        (KeyboardInterrupt(), "canceled", "KeyboardInterrupt"),
        (SystemExit(143), "canceled", "SystemExit: 143"),
        (FileNotFoundError("no file '\udcff\0'"), "failed", "FileNotFoundError: no file '?'"),
        (ValueError("x" * 9000), "failed", "ValueError: " + "x" * 3988),
        (Odd(), "failed", "Odd"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_exception_ends_the_run_and_goes_on(tracker, seen, error, status, reason):
    def program():
        with tracker.start_experiment() as run:
            run.log_metric("m", 1)
            raise error

    with pytest.raises(type(error)) as raised:
        program()
    [kept] = seen.list_runs("trials").items
    assert raised.value is error
    assert not hasattr(error, "__notes__")
    assert (kept.status, kept.reason, kept.metrics) == (status, reason, {"m": 1.0})


def test_values_of_numpy_and_friends(tracker, seen):
    class Colour(enum.Enum):
        RED = "red"

    parameters = {
        "i": np.int64(3),
        "u": np.uint64(2**64 - 1),
        "f": np.float32(0.5),
        "d": np.float64(0.25),
        "b": np.bool_(True),
        "s": np.str_("text"),
        "nan": np.float64("nan"),
        "list": (np.int8(1), {"k": np.float16(2)}),
        "none": None,
        "enum": Colour.RED,
        "path": Path("a/b"),
        "array": np.array(7),
    }
    with tracker.start_experiment(parameters=parameters) as run:
        run.log_metrics({"a": np.float32(0.5), "b": np.int64(2), "c": np.array(3.0)}, step=np.int64(4))
    kept = seen.get_run(run.id)
    assert kept.metrics == {"a": 0.5, "b": 2.0, "c": 3.0}
    assert seen.get_metric_history(run.id, "a").items[0].step == 4
    assert kept.parameters == {
        "i": 3,
        "u": 2**64 - 1,
        "f": 0.5,
        "d": 0.25,
        "b": True,
        "s": "text",
        "nan": "nan",
        "list": [1, {"k": 2.0}],
        "none": None,
        "enum": "red",
        "path": "a/b",
        "array": 7,
    }


def test_the_tracker_needs_no_numpy():
    script = "import sys, modelops.sdk.tracking; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_is_no_value_is_refused_at_once_and_nothing_of_it_is_kept(tracker, seen):
    with tracker.start_experiment() as run:
        for metrics, step in (({"good": 1, "bad": "much"}, 0), ({"good": 1, "bad": None}, 0), ({"good": 1}, 1.5)):
            with pytest.raises((TypeError, ValueError)):
                run.log_metrics(metrics, step=step)
        with pytest.raises(ExperimentError):
            run.log_artifact(b"without a path")
        with pytest.raises(InvalidInput):
            run.log_artifact("/no/such/file")
    assert seen.get_run(run.id).metrics == {}


def test_logging_does_not_mind_that_the_platform_is_away(tracker, line, seen):
    with tracker.start_experiment() as run:
        line.up = False
        run.log_params({"p": 1})
        run.set_tags({"t": "1"})
        for step in range(2500):
            run.log_metric("m", step, step=step)
        time.sleep(0.3)  # the thread tries in vain meanwhile
        assert seen.get_run(run.id).metrics == {}
        line.up = True
    kept = seen.get_run(run.id)
    assert (kept.status, kept.parameters, kept.tags) == (RunStatus.FINISHED, {"p": 1}, {"t": "1"})
    assert seen.get_metric_history(run.id, "m").total == 2500


def test_a_lost_answer_doubles_nothing(tracker, line, seen):
    line.lost = 3
    with tracker.start_experiment() as run:
        for step in range(2500):
            run.log_metric("m", step, step=step)
    assert line.lost == 0
    assert seen.get_metric_history(run.id, "m").total == 2500


def test_an_overloaded_platform_is_asked_again_no_sooner_than_it_says(tracker, line, seen):
    line.answers = [(429, {"Retry-After": "1"}), (503, {}), (507, {}), (502, {"Retry-After": "Fri, 01 Jan 2027"})]
    began = time.monotonic()
    with tracker.start_experiment() as run:
        run.log_metric("m", 1)
    assert time.monotonic() - began > 1
    assert (line.answers, seen.get_run(run.id).metrics) == ([], {"m": 1.0})


def test_a_run_whose_first_answer_was_lost_is_begun_once(tracker, line, seen):
    line.lost, line.losing = 2, "/runs"
    with tracker.start_experiment(run_name="once", parameters={"a": 1}) as run:
        run.log_metric("m", 1)
    [kept] = seen.list_runs("trials").items
    assert (kept.id, kept.status, kept.metrics, kept.parameters) == (run.id, "finished", {"m": 1.0}, {"a": 1})


def test_a_run_that_began_without_the_platform_is_sent_when_that_is_back(tracker, line, seen, tmp_path, caplog):
    line.up = False
    (tmp_path / "notes.txt").write_text("hello")
    with tracker.start_experiment("fresh", tags={"a": "1"}) as run:
        assert run.id.startswith("local_")
        assert "until it can be sent" in caplog.text
        run.log_params({"p": 1})
        run.log_metric("m", 1)
        run.log_artifact(tmp_path / "notes.txt")
        (tmp_path / "notes.txt").write_text("changed afterwards")
        with pytest.raises(Unavailable):
            run.flush(within_s=0.1)
        line.up = True
        run.flush()
        assert run.id.startswith("run_")
        content = seen.list_run_artifacts(run.id).items[0]
        assert (content.path, content.size) == ("notes.txt", 5)
    kept = seen.get_run(run.id)
    assert (kept.status, kept.experiment, kept.parameters, kept.tags) == ("finished", "fresh", {"p": 1}, {"a": "1"})


def test_who_wants_no_run_without_the_platform_is_told(client, line):
    line.up = False
    tracker = ExperimentTracker(client, experiment="trials", offline=False)
    with pytest.raises(Unavailable, match="the line is cut"):
        tracker.start_experiment()
    assert list(tracker.spool.iterdir()) == []


def test_a_full_spool_is_told_once_and_never_stops_the_program(client, seen, caplog, line):
    settings = client.settings.model_copy(update={"tracking_spool_bytes": 70_000})
    client.settings = settings
    tracker = ExperimentTracker(client, experiment="trials")
    line.up = False
    with tracker.start_experiment() as run:
        for step in range(3_000):
            run.log_metric("m", step, step=step)
        run.log_artifact(b"x" * 100_000, "large.bin")
        assert 1_000 < run.dropped < 3_000
        line.up = True
    assert caplog.text.count("is not recorded whole") == 1
    kept = seen.get_run(run.id)
    assert kept.status is RunStatus.FAILED
    assert kept.reason.startswith("Its record is incomplete: ")
    assert "entries found no room on the disk" in kept.reason
    steps = [point.step for point in seen.get_metric_history(run.id, "m", limit=1000).items]
    assert steps == list(range(len(steps)))


def test_what_has_no_room_in_the_spool_goes_to_the_platform_at_once(client, seen):
    client.settings = client.settings.model_copy(update={"tracking_spool_bytes": 70_000})
    with ExperimentTracker(client, experiment="trials").start_experiment() as run:
        digest = run.log_artifact(b"x" * 100_000, "large.bin")
        assert seen.list_run_artifacts(run.id).items[0].digest == digest
    assert seen.get_run(run.id).status is RunStatus.FINISHED


def test_what_is_refused_takes_nothing_with_it_and_can_be_sent_again(tracker, client, line, seen):
    line.up = False
    with tracker.start_experiment(run_name="r") as run:
        for step in range(10):
            run.log_metric("m", step, step=step)
            run.log_params({f"p{step}": step})
        client.close()
    [left] = pending(tracker.spool)
    assert (left.state, left.run_name, left.run_id) == ("waiting", "r", None)
    [spool] = spools(tracker.spool)
    line.up = True

    def sync(**options):
        http = httpx.Client(transport=line.inner, base_url="http://test", headers=client.rest.http.headers)
        return send(spool, lambda _: Client.over(Rest(http, retry_for_s=0)), patience_s=0, **options)

    began = {}

    def quarrel(self, run, batch, real=Experiments.log_json):
        if not began:  # somebody is faster
            began["run"] = run
            seen.log_batch(run, parameters={"p3": "other", "p7": "other"})
        real(self, run, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiments, "log_json", quarrel)
        assert (found := sync()).state == "refused"
    assert (found.refused, found.detail.split(":")[0]) == (2, "ParameterChanged")
    kept = seen.get_run(began["run"])
    assert kept.parameters == {f"p{step}": "other" if step in (3, 7) else step for step in range(10)}
    assert seen.get_metric_history(kept.id, "m").total == 10
    assert pending(tracker.spool)[0].state == "refused"
    again = sync(again=True)
    assert (again.state, again.refused) == ("refused", 2)


def test_a_run_that_was_taken_for_dead_goes_on_when_its_program_is_heard_again(tmp_path):
    clock = VirtualClock()
    with running_platform(tmp_path / "home", clock=clock) as platform:
        client, seen = platform.client(), platform.client().experiments
        line = Line(client.rest.http._transport)
        client.rest.http._transport = line
        tracker = ExperimentTracker(client, experiment="trials")
        run, other = tracker.start_experiment(), tracker.start_experiment()
        run.log_metric("m", 1)
        run.flush()
        line.up = False
        run.log_metric("m", 2, step=1)
        other.log_metric("m", 2)
        clock.advance(61)
        platform.controller.turn()
        assert seen.get_run(run.id).reason.startswith("Not heard of")
        line.up = True
        run.flush()
        kept = seen.get_run(run.id)
        assert (kept.status, kept.reason, kept.ended_at, kept.metrics) == (RunStatus.RUNNING, None, None, {"m": 2.0})
        assert run.end().status is RunStatus.FINISHED
        assert other.end("failed", "its own reason").reason == "its own reason"


@pytest.mark.usefixtures("hurried")
def test_an_end_without_the_platform_breaks_nothing_says_what_waits_and_is_sent_later(tracker, line, seen, caplog):
    with tracker.start_experiment() as run:
        line.up = False
        run.log_metric("m", 1)
    assert "2 logged entries could not be delivered yet" in caplog.text
    assert "the line is cut" in caplog.text
    assert str(tracker.spool) in caplog.text
    assert not run.is_open
    assert seen.get_run(run.id).status is RunStatus.RUNNING
    line.up = True
    kept = wait_for(lambda: (found := seen.get_run(run.id)).ended_at and found)
    assert (kept.status, kept.metrics) == (RunStatus.FINISHED, {"m": 1.0})
    wait_for(lambda: list(tracker.spool.iterdir()) == [])


@pytest.mark.usefixtures("hurried")
def test_an_exception_without_the_platform_stays_the_exception(tracker, line):
    run = tracker.start_experiment()

    def program():
        with run:
            line.up = False
            run.log_metric("m", 1)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as raised:
        program()
    assert "could not be delivered" in raised.value.__notes__[0]
    assert run.id in raised.value.__notes__[0]


def test_an_explicit_end_may_be_tried_again(tracker, line, seen):
    run = tracker.start_experiment()
    line.up = False
    run.log_metric("m", 1)
    with pytest.raises(Unavailable):
        run.end(within_s=0.05)
    run.log_metric("m", 2, step=1)
    line.up = True
    assert run.end().status is RunStatus.FINISHED
    assert run.end("failed").status is RunStatus.FINISHED  # how it ended stays
    assert seen.get_metric_history(run.id, "m").total == 2


def test_a_run_that_has_ended_takes_nothing_more(tracker, seen):
    run = tracker.start_experiment()
    with pytest.raises(InvalidInput):
        run.end("running")
    run.end("canceled", "enough")
    for attempt in (
        lambda: run.log_metric("m", 1),
        lambda: run.log_params({"a": 1}),
        lambda: run.set_tags({"a": "1"}),
        lambda: run.log_artifact(b"x", "x"),
    ):
        with pytest.raises(ExperimentError):
            attempt()
    kept = seen.get_run(run.id)
    assert (kept.status, kept.reason, kept.metrics) == (RunStatus.CANCELED, "enough", {})
    wait_for(lambda: not any(run.id in thread.name for thread in threading.enumerate()))


def test_another_value_of_a_parameter_is_told_at_once(tracker, seen):
    with tracker.start_experiment(parameters={"lr": 0.1}) as run:
        run.log_params({"lr": 0.1, "depth": 3})
        for changed in ({"lr": 0.2}, {"depth": 4, "new": 1}):
            with pytest.raises(ParameterChanged):
                run.log_params(changed)
    assert seen.get_run(run.id).parameters == {"lr": 0.1, "depth": 3}


def test_what_another_program_recorded_otherwise_shows_at_the_end(tracker, seen, caplog):
    run = tracker.start_experiment()
    seen.log_batch(run.id, parameters={"lr": 0.1})

    def program():
        with run:
            run.log_params({"lr": 0.2})
            run.log_metric("m", 1)

    program()
    assert "'lr'" in caplog.text
    kept = seen.get_run(run.id)
    assert (kept.status, kept.parameters, kept.metrics) == (RunStatus.FAILED, {"lr": 0.1}, {"m": 1.0})
    assert kept.reason.startswith("Its record is incomplete: ParameterChanged:")


def test_a_run_that_somebody_else_ended_says_so(tracker, seen, caplog):
    run = tracker.start_experiment()
    seen.update_run(run.id, status="canceled", reason="not this one")

    def program():
        with run:
            run.log_metric("m", 1)

    program()
    assert "RunEnded" in caplog.text or "has ended as canceled" in caplog.text
    kept = seen.get_run(run.id)
    assert (kept.status, kept.reason, kept.metrics) == (RunStatus.CANCELED, "not this one", {})


def test_a_client_that_is_closed_too_early_is_told_without_waiting(tracker, client, caplog):
    def program():
        with tracker.start_experiment() as run:
            client.close()
            run.log_metric("m", 1)

    began = time.monotonic()
    program()
    assert "The client was closed before all was delivered" in caplog.text
    assert time.monotonic() - began < 5


def test_flushing_from_many_threads_loses_and_doubles_nothing(tracker, seen, monkeypatch):
    def slow(*arguments, real=Experiments.log_json):
        time.sleep(0.05)
        real(*arguments)

    monkeypatch.setattr(Experiments, "log_json", slow)
    with tracker.start_experiment() as run:

        def work(number):
            for step in range(1500):
                run.log_metric(f"m{number}", step, step=step)
                if step % 500 == 0:
                    run.flush()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [seen.get_metric_history(run.id, f"m{number}").total for number in range(4)] == [1500] * 4


def test_two_trackers_write_runs_of_one_new_experiment(sqlite_platform, seen):
    gate, failures = threading.Barrier(4), []

    def work():
        tracker = ExperimentTracker(sqlite_platform.client())
        gate.wait(10)
        try:
            with tracker.start_experiment("new") as run:
                run.log_metric("m", 1)
        except MLOpsError as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [run.status for run in seen.list_runs("new").items] == [RunStatus.FINISHED] * 4


def test_a_run_needs_an_experiment(client):
    with pytest.raises(ExperimentError):
        ExperimentTracker(client).start_experiment()


def test_closing_a_tracker_on_a_clients_connection_delivers_and_leaves_runs_open(tracker, seen, client):
    with tracker:
        run = tracker.start_experiment()
        run.log_metric("m", 1)
    assert seen.get_run(run.id).metrics == {"m": 1.0}
    assert seen.get_run(run.id).status is RunStatus.RUNNING
    run.end()


def test_closing_a_tracker_with_a_connection_of_its_own_ends_its_runs(sqlite_platform, seen, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELOPS_TOKEN", sqlite_platform.admin_key)
    monkeypatch.setenv("MODELOPS_HOME", str(tmp_path / "mine"))
    listener = Listener(sqlite_platform.platform, remembered=tmp_path / "port")
    try:
        with ExperimentTracker(listener.start(), experiment="trials", project="default") as tracker:
            run = tracker.start_experiment()
            run.log_metric("m", 1)
            tracker.flush()
            assert seen.get_run(run.id).metrics == {"m": 1.0}
            run.log_metric("m", 2, step=1)
        kept = seen.get_run(run.id)
        assert (kept.status, kept.metrics) == (RunStatus.FAILED, {"m": 2.0})
        assert kept.reason == "The tracker was closed without ending the run."
    finally:
        listener.stop()


def program(home, script, **environment):
    """Run a program against a platform inside its process, on a home."""
    env = {"MODELOPS_HOME": str(home), "PATH": os.environ["PATH"], **environment}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def only_run(home):
    with Client(home=home) as client:
        [run] = client.experiments.list_runs().items
        return run


EXITS = {
    "falls off the end": ("", 0),
    "an exception": ("raise ValueError('boom')", 1),
    "sys.exit": ("import sys; sys.exit(3)", 3),
}


@pytest.mark.parametrize(("how", "code"), EXITS.values(), ids=EXITS.keys())
def test_a_program_that_ends_without_ending_its_run_leaves_it_failed(tmp_path, how, code):
    done = program(
        tmp_path / "home",
        f"""
        from modelops import start_experiment
        run = start_experiment("trials")
        run.log_metric("m", 1)
        {how}
        """,
    )
    assert done.returncode == code, done.stderr
    kept = only_run(tmp_path / "home")
    assert (kept.status, kept.metrics) == (RunStatus.FAILED, {"m": 1.0})
    assert kept.reason == "The program ended without ending the run."


def test_the_short_way_in_this_process(tmp_path):
    done = program(
        tmp_path / "home",
        """
        from modelops import start_experiment
        with start_experiment("trials", run_name="n", parameters={"a": 1}) as run:
            run.log_metrics({"loss": float("nan")}, step=3)
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    kept = only_run(tmp_path / "home")
    assert (kept.status, kept.name, kept.parameters) == (RunStatus.FINISHED, "n", {"a": 1})
    assert math.isnan(kept.metrics["loss"])


def test_a_forked_child_neither_logs_on_nor_ends_its_parents_run(tmp_path):
    done = program(
        tmp_path / "home",
        """
        import os, sys
        from modelops import ExperimentError, start_experiment
        with start_experiment("trials") as run:
            child = os.fork()
            if child == 0:
                try:
                    run.log_metric("m", 1)
                except ExperimentError as refused:
                    print("another process" in refused.detail, flush=True)
                import atexit
                atexit._run_exitfuncs()
                os._exit(0)
            os.waitpid(child, 0)
            run.log_metric("m", 2)
            try:
                with run:
                    if os.fork() == 0:
                        raise KeyError("the child leaves the block")
            except KeyError:
                os._exit(0)
            os.wait()
        """,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    kept = only_run(tmp_path / "home")
    assert (kept.status, kept.metrics) == (RunStatus.FINISHED, {"m": 2.0})
