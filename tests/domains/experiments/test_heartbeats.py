"""A run whose trainer is gone ends as failed; one whose trainer lives goes on."""

import signal
import subprocess
import sys
import textwrap

import pytest

from modelops.contracts.errors import ExperimentError
from modelops.domains.experiments.schemas import MetricPoint, RunStatus
from modelops.testing.clock import VirtualClock
from modelops.testing.platform import running_platform
from modelops.testing.waiting import wait_for

GONE = "Not heard of for 60 s: the trainer has gone."


@pytest.fixture(params=["sqlite", "postgres"])
def timed(request, tmp_path):
    """A platform on each database, and the clock it lives by."""
    clock, settings = VirtualClock(), {}
    if request.param == "postgres":
        settings["database"] = request.getfixturevalue("postgres_database")
    with running_platform(tmp_path / "home", clock=clock, **settings) as platform:
        platform.client().experiments.create_experiment("trials")
        yield platform, clock


def test_a_silent_run_fails_and_says_why(timed):
    platform, clock = timed
    experiments = platform.client().experiments
    silent, ended = experiments.create_run("trials"), experiments.create_run("trials")
    experiments.update_run(ended.id, status="finished")
    clock.advance(60)
    platform.controller.turn()
    assert experiments.get_run(silent.id).status is RunStatus.RUNNING
    clock.advance(1)
    platform.controller.turn()
    failed = experiments.get_run(silent.id)
    assert (failed.status, failed.reason, failed.ended_at) == (RunStatus.FAILED, GONE, clock.now())
    assert experiments.get_run(ended.id).status is RunStatus.FINISHED
    with pytest.raises(ExperimentError):
        experiments.log_batch(silent.id, tags={"a": "b"})
    platform.controller.turn()
    events = platform.client().platform.stream_events(follow=False)
    assert [
        event.data["reason"] for event in events if event.type.endswith("run_ended") and event.subject == failed.id
    ] == [GONE]


def test_a_run_that_failed_for_silence_goes_on_where_its_maker_says_so(timed):
    platform, clock = timed
    experiments = platform.client().experiments
    run = experiments.create_run("trials").id
    clock.advance(61)
    platform.controller.turn()
    again = experiments.update_run(run, status="running")
    assert (again.status, again.reason, again.ended_at) == (RunStatus.RUNNING, None, None)
    platform.controller.turn()
    experiments.log_batch(run, tags={"a": "b"})
    clock.advance(61)
    platform.controller.turn()
    ended = experiments.update_run(run, status="failed", reason="ValueError: boom")
    assert (ended.status, ended.reason) == (RunStatus.FAILED, "ValueError: boom")
    with pytest.raises(ExperimentError):
        experiments.update_run(run, status="running")


@pytest.mark.parametrize("sign", ["heartbeat", "log", "artifact"])
def test_any_sign_of_life_is_one(timed, sign):
    platform, clock = timed
    admin = platform.client()
    run = admin.experiments.create_run("trials").id
    digest = admin.data.upload_artifact(b"x").digest
    live = {
        "heartbeat": lambda: admin.experiments.heartbeat(run),
        "log": lambda: admin.experiments.log_batch(run, metrics=[MetricPoint(key="m", value=1)]),
        "artifact": lambda: admin.experiments.link_run_artifact(run, "x", digest),
    }[sign]
    for _ in range(3):
        clock.advance(59)
        live()
        platform.controller.turn()
        assert admin.experiments.get_run(run).status is RunStatus.RUNNING
    clock.advance(61)
    platform.controller.turn()
    assert admin.experiments.get_run(run).reason == GONE


def test_runs_of_every_project_are_watched(timed):
    platform, clock = timed
    stranger = platform.stranger().experiments
    stranger.create_experiment("theirs")
    run = stranger.create_run("theirs")
    clock.advance(61)
    platform.controller.turn()
    assert stranger.get_run(run.id).reason == GONE


def test_a_sign_of_life_after_the_search_saves_a_run(timed):
    """The reconciler looks again when it ends a run, under the row's lock."""
    from modelops.domains.experiments.reconcilers import Heartbeats

    platform, clock = timed
    experiments = platform.client().experiments
    run = experiments.create_run("trials").id
    clock.advance(61)
    with platform.place.work(write=False) as ctx:
        assert Heartbeats().pending(ctx) == [run]
    experiments.heartbeat(run)
    with platform.place.work() as ctx:
        Heartbeats().apply(ctx, run, run)
    assert experiments.get_run(run).status is RunStatus.RUNNING


TRAINER = """
    import sys, time
    from modelops.sdk.client import Client
    from modelops.sdk.tracking import ExperimentTracker

    tracker = ExperimentTracker(Client(sys.argv[1], token=sys.argv[2], home=sys.argv[3]))
    with tracker.start_experiment("trials", parameters={"lr": 0.1}) as run:
        for step in range(50):
            run.log_metrics({"loss": 1 / (step + 1)}, step=step)
        run.flush()
        print(run.id, flush=True)
        time.sleep(600)
"""


def test_a_trainer_that_is_killed_leaves_a_failed_run_with_all_it_delivered(timed, listening, tmp_path):
    platform, clock = timed
    admin = platform.client()

    def heartbeats():
        records = admin.identity.list_audit_records(filter='operation = "experiments.heartbeat"')
        return records.total

    with listening(platform) as url:
        command = [sys.executable, "-c", textwrap.dedent(TRAINER), url, platform.admin_key, str(tmp_path / "trainer")]
        environment = {"MODELOPS_RUN_HEARTBEAT_TIMEOUT_S": "1", "PATH": ""}  # it is to be heard often
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as trainer:
            try:
                run = trainer.stdout.readline().strip()
                for _ in range(3):  # it lives, and is heard, for far longer than the timeout
                    clock.advance(50)
                    heard = heartbeats()
                    wait_for(lambda heard=heard: heartbeats() > heard)
                    platform.controller.turn()
                    assert admin.experiments.get_run(run).status is RunStatus.RUNNING
            finally:
                trainer.send_signal(signal.SIGKILL)
        assert trainer.returncode == -signal.SIGKILL
    clock.advance(61)
    platform.controller.turn()
    failed = admin.experiments.get_run(run)
    assert (failed.status, failed.reason) == (RunStatus.FAILED, GONE)
    assert failed.metrics == {"loss": 0.02}
    assert admin.experiments.get_metric_history(run, "loss").total == 50
