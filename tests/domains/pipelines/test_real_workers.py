"""Runs carried out by real worker processes, over a real socket."""

import textwrap

import pytest

from modelops.domains.pipelines.files import load_pipeline
from modelops.server.listener import Listener
from modelops.testing.platform import running_platform

CODE = """
from modelops import item, pipeline, step


@step
def numbers(n: int) -> list:
    print("counting to", n)
    return list(range(n))


@step
def square(x: int) -> int:
    return x * x


@step
def total(xs: list) -> int:
    return sum(xs)


@pipeline
def squares(n: int = 5):
    found = square.map(numbers(n))
    total(found)
"""


@pytest.fixture
def live(tmp_path):
    """A platform that listens, and whose reconcilers run."""
    with running_platform(tmp_path / "home") as platform:
        listener = Listener(platform.platform, tmp_path / "port")
        platform.platform.url.set(listener.start())
        platform.platform.start_controller()
        try:
            yield platform
        finally:
            listener.stop()


def test_a_pipeline_of_a_python_file_runs(live, tmp_path):
    file = tmp_path / "squares_pipeline.py"
    file.write_text(textwrap.dedent(CODE))
    pipelines = live.client().pipelines
    run = pipelines.start_run(load_pipeline(file), parameters={"n": 6})
    run = pipelines.wait_for_run(run.id, within_s=60)
    assert run.state == "succeeded", (run, list(pipelines.all_steps(run.id)))
    assert pipelines.read_output(run.id, "total") == 55
    assert "counting to 6" in pipelines.get_step_log(run.id, "numbers").text
