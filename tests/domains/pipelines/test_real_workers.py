"""Runs carried out by real worker processes, over a real socket."""

import textwrap

import pytest
from tests.wheels import make_wheel

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


MODELS = """
from typing import Annotated, Any

import modelops
from modelops import ModelVersion, pipeline, step
from modelops.sdk.pipelines import ValueType


@step
def fit(slope: float) -> ModelVersion:
    import numpy
    from sklearn.linear_model import LinearRegression

    rows = numpy.arange(20.0).reshape(10, 2)
    model = LinearRegression().fit(rows, rows @ [slope, 1.0])
    return modelops.register_model("line", model, sample=rows)


@step
def name_of(model: ModelVersion) -> str:
    return f"{model.name}:{model.version}"


@step
def predict(model: Annotated[Any, ValueType.MODEL]) -> list:
    return [round(float(one), 6) for one in model.predict([[1.0, 2.0]])]


@pipeline
def lines(slope: float = 3.0):
    fitted = fit(slope)
    name_of(fitted)
    predict(fitted)
"""


def test_a_registered_model_goes_from_step_to_step(live, tmp_path):
    file = tmp_path / "lines_pipeline.py"
    file.write_text(textwrap.dedent(MODELS))
    pipelines = live.client().pipelines
    run = pipelines.start_run(load_pipeline(file))
    run = pipelines.wait_for_run(run.id, within_s=120)
    assert run.state == "succeeded", (run, list(pipelines.all_steps(run.id)))
    assert pipelines.read_output(run.id, "name_of") == "line:1"
    assert pipelines.read_output(run.id, "predict") == [5.0]


LOCKED = """
from modelops import pipeline, step


@step
def answer() -> list:
    import sys

    import tinything

    return [tinything.answer, "environments" in sys.prefix]


@pipeline(requirements="tiny.lock")
def locked():
    answer()
"""


def test_a_step_runs_in_the_environment_of_its_lock(live, tmp_path):
    (tmp_path / "tiny.lock").write_text(
        f"--no-index\n--find-links {tmp_path}\n{make_wheel(tmp_path, 'tinything', '1.0', 'answer = 42' + chr(10))}"
    )
    file = tmp_path / "locked_pipeline.py"
    file.write_text(textwrap.dedent(LOCKED))
    pipelines = live.client().pipelines
    run = pipelines.start_run(load_pipeline(file))
    run = pipelines.wait_for_run(run.id, within_s=120)
    assert run.state == "succeeded", (run, list(pipelines.all_steps(run.id)))
    assert pipelines.read_output(run.id, "answer") == [42, True]
