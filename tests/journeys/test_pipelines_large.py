"""Runs that are large or obstinate: ten thousand steps, an output of two gigabytes, a step that will not end, a template that
changes and a database that restarts meanwhile."""

import time

import pytest

from modelops.domains.pipelines.files import load_pipeline
from modelops.domains.pipelines.schemas import RunState
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

PIPELINES = """
import hashlib, os, signal, time
from pathlib import Path

from modelops import pipeline, step

@step
def numbers(count: int) -> list:
    return list(range(count))

@step
def nothing(number: int) -> None:
    pass

@step
def last(count: int) -> int:
    return count

@pipeline(workers=2)
def many(count: int):
    last(count).after(nothing.map(numbers(count)))

@step
def write(mebibytes: int) -> Path:
    block = bytes(range(256)) * 4096
    with open("large.bin", "wb") as file:
        for number in range(mebibytes):
            file.write(number.to_bytes(8, "big") + block[8:])
    return Path("large.bin")

@step
def read(file: Path) -> list:
    with file.open("rb") as opened:
        return [file.name, file.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest()]

@pipeline
def large(mebibytes: int):
    written = write(mebibytes)
    read(written)

@step(timeout_s=1.0)
def obstinate() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)

@step
def calm() -> str:
    return "calm"

@pipeline(workers=1)
def deaf():
    obstinate()
    calm()

@step
def slow(version: int, seconds: float) -> int:
    time.sleep(seconds)
    return version

@pipeline
def changing(seconds: float = 6.0):
    first = slow(VERSION, seconds)
    slow(VERSION, 0.0).after(first)
"""


def file_of(tmp_path, version=1):
    folder = tmp_path / f"v{version}"
    folder.mkdir(exist_ok=True)
    file = folder / "pipelines.py"
    file.write_text(f"VERSION = {version}\n" + PIPELINES)
    return file


def load(tmp_path, name, version=1):
    return load_pipeline(f"{file_of(tmp_path, version)}:{name}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_ten_thousand_steps(tmp_path):
    with platform_process(tmp_path / "home") as platform, platform.client() as client:
        began = time.monotonic()
        run = client.pipelines.start_run(load(tmp_path, "many"), parameters={"count": 10_000})
        run = client.pipelines.wait_for_run(run.id, within_s=500)
        print(f"10,000 steps in {time.monotonic() - began:.1f} s")
        assert (run.state, run.reason) == (RunState.SUCCEEDED, None)
        assert run.steps["succeeded"] >= 10_002
        assert client.pipelines.read_output(run.id, "last") == 10_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_output_of_two_gigabytes(tmp_path):
    mebibytes = 2048
    with platform_process(tmp_path / "home") as platform, platform.client() as client:
        run = client.pipelines.start_run(load(tmp_path, "large"), parameters={"mebibytes": mebibytes})
        run = client.pipelines.wait_for_run(run.id, within_s=500)
        assert (run.state, run.reason) == (RunState.SUCCEEDED, None)
        written = client.pipelines.get_step(run.id, "write")
        (value,) = written.outputs.values()
        assert value.size == mebibytes << 20
        name, size, digest = client.pipelines.read_output(run.id, "read")
        assert (name, size, f"sha256:{digest}") == ("large.bin", mebibytes << 20, value.digest)
        assert written.peak_memory_bytes < 512 << 20


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_step_that_ignores_sigterm_ends_all_the_same(tmp_path):
    with platform_process(tmp_path / "home") as platform, platform.client() as client:
        run = client.pipelines.start_run(load(tmp_path, "deaf"))
        run = client.pipelines.wait_for_run(run.id, within_s=120)
        assert run.state is RunState.FAILED
        reason = client.pipelines.get_step(run.id, "obstinate").reason
        assert reason == "The step took longer than its limit of 1 s. It was killed, 5 s after it was asked to end."
        canceled = client.pipelines.start_run("deaf")
        wait_for(lambda: client.pipelines.get_run(canceled.id).steps.get("running"))
        client.pipelines.cancel_run(canceled.id)
        assert client.pipelines.wait_for_run(canceled.id, within_s=120).state is RunState.CANCELED


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_runs_finish_on_the_version_that_they_started_with(tmp_path):
    with platform_process(tmp_path / "home") as platform, platform.client() as client:
        before = client.pipelines.start_run(load(tmp_path, "changing"))
        wait_for(lambda: client.pipelines.get_run(before.id).steps.get("running"))
        after = client.pipelines.start_run(load(tmp_path, "changing", version=2), parameters={"seconds": 0.0})
        for run, version in ((after, 2), (before, 1)):
            ended = client.pipelines.wait_for_run(run.id, within_s=120)
            assert (ended.state, ended.version) == (RunState.SUCCEEDED, version)
            assert [client.pipelines.read_output(run.id, step) for step in ("slow", "slow_2")] == [version, version]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_database_that_crashes_and_comes_back_ends_no_run(tmp_path, postgres_database, postgres_away):
    with platform_process(tmp_path / "home", database=postgres_database) as platform:
        with platform.client() as client:
            client.rest.retry_for_s = 60
            runs = [client.pipelines.start_run(load(tmp_path, "changing")) for _ in range(2)]
            for run in runs:
                wait_for(lambda run=run: client.pipelines.get_run(run.id).steps.get("running"))
            with postgres_away():
                time.sleep(2.0)
            runs.append(client.pipelines.start_run("changing", parameters={"seconds": 0.0}))
            for run in runs:
                ended = client.pipelines.wait_for_run(run.id, within_s=120)
                assert (ended.state, ended.reason) == (RunState.SUCCEEDED, None)
                assert client.pipelines.get_step(run.id, "slow").attempt == 1
