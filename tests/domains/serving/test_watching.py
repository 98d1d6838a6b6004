"""The live view: lines for programs, a table on a terminal, both of the same numbers."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections import deque

import pytest
from rich.console import Console
from tests.domains.serving.metering import Replicas, exposition
from typer.testing import CliRunner

from modelops.cli.root import app
from modelops.contracts.errors import NotFound, Unavailable
from modelops.domains.serving.live.live import LiveStats, LiveVariant
from modelops.domains.serving.policies.autoscaling import Autoscaling
from modelops.domains.serving.watching import line, spark, table, watch_deployments
from modelops.server.listener import Listener
from modelops.testing.waiting import wait_for

VARIANT = LiveVariant(
    name="champion",
    requests_per_s=12.34,
    errors_percent=1.5,
    p50_ms=0.8,
    p95_ms=20.0,
    p99_ms=1_500.0,
    queue_wait_p95_ms=3.0,
)
STATS = LiveStats(
    deployment_id="dep_1",
    deployment="d",
    state="ready",
    reason=None,
    model="m",
    model_version=3,
    active_revision=2,
    wanted_revision=3,
    replicas=2,
    ready_replicas=1,
    restarts=4,
    autoscaling=Autoscaling(min_replicas=0, max_replicas=4),
    scaled_at=None,
    remark="Up to 4 replicas share 2.",
    window_s=2.0,
    rejected_per_s=0.0,
    inflight=5,
    queue_depth=6,
    held=7,
    variants=[VARIANT, VARIANT.model_copy(update={"name": "b[old]"})],
    replica_stats=[],
    **VARIANT.model_dump(exclude={"name"}),
)


class Serving:
    """A client that answers as the test says, a tick each."""

    def __init__(self, *ticks):
        self.ticks = list(ticks)

    def read_live_stats(self, name):
        answer = self.ticks.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def printed(view):
    console = Console(width=200, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def test_a_table_has_every_number():
    rates = {}
    text = printed(table([STATS], rates, 200))
    for shown in (
        "d m:3",
        "ready",
        "2→3",
        "1/2",
        "12.3",
        "1.50",
        "0.8 ms",
        "20.0 ms",
        "1.50 s",
        "6 +7 held",
        "0-4 at 8",
    ):
        assert shown in text, shown
    assert "b[old]" in text
    assert "Up to 4 replicas share 2." in text
    assert rates == {"dep_1": deque([12.34])}
    assert "There are no deployments." in printed(table([], rates, 200))


def test_nothing_known_reads_as_nothing():
    idle = STATS.model_copy(
        update={"state": "idle", "active_revision": None, "autoscaling": None, "p50_ms": None, "errors_percent": None}
    )
    assert "-→3" in printed(table([idle], {}, 200))
    assert "- % errors, p50 -," in line(idle)


def test_a_narrow_terminal_goes_without_some_columns():
    lines = printed(table([STATS], {}, 80)).splitlines()
    assert max(len(line) for line in lines) <= 80
    for head in ("deployment", "state", "replicas", "req/s", "p95"):
        assert head in lines[1]
    assert "scaling" not in lines[1]


def test_bars():
    assert spark([]) == ""
    assert spark([0, 0]) == "▁▁"
    assert spark([0, 1, 4, 8]) == "▁▂▅█"


def test_lines(capsys):
    watch_deployments(Serving(STATS, STATS), "d", every_s=0.01, once=False, as_json=False, ticks=2)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert said[0].endswith(line(STATS))
    assert "1 of 2 replicas, 12.3 req/s" in said[0]
    assert said[0].endswith("wait p95 3.0 ms, 7 held")


def test_a_platform_that_is_away_for_a_moment(capsys):
    watch_deployments(Serving(Unavailable("Gone."), STATS), "d", every_s=0.01, once=False, as_json=True, ticks=2)
    said = capsys.readouterr()
    assert "Gone." in said.err
    assert json.loads(said.out)["deployments"][0]["requests_per_s"] == 12.34
    with pytest.raises(Unavailable):
        watch_deployments(Serving(Unavailable("Gone.")), "d", every_s=0.01, once=True, as_json=True)


def test_one_that_does_not_exist():
    with pytest.raises(NotFound):
        watch_deployments(Serving(NotFound("No.")), "d", every_s=0.01, once=False, as_json=False)


@pytest.fixture
def served(sqlite_platform, world, register):
    """The environment of commands that reach a platform with a deployment `d`."""
    replicas = Replicas()
    asked = iter(range(0, 10**9, 50))
    replicas.metrics = lambda path: exposition(requests=(count := next(asked)), latencies=(count, 0, 0))
    listener = Listener(sqlite_platform.platform, remembered=sqlite_platform.platform.settings.home / "port")
    url = listener.start()
    world(sqlite_platform).endpoint = replicas.endpoint
    client = sqlite_platform.client()
    register(client)
    client.serving.create_deployment("d", "m:1")
    for _ in range(4):
        sqlite_platform.controller.turn()
    try:
        yield {"MODELOPS_URL": url, "MODELOPS_TOKEN": sqlite_platform.admin_key}
    finally:
        listener.stop()
        replicas.close()


def test_the_command(served):
    result = CliRunner().invoke(app, ["deployments", "watch", "--once", "--json"], env=served)
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["deployments"]
    assert (found["deployment"], found["ready_replicas"]) == ("d", 1)
    assert found["requests_per_s"] > 0
    result = CliRunner().invoke(app, ["deployments", "watch", "d", "--once"], env=served)
    assert "d: ready, 1 of 1 replicas" in result.stdout
    result = CliRunner().invoke(app, ["deployments", "watch", "nope", "--once"], env=served)
    assert isinstance(result.exception, NotFound)


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_an_interrupt_ends_it_clean(served, terminal):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "modelops.cli", "deployments", "watch", "--every", "0.2"]
    out = theirs if terminal else subprocess.PIPE
    process = subprocess.Popen(command, env=os.environ | served, stdout=out, stderr=subprocess.PIPE)
    try:
        source = ours if terminal else process.stdout.fileno()
        said = []
        wait_for(lambda: said.append(os.read(source, 4_096).decode(errors="replace")) or said_twice(said))
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
        assert (process.returncode, errors) == (130, b"")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert ("\x1b[" in "".join(said)) is terminal


def said_twice(said):
    return "".join(said).count("ready") >= 2
